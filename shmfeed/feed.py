"""The reading half of a feed: attach, its streams, their rings.

Read-only from the first byte: what a reader does, or that it dies, changes nothing.
A feed that is re-created (its segment retired, or its feeder dead and another object
under its name) is found again by the next call, at the cost of two word compares.
"""

import time
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from shmfeed.bar import StreamKey, check_timeframe
from shmfeed.core import ReattachingReader, RingReader
from shmfeed.errors import BadArgumentError, FeedNotFoundError, SegmentError
from shmfeed.layout import Geometry
from shmfeed.memory.catalog import entries, stream_not_found
from shmfeed.memory.liveness import is_alive, is_current
from shmfeed.memory.words import boot_ns
from shmfeed.segment.mapping import (
    Mapping,
    Place,
    identity_at,
    open_segment,
    place,
)
from shmfeed.segment.stream_check import checked_reader
from shmfeed.status import (
    ConnectionStatus,
    FeedStatus,
    RingStatus,
    connection_status,
    feed_status,
    ring_status,
)
from shmfeed.text import repr_short
from shmfeed.validation import (
    DEFAULT_FEED,
    check_int,
    check_seconds,
    check_symbol,
    check_timeout,
    items_of,
)
from shmfeed.waiting import Watch, wait_past

_ATTACH_POLL_SECONDS = 0.01


def attach(name: str = DEFAULT_FEED, timeout: float = 0.0) -> "Feed":
    """Attach to a feed of this host and user, read-only.

    Waits up to `timeout` seconds for it to appear. Raises FeedNotFoundError,
    SegmentFormatError for what is no segment of this layout, SegmentError where the
    host refuses (descriptors, memory), BadArgumentError, UnsupportedPlatformError.
    """
    where = place(name)
    deadline = time.monotonic() + check_seconds("timeout", timeout)
    while True:
        try:
            return Feed(where)
        except FeedNotFoundError:
            if not time.monotonic() < deadline:
                raise
        time.sleep(_ATTACH_POLL_SECONDS)


