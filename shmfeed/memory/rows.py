"""Windows of bars as columns: private rows, and zero-copy slices of a slot."""

import operator
import struct
from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import INT_FIELDS, Bar, Field, datetimes, missing_bars
from shmfeed.errors import BadArgumentError
from shmfeed.layout import (
    C_CLOSE_TIME,
    C_FLAGS,
    C_FLOATS,
    COLUMNS,
    FLOATS,
    SLOT_HEADER_WORDS,
    VALUES,
    WORD,
)
from shmfeed.memory.keeping import Area, Validity
from shmfeed.text import repr_short
from shmfeed.validation import check_int

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

ROW = struct.Struct("=qqddddddq")  # a row, or a forming cell: one word per column

COLUMN_NUMBER = {name: number for number, name in enumerate(COLUMNS)}
_INTS = frozenset(INT_FIELDS)
_FLOATS = slice(C_FLOATS, C_FLOATS + FLOATS)
_OHLCV = slice(C_FLOATS, C_FLOATS + VALUES)
_OPEN_TIME, _CLOSE_TIME = 0, C_CLOSE_TIME
_FLOAT64, _INT64 = np.dtype(np.float64).str, np.dtype(np.int64).str


def column_number(field: object) -> int:
    """Return the column of a field. Raise BadArgumentError, which lists the fields."""
    number = COLUMN_NUMBER.get(field) if isinstance(field, str) else None
    if number is None:
        known = " ".join(COLUMNS)
        raise BadArgumentError(f"field {repr_short(field)} is unknown; one of: {known}")
    return number


