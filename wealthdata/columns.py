"""Bars as columns: the protocol that rings and contexts share, and private columns."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import FLOAT_FIELDS, Bar, Field, grid_steps, missing_bars

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Datetimes = NDArray[np.datetime64]

_INT_COLUMNS = ("open_time", "close_time", "flags")


class BarColumns(Protocol):
    """Consecutive bars, oldest first: a ring's slice or snapshot, or PrivateColumns."""

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
    def __getitem__(self, field: Field) -> NDArray[Any]: ...


class PrivateColumns:
    """Bars in private arrays: int64 times (ms UTC) and flags, float64 (6, n)."""

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

    def __getitem__(self, field: Field) -> NDArray[Any]:
        if field in _INT_COLUMNS:
            return self._ints(field)
        column: NDArray[Any] = self.floats[FLOAT_FIELDS.index(field)]
        return column

    def _ints(self, field: str) -> Ints:
        column: Ints = getattr(self, field)
        return column

    def cut(self, first: int, last: int) -> "PrivateColumns":
        """Return rows `first` to `last` - 1, in the same memory."""
        return self._rows(slice(max(0, first), last))

    def at(self, close_times: Ints) -> "PrivateColumns":
        """Return the rows with these close times."""
        return self._rows(np.isin(self.close_time, close_times))

    def _rows(self, rows: Any) -> "PrivateColumns":
        return PrivateColumns(
            self.open_time[rows],
            self.close_time[rows],
            self.floats[:, rows],
            self.flags[rows],
        )

    @property
    def valid(self) -> bool:
        """True: no writer shares this memory."""
        return True


def from_bars(bars: Sequence[Bar], forming: bool = False) -> PrivateColumns:
    """Return the bars as columns, in the order given."""
    times = np.array([(b.open_time, b.close_time, b.flags) for b in bars], np.int64)
    times = times.reshape(-1, 3).T
    values = np.array([b[2:8] for b in bars], np.float64).reshape(-1, 6).T
    return PrivateColumns(times[0], times[1], values, times[2], forming)


def sort_unique(bars: Iterable[Bar]) -> list[Bar]:
    """Return one bar for each open_time, the last one given, oldest first."""
    latest = {bar.open_time: bar for bar in bars}
    return [latest[moment] for moment in sorted(latest)]


def to_bars(columns: BarColumns, first: int, last: int) -> list[Bar]:
    """Return rows `first` to `last`, last exclusive, as a list of Bar."""
    window = slice(first, last)
    times = [columns[field][window].tolist() for field in ("open_time", "close_time")]
    values = columns.floats[:, window].tolist()
    flags = columns["flags"][window].tolist()
    return list(map(Bar._make, zip(*times, *values, flags, strict=True)))


def concatenate(older: BarColumns, count: int, newer: BarColumns) -> PrivateColumns:
    """Return the first `count` rows of `older`, followed by all of `newer`."""
    return PrivateColumns(
        np.concatenate((older.open_time[:count], newer.open_time)),
        np.concatenate((older.close_time[:count], newer.close_time)),
        np.concatenate((older.floats[:, :count], newer.floats), axis=1),
        np.concatenate((older["flags"][:count], newer["flags"])),
        newer.forming,
    )


def count_missing(columns: BarColumns, first: int, last: int, timeframe: str) -> int:
    """Count the missing bars of the grid between rows `first` and `last` - 1."""
    if last - first < 2:
        return 0
    times = columns.open_time
    steps = grid_steps(int(times[first]), int(times[last - 1]), timeframe)
    return missing_bars(steps, last - first)


def newest_close(columns: BarColumns) -> int:
    """Return the close time of the newest closed row, 0 without one."""
    closed = len(columns) - columns.forming
    return int(columns.close_time[closed - 1]) if closed else 0