class Feed:
    """One feed, read from outside. Any thread; inherited by a forked child it works.

    A context manager: leaving it closes it.
    """

    def __init__(self, where: Place) -> None:
        self._where = where
        self.name = where.name
        self._mapping: Mapping | None = open_segment(where)
        # Entry numbers, with the segment that they hold for. One assignment: another
        # thread never looks a stream up in a successor by its old number.
        self._index: tuple[Mapping | None, dict[StreamKey, int]] = (None, {})
        self._rings: weakref.WeakValueDictionary[int, Ring] = (
            weakref.WeakValueDictionary()
        )

    def current(self) -> Mapping:
        """The segment that bears the feed's name, as far as is known.

        Looks for a successor when this one is retired or its feeder is dead.
        """
        mapping = self._mapping
        if mapping is None:
            raise FeedNotFoundError(f"this attachment to feed {self.name!r} is closed")
        if not is_current(mapping.words.ints, boot_ns()):
            return self._find_successor(mapping)
        return mapping

    def _find_successor(self, mapping: Mapping) -> Mapping:
        if identity_at(self._where.segment) in (None, mapping.identity):
            return mapping
        try:
            found = open_segment(self._where)
        except (FeedNotFoundError, SegmentError):
            return mapping  # being made just now, or none of ours: the old bars serve
        if self._mapping is mapping:  # else another thread found it, or closed this
            self._mapping = found
            self._unbind()
        return self.current()

    def _unbind(self) -> None:
        """Let each ring ask for its reader anew."""
        # All references at once: other threads bind rings meanwhile.
        for reference in self._rings.valuerefs():
            ring = reference()
            if ring is not None:
                ring.detach()

    def reader_of(self, ring: "Ring") -> RingReader:
        """A ring's reader in the segment that serves now; errors as `ring` has them.

        A reader of that segment that the ring has already stays.
        """
        names = ring.symbol, ring.timeframe
        mapping, index = self.locate(*names)
        self._rings[id(ring)] = ring
        last = ring.last_reader
        if last is not None and last.words is mapping.words:
            return last
        return checked_reader(*mapping[:2], index, names)

    def locate(self, symbol: str, timeframe: str) -> tuple[Mapping, int]:
        """The segment and the entry of a stream; StreamNotFoundError."""
        mapping = self.current()
        names = symbol, timeframe
        owner, numbers = self._index
        index = numbers.get(names) if owner is mapping else None
        if index is None:
            carried = entries(mapping.words, mapping.geometry)
            numbers = {(e.symbol, e.timeframe): e.number for e in carried}
            self._index = mapping, numbers
            index = numbers.get(names)
        if index is None:
            raise stream_not_found(self.name, names, self.streams())
        return mapping, index

    def streams(self) -> list[StreamKey]:
        """The subscribed (symbol, timeframe) pairs, in the order of subscription."""
        mapping = self.current()
        return [
            (entry.symbol, entry.timeframe)
            for entry in entries(mapping.words, mapping.geometry)
            if entry.subscribed
        ]

    def ring(self, symbol: str, timeframe: str) -> "Ring":
        """The ring of a stream. StreamNotFoundError names what there is;
        BadArgumentError for names that are not accepted, SegmentFormatError for a
        damaged catalog or bars whose times cannot be."""
        return Ring(self, check_symbol(symbol), check_timeframe(timeframe))

    def status(self) -> FeedStatus:
        """Return the feed's status. SegmentFormatError for a damaged catalog."""
        return feed_status(self.current(), self.name)

    def connection(self) -> ConnectionStatus:
        """Return the status of the feeder's connection, a part of `status()`."""
        return connection_status(self.current())

    def alive(self) -> bool:
        """Whether the feeder has given a sign of life in the last 2 seconds."""
        return is_alive(self.current().words.ints, boot_ns())

    def close(self) -> None:
        """Let go of the segment. Idempotent; slices already taken stay readable."""
        self._mapping = None
        self._index = (None, {})
        self._unbind()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Ring(ReattachingReader):
    """One stream of a feed. Any thread; follows the feed through re-creation."""

    __slots__ = ("__weakref__", "_feed", "symbol", "timeframe")

    def __init__(self, feed: Feed, symbol: str, timeframe: str) -> None:
        super().__init__()
        self._feed = feed
        self.symbol = symbol
        self.timeframe = timeframe
        self.reader()

    def _find(self) -> RingReader:
        return self._feed.reader_of(self)

    def _geometry(self) -> Geometry:
        return self.reader().geometry

    @property
    def capacity(self) -> int:
        """Rows of the ring: history + guard."""
        return self._geometry().capacity

    @property
    def history(self) -> int:
        """How many closed bars a view can have at most."""
        return self._geometry().history

    @property
    def guard(self) -> int:
        """How many bars may close before a full view loses its oldest row."""
        return self._geometry().guard

    def wait(self, after: int, timeout: float | None = None) -> int | None:
        """Sleep until `count` > after: the new count.

        None at the deadline or, without one, when the feeder has died. Where the feed
        was re-created since this ring was last asked anything, and numbers its bars
        anew, its first bar ends the wait.
        """
        timeout = check_timeout("timeout", timeout)
        return wait_past(self, check_int("after", after, None), timeout)

    def status(self) -> RingStatus:
        """Age, state and health of this stream."""
        return ring_status(self.reader(), self.timeframe)

    def __repr__(self) -> str:
        return f"<Ring {self.symbol} {self.timeframe} of feed {self._feed.name!r}>"


def wait(rings: Iterable[Ring], timeout: float | None = None) -> list[Ring]:
    """Sleep until at least one of these rings has closed a bar since the call.

    Returns those that have, in the order given; an empty list at the deadline or,
    without one, when all of their feeders have died.
    """
    return watch_rings(rings, timeout).wait()


def watch_rings(rings: Iterable[Ring], timeout: float | None) -> Watch[Ring]:
    """What `wait` waits for; BadArgumentError for what it does not accept."""
    timeout = check_timeout("timeout", timeout)
    listed = items_of(rings)
    watched: list[Any] = [rings] if listed is None else listed
    return Watch([(check_ring(ring), ring.count) for ring in watched], timeout)


def check_ring(value: Any) -> Ring:
    """A ring; BadArgumentError for what is none."""
    if not isinstance(value, Ring):
        raise BadArgumentError(f"rings has {repr_short(value)}; it must hold rings")
    return value
