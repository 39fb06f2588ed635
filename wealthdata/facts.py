"""The notes of a read about its rows, and the values that are found out of them later.

A read notes numbers alone: they keep no row in memory. A value that costs to know is
found out when it is asked for: from the frame's rows, while these are held, or from the
ring, while it has the rows of these numbers in their epoch. Such rows cannot have
changed.
"""

import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from shmfeed.bar import POLLED, REVISED, UNCONFIRMED, StreamKey, grid_steps
from shmfeed.errors import ShmfeedError
from shmfeed.feed import Ring
from shmfeed.venue_time import bars_due
from wealthdata.columns import BarColumns, Floats, Ints, PrivateColumns
from wealthdata.kept_bars import (
    VALUES,
    BarsRead,
    KeptBars,
    NotKept,
    Origin,
    keep_bars,
    keep_block,
    window_of,
)
from wealthdata.relayed import oldest_relay_age

_MASKS = (UNCONFIRMED, POLLED, REVISED)
_NOT_KNOWN = (None, None, None)
_BAR_BYTES = 8 * (1 + VALUES)
Counts = tuple[int, ...] | tuple[None, ...]


class NumberedRows(Protocol):
    """Rows of a ring by their numbers in an epoch, `last` exclusive."""

    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def epoch(self) -> int: ...


class NotedRead(Protocol):
    """A record of rows of a ring: `ReadRecord`, or its twin in C.

    Attributes:
        first, last: The numbers of the rows, last exclusive.
        epoch: The epoch of these numbers.
        moment: The moment of the read, ns of CLOCK_BOOTTIME.
        age: Seconds since the stream's last update at that moment, None before it.
        newest: Close time of the ring's newest row at that moment, 0 without rows.

    One with a forming bar has a copy of its rows too: `kept`, or `own` in C.
    """

    first: int
    last: int
    epoch: int
    moment: int
    age: float | None
    newest: int

    @property
    def valid(self) -> bool: ...
    def count_flags(
        self, flags: tuple[int, ...], first: int, last: int, /
    ) -> tuple[int, ...] | None: ...
    def copy_block(self) -> Floats | None:
        """Return a copy of the rows while a frame holds them, all columns; or None."""
        ...


OVERWRITTEN = NotKept("the feeder has overwritten rows of the frame in memory")
_LEFT = NotKept(
    "the ring has no longer the bars as they were read; a recorded run, or an earlier"
    " decide() without frames, keeps the bars of each read"
)


class RingFacts:
    """The facts about rows of one ring, or that were rolled up from them."""

    def __init__(self, ring: Ring, timeframe: str | None = None) -> None:
        self._ring = weakref.ref(ring)
        self._timeframe = timeframe or ring.timeframe
        self.stream = ring.symbol, self._timeframe

    def find_out(self, record: NotedRead, values: dict[str, Any]) -> dict[str, Any]:
        ring = self._ring()
        counts: Counts | None = record.count_flags(_MASKS, record.first, record.last)
        if counts is None:
            counts = _NOT_KNOWN if ring is None else _count_in_ring(ring, record)
        due = None
        if dict.get(values, "health") == "closed":
            due = 0  # its symbol does not trade
        elif ring is not None:
            due = self._due(ring, record)
        relayed = oldest_relay_age([ring], record.moment, values)
        known = {"age": record.age, "relay_age": relayed, "due": due}
        return _named(counts) | known

    def bars_read(self, record: NotedRead, origin: Origin) -> list[BarsRead]:
        """Return the bars of a read, as they were read."""
        symbol, timeframe = self.stream
        origin = origin._replace(symbol=symbol, timeframe=timeframe)
        valid = record.valid
        kept, own = getattr(record, "kept", None), getattr(record, "own", None)
        if own is not None:
            kept = keep_bars(own, 0, len(own))
        return [BarsRead(origin, kept or self._bars_now(record, valid), valid)]

    def bars_numbered(self, record: NumberedRows) -> KeptBars | NotKept:
        """Return the bars that the ring has under these numbers, in their epoch."""
        return bars_in_ring(self._ring(), record)

    def _bars_now(self, record: NotedRead, valid: bool) -> KeptBars | NotKept:
        """Return the bars of a read that has kept numbers alone."""
        if not valid:
            return OVERWRITTEN
        block = record.copy_block()
        if block is not None:
            return keep_block(block)
        return self.bars_numbered(record)

    def _due(self, ring: Ring, record: NotedRead) -> int | None:
        try:
            reader = ring._current_reader()
        except ShmfeedError:
            return None  # the feed is gone, or carries the stream no more
        return bars_due(reader, self._timeframe, record.newest, record.moment)


