"""One stream that a wait is for: its ring, its newest closed bar, its health.

Bars are told apart by their close times, ms UTC. A timeframe that the feed does not
carry is rolled up: it closes a bar when the source closes the last one of a group of
which no bar is missing.
"""

from shmfeed.bar import FREE_PHASE, Timeframe, on_grid, phase_of
from shmfeed.errors import StreamNotFoundError
from shmfeed.feed import Ring
from wealthdata.stream_source import NEVER, StreamSource

_STUCK = frozenset({"stale", "dead", "closed", "waiting"})


class AwaitedStream(StreamSource):
    """A stream of a wait. Call `find`, then `look`; both again after each sleep.

    Attributes:
        had: The newest bar that the task has had.
        turned_back: True if `had` was given up for an older bar.
        newest: The newest closed bar, None before the first.
        seen: The count of the ring's bars before `newest` was read.
    """

    __slots__ = ("_epoch", "had", "newest", "seen", "turned_back")

    def __init__(self, feed: str, symbol: str, timeframe: Timeframe) -> None:
        super().__init__(feed, symbol, timeframe)
        self.had = NEVER
        self.turned_back = False
        self.newest: int | None = None
        self.seen = self._epoch = -1

    def begin(self, had: int) -> None:
        """Begin to wait for a bar that is newer than the one that the task has had."""
        self.had, newest = had, self.newest
        if newest is not None and newest < had and not self.is_history:
            self.had, self.turned_back = newest, True

    def look(self) -> None:
        """Look which bar is the newest. A ring that has not changed costs two loads."""
        ring = self.ring
        if ring is None:
            return
        try:
            epoch, seen = ring.epoch, ring.count
            if seen == self.seen and epoch == self._epoch:
                return
            newest = self._read(ring)
        except StreamNotFoundError as error:  # a feeder gave it up meanwhile
            self.lose(error)
            return
        self.seen, self._epoch = seen, epoch
        if newest is not None and newest < self.had and not self.is_history:
            self.had = NEVER if self.newest is None else newest
            self.turned_back = True
        self.newest = newest

    def _read(self, ring: Ring) -> int | None:
        if self.rolled is not None:
            closes = self.rolled.read().bars.close_time
            return int(closes[-1]) if len(closes) else None
        bar = ring._current_reader().last_closed()
        return None if bar is None else bar.close_time

    @property
    def has_new(self) -> bool:
        """True if a bar has closed that the task has not had."""
        return self.newest is not None and self.newest > self.had

    def has_closed(self, instant: int) -> bool:
        """Return True if the bar that ends at this time is there, or a newer one."""
        return self.newest is not None and self.newest >= instant

    def ends_at(self, instant: int) -> bool:
        """Return True if a bar of the timeframe's grid ends at this time, ms UTC."""
        return ends_at(instant, self.timeframe, self.newest)

    @property
    def is_stuck(self) -> bool:
        """True if the stream may close no bar for long."""
        status = self.status()
        return status is None or status.health in _STUCK


def ends_at(instant: int, timeframe: Timeframe, newest: int | None) -> bool:
    """Return True if a bar of the timeframe's grid ends at this time, ms UTC.

    `newest` is the end of any bar of the stream: it tells where a grid of `3d` begins.
    """
    if timeframe != FREE_PHASE:
        return on_grid(instant, timeframe)
    if newest is None:
        return False
    return on_grid(instant, timeframe, phase_of(newest, timeframe))
