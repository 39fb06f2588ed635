"""Bars of several securities: which rows a frame has, and the frame's shape.

The rows are *planes*, an array (securities, rows) for each field. A security's rows end
at the right; at the left, where it has fewer than others, the close time is 0.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shmfeed.bar import INT_FIELDS, Field, grid_steps, missing_bars, step
from wealthdata.attrs import FrameAttrs
from wealthdata.columns import BarColumns, Ints
from wealthdata.frame import readonly_index, to_datetimes
from wealthdata.labels import Labels
from wealthdata.long_frame import code_column, long_template
from wealthdata.request import Shape

Plane = NDArray[Any]
Part = tuple[str, BarColumns, int, int]  # symbol, bars, first and last row, exclusive


class Planes(NamedTuple):
    """Rows of the securities in `symbols`, each of which has at least one row.

    `values` is one float64 array (fields, securities, rows), or a list of arrays
    (securities, rows), where a field is not float64. `known_even` is True if it is
    known that all securities have rows of the same times, at least one.
    """

    symbols: tuple[str, ...]
    close_time: Ints
    values: Sequence[Plane] | Plane
    known_even: bool = False

    @property
    def is_whole(self) -> bool:
        """True if all securities have the same number of rows."""
        # Rows end at the right.
        return self.known_even or bool(self.close_time[:, :1].all())

    @property
    def is_even(self) -> bool:
        """True if all securities have rows of the same times."""
        closes = self.close_time
        if self.known_even or not len(closes):
            return True
        return bool((closes == closes[0]).all())

    def newest(self, shape: Shape, limit: int | None) -> "Planes":
        """Return the rows of the newest times of an aligned or a wide frame.

        A wide frame has no security without a row at one of these times.
        """
        closes, values = self.close_time, self.values
        if limit is None or shape == (False, False):
            return self
        if shape.align:
            if closes.shape[1] <= limit:
                return self
            last = [plane[:, -limit:] for plane in values]
            kept = np.array(last) if isinstance(values, np.ndarray) else last
            return Planes(self.symbols, closes[:, -limit:], kept)
        if self.is_even:
            return self  # the usual case
        times = np.unique(closes)[-limit:]
        closes = np.where(closes < times[0], 0, closes)
        return Planes(self.symbols, closes, values).without_empty()

    def without_empty(self) -> "Planes":
        """Return the rows of the securities that have some."""
        closes, values = self.close_time, self.values
        if self.known_even or (closes.shape[1] and closes[:, -1].all()):
            return self  # the usual case
        kept: Any = closes[:, -1:].any(axis=1)  # rows end at the right
        pairs = zip(self.symbols, kept, strict=True)
        symbols = tuple(symbol for symbol, is_kept in pairs if is_kept)
        if isinstance(values, np.ndarray):
            return Planes(symbols, self.close_time[kept], values[:, kept])
        return Planes(symbols, self.close_time[kept], [v[kept] for v in values])

    def common(self, limit: int | None, depth: int | None) -> "Planes | None":
        """Return the newest rows of the times that all securities have.

        `depth` is how many rows of each were read, None if all were, as they are
        without a `limit`. Return None if older rows may have more of the times.
        """
        closes, values = self.close_time, self.values
        times, counts = np.unique(closes[closes > 0], return_counts=True)
        common = times[counts == len(closes)]
        if depth is not None and limit is not None and len(common) < limit:
            is_cut = np.count_nonzero(closes, axis=1) >= depth
            oldest = _oldest(closes)
            # A security that was read whole has no common time before its oldest row.
            whole = oldest[~is_cut].max(initial=0)
            if oldest[is_cut].max(initial=0) > whole:
                return None
        common = common[-limit:] if limit is not None else common
        chosen = np.isin(closes, common)
        shape = len(closes), len(common)
        planes: Any = [plane[chosen].reshape(shape) for plane in values]
        if isinstance(values, np.ndarray):
            planes = np.array(planes)
        return Planes(self.symbols, np.broadcast_to(common, shape), planes)

    def absent(self, written: Collection[str]) -> list[str]:
        """Return those of the securities that have no row."""
        if len(self.symbols) == len(written):
            return []  # the usual case: they are some of those
        kept = set(self.symbols)
        return [each for each in written if each not in kept]

    def gaps(self, timeframe: str) -> int:
        """Return the number of bars that are missing inside the securities' rows."""
        closes = self.close_time
        count, rows = len(closes), int(closes.shape[1])
        if not closes.size:
            return 0
        of_all = closes.strides[0] == 0 or (count == 1 and self.is_whole)
        if self.known_even or of_all:  # each has these
            steps = grid_steps(int(closes[0, 0]), int(closes[0, -1]), timeframe)
            return count * missing_bars(steps, rows)
        firsts, lasts, length = closes[:, 0], closes[:, -1], step(timeframe)
        if length and (lasts - firsts == (rows - 1) * length).all():
            return 0  # the usual case
        firsts, counts = _oldest(closes), np.count_nonzero(closes, axis=1)
        if length:
            missing: Any = (lasts - firsts) // length - counts + 1
            return int(missing[(missing > 0) & (counts > 0)].sum())
        spans = zip(firsts.tolist(), lasts.tolist(), counts.tolist(), strict=True)
        return sum(
            missing_bars(grid_steps(a, b, timeframe), n) for a, b, n in spans if n
        )


