"""The bars of one stream as a read has found them, kept for a receipt."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from shmfeed.bar import floor, step
from wealthdata.columns import BarColumns, Floats, Ints

VALUES = 5  # open, high, low, close, volume


class Origin(NamedTuple):
    """The origin of bars: what a frame's attrs say of it, and the stream.

    `rolled` is the timeframe that the bars were made from, None if it is their own.
    """

    feed: str | None
    identity: str | None
    source: str | None
    rolled: str | None
    symbol: str = ""
    timeframe: str = ""


ORIGIN_KEYS = ("feed", "identity", "source", "rolled")  # in attrs


class KeptBars(NamedTuple):
    """Bars in private memory: int64 open times, float64 (5, n) values.

    `forming` is True if the last one is the forming bar.
    """

    open_time: Ints
    values: Floats
    forming: bool = False

    @property
    def nbytes(self) -> int:
        return self.open_time.nbytes + self.values.nbytes

    @property
    def key(self) -> tuple[int, ...]:
        """The window: its first and last open time, the number of its bars."""
        opened = self.open_time
        ends = (int(opened[0]), int(opened[-1])) if len(opened) else (0, 0)
        return (*ends, len(opened), self.forming)


class NotKept(NamedTuple):
    """The reason why the bars of a read are not known any more."""

    reason: str


class BarsRead(NamedTuple):
    """The bars of one stream in a read, and whether they are still valid."""

    origin: Origin
    bars: KeptBars | NotKept
    valid: bool

    @property
    def has_some(self) -> bool:
        """False if the read is known to have no bar of the stream."""
        return not isinstance(self.bars, KeptBars) or len(self.bars.open_time) > 0


class Noted(Protocol):
    """A record of a read that a task's log can hold."""

    @property
    def key(self) -> tuple[Any, ...]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def facts(self) -> Any: ...


def keep_bars(columns: BarColumns, first: int, last: int) -> KeptBars:
    """Return a copy of rows `first` to `last` - 1. Of a slice, ask `valid` then."""
    return KeptBars(
        columns.open_time[first:last].copy(),
        columns.floats[:VALUES, first:last].copy(),
        _has_forming(columns, first, last),
    )


def window_of(columns: BarColumns, first: int, last: int) -> tuple[int, ...]:
    """Return the `key` of a copy of these rows, without the copy."""
    opened = columns.open_time
    ends = (int(opened[first]), int(opened[last - 1])) if first < last else (0, 0)
    return (*ends, last - first, _has_forming(columns, first, last))


def _has_forming(columns: BarColumns, first: int, last: int) -> bool:
    return bool(columns.forming and last == len(columns) and first < last)


def keep_block(block: Floats) -> KeptBars:
    """Return the bars of a block of all columns of a ring, in the same memory."""
    return KeptBars(block[0].view(np.int64), block[2 : 2 + VALUES])


def open_times(closes: Ints, timeframe: str) -> Ints:
    """Return the open times of bars with these close times."""
    length = step(timeframe)
    if length:
        return closes - length
    opened = [floor(closed - 1, timeframe) for closed in closes.tolist()]
    return np.array(opened, np.int64)
