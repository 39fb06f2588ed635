"""The reading half of a feed: attach to it, list its streams, read their rings.

A reader maps the segment read-only. Nothing that a reader does, not even its crash,
affects other processes. If the feed was recreated, the next call finds its new segment.
That is the case if the old segment is retired, or if its feeder is dead and the feed's
name leads to another segment. A call to a live feed pays a few loads and one clock read
for this, and makes no system call. Reads of a dead feed look up its name once in
`layout.LOOKUP_NS`, so that a read may find a successor up to 10 ms later.
"""

import time
import weakref
from collections.abc import Iterable
from typing import Any, Self

from shmfeed.accepted_feeder import Accept, AcceptedFeeder, accept_feeder
from shmfeed.attached_segment import AttachedSegment, attached_segment
from shmfeed.bar import (
    StreamKey,
    Timeframe,
    TimeframeAlias,
    check_timeframe,
)
from shmfeed.core import (
    ReattachingReader,
    RingReader,
    extension,
    limit_kept,
)
from shmfeed.errors import BadArgumentError, FeedNotFoundError
from shmfeed.health import RingStatus, explain_health, ring_status
from shmfeed.holes import Hole, find_holes, named_streams
from shmfeed.layout import H_STARTED, H_WAKE, Geometry
from shmfeed.memory.catalog import stream_not_found
from shmfeed.memory.keeping import keep_limit
from shmfeed.memory.liveness import is_alive, is_current, note_lookup
from shmfeed.memory.words import boot_ns
from shmfeed.segment.mapping import (
    Mapping,
    Place,
    open_segment,
    open_successor,
    place,
    place_to_read,
)
from shmfeed.spinning import Arrivals, make_spinner
from shmfeed.status import (
    ConnectionStatus,
    FeedStatus,
    Heartbeat,
    connection_status,
    feed_status,
    heartbeat,
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
from shmfeed.waiting import WaitSet, wait_past

_ATTACH_POLL_SECONDS = 0.01
compiled_core = extension  # wealthdata's compiled reads are in it; None without C


def attach(
    name: str = DEFAULT_FEED, timeout: float = 0.0, owner: str | int | None = None
) -> "Feed":
    """Attach to a feed of this host, read-only.

    The environment's SHMFEED_FEED, which `wealthdata` obeys, is not read here.

    Args:
        name: The feed's name.
        timeout: Seconds to wait for the feed to appear.
        owner: The user whose feed it is, by name or number, if its feeder lets a group
            of this process read it. None: the user that SHMFEED_OWNER names, else this
            process's own.

    Returns:
        The feed. Close it, or use it as a context manager.

    Raises:
        BadArgumentError: The name, the timeout or the owner is not accepted, or the
            variable SHMFEED_KEEP_MB is not a whole number.
        FeedNotFoundError: The feed did not appear in time.
        SegmentFormatError: The feed's file is not a segment of its owner, or has a
            newer layout than this shmfeed reads. An attached feed's methods raise it
            too once a newer shmfeed has recreated the feed.
        SegmentError: The host has no descriptor or no memory left for the mapping, or
            this process may not read the owner's feed.
        UnsupportedPlatformError: Live feeds cannot work on this host.

    Thread safety: any thread may call it.
    """
    where = place_to_read(name, owner)
    limit_kept(keep_limit())
    deadline = time.monotonic() + check_seconds("timeout", timeout)
    while True:
        try:
            return Feed(where)
        except FeedNotFoundError:
            if not time.monotonic() < deadline:
                raise
        time.sleep(_ATTACH_POLL_SECONDS)


def attach_accepted(name: str, accept: Accept, owner: int | None = None) -> "Feed":
    """Attach to a feed of a user, this one by default, if `accept` accepts it.

    `accept` is called with the identity of a segment's rows, None without one, before
    any of them is read. What it raises, the call that needs the segment raises.

    Raises as `attach` does.
    """
    where = place(name, owner)
    limit_kept(keep_limit())
    return Feed(where, accept)


class Feed:
    """A feed that this process reads, made by `attach`.

    A context manager that closes it on exit. `name` is the feed's name, `owner` the
    number of its user. After `close`
    its methods raise FeedNotFoundError. Once a newer shmfeed has recreated the feed in
    a layout that this version cannot read, they raise SegmentFormatError, which names
    both layouts.

    A pickle holds name and owner alone: a process that loads it attaches by itself, and
    raises as `attach` does. So does `copy.copy`.

    Thread safety: any thread may call any method. A forked child may use it.
    """

    def __init__(self, where: Place, accept: Accept | None = None) -> None:
        self._where = where
        self._accept = accept
        self.name, self.owner = where.name, where.owner
        segment = attached_segment(open_segment(where))
        self._feeder = self._check(segment)
        self._segment: AttachedSegment | None = segment
        self._rings: weakref.WeakValueDictionary[int, Ring] = (
            weakref.WeakValueDictionary()
        )

    def __reduce__(self) -> tuple[Any, ...]:
        self._open()
        return attach, (self.name, 0.0, self.owner)

    def current(self) -> Mapping:
        """Return the feed's current segment."""
        return self._current().mapping

    def _check(self, segment: AttachedSegment) -> AcceptedFeeder | None:
        if self._accept is None:
            return None
        return accept_feeder(segment.mapping, self._accept)

    def feeder(self) -> AcceptedFeeder:
        """Return the present feeder, accepted now if it is another one than before.

        Call it of a feed of `attach_accepted`, after rows were taken and before they
        are used: no row of a feeder that it refuses is used then. Raises what `accept`
        raises.
        """
        known = self._feeder
        if known is None or known.ints[H_STARTED] != known.mark:
            segment = self._current()
            known = self._feeder
            if known is None or not known.is_of(segment.mapping):
                accept = self._accept or bool
                self._feeder = known = accept_feeder(segment.mapping, accept)
        return known

    def _current(self) -> AttachedSegment:
        segment = self._open()
        if not is_current(segment.mapping.words.ints, boot_ns()):
            return self._find_successor(segment)
        return segment

    def _open(self) -> AttachedSegment:
        segment = self._segment
        if segment is None:
            raise FeedNotFoundError(
                f"this attachment to feed {self.name!r} is closed; attach again"
            )
        return segment

    def _find_successor(self, segment: AttachedSegment) -> AttachedSegment:
        words, now = segment.mapping.words, boot_ns()
        key = words.ints[H_WAKE]
        found = open_successor(self._where, segment.mapping)
        if found is None:
            note_lookup(words, key, now)
            return segment
        successor = attached_segment(found)
        feeder = self._check(successor)
        if self._segment is segment:  # else another thread found it, or closed this
            self._feeder = feeder
            self._segment = successor
            self._detach_rings()
        return self._current()

    def _detach_rings(self) -> None:
        # All references at once: other threads may attach rings meanwhile.
        for reference in self._rings.valuerefs():
            ring = reference()
            if ring is not None:
                ring._detach()

    def reader_of(self, ring: "Ring") -> RingReader:
        """Return the reader of a ring's stream in the current segment.

        Raises as `ring` does.
        """
        key = ring.symbol, ring.timeframe
        segment, index = self.locate(key)
        self._rings[id(ring)] = ring
        last, words = ring._last_reader, segment.mapping.words
        if last is not None and last.words is words and last.is_carried:
            return last
        return segment.reader(index, key)

    def locate(self, key: "StreamKey") -> tuple[AttachedSegment, int]:
        """Return the current segment and the entry number of a stream in it.

        Raises StreamNotFoundError.
        """
        segment = self._current()
        known = segment.streams()
        index = known.numbers.get(key)
        if index is None:
            raise stream_not_found(self.name, key, known.subscribed)
        return segment, index

    def streams(self) -> "list[StreamKey]":
        """Return the subscribed (symbol, timeframe) pairs, in order of subscription.

        Raises SegmentFormatError for a damaged catalog.
        """
        return list(self._current().streams().subscribed)

    def ring(self, symbol: str, timeframe: "Timeframe | TimeframeAlias") -> "Ring":
        """Return the ring of a stream, subscribed now or earlier.

        Args:
            symbol: As the feed spells it; case matters.
            timeframe: One of `bar.TIMEFRAMES`, or an alias.

        Raises:
            BadArgumentError: A name is not accepted.
            StreamNotFoundError: The feed does not carry the stream; the message lists
                the first 20 subscribed ones.
            SegmentFormatError: The catalog, or the times of the stream's bars, are
                damaged.
        """
        return Ring(self, check_symbol(symbol), check_timeframe(timeframe))

    def gaps(
        self,
        symbol: str | None = None,
        timeframe: "Timeframe | TimeframeAlias | None" = None,
    ) -> list[Hole]:
        """Return the bars that are missing between closed bars, stream by stream.

        Args:
            symbol: None for all symbols.
            timeframe: None for all timeframes.

        Returns:
            The holes of the subscribed streams that are named, each stream's oldest
            first; of one that was subscribed earlier, if both are given. Bars before
            the oldest one that the ring still has are not missing.

        Raises:
            BadArgumentError: A name is not accepted.
            StreamNotFoundError: The feed carries no such stream.
            BusyRingError: The writer outran a read for 10 ms.
            SegmentFormatError: The catalog, or the times of bars, are damaged.
        """
        named = named_streams(self.name, self.streams(), symbol, timeframe)
        holes: list[Hole] = []
        for key in named:
            segment, index = self.locate(key)
            holes += find_holes(segment.reader(index, key), key)
        return holes

    def status(self) -> FeedStatus:
        """Return the feed's status: plain values, as of now.

        Raises SegmentFormatError for a damaged catalog.
        """
        return feed_status(self.current(), self.name)

    def connection(self) -> ConnectionStatus:
        """Return the status of the feeder's connection, a part of `status()`."""
        return connection_status(self.current())

    def heartbeat(self) -> Heartbeat:
        """Return the feeder's last sign of life."""
        return heartbeat(self.current())

    def alive(self) -> bool:
        """Return True if the feeder sent a heartbeat in the last 2 seconds."""
        return is_alive(self.current().words.ints, boot_ns())

    def close(self) -> None:
        """Detach from the segment. Idempotent.

        Slices already taken keep their rows, and do not hold the segment.
        """
        self._segment = None
        self._detach_rings()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Ring(ReattachingReader):
    """One stream of a feed, made by `Feed.ring`. It follows a feed that is recreated.

    `symbol` and `timeframe` name the stream. Its methods raise StreamNotFoundError once
    a recreated feed does not carry the stream, and FeedNotFoundError after
    `Feed.close`.

    A pickle holds the names alone: a process that loads it attaches to the feed by
    itself. Rings of one Feed that are pickled together share one Feed there.

    Thread safety: any thread may call any method. A forked child may use it.
    """

    __slots__ = ("__weakref__", "_arrivals", "_feed", "symbol", "timeframe")

    def __init__(self, feed: Feed, symbol: str, timeframe: "Timeframe") -> None:
        super().__init__()
        self._feed = feed
        self.symbol = symbol
        self.timeframe: Timeframe = timeframe
        self._arrivals = Arrivals(timeframe)
        self._current_reader()

    def __reduce__(self) -> tuple[Any, ...]:
        return Ring, (self._feed, self.symbol, self.timeframe)

    def _find(self) -> RingReader:
        return self._feed.reader_of(self)

    def _geometry(self) -> Geometry:
        return self._current_reader().geometry

    @property
    def capacity(self) -> int:
        """Rows of the ring: history + guard."""
        return self._geometry().capacity

    @property
    def history(self) -> int:
        """The most closed bars that a view can have."""
        return self._geometry().history

    @property
    def guard(self) -> int:
        """The number of bars that may close before a view of `history` is invalid."""
        return self._geometry().guard

    def wait(
        self, after: int, timeout: float | None = None, *, spin: float = 0.0
    ) -> int | None:
        """Sleep until `count` is past `after`, or `epoch` has changed.

        A waiting reader sleeps in the kernel until its stream closes a bar. Streams
        share 32 wake bits, so another stream may wake it now and then; it then checks
        and sleeps again.

        With `spin` it looks without sleeping for that long in each timeframe, around
        the instant at which the ring's last bars arrived. It then has a bar within
        some microseconds if a core is free for it, and uses up to `spin` seconds of
        that core for each bar. The first bar, and bars without a steady pace, are
        waited for asleep.

        Args:
            after: A bar number, usually the count that was seen last.
            timeout: Seconds, or None to wait as long as the feeder lives.
            spin: Seconds, at most 1; 0 never spins.

        Returns:
            The count; None at the deadline or, without one, when the feeder is dead.
            If the epoch has changed, the count may be no higher than `after`: a repair
            replaced the stream's bars, or the feed was recreated since this ring was
            last used.

        Raises:
            BadArgumentError: An argument is not accepted.
        """
        timeout = check_timeout("timeout", timeout)
        after = check_int("after", after, None)
        return wait_past(self, after, timeout, make_spinner([self._arrivals], spin))

    def status(self) -> RingStatus:
        """Return age, state and health of this stream."""
        return ring_status(self._current_reader(), self.timeframe)

    def why(self) -> str:
        """Return why the stream has its health, in words; "" for live and quiet."""
        reader = self._current_reader()
        status = ring_status(reader, self.timeframe)
        return explain_health(reader, self.timeframe, status.health)

    def __repr__(self) -> str:
        return f"<Ring {self.symbol} {self.timeframe} of feed {self._feed.name!r}>"


Waited = Ring | tuple[Ring, int]  # a ring, or with the bar number to wait past


def wait(
    rings: Iterable[Waited], timeout: float | None = None, *, spin: float = 0.0
) -> list[Ring]:
    """Sleep until at least one of these rings closes a bar.

    Args:
        rings: Of one or more feeds. A ring waits for a bar that closes after this call,
            a pair `(ring, after)` for a count past `after`. If a recreated feed numbers
            its bars from 0 again, the first bar counts.
        timeout: Seconds, or None to wait as long as one of their feeders lives.
        spin: As in `Ring.wait`, for all rings together in their shortest timeframe.

    Returns:
        The rings that closed a bar, in the order given; [] at the deadline or, without
        one, when all of the feeders are dead. No rings have no live feeder: without a
        timeout an empty list returns [] at once.

    Raises:
        BadArgumentError: An argument is not accepted.

    Thread safety: any thread may call it.
    """
    return make_wait_set(rings, timeout, spin).wait()


def make_wait_set(
    rings: Iterable[Waited], timeout: float | None, spin: float = 0.0
) -> WaitSet[Ring]:
    """Return the wait set of `wait`, with its arguments checked."""
    timeout = check_timeout("timeout", timeout)
    items = items_of(rings)
    wanted = [_check_waited(item) for item in ([rings] if items is None else items)]
    spinner = make_spinner([ring._arrivals for ring, _ in wanted], spin)
    return WaitSet(wanted, timeout, spinner=spinner)


def _check_waited(value: Any) -> tuple[Ring, int]:
    if isinstance(value, tuple) and len(value) == 2:
        return check_ring(value[0], _WAITED), check_int("after", value[1], None)
    ring = check_ring(value, _WAITED)
    return ring, ring.count


_RINGS = "rings of Feed.ring()"
_WAITED = f"{_RINGS}, or pairs (ring, after)"


def check_ring(value: Any, accepted: str = _RINGS) -> Ring:
    """Return a ring, or raise BadArgumentError."""
    if not isinstance(value, Ring):
        raise BadArgumentError(
            f"rings contains {repr_short(value)}; it must contain {accepted}"
        )
    return value