def _count_in_ring(ring: Ring, record: NotedRead) -> Counts:
    """Return the counts of flags in the rows that a ring has under these numbers."""
    try:
        rows: Any = ring.view(max(1, ring.count - record.first))
        counts = rows.validity.count_flags(_MASKS, record.first, record.last)
        # Rows of another epoch have other numbers.
        is_same = ring.epoch == record.epoch
    except ShmfeedError:
        return _NOT_KNOWN
    return counts if is_same and counts is not None else _NOT_KNOWN


def bars_in_ring(ring: Ring | None, record: NumberedRows) -> KeptBars | NotKept:
    """Return the bars that a ring has under these numbers, in their epoch."""
    if ring is None:
        return _LEFT
    try:
        rows: Any = ring.view(max(1, ring.count - record.first))
        first, last = record.first - rows.first, record.last - rows.first
        bars = keep_bars(rows, first, last) if 0 <= first <= last else None
        is_same = rows.valid and ring.epoch == record.epoch
    except ShmfeedError:
        return _LEFT
    whole = bars is not None and len(bars.open_time) == record.last - record.first
    return bars if bars is not None and whole and is_same else _LEFT


def has_counted_flags(flags: Ints) -> bool:
    """Return True if any of these flags has one of the counted ones."""
    return bool((flags & (UNCONFIRMED | POLLED | REVISED)).any())


def _count(flags: Any) -> tuple[int, ...]:
    return tuple(int(np.count_nonzero(flags & mask)) for mask in _MASKS)


def count_each(flags: Ints) -> dict[str, int]:
    """Return how many of these flags have each of the counted ones."""
    return _named(_count(flags))


def count_flags(columns: BarColumns, first: int, last: int) -> dict[str, int]:
    """Return how many of the rows `first` to `last` - 1 have each flag."""
    count = getattr(columns, "count_flags", None)
    if count is None:
        return count_each(columns["flags"][first:last])
    start: int = columns.first  # type: ignore[attr-defined] # a ring's rows
    return _named(count(_MASKS, start + first, start + last))


def _named(counts: Iterable[Any]) -> dict[str, Any]:
    unconfirmed, polled, revised = counts
    return {"unconfirmed": unconfirmed, "polled": polled, "revised": revised}


class ReadRecord:
    """The notes of a read about rows of one ring, with the attributes of NotedRead.

    The rows are those of the window in `columns`, which are a ring's slice or, where
    `validity` is None, private. `newest` is the close time of the ring's newest row,
    `kept` a copy of the rows: it has the forming bar too.
    """

    __slots__ = (
        "_validity",
        "age",
        "epoch",
        "facts",
        "first",
        "kept",
        "last",
        "moment",
        "newest",
    )

    def __init__(
        self,
        facts: RingFacts,
        columns: Any,
        window: tuple[int, int],
        epoch: int,
        age: float | None,
        newest: int,
        kept: KeptBars | None = None,
    ) -> None:
        self.facts = facts
        self.kept = kept
        self._validity = getattr(columns, "validity", None)
        number = getattr(columns, "first", 0)
        self.first: int = number + window[0]
        self.last: int = number + window[1]
        self.epoch = epoch
        self.moment = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.age = age
        self.newest = newest

    @property
    def valid(self) -> bool:
        validity = self._validity
        return True if validity is None else bool(validity.valid)

    def count_flags(self, *asked: Any) -> tuple[int, ...] | None:
        validity = self._validity
        counts: tuple[int, ...] | None = None
        if validity is not None:
            counts = validity.count_flags(*asked)
        return counts

    def copy_block(self) -> Floats | None:
        validity = self._validity
        block: Floats | None = None
        if validity is not None:
            block = validity.copy_block()
        return block

    @property
    def key(self) -> tuple[Any, ...]:
        if self.kept is not None:
            return (*self.facts.stream, self.epoch, *self.kept.key)
        return (*self.facts.stream, self.epoch, self.first, self.last)

    @property
    def nbytes(self) -> int:
        return 0 if self.kept is None else self.kept.nbytes


