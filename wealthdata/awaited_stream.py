"""One stream that a wait is for: its ring, its newest closed bar, its health.

Bars are told apart by their close times, ms UTC. A timeframe that the feed does not
carry is rolled up: it closes a bar when the source closes the last one of a group of
which no bar is missing.
"""

from shmfeed.bar import (
    BACKFILLED,
    FREE_PHASE,
    Timeframe,
    on_grid,
    phase_of,
    stale_after,
)
from shmfeed.errors import StreamNotFoundError
from shmfeed.feed import Ring
from shmfeed.health import silence
from wealthdata.attachment import AttachedFeed
from wealthdata.handed import StreamId
from wealthdata.rolled_ring import RolledRing, open_ring

NEVER = -(1 << 63)  # before any bar
_STUCK = frozenset({"stale", "dead", "closed", "waiting"})


class AwaitedStream:
    """A stream of a wait. Call `find`, then `look`; both again after each sleep.

    Attributes:
        had: The newest bar that the task has had.
        turned_back: True if `had` was given up for an older bar.
        newest: The newest closed bar, None before the first.
        ring: The ring whose bars close its bars, None while it is not found.
        unknown: The error if the feed is there and does not carry the stream.
        seen: The count of the ring's bars before `newest` was read.
    """

    __slots__ = (
        "_epoch",
        "_rolled",
        "had",
        "id",
        "newest",
        "ring",
        "seen",
        "timeframe",
        "turned_back",
        "unknown",
    )

    def __init__(self, feed: str, symbol: str, timeframe: Timeframe) -> None:
        self.id: StreamId = feed, symbol, timeframe
        self.timeframe: Timeframe = timeframe
        self.had = NEVER
        self.turned_back = False
        self.newest: int | None = None
        self.ring: Ring | None = None
        self._rolled: RolledRing | None = None
        self.unknown: StreamNotFoundError | None = None
        self.seen = self._epoch = -1

    def find(self, feed: AttachedFeed | None) -> None:
        """Find the stream's ring in its feed, None if the host has no such feed."""
        self.ring = self._rolled = self.unknown = None
        if feed is None:
            return
        try:
            found = open_ring(feed, (self.id[1], self.timeframe))
        except StreamNotFoundError as error:
            self.unknown = error
            return
        if isinstance(found, RolledRing):
            self._rolled, self.ring = found, found.source
        else:
            self.ring = found

    def begin(self, had: int) -> None:
        """Begin to wait for a bar that is newer than the one that the task has had."""
        self.had, newest = had, self.newest
        if newest is not None and newest < had and not self._is_history():
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
            self.ring, self.unknown = None, error
            return
        self.seen, self._epoch = seen, epoch
        if newest is not None and newest < self.had and not self._is_history():
            self.had = NEVER if self.newest is None else newest
            self.turned_back = True
        self.newest = newest

    def _is_history(self) -> bool:
        """Return True if the newest bar came as history, which may still go on.

        Any other bar that is older than one that the task has had begins the stream
        again: the feed was recreated and plays other hours, or rows of the future were
        cut off.
        """
        if self.ring is None:
            return False
        bar = self.ring._current_reader().last_closed()
        return bar is not None and bool(bar.flags & BACKFILLED)

    def _read(self, ring: Ring) -> int | None:
        if self._rolled is not None:
            closes = self._rolled.read().bars.close_time
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
        if self.ring is None:
            return True
        try:
            return (self._rolled or self.ring).status().health in _STUCK
        except StreamNotFoundError:
            return True

    @property
    def limit(self) -> float:
        """The stream's limit of silence, in seconds."""
        if self.ring is not None:
            try:
                return silence(self.ring._current_reader(), self.timeframe).limit
            except StreamNotFoundError:
                pass
        return stale_after(self.timeframe)


def ends_at(instant: int, timeframe: Timeframe, newest: int | None) -> bool:
    """Return True if a bar of the timeframe's grid ends at this time, ms UTC.

    `newest` is the end of any bar of the stream: it tells where a grid of `3d` begins.
    """
    if timeframe != FREE_PHASE:
        return on_grid(instant, timeframe)
    if newest is None:
        return False
    return on_grid(instant, timeframe, phase_of(newest, timeframe))
