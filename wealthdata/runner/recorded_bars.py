"""The bars of one stream that a recording has, as its writer remembers them."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wealthdata.columns import Floats, Ints
from wealthdata.kept_bars import VALUES

_MOST = 1 << 17  # bars that are remembered; a forgotten one is written again


class RecordedBars:
    """The bars of a stream that were written, each with its latest values."""

    def __init__(self) -> None:
        self._count = 0
        self._opened = np.empty(64, np.int64)
        self._values = np.empty((64, VALUES))

    def add(self, opened: Ints, values: Floats) -> tuple[list[Any], list[int]]:
        """Return what a receipt of this window has to write.

        It is the bars that were not written yet with these values, and the open
        times of written bars between its first and its last one that it lacks.
        """
        rows = values.T
        known = self._opened[: self._count]
        first, last = known.searchsorted((opened[0], opened[-1] + 1)).tolist()
        within, count = known[first:last], last - first
        is_new = np.ones(len(opened), bool)
        without: list[int] = []
        if np.array_equal(within, opened[:count]):  # the usual case: newer bars follow
            is_new[:count] = _differ(self._values[first:last], rows[:count])
        else:
            without = within[~np.isin(within, opened, assume_unique=True)].tolist()
            at = np.minimum(known.searchsorted(opened), len(known) - 1)
            is_new = (known[at] != opened) | _differ(self._values[at], rows)
        opened, rows = opened[is_new], rows[is_new]
        if len(opened):
            self._remember(opened, rows)
        return to_rows(opened, rows), without

    def _remember(self, opened: Ints, rows: Floats) -> None:
        count, more = self._count, len(opened)
        if not count or opened[0] > self._opened[count - 1]:
            self._make_room(more)
            count = self._count
            self._opened[count : count + more] = opened
            self._values[count : count + more] = rows
            self._count += more
            return
        known = self._opened[:count]
        kept = ~np.isin(known, opened, assume_unique=True)
        joined = np.concatenate((known[kept], opened))
        order = joined.argsort(kind="stable")
        values = np.concatenate((self._values[:count][kept], rows))
        self._opened, self._values = joined[order], values[order]
        self._count = len(joined)

    def _make_room(self, more: int) -> None:
        """Double the arrays, or forget the older half of many bars."""
        count = self._count
        if count + more <= len(self._opened):
            return
        start = count // 2 if count > _MOST else 0
        size = 2 * (count - start + more)
        opened, values = np.empty(size, np.int64), np.empty((size, VALUES))
        opened[: count - start] = self._opened[start:count]
        values[: count - start] = self._values[start:count]
        self._opened, self._values, self._count = opened, values, count - start


def _differ(one: Floats, other: Floats) -> NDArray[np.bool_]:
    """Return True for each row with other values; one NaN is like another."""
    same = one == other
    if not same.all():
        same |= np.isnan(one) & np.isnan(other)
    differ: NDArray[np.bool_] = ~same.all(axis=1)
    return differ


def to_rows(opened: Ints, rows: Floats) -> list[list[Any]]:
    """Return bars as a recording has them."""
    pairs = zip(opened.tolist(), rows.tolist(), strict=True)
    if np.isfinite(rows).all():
        return [[moment, *values] for moment, values in pairs]
    return [[moment, *to_json(values)] for moment, values in pairs]


def to_json(values: Iterable[float]) -> list[Any]:
    """Return numbers as JSON can hold them: a NaN as null, an infinity as its name."""
    return [
        value if math.isfinite(value) else None if math.isnan(value) else str(value)
        for value in values
    ]
