"""Bars that betray a torn read: every field follows from one number.

Closed bar `number` (1, 2, ..) is row `number - 1`, its floats are number * 1 .. 6. A
forming bar is update `revision` of bar `number`; its floats are multiples of
`number * REVISIONS + revision`.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import Bar
from shmfeed.memory.rows import Rows
from shmfeed.ringbuf import RingWriter

SYMBOL, TIMEFRAME = "BTCUSDT", "1m"
STEP = 60_000
REVISIONS = 1024

_FACTORS = np.arange(1.0, 7.0)[:, None]


def append(ring: RingWriter, number: int, *, wake: bool = True) -> None:
    ring.append(number * STEP, *_floats(number), flags=number, wake=wake)


def block(numbers: Iterable[int], mark: int = 0) -> NDArray[np.float64]:
    """Return closed bars as `Rows.block`; `mark` is added to each value."""
    wanted = np.fromiter(numbers, np.int64)
    cells = np.empty((9, len(wanted)))
    ints = cells.view(np.int64)
    ints[0], ints[1] = wanted * STEP, (wanted + 1) * STEP
    cells[2:8], ints[8] = (wanted + mark) * _FACTORS, wanted + mark
    return cells


def update_forming(ring: RingWriter, number: int, revision: int) -> None:
    ring.update_forming(*forming_values(number, revision))


def forming_values(number: int, revision: int) -> tuple[float, ...]:
    """Return the arguments of `update_forming` for it."""
    mark = number * REVISIONS + revision
    return number * STEP, *_floats(mark), mark


def _floats(mark: int) -> tuple[float, ...]:
    return mark, 2 * mark, 3 * mark, 4 * mark, 5 * mark, 6 * mark


def bad_rows(rows: Rows) -> int:
    """Return the number of rows that differ from the written ones, forming ones too."""
    number = np.arange(rows.first + 1, rows.last + 1)
    mark = number.copy()
    if rows.forming:
        mark[-1] = rows["flags"][-1]
        number[-1] = number[-1] if mark[-1] // REVISIONS == number[-1] else -1
    good = (rows.open_time == number * STEP) & (rows.close_time == (number + 1) * STEP)
    good &= (rows["flags"] == mark) & (rows.floats == mark * _FACTORS).all(axis=0)
    return len(rows) - int(np.count_nonzero(good))


def bad_forming_bars(bars: list[Bar]) -> int:
    """Return the number of forming bars that differ from the written ones."""
    values = np.array(bars, np.float64).T
    mark = values[-1]
    number = mark // REVISIONS
    good = (values[0] == number * STEP) & (values[1] == (number + 1) * STEP)
    good &= (values[2:8] == mark * _FACTORS).all(axis=0)
    return len(bars) - int(np.count_nonzero(good))


def is_whole(bar: Bar) -> bool:
    """Return True if a closed bar is one that was written."""
    return bar == _bar(bar.flags, bar.flags)


def is_whole_forming(bar: Bar) -> bool:
    """Return True if a forming bar is one that was written."""
    return bar == _bar(bar.flags // REVISIONS, bar.flags)


def _bar(number: int, mark: int) -> Bar:
    return Bar(number * STEP, (number + 1) * STEP, *_floats(mark), flags=mark)
