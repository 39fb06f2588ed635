"""One server connection: its write side, and the states that silence or slow it."""

import asyncio
from collections.abc import Callable
from typing import cast

from websockets.asyncio.server import ServerConnection

from shmfeed.simulator.admission import Refusal
from shmfeed.simulator.faults import ConnectionFaults

_TICK_SECONDS = 0.05  # between two writes of a throttled connection
_TIMER_SLACK = 0.001  # s; a timer may be early by its resolution


class ThrottledWriter:
    """The write side of one connection; used in the event loop only.

    Attributes:
        blocked: Nothing is written at all.
        library_muted: The WebSocket library's own frames (pong, ping, close) are
            dropped.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.blocked = self.library_muted = False
        self._transport = transport
        self._rate = 0.0  # bytes a second; 0: unlimited
        self._pending = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._drained = asyncio.Event()
        self._drained.set()

    def write(self, data: bytes) -> None:
        """Write `data` after everything written before."""
        if self.blocked or self._closing:
            return
        if not self._rate:
            self._transport.write(data)
            return
        self._pending += data
        self._drained.clear()
        if self._timer is None:
            self._write_some()

    def write_from_library(self, data: bytes) -> None:
        """Write a frame of the WebSocket library; empty `data` is its end of stream."""
        if self.library_muted or self.blocked:
            return
        if data:
            self.write(data)
        elif self._transport.can_write_eof():
            self._flush()
            self._transport.write_eof()

    def limit_rate(self, rate: float) -> None:
        """Write at most `rate` bytes a second from now on; 0 removes the limit."""
        self._rate = rate
        if not rate:
            self._flush()

    def close(self) -> None:
        """Close the TCP connection without a close frame once all data is written."""
        self._flush()
        self._closing = True
        self._transport.close()

    async def drain(self) -> None:
        """Wait until no byte is pending."""
        await self._drained.wait()

    def _write_some(self) -> None:
        self._timer = None
        if self.blocked or not self._pending or self._transport.is_closing():
            self._flush()
            return
        size = max(1, int(self._rate * _TICK_SECONDS))
        self._transport.write(bytes(self._pending[:size]))
        del self._pending[:size]
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(size / self._rate, self._write_some)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending and not self.blocked and not self._transport.is_closing():
            self._transport.write(bytes(self._pending))
        self._pending.clear()
        self._drained.set()


class FaultyConnection(ServerConnection):
    """A server connection that can be refused, muted and throttled.

    Attributes:
        refusal: The refusal of the connection; None admits it.
        stated_time: The `Date` of the handshake's answer, in seconds.
        writer: The write side, for the venue's frames and the library's.
    """

    refusal: Refusal | None = None
    stated_time = 0
    writer: ThrottledWriter

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.writer = ThrottledWriter(cast("asyncio.Transport", transport))
        if self.refusal is not None and not self.refusal.status:
            self.transport.abort()

    def send_data(self) -> None:
        for data in self.protocol.data_to_send():
            self.writer.write_from_library(data)

    def mute_library(self, on: bool) -> None:
        """Drop the library's own frames, or let it speak again."""
        if on == self.writer.library_muted:
            return
        self.writer.library_muted = on
        if not on:
            self.start_keepalive()
        elif self.keepalive_task is not None:
            self.keepalive_task.cancel()  # it would close the connection without pongs


class ConnectionConditions:
    """The states of one connection: muted, half-open, throttled, or none of these.

    A state is due to the venue (`mute`, `half_open`) or to the connection's faults.
    Used in the event loop only.

    Attributes:
        muted: The venue's own frames are dropped.
        faults: The faults in force, or None.
    """

    def __init__(self, connection: FaultyConnection) -> None:
        self.muted = False
        self.faults: ConnectionFaults | None = None
        self._connection = connection
        self._timers: list[asyncio.TimerHandle] = []
        self._muted_by_venue = self._reading_paused = self._half_open = False

    def mute(self, on: bool, pause_reading: bool) -> None:
        """Drop the venue's frames; with `pause_reading` pings stay unanswered too."""
        self._muted_by_venue, self._reading_paused = on, pause_reading
        self._apply()

    def half_open(self, on: bool) -> None:
        """Read and write nothing while TCP stays up, or resume."""
        self._half_open = on
        self._apply()

    def set_faults(self, faults: ConnectionFaults | None) -> None:
        """Replace the faults in force; their times count from now."""
        self.cancel_timers()
        self.faults = faults
        self._apply()
        if faults is None:
            return
        later = asyncio.get_running_loop().call_later
        for seconds in faults.state_changes():
            self._timers.append(later(seconds + _TIMER_SLACK, self._apply))
        for seconds in faults.cut_times():
            self._timers.append(later(seconds + _TIMER_SLACK, self._cut))

    def call_later(self, seconds: float, act: Callable[[], None]) -> None:
        """Act after some seconds, unless the faults change or the connection ends."""
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(seconds, act))

    def cancel_timers(self) -> None:
        """Cancel every change that is due later."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _cut(self) -> None:
        if self.faults is not None and self.faults.cut_is_due():
            self._connection.writer.close()

    def _apply(self) -> None:
        if self._connection.transport.is_closing():
            return
        states = self.faults.states() if self.faults is not None else {}
        half_open = self._half_open or "half-open" in states
        mute = "mute" in states
        self.muted = self._muted_by_venue or half_open or mute or "mute-pongs" in states
        self._connection.writer.blocked = half_open
        self._connection.mute_library(half_open or mute or self._reading_paused)
        self._connection.writer.limit_rate(states.get("trickle", 0.0))
        self._pause_reading(half_open or self._reading_paused)

    def _pause_reading(self, on: bool) -> None:
        transport = self._connection.transport
        if on and transport.is_reading():
            transport.pause_reading()
        elif not on and not transport.is_reading():
            transport.resume_reading()
