"""The source of one stream's bars: its ring, or the ring that it is rolled up from."""

from shmfeed.bar import BACKFILLED, StreamKey, Timeframe, stale_after
from shmfeed.errors import StreamNotFoundError
from shmfeed.feed import Ring
from shmfeed.health import RingStatus, silence
from wealthdata.attachment import AttachedFeed
from wealthdata.handed import StreamId
from wealthdata.rolled_ring import RolledRing, open_ring

NEVER = -(1 << 63)  # before any bar


class StreamSource:
    """A stream that a task waits for or follows, and its source in the feed.

    Attributes:
        id: The feed, the symbol and the timeframe.
        ring: The ring whose bars close its bars, None while it is not found.
        rolled: The bars that are made of that ring's, None if they are the ring's own.
        unknown: The error if the feed is there and does not carry the stream.
    """

    __slots__ = ("id", "ring", "rolled", "timeframe", "unknown")

    def __init__(self, feed: str, symbol: str, timeframe: Timeframe) -> None:
        self.id: StreamId = feed, symbol, timeframe
        self.timeframe: Timeframe = timeframe
        self.ring: Ring | None = None
        self.rolled: RolledRing | None = None
        self.unknown: StreamNotFoundError | None = None

    def find(self, feed: AttachedFeed | None) -> None:
        """Find the stream's ring in its feed, None if the host has no such feed."""
        self.ring = self.rolled = self.unknown = None
        if feed is None:
            return
        try:
            found = open_ring(feed, (self.id[1], self.timeframe))
        except StreamNotFoundError as error:
            self.unknown = error
            return
        if isinstance(found, RolledRing):
            self.rolled, self.ring = found, found.source
        else:
            self.ring = found

    @property
    def source_key(self) -> StreamKey:
        """The stream whose bars close its bars: its own, or the one it is made of."""
        if self.rolled is not None and self.ring is not None:
            return self.ring.symbol, self.ring.timeframe
        return self.id[1], self.timeframe

    def lose(self, error: StreamNotFoundError) -> None:
        """Note that the feed no longer carries the stream."""
        self.ring = self.rolled = None
        self.unknown = error

    def status(self) -> RingStatus | None:
        """Return the stream's status, None without a ring."""
        if self.ring is None:
            return None
        try:
            return (self.rolled or self.ring).status()
        except StreamNotFoundError as error:
            self.lose(error)
            return None

    @property
    def is_history(self) -> bool:
        """True if the newest bar came as history, which may still go on.

        Any other bar that is older than one that the task has had begins the stream
        again: the feed was recreated and plays other hours, or rows of the future were
        cut off.
        """
        if self.ring is None:
            return False
        bar = self.ring._current_reader().last_closed()
        return bar is not None and bool(bar.flags & BACKFILLED)

    @property
    def limit(self) -> float:
        """The stream's limit of silence, in seconds."""
        if self.ring is not None:
            try:
                return silence(self.ring._current_reader(), self.timeframe).limit
            except StreamNotFoundError:
                pass
        return stale_after(self.timeframe)
