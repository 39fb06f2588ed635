"""The bars of one stream that a task has had, and which of them have been corrected."""

import struct

import numpy as np

from shmfeed.bar import Bar
from wealthdata.columns import BarColumns, Floats, Ints, to_bars

_BAR = struct.Struct("=qqddddddq")
_OPEN_TIME, _CLOSE_TIME, _FLOATS = 0, 1, slice(2, 8)  # its words
_LEAST_ROWS = 16
_MOST_NEW = 32
_NONE = -1  # before any open time
_NOT_HANDED = 0  # the close time of a bar whose values the task was not handed


class HandedBars:
    """The newest bars that a task has had, in the order of their open times.

    A bar is one that it was handed, with its values, or one that was there before.
    """

    __slots__ = ("_buffer", "_count", "_floats", "_ints", "_new", "_newest")

    def __init__(self) -> None:
        self._count, self._newest = 0, _NONE
        self._new: list[Bar] = []  # handed over, and not yet among the rows
        self._allocate(_LEAST_ROWS)

    def _allocate(self, rows: int) -> None:
        self._buffer = bytearray(rows * _BAR.size)
        self._ints: Ints = np.frombuffer(self._buffer, np.int64).reshape(rows, -1)
        self._floats: Floats = self._ints.view(np.float64)

    def copy(self) -> "HandedBars":
        """Return a copy, which another follow adds to."""
        self._keep_new()
        other = HandedBars()
        other._allocate(len(self._ints))
        other._buffer[:] = self._buffer
        other._count, other._newest = self._count, self._newest
        return other

    @property
    def _opens(self) -> Ints:
        return self._ints[: self._count, _OPEN_TIME]

    def clear(self) -> None:
        """Forget all bars."""
        self._count, self._newest = 0, _NONE
        self._new.clear()

    def note(self, opens: Ints) -> None:
        """Note bars that the task has had before, by their open times, oldest first."""
        self.clear()
        self._reserve(len(opens))
        self._count = len(opens)
        self._ints[: self._count, _OPEN_TIME] = opens
        self._ints[: self._count, _CLOSE_TIME] = _NOT_HANDED
        self._newest = int(opens[-1]) if len(opens) else _NONE

    def hand_over(self, bar: Bar, most: int) -> None:
        """Note a bar as it was handed over. Keep at least the newest `most` bars."""
        if bar.open_time > self._newest and len(self._new) < _MOST_NEW:
            self._new.append(bar)  # quickly: a strategy waits
            self._newest = bar.open_time
            return
        self._keep_new()
        self._put(bar)
        self._newest = max(self._newest, bar.open_time)
        if self._count >= 2 * most:
            self._drop(self._count - most)

    def _keep_new(self) -> None:
        new, self._new = self._new, []
        for bar in new:
            self._put(bar)

    def _put(self, bar: Bar) -> None:
        at = self._count
        if at and bar.open_time <= self._ints[at - 1, _OPEN_TIME]:
            at = int(np.searchsorted(self._opens, bar.open_time))
            if self._ints[at, _OPEN_TIME] == bar.open_time:
                _BAR.pack_into(self._buffer, at * _BAR.size, *bar)
                return
        self._reserve(self._count + 1)
        if at < self._count:
            self._ints[at + 1 : self._count + 1] = self._ints[at : self._count].copy()
        _BAR.pack_into(self._buffer, at * _BAR.size, *bar)
        self._count += 1

    def _drop(self, count: int) -> None:
        kept = self._ints[count : self._count].copy()
        self._count = len(kept)
        self._ints[: self._count] = kept

    def _reserve(self, rows: int) -> None:
        if rows > len(self._ints):
            kept = self._ints[: self._count]
            self._allocate(max(rows, 2 * len(self._ints)))
            self._ints[: self._count] = kept

    def has(self, opened: int) -> bool:
        """Return True if the task has had the bar with this open time."""
        if opened > self._newest:
            return False  # the usual case
        self._keep_new()
        at = int(np.searchsorted(self._opens, opened))
        return bool(self._ints[at, _OPEN_TIME] == opened)

    def last_among(self, opens: Ints) -> int | None:
        """Return the index of the newest of these bars that the task has had."""
        self._keep_new()
        known = np.flatnonzero(np.isin(opens, self._opens))
        return int(known[-1]) if len(known) else None

    def corrections(self, rows: BarColumns) -> list[tuple[Bar, Bar]]:
        """Return the bars that were handed over and have other values in these rows.

        Each is a pair of the bar as it was handed over and the bar as it is now. A
        change of the flags alone is no correction.
        """
        self._keep_new()
        opens = self._opens
        if not len(opens) or not len(rows):
            return []
        at = np.minimum(np.searchsorted(rows.open_time, opens), len(rows) - 1)
        is_there = rows.open_time[at] == opens
        is_there &= self._ints[: self._count, _CLOSE_TIME] != _NOT_HANDED
        mine = np.flatnonzero(is_there)
        old, new = self._floats[mine, _FLOATS], rows.floats[:, at[mine]].T
        differs = (old != new) & ~(np.isnan(old) & np.isnan(new))
        return [
            (self._bar(row), to_bars(rows, at[row], at[row] + 1)[0])
            for row in mine[differs.any(axis=1)].tolist()
        ]

    def _bar(self, row: int) -> Bar:
        return Bar._make(_BAR.unpack_from(self._buffer, row * _BAR.size))