def _oldest(closes: Ints) -> Ints:
    """Return the close time of the first row of each security, 0 without rows."""
    rows = closes.shape[1]
    starts = rows - np.count_nonzero(closes, axis=1)
    oldest: Ints = closes[np.arange(len(closes)), np.minimum(starts, rows - 1)]
    return oldest


def planes_of(parts: Sequence[Part], fields: tuple[Field, ...], align: bool) -> Planes:
    """Return the rows of these parts; aligned, only the close times that all have."""
    parts = [part for part in parts if part[2] < part[3]]
    closes = [bars.close_time[first:last] for _, bars, first, last in parts]
    rows = [slice(None)] * len(parts) if not align else _common_rows(closes)
    width = max((len(c[r]) for c, r in zip(closes, rows, strict=True)), default=0)
    times = np.zeros((len(parts), width), np.int64)
    values: Any = np.full((len(fields), *times.shape), np.nan)
    if not set(INT_FIELDS).isdisjoint(fields):
        values = [
            plane.astype(np.int64 if field in INT_FIELDS else np.float64)
            for field, plane in zip(fields, np.zeros_like(values), strict=True)
        ]
    for k, (_, bars, first, last) in enumerate(parts):
        chosen = closes[k][rows[k]]
        start = width - len(chosen)
        times[k, start:] = chosen
        for field, plane in zip(fields, values, strict=True):
            plane[k, start:] = bars[field][first:last][rows[k]]
    return Planes(tuple(part[0] for part in parts), times, values)


def closes_of(parts: Sequence[Part]) -> dict[str, int]:
    """Return the close time of the newest row of each security that has some."""
    return {
        symbol: int(bars.close_time[last - 1])
        for symbol, bars, first, last in parts
        if first < last
    }


def seconds_late(ends: dict[str, int]) -> dict[str, float]:
    """Return the securities that held an aligned frame back, and by how many seconds.

    `ends` has the close time of the newest row of each security that has some.
    """
    newest = max(ends.values(), default=0)
    return {name: (newest - end) / 1000 for name, end in ends.items() if end < newest}


def seconds_left_out(ends: dict[str, int], newest: int, planes: Planes) -> float:
    """Return the seconds from an aligned frame's last row to the newest closed bar.

    `newest` is the close time of that bar. Of no rows, count from the end of the
    security that held the frame back most: the latest time that a row may have.
    """
    last = min(ends.values(), default=newest)
    if planes.close_time.size:
        last = int(planes.close_time[0, -1])
    return max(0, newest - last) / 1000


