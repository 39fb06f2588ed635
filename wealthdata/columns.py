"""Private bars as columns: what a context supplies, and what merging makes."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import FLOAT_FIELDS, Bar, bars_between

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Datetimes = NDArray[np.datetime64]

_INT_COLUMNS = ("open_time", "close_time", "flags")


class Rows(Protocol):
    """Consecutive bars, oldest first: a ring's slice or snapshot, or `Columns`."""

    @property
    def open_time(self) -> Ints: ...
    @property
    def close_time(self) -> Ints: ...
    @property
    def floats(self) -> Floats: ...
    @property
    def valid(self) -> bool: ...
    @property
    def forming(self) -> bool: ...
    def __len__(self) -> int: ...
    def __getitem__(self, field: str) -> NDArray[Any]: ...


class Columns:
    """Bars as arrays of their own: int64 times (ms UTC) and flags, float64 (6, n)."""

    __slots__ = ("close_time", "flags", "floats", "forming", "open_time")

    def __init__(
        self,
        open_time: Ints,
        close_time: Ints,
        floats: Floats,
        flags: Ints,
        forming: bool = False,
    ) -> None:
        self.open_time = open_time
        self.close_time = close_time
        self.floats = floats
        self.flags = flags
        self.forming = forming

    def __len__(self) -> int:
        return len(self.open_time)

    def __getitem__(self, field: str) -> NDArray[Any]:
        if field in _INT_COLUMNS:
            return self._ints(field)
        column: NDArray[Any] = self.floats[FLOAT_FIELDS.index(field)]
        return column

    def _ints(self, field: str) -> Ints:
        column: Ints = getattr(self, field)
        return column

    @property
    def valid(self) -> bool:
        """Private rows do not change."""
        return True


def from_bars(bars: Sequence[Bar]) -> Columns:
    """The bars as columns, in the order given."""
    times = np.array([(b.open_time, b.close_time, b.flags) for b in bars], np.int64)
    times = times.reshape(-1, 3).T
    values = np.array([b[2:8] for b in bars], np.float64).reshape(-1, 6).T
    return Columns(times[0], times[1], values, times[2])


def by_time(bars: Iterable[Bar]) -> list[Bar]:
    """One bar for each open_time, the last one given, oldest first."""
    latest = {bar.open_time: bar for bar in bars}
    return [latest[moment] for moment in sorted(latest)]


def to_bars(rows: Rows, first: int, last: int) -> list[Bar]:
    """Rows `first` to `last`, last exclusive, as a list of Bar."""
    window = slice(first, last)
    times = [rows[field][window].tolist() for field in ("open_time", "close_time")]
    values = rows.floats[:, window].tolist()
    flags = rows["flags"][window].tolist()
    return list(map(Bar._make, zip(*times, *values, flags, strict=True)))


def joined(older: Rows, count: int, newer: Rows) -> Columns:
    """The first `count` rows of `older`, then all of `newer`."""
    return Columns(
        np.concatenate((older.open_time[:count], newer.open_time)),
        np.concatenate((older.close_time[:count], newer.close_time)),
        np.concatenate((older.floats[:, :count], newer.floats), axis=1),
        np.concatenate((older["flags"][:count], newer["flags"])),
        newer.forming,
    )


def missing_bars(rows: Rows, first: int, last: int, timeframe: str) -> int:
    """How many bars the grid has between rows `first` and `last` - 1 that are not."""
    if last - first < 2:
        return 0
    times = rows.open_time
    between = bars_between(int(times[first]), int(times[last - 1]), timeframe)
    return max(0, between - (last - first - 2))
