"""What state a connection is in: its venue's doing, and that of its faults."""

import asyncio

from shmfeed.simulator.faults import ConnectionFaults
from shmfeed.simulator.line import Connection

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