class ContextFacts:
    """The facts about rows of a context: all are stored."""

    def find_out(self, _record: object, _values: dict[str, Any]) -> dict[str, Any]:
        return {}

    def bars_read(self, record: "ContextRecord", origin: Origin) -> list[BarsRead]:
        symbol, timeframe = record.stream
        origin = origin._replace(symbol=symbol, timeframe=timeframe)
        return [BarsRead(origin, record.kept, True)]


class ContextRecord:
    """The notes of a read about rows of a context, which nothing changes."""

    __slots__ = ("_columns", "_first", "_last", "stream")
    facts = ContextFacts()
    valid = True

    def __init__(
        self, stream: StreamKey, columns: BarColumns, first: int, last: int
    ) -> None:
        self.stream = stream
        self._columns = columns
        self._first = first
        self._last = last

    @property
    def kept(self) -> KeptBars:
        return keep_bars(self._columns, self._first, self._last)

    @property
    def key(self) -> tuple[Any, ...]:
        columns, first, last = self._columns, self._first, self._last
        return (*self.stream, *window_of(columns, first, last))

    @property
    def nbytes(self) -> int:
        return (self._last - self._first) * _BAR_BYTES


class CutFacts:
    """The facts about rows of several rings: sums."""

    def __init__(
        self, rings: Sequence[Ring], timeframe: str, origins: Sequence[Origin]
    ) -> None:
        self._rings = [weakref.ref(ring) for ring in rings]
        self._timeframe = timeframe
        self._origins = origins

    def bars_read(self, record: "CutRecord", _origin: Origin) -> list[BarsRead]:
        """Return the bars of each ring of which the frame has some."""
        numbers = _numbers(record)
        read = []
        for place, (epoch, end, count) in enumerate(zip(*numbers, strict=True)):
            if not count:
                continue
            bars: KeptBars | NotKept | None = record.kept.get(place)
            if bars is None:
                ring = self._rings[place]()
                bars = _cut_again(ring, epoch, (end, count, record.times))
            read.append(BarsRead(self._origins[place], bars, True))
        return read

    def find_out(self, record: "CutRecord", values: dict[str, Any]) -> dict[str, Any]:
        rings = [reference() for reference in self._rings]
        due: int | None = None
        counts: Any = None
        with suppress(ShmfeedError, LookupError):
            due = sum(_due_of_each(rings, record, self._timeframe))
        with suppress(ShmfeedError, LookupError):
            counts = sum(_flags_of_each(rings, record), np.zeros(len(_MASKS), int))
        oldest = oldest_relay_age(rings, record.moment, values)
        found: dict[str, Any] = {"due": due, "late": record.late, "relay_age": oldest}
        return found if counts is None else found | _named(counts.tolist())


def _numbers(record: "CutRecord") -> tuple[list[int], list[int], list[int]]:
    """Return the epochs, the ends and the counts of a record."""
    return record.epochs.tolist(), record.ends.tolist(), record.counts.tolist()


def _due_of_each(
    rings: Sequence[Ring | None], record: "CutRecord", timeframe: str
) -> Iterator[int]:
    for place, (ring, newest) in enumerate(
        zip(rings, record.newest.tolist(), strict=True)
    ):
        if place in record.closed:
            continue  # its symbol does not trade
        if ring is None:
            raise LookupError
        yield bars_due(ring._current_reader(), timeframe, newest, record.moment)


def _flags_of_each(rings: Sequence[Ring | None], record: "CutRecord") -> Iterator[Any]:
    """Yield the counts in each ring's rows. Raise LookupError if some are lost."""
    numbers = _numbers(record)
    for place, (ring, epoch, end, count) in enumerate(
        zip(rings, *numbers, strict=True)
    ):
        if not count or place in record.rolled:
            yield np.array(record.rolled.get(place, (0,) * len(_MASKS)))
            continue
        rows = None if ring is None else rows_up_to(ring, end, count, record.times)
        if rows is None or ring is None or ring.epoch != epoch:
            raise LookupError
        yield np.array(_count(rows.flags))


