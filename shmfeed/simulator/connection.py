"""What leaves a connection: at once, a few bytes at a time, or not at all.

What state a connection is in: its venue's doing, and that of its faults.
"""

import asyncio
from typing import cast

from websockets.asyncio.server import ServerConnection

from shmfeed.simulator.faults import ConnectionFaults

_PIECE_SECONDS = 0.05  # a trickle's pace


class Line:
    """The way out of one connection; used in the event loop only.

    `dead`: nothing leaves. `gagged`: nothing that the library says by itself does, no
    pong, no ping, no close.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.dead = self.gagged = False
        self._transport = transport
        self._pace = 0.0  # bytes a second; 0: no limit
        self._waiting = bytearray()
        self._flowing: asyncio.TimerHandle | None = None
        self._ending = False
        self._empty = asyncio.Event()
        self._empty.set()

    def write(self, data: bytes) -> None:
        """Send this behind everything before."""
        if self.dead or self._ending:
            return
        if not self._pace:
            self._transport.write(data)
            return
        self._waiting += data
        self._empty.clear()
        if self._flowing is None:
            self._flow()

    def answer(self, data: bytes) -> None:
        """Send what the library says by itself; empty: its end of the stream."""
        if self.gagged or self.dead:
            return
        if data:
            self.write(data)
        elif self._transport.can_write_eof():
            self._flush()
            self._transport.write_eof()

    def trickle(self, pace: float) -> None:
        """Let out so many bytes a second from now on; 0: as many as there are."""
        self._pace = pace
        if not pace:
            self._flush()

    def end(self) -> None:
        """Close the connection without a word, once all before has been sent."""
        self._flush()
        self._ending = True
        self._transport.close()

    async def drained(self) -> None:
        """Wait until no byte waits for its turn."""
        await self._empty.wait()

    def _flow(self) -> None:
        self._flowing = None
        if self.dead or not self._waiting or self._transport.is_closing():
            self._flush()
            return
        size = max(1, int(self._pace * _PIECE_SECONDS))
        self._transport.write(bytes(self._waiting[:size]))
        del self._waiting[:size]
        loop = asyncio.get_running_loop()
        self._flowing = loop.call_later(size / self._pace, self._flow)

    def _flush(self) -> None:
        if self._flowing is not None:
            self._flowing.cancel()
            self._flowing = None
        if self._waiting and not self.dead and not self._transport.is_closing():
            self._transport.write(bytes(self._waiting))
        self._waiting.clear()
        self._empty.set()


class Connection(ServerConnection):
    """A connection whose way out is a Line; it can be cut before the handshake.

    `refusal`: True cuts it at once; a number is the HTTP status that answers it.
    """

    refusal: bool | int = False
    line: Line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.line = Line(cast("asyncio.Transport", transport))
        if self.refusal is True:
            self.transport.abort()

    def send_data(self) -> None:
        for data in self.protocol.data_to_send():
            self.line.answer(data)

    def gag(self, on: bool) -> None:
        """Stop, or go on with, what the library says by itself."""
        if on == self.line.gagged:
            return
        self.line.gagged = on
        if not on:
            self.start_keepalive()
        elif self.keepalive_task is not None:
            self.keepalive_task.cancel()  # it would hang up when no pong comes


_AFTER = 0.001  # s; a timer may be early by its resolution


class Condition:
    """The condition of one connection; used in the event loop only.

    `muted`: what would be said by itself is lost. `faults`: what goes wrong, or None.
    """

    def __init__(self, connection: Connection) -> None:
        self.muted = False
        self.faults: ConnectionFaults | None = None
        self._connection = connection
        self._timers: list[asyncio.TimerHandle] = []
        self._hushed = self._deaf = self._cable_pulled = False

    def hush(self, on: bool, deaf: bool) -> None:
        """Say nothing by itself, or speak again; `deaf`: nor read, nor answer pings."""
        self._hushed, self._deaf = on, deaf
        self._settle()

    def half_open(self, on: bool) -> None:
        """Read and write nothing, TCP stays up; or go on."""
        self._cable_pulled = on
        self._settle()

    def suffer(self, faults: ConnectionFaults | None) -> None:
        """From now on these go wrong, and none of those before."""
        self.leave()
        self.faults = faults
        self._settle()
        if faults is None:
            return
        later = asyncio.get_running_loop().call_later
        for seconds in faults.changes():
            self._timers.append(later(seconds + _AFTER, self._settle))
        for seconds in faults.cut_at():
            self._timers.append(later(seconds + _AFTER, self._cut))

    def leave(self) -> None:
        """Nothing more happens by itself: the connection is gone."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _cut(self) -> None:
        if self.faults is not None and self.faults.cuts_now():
            self._connection.line.end()

    def _settle(self) -> None:
        """Be in the states that are due now."""
        if self._connection.transport.is_closing():
            return
        states = self.faults.states() if self.faults is not None else {}
        half = self._cable_pulled or "half-open" in states
        mute = "mute" in states
        self.muted = self._hushed or half or mute or "mute-pongs" in states
        self._connection.line.dead = half
        self._connection.gag(half or mute or self._deaf)
        self._connection.line.trickle(states.get("trickle", 0.0))
        self._hold(half or self._deaf)

    def _hold(self, on: bool) -> None:
        """Stop, or go on, reading."""
        transport = self._connection.transport
        if on and transport.is_reading():
            transport.pause_reading()
        elif not on and not transport.is_reading():
            transport.resume_reading()