def _common_rows(closes: list[Ints]) -> list[Any]:
    common = closes[0] if closes else np.empty(0, np.int64)
    for times in closes[1:]:
        common = common[np.isin(common, times, assume_unique=True)]
    return [np.searchsorted(times, common) for times in closes]


def build_frame(
    planes: Planes,
    fields: tuple[Field, ...],
    shape: Shape,
    labels: Labels,
    attrs: FrameAttrs,
) -> pd.DataFrame:
    """Return the frame of these rows."""
    build = wide_frame if shape.wide else long_frame
    return build(planes, fields, labels, attrs)


def long_frame(
    planes: Planes, fields: tuple[Field, ...], labels: Labels, attrs: FrameAttrs
) -> pd.DataFrame:
    """Return the securities one below the other: columns time, code and the fields."""
    closes, values = planes.close_time, planes.values
    columns: Any
    if planes.is_whole and isinstance(values, np.ndarray):
        codes = code_column(planes.symbols, closes.shape[1])
        times, columns = closes.reshape(-1), values.reshape(len(fields), -1)
    else:
        present = closes > 0
        codes = code_column(planes.symbols, np.count_nonzero(present, axis=1))
        times, columns = closes[present], [plane[present] for plane in values]
        if isinstance(values, np.ndarray):
            columns = np.array(columns)
    labelled = to_datetimes(labels.of(times))
    return long_template(fields)(columns, labelled, codes, attrs)


def wide_frame(
    planes: Planes, fields: tuple[Field, ...], labels: Labels, attrs: FrameAttrs
) -> pd.DataFrame:
    """Return times down, securities across; of several fields in a level above them."""
    closes, values = planes.close_time, planes.values
    if len(closes) and planes.is_even:
        times = closes[0]  # the usual case
    else:
        times, values = _spread(planes)
    index = pd.DatetimeIndex(to_datetimes(labels.of(times)), copy=False)
    columns = wide_columns(fields, planes.symbols)
    if isinstance(values, np.ndarray):
        block = values.reshape(len(columns), len(times)).T
        frame = pd.DataFrame(block, index=index, columns=columns, copy=False)
    else:
        tables = [pd.DataFrame(plane.T, index=index) for plane in values]
        frame = pd.concat(tables, axis=1)
        frame.columns = columns
    frame.attrs["shmfeed"] = attrs
    return frame


def _spread(planes: Planes) -> "tuple[Ints, Sequence[Plane] | Plane]":
    """Return the times that any security has, and planes with a row for each."""
    closes = planes.close_time
    kept = closes > 0
    times = np.unique(closes[kept])
    rows, places = np.nonzero(kept)[0], np.searchsorted(times, closes[kept])
    shape = len(closes), len(times)
    if isinstance(planes.values, np.ndarray):
        spread = np.full((len(planes.values), *shape), np.nan)
        spread[:, rows, places] = planes.values[:, kept]
        return times, spread
    whole = len(rows) == shape[0] * shape[1]
    spreads = []
    for plane in planes.values:
        # Integers stay integers where no bar is missing.
        table = np.full(shape, np.nan) if not whole else np.empty(shape, plane.dtype)
        table[rows, places] = plane[kept]
        spreads.append(table)
    return times, spreads


_MAX_COLUMNS = 64
_columns: dict[tuple[tuple[Field, ...], tuple[str, ...]], Any] = {}


def wide_columns(fields: tuple[Field, ...], symbols: tuple[str, ...]) -> Any:
    """Return the columns of a wide frame, made once for the same arguments."""
    key = fields, symbols
    columns = _columns.get(key)
    if columns is None:
        if len(_columns) >= _MAX_COLUMNS:
            _columns.clear()
        if len(fields) == 1:
            columns = readonly_index(symbols)
        else:
            columns = pd.MultiIndex.from_product([list(fields), list(symbols)])
            for level in columns.levels:  # which the frames share
                np.asarray(level).flags.writeable = False
        _columns[key] = columns
    return columns.view()
