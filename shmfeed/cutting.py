"""The cut: the newest rows of many rings, as of one instant.

No ring is read before an event and another ring after it. Published rows never change,
so a cut takes no lock. `csrc/cut.h` is the twin of `read_cut` and `read_list` and names
their steps by the same numbers; R1 to R5 are those of `ringbuf`:

 (C1) load the catalog word and the window of each ring, R1 and R2
 (C2) choose the rows: the newest of each ring or, aligned, those of the newest close
      times that all rings have
 (C3) copy them
 (C4) check each ring, R4 and R5: its rows are intact, its catalog word is the one of C1
      and, unless aligned, its count too
 (C5) read each ring that fails C4, that has *moved*, again from C1 on; then check all
      rings again

Not aligned, the instant is the beginning of the last C4. Each word and count was loaded
before it and found unchanged after it. Counts only grow and the epoch of a word never
returns, so each ring had these values at that instant.

Aligned, the instant is the one at which the last ring closes the cut's newest bar, or
the beginning of the call if all rings have that bar already. A ring appends in the
order of close times, so no later append changes a row up to that bar. Only a swap
could, and a cut whose catalog words change during the call reads all rings again. So an
aligned cut tolerates any number of bars that close meanwhile.

`read_list` is a cut that is not aligned, of the newest rows in a range, with what else
the read of a list has to know of its rings.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shmfeed.bar import FLOAT_FIELDS, Field
from shmfeed.errors import BadArgumentError
from shmfeed.follower import ReattachingReader
from shmfeed.layout import E_WORD, S_BASE, S_PUBLISHED, SLOT_BITS
from shmfeed.memory.rows import COLUMN_NUMBER, FloatArray, IntArray
from shmfeed.memory.words import RetryBudget
from shmfeed.ringbuf import RingReader
from shmfeed.text import repr_short
from shmfeed.validation import check_flag, check_int

_CLOSE_TIME = COLUMN_NUMBER["close_time"]

Columns = slice | list[int]
CutArrays = tuple[FloatArray, IntArray, list[int]]
Bounds = tuple[int, int] | None


def read_cut(
    rings: tuple[ReattachingReader, ...],
    n: int,
    fields: tuple[Field, ...],
    align: bool,
    /,
) -> CutArrays | None:
    """Return the newest rows of rings of one feed, as of one instant.

    Args:
        n: At least 1. More than `history` counts as `history`.
        fields: Names of float64 columns, each once.
        align: If True, only the close times that all rings with rows have.

    Returns:
        Private arrays, the values float64 (fields, rings, m) and the close times int64
        (m,) or, not aligned, (rings, m), and the positions of the rings without rows.
        None if these are not rings of one segment, at least one.

    Raises:
        BadArgumentError: n, fields or align is not accepted.
        BusyRingError: The writer outran this read for 10 ms.
        SegmentFormatError: A stream's slot is damaged.
    """
    n, columns = check_int("n", n), cut_columns(fields)
    align = check_flag("align", align)
    windows = _open_windows(rings, None)
    return None if windows is None else _Cut(windows, n, columns, align).read()


class ListArrays(NamedTuple):
    """The rows of a list, as of one instant. The C core returns a plain tuple.

    Attributes:
        values: float64 (fields, rings, m), NaN where a ring has fewer rows.
        close_time: int64 (rings, m), 0 there. Rows end at the right.
        newest: int64 (rings,): the close time of each ring's newest row, in the range
            or not; 0 without a row.
        epochs: int64 (rings,): those of the rows.
        is_even: True if each ring gives rows of the same close times, at least one.
        age: The largest age of a stream in seconds, None if one of them is not live.
        lost: The sum of the rings' `_lost`.
    """

    values: FloatArray
    close_time: IntArray
    newest: IntArray
    epochs: IntArray
    is_even: bool
    age: float | None
    lost: int


def read_list(
    rings: tuple[ReattachingReader, ...],
    n: int,
    fields: tuple[Field, ...],
    bounds: Bounds,
    quiet: int,
    /,
) -> ListArrays | None:
    """Return the newest rows of rings of one feed in a range, as of one instant.

    Args:
        n: As in `read_cut`.
        fields: As in `read_cut`.
        bounds: The earliest and the latest close time of the rows; None for any.
        quiet: ns without an update until a stream is no longer live, as `live_age` of
            RingReader takes it.

    Returns:
        None if these are not rings of one segment, at least one.

    Raises:
        As `read_cut` does.
    """
    n, columns = check_int("n", n), cut_columns(fields)
    windows = _open_windows(rings, bounds)
    if windows is None:
        return None
    values, closes, _ = _Cut(windows, n, columns, False, bounds is not None).read()
    is_even = closes.size > 0 and bool(closes.all() and (closes == closes[0]).all())
    ages = [window.live_age(quiet) for window in windows]
    known = [age for age in ages if age is not None]
    return ListArrays(
        values,
        closes,
        np.array([window.newest for window in windows], np.int64),
        np.array([window.epoch for window in windows], np.int64),
        is_even,
        max(known) if len(known) == len(ages) else None,
        sum(ring._lost for ring in rings),
    )


def _open_windows(
    rings: tuple[ReattachingReader, ...], bounds: Bounds
) -> "list[_Window] | None":
    """Return a window on each ring; None if they are not rings of one segment."""
    if not rings or not all(isinstance(ring, ReattachingReader) for ring in rings):
        return None
    readers = [ring._current_reader() for ring in rings]
    words = readers[0].words
    if any(reader.words is not words for reader in readers):
        return None
    return [_Window(reader, bounds) for reader in readers]


def cut_columns(fields: tuple[Field, ...]) -> list[int]:
    """Return the columns of the fields of a cut. Raise BadArgumentError."""
    names: tuple[object, ...] = fields if isinstance(fields, tuple) else ()
    known = [name for name in names if isinstance(name, str) and name in FLOAT_FIELDS]
    if known and len(known) == len(names) == len(set(known)):
        return [COLUMN_NUMBER[name] for name in known]
    raise BadArgumentError(
        f"fields is {repr_short(fields)}; it must be some of: {' '.join(FLOAT_FIELDS)},"
        " each once"
    )


def common_times(columns: Sequence[IntArray], most: int) -> IntArray:
    """Return the newest close times that are in all columns, at most `most` of them."""
    if not columns:
        return np.empty(0, np.int64)
    newest = min(int(column[-1]) for column in columns)
    ends = [int(column.searchsorted(newest, "right")) for column in columns]
    rows = min(most, *ends)
    tails = np.array(
        [c[end - rows : end] for c, end in zip(columns, ends, strict=True)]
    )
    if (tails == tails[0]).all():  # the usual case: no ring has a hole there
        times: IntArray = tails[0].copy()
        return times
    common = columns[0]
    for column in columns[1:]:
        common = np.intersect1d(common, column, assume_unique=True)
    return common[-most:].copy()


class _Window:
    """The rows of one ring, [first, last), from which a cut takes its own."""

    __slots__ = (
        "_bounds",
        "_oldest",
        "_published",
        "_reader",
        "_slot",
        "_start",
        "_word",
        "first",
        "last",
        "newest",
    )

    def __init__(self, reader: RingReader, bounds: Bounds) -> None:
        self._reader = reader
        self._bounds = bounds
        self._word, self._slot = reader._binding.pair
        self._oldest = self._published = 0  # of the rows that were looked at
        self._start = self.first = self.last = 0
        self.newest = 0

    def take(self, reach: int, most: int) -> bool:
        """Load word and window, C1. Return False if the word is not that of before.

        `reach` rows are looked at, and the newest `most` in the bounds are taken.
        """
        before = self._word
        self._word, slot = self._reader._current()
        last = slot.words[slot.at + S_PUBLISHED]  # R2, acquire: pairs with A4
        if last >= slot.due:
            self._reader._binding.keep(slot, last)
            self._word, slot = self._reader._current()
        self._slot = slot
        self.first = self._oldest = max(slot.words[slot.at + S_BASE], last - reach)
        self.last = self._published = last
        self._start = self.first % slot.capacity
        self.newest = int(self.close_time[-1]) if len(self) else 0
        if self._bounds is not None and len(self):
            self._narrow(*self._bounds, most)
        return self._word == before

    def _narrow(self, start: int, end: int, most: int) -> None:
        # A row that is overwritten meanwhile may have any time; C4 finds it.
        closes, oldest = self.close_time, self.first
        found = oldest + int(closes.searchsorted(start))
        if end < self.newest:
            self.last = max(found, oldest + int(closes.searchsorted(end, "right")))
        self.first = max(found, self.last - most)
        self._start = self.first % self._slot.capacity

    @property
    def epoch(self) -> int:
        """The epoch of the catalog word of C1."""
        return self._word >> SLOT_BITS

    def live_age(self, quiet: int) -> float | None:
        return self._reader.live_age(quiet)

    def held(self, with_count: bool) -> bool:
        """Return True if the ring did not move since C1, C4."""
        slot, reader = self._slot, self._reader
        return (
            self._oldest <= self._published
            and (not with_count or slot.words[slot.at + S_PUBLISHED] == self._published)
            and slot.is_intact(self._word, self._oldest)
            and reader.words.ints[reader.entry + E_WORD] == self._word
        )

    @property
    def history(self) -> int:
        return self._reader.geometry.history

    def budget(self) -> RetryBudget:
        return self._reader.retry_budget("cut")

    def __len__(self) -> int:
        return max(0, self.last - self.first)

    @property
    def close_time(self) -> IntArray:
        return self._slot.ints[_CLOSE_TIME, self._start : self._start + len(self)]

    def copy(self, columns: Columns, into: FloatArray) -> None:
        """Copy all rows."""
        into[:] = self._slot.floats[columns, self._start : self._start + len(self)]

    def copy_at(self, times: IntArray, columns: Columns, into: FloatArray) -> None:
        """Copy the rows with these close times."""
        if not len(times):
            return
        closes, count = self.close_time, len(times)
        start = int(closes.searchsorted(times[0]))
        found = closes[start : start + count]
        start += self._start
        if len(found) == count and (found == times).all():  # the usual case
            into[:] = self._slot.floats[columns, start : start + count]
            return
        # A row that is overwritten meanwhile may have any time: stay inside.
        rows = np.minimum(closes.searchsorted(times), len(self) - 1)
        into[:] = self._slot.floats[:, self._start + rows][columns]


class _Cut:
    """The state of one cut: the chosen close times, and the values copied so far."""

    def __init__(
        self,
        windows: list[_Window],
        n: int,
        columns: list[int],
        align: bool,
        is_bounded: bool = False,
    ) -> None:
        history = windows[0].history
        self._windows = windows
        # Adjacent columns are copied as one array.
        first, count = columns[0], len(columns)
        adjacent = columns == [*range(first, first + count)]
        self._columns = slice(first, first + count) if adjacent else columns
        self._fields = count
        self._align = align
        self._most = min(n, history)
        self._reach = history if align or is_bounded else self._most
        self._rows = -1  # the third dimension of `_values`; no rows are chosen yet
        self._times = np.empty(0, np.int64)
        self._values = np.empty((0, 0, 0))

    def read(self) -> CutArrays:
        every = range(len(self._windows))
        moved: Sequence[int] = every
        budget = None
        while True:
            held = [self._windows[k].take(self._reach, self._most) for k in moved]
            if not self._align or all(held):
                for k in every if self._choose() else moved:
                    self._copy(k)
                moved = [k for k in every if not self._windows[k].held(not self._align)]
                if not moved:
                    break
            if self._align:
                moved = every
            budget = budget or self._windows[moved[0]].budget()
            budget.spend()
        return (
            self._values,
            self._times,
            [k for k in every if not len(self._windows[k])],
        )

    def _choose(self) -> bool:
        """Choose the rows, C2. Return True if each ring has to be copied again."""
        if self._align:
            columns = [window.close_time for window in self._windows if len(window)]
            before, self._times = self._times, common_times(columns, self._most)
            rows, same = len(self._times), np.array_equal(before, self._times)
        else:
            rows, same = max(map(len, self._windows)), True
        if rows == self._rows and same:
            return False
        shape = len(self._windows), rows
        if not self._align:
            self._times = np.empty(shape, np.int64)
        self._values = np.empty((self._fields, *shape))
        self._rows = rows
        return True

    def _copy(self, k: int) -> None:
        """Copy the chosen rows of one ring, C3."""
        window, values = self._windows[k], self._values[:, k]
        if not self._align:
            start = self._rows - len(window)
            if start:
                values[:, :start] = np.nan
                self._times[k, :start] = 0
            window.copy(self._columns, values[:, start:])
            self._times[k, start:] = window.close_time
        elif len(window):
            window.copy_at(self._times, self._columns, values)
        else:
            values[:] = np.nan