class CutRecord:
    """The notes of a read about the rows that it took of several rings.

    Attributes:
        epochs: The epoch of each ring's rows.
        newest: The close time of each ring's newest row, 0 without one.
        ends: That of the last row that was read of each, 0 without one.
        counts: The number of rows that the frame has of each ring.
        times: The close times of the rows of an aligned frame; None if the rows are the
            last ones up to `ends`.
        rolled: The counts of flags in rows that were rolled up, by the ring's place.
        late: The securities that held an aligned frame back, and by how many seconds.
        kept: Copies of rows, by the ring's place: of those that were rolled up and, in
            a tracked process, of all.
        closed: The places of the rings whose symbols did not trade.
        moment: The moment of the read, ns of CLOCK_BOOTTIME.
    """

    __slots__ = (
        "closed",
        "counts",
        "ends",
        "epochs",
        "facts",
        "kept",
        "late",
        "moment",
        "newest",
        "rolled",
        "times",
    )
    valid = True

    def __init__(
        self,
        facts: CutFacts,
        epochs: Ints,
        newest: Ints,
        ends: Ints,
        counts: Ints,
        times: Ints | None,
        rolled: dict[int, tuple[int, ...]],
        late: dict[str, float],
        kept: dict[int, KeptBars],
        closed: frozenset[int],
    ) -> None:
        self.facts = facts
        self.kept = kept
        self.late = late
        self.closed = closed
        self.rolled = rolled
        self.epochs = epochs
        self.newest = newest
        self.ends = ends
        self.counts = counts
        self.times = times
        self.moment = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    @property
    def key(self) -> tuple[Any, ...]:
        times = None if self.times is None else self.times.tobytes()
        numbers = [each.tobytes() for each in (self.epochs, self.ends, self.counts)]
        return id(self.facts), *numbers, times

    @property
    def nbytes(self) -> int:
        return sum(bars.nbytes for bars in self.kept.values()) if self.kept else 0


def _cut_again(
    ring: Ring | None, epoch: int, asked: tuple[int, int, Ints | None]
) -> KeptBars | NotKept:
    """Return the bars of a cut that a ring still has, in the same epoch."""
    rows = None
    with suppress(ShmfeedError):
        rows = None if ring is None else rows_up_to(ring, *asked, values=VALUES)
    if rows is None or ring is None or ring.epoch != epoch:
        return _LEFT
    return KeptBars(rows.open_time, rows.floats)


def rows_up_to(
    ring: Ring,
    newest: int,
    count: int,
    times: Ints | None = None,
    values: int = 0,
) -> PrivateColumns | None:
    """Return times and flags of a ring's last `count` rows up to a close time.

    With `times`, return those of the rows with these close times. Of the values, the
    first `values` are copied. Return None if the ring no longer has all of the rows.
    """
    rows = ring.view(ring.history)
    closes = rows.close_time
    if times is None:
        end = int(closes.searchsorted(newest, "right"))
        found: Any = slice(max(0, end - count), end)
        wanted = count, newest
    else:
        found = np.minimum(closes.searchsorted(times), max(0, len(rows) - 1))
        wanted = len(times), int(times[-1]) if len(times) else 0
    taken = PrivateColumns(
        rows.open_time[found].copy(),
        closes[found].copy(),
        rows.floats[:values, found].copy(),
        rows["flags"][found].copy(),
    )
    last = int(taken.close_time[-1]) if len(taken) else 0
    is_same = times is None or np.array_equal(taken.close_time, times)
    return taken if rows.valid and is_same and (len(taken), last) == wanted else None


def due_of_context(newest: int, now: int | None, timeframe: str) -> int:
    """Return how many bars have closed after a context's newest one.

    `now` is the strategy's time, ms UTC, None for this host's clock.
    """
    if now is None:
        now = time.time_ns() // 1_000_000
    return max(0, grid_steps(newest, now, timeframe))