class Rows:
    """Consecutive bars as columns, in private memory.

    `rows["close"]` is a column of shape (n,), oldest bar first: int64 for `open_time`,
    `close_time` (ms UTC) and `flags`, else float64.

    Attributes:
        first, last: Bar numbers; `last` is exclusive.
        forming: True if the last row is the forming bar.
        block: float64 (9, n), all columns; the int64 ones keep their own bits.

    Thread safety: any thread may read them.
    """

    __slots__ = ("block", "first", "forming", "last")

    def __init__(self, block: FloatArray, first: int, forming: bool = False) -> None:
        self.block = block
        self.first = first
        self.last: int = first + block.shape[1]
        self.forming = forming

    def _floats(self, columns: int | slice) -> FloatArray:
        return self.block[columns]

    def _ints(self, columns: int | slice) -> IntArray:
        return self.block[columns].view(np.int64)

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, field: "Field") -> NDArray[Any]:
        number = column_number(field)
        return self._ints(number) if field in _INTS else self._floats(number)

    @property
    def open_time(self) -> IntArray:
        """The open times: int64 (n,), ms UTC, strictly increasing."""
        return self._ints(_OPEN_TIME)

    @property
    def close_time(self) -> IntArray:
        """The close times: int64 (n,), ms UTC, open_time plus the timeframe."""
        return self._ints(_CLOSE_TIME)

    def datetimes(self, dtype: "np.dtype[np.datetime64]", /) -> NDArray[np.datetime64]:
        """Return the close times as a new array of datetime64 in ms, us or ns."""
        return datetimes(self.close_time, dtype)

    def count_flags(
        self, flags: tuple[int, ...], first: int, last: int, /
    ) -> tuple[int, ...] | None:
        """Return how many of the rows `first` to `last` - 1 have each of these flags.

        The rows are given by their numbers. Return None if these are not all there.
        """
        if not self.first <= first <= last <= self.last:
            return None
        column = self._ints(C_FLAGS)[first - self.first : last - self.first]
        return tuple(int(np.count_nonzero(column & flag)) for flag in flags)

    def missing(self, step: int, /) -> int:
        """Return the number of bars missing from a grid of `step` ms, at least 1."""
        step = check_int("step", step)
        if len(self) < 2:
            return 0
        times: list[int] = self.close_time[[0, -1]].tolist()
        return missing_bars((times[1] - times[0]) // step, len(self))

    @property
    def values(self) -> FloatArray:
        """The values: float64 (5, n) of open, high, low, close, volume."""
        return self._floats(_OHLCV)

    @property
    def floats(self) -> FloatArray:
        """The values and money: float64 (6, n)."""
        return self._floats(_FLOATS)

    @property
    def valid(self) -> bool:
        """True, as private rows never change; a Slice tells whether its rows held."""
        return True

    def copy(self) -> "Rows":
        """Return a private, writable copy of all columns.

        Of a Slice, ask its `valid` afterwards: if it is False, the copy may mix rows.
        """
        return Rows(self._floats(slice(None)).copy(), self.first, self.forming)

    def _copy_with(self, bar: Bar, most: int) -> "Rows":
        # At most `most` rows. A bar that is not newer than the last row is left out.
        if len(self) and bar.open_time <= self.open_time[-1]:
            return self.copy()
        kept = min(len(self), most - 1)
        block = np.empty((len(COLUMNS), kept + 1))
        block[:, :kept] = self._floats(slice(None))[:, len(self) - kept :]
        block[:, kept] = np.frombuffer(ROW.pack(*bar))
        return Rows(block, self.last - kept, forming=True)

    def bar(self, row: int, /) -> Bar:
        """Return one row as a Bar.

        Args:
            row: Index from 0, the oldest; negative ones count from the newest, -1.

        Raises:
            IndexError: There is no such row.

        Of a Slice, ask `valid` afterwards.
        """
        row, count = operator.index(row), len(self)
        if not -count <= row < count:
            raise IndexError(f"row {row} of {count}")
        open_time, close_time = self._ints(slice(0, C_FLOATS))[:, row].tolist()
        open_, high, low, close, volume, money = self.floats[:, row].tolist()
        flags = int(self._ints(C_FLAGS)[row])
        return Bar(open_time, close_time, open_, high, low, close, volume, money, flags)


class Slice(Rows):
    """Zero-copy rows of a ring: read-only arrays over its memory.

    Compute with the arrays, then ask `valid`. Once it is False, the computation may
    have mixed old rows with new ones. A slice has no `block`, as its rows are part of
    a larger array; its `copy()` has one.

    The rows are set aside before they are overwritten, see `shmfeed.kept_bytes`, for as
    long as the slice lives, or an array that was made of it without a copy.
    """

    __slots__ = ("_area", "_at", "_validity")

    def __init__(self, area: Area, validity: Validity) -> None:
        # Arrays are made on demand: most readers want one or two.
        self.first = validity.first
        self.last = validity.last
        self.forming = False
        self._area = area
        self._at = area.address + WORD * (
            SLOT_HEADER_WORDS + validity.first % area.capacity
        )
        self._validity = validity

    def __del__(self) -> None:
        if hasattr(self, "_validity"):  # a signal handler may have raised before
            self._validity.end()

    def _floats(self, columns: int | slice) -> FloatArray:
        return self._array(columns, _FLOAT64)

    def _ints(self, columns: int | slice) -> IntArray:
        return self._array(columns, _INT64)

    def _array(self, columns: int | slice, dtype: str) -> NDArray[Any]:
        stride = 2 * self._area.capacity * WORD
        shape: tuple[int, ...] = (len(self),)
        strides: tuple[int, ...] = (WORD,)
        if isinstance(columns, int):
            at = columns
        else:
            at, end, _ = columns.indices(len(COLUMNS))
            shape, strides = (end - at, *shape), (stride, *strides)
        return np.asarray(_Cells(self, self._at + at * stride, dtype, shape, strides))

    def _between(self, start: int, end: int, n: int) -> "tuple[Slice, int] | None":
        """Return the newest n rows that close from `start` to `end`, and the last time.

        Ask `valid` of this slice afterwards. Return None if the read must retry.
        """
        words, count, last = self._area.words, len(self), 0
        # Each column has its rows twice, so those of a slice are adjacent.
        at = self._area.at + SLOT_HEADER_WORDS + self.first % self._area.capacity
        at += 2 * self._area.capacity * _CLOSE_TIME
        if count:
            last = words[at + count - 1]
        first = bisect_left(words, start, at, at + count)
        after = bisect_right(words, end, first, at + count)
        bounds = max(first, after - n) - at + self.first, after - at + self.first
        validity = Validity(self._area, self._validity.word, *bounds)
        part = Slice(self._area, validity)
        return (part, last) if self._area.join(validity) else None

    @property
    def valid(self) -> bool:
        """True while all rows are whole: the writer has not begun to replace one.

        Ask after use. Once False it stays False; read again then.
        """
        return self._validity.valid

    @property
    def validity(self) -> Validity:
        """An object with the same `valid` that does not keep the rows alive."""
        return self._validity


class _Cells:
    """Cells of a slice for `np.asarray`: the array's base, which holds the slice.

    An array's views share its base, so the slice lives as long as any view.
    """

    __slots__ = ("__array_interface__", "_rows")

    def __init__(
        self,
        rows: Slice,
        address: int,
        dtype: str,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> None:
        self._rows = rows
        self.__array_interface__ = {
            "version": 3,
            "data": (address, True),  # read-only
            "typestr": dtype,
            "shape": shape,
            "strides": strides,
        }
