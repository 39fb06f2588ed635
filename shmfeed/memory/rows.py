"""Windows of bars as columns: private rows, and zero-copy slices of a slot."""

import operator
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import INT_FIELDS, Bar, Field, datetimes, missing_bars
from shmfeed.errors import BadArgumentError
from shmfeed.layout import (
    C_FLAGS,
    C_FLOATS,
    COLUMNS,
    FLOATS,
    S_EPOCH,
    S_INTENT,
    SLOT_BITS,
    SLOT_HEADER_WORDS,
    VALUES,
    Geometry,
)
from shmfeed.memory.words import Words
from shmfeed.text import repr_short
from shmfeed.validation import check_int

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

ROW = struct.Struct("=qqddddddq")  # a row, or a forming cell: one word per column

COLUMN_NUMBER = {name: number for number, name in enumerate(COLUMNS)}
_INTS = frozenset(INT_FIELDS)
_FLOATS = slice(C_FLOATS, C_FLOATS + FLOATS)
_OHLCV = slice(C_FLOATS, C_FLOATS + VALUES)
_OPEN_TIME, _CLOSE_TIME = 0, 1


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
    """

    __slots__ = ("_slot", "_window", "_word")

    def __init__(self, slot: "Slot", word: int, first: int, last: int) -> None:
        # Arrays are made on demand: most readers want one or two.
        self.first = first
        self.last = last
        self.forming = False
        self._slot = slot
        self._word = word
        start = first % slot.capacity
        self._window = slice(start, start + last - first)

    def _floats(self, columns: int | slice) -> FloatArray:
        return self._slot.floats[columns, self._window]

    def _ints(self, columns: int | slice) -> IntArray:
        return self._slot.ints[columns, self._window]

    @property
    def valid(self) -> bool:
        """True while all rows are whole: the writer has not begun to replace one.

        Ask after use. Once False it stays False; read again then.
        """
        return self._slot.is_intact(self._word, self.first)


class Slot:
    """The arrays and words of one slot, for a reader."""

    __slots__ = ("at", "capacity", "floats", "ints", "words")

    def __init__(self, words: Words, geometry: Geometry, number: int) -> None:
        self.words = words.ints
        self.at = geometry.slot_word(number)
        self.capacity = geometry.capacity
        shape = (len(COLUMNS), 2 * self.capacity)
        self.floats = words.columns(self.at + SLOT_HEADER_WORDS, shape)
        self.floats.flags.writeable = False
        self.ints = self.floats.view(np.int64)

    def bar(self, row: int) -> Bar:
        """Return row number `row`. Call `is_intact` afterwards."""
        stride = 2 * self.capacity
        start = self.at + SLOT_HEADER_WORDS + row % self.capacity
        words = self.words[start : start + len(COLUMNS) * stride : stride]
        return Bar._make(ROW.unpack(bytes(words)))

    def is_intact(self, word: int, first: int) -> bool:
        """Return True if the loads of the rows from `first` on count, steps R4 and R5.

        No such row was overwritten, and the slot still has the epoch of catalog word
        `word`.
        """
        words, at = self.words, self.at
        # R4, acquire: pairs with A2. x86-64 keeps loads in order.
        intent = words[at + S_INTENT]
        # R5: the epoch is loaded last. It reveals that the intent belongs to the slot's
        # next epoch.
        return words[at + S_EPOCH] == word >> SLOT_BITS and (
            intent - first <= self.capacity
        )
