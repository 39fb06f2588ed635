"""The writing half of a ring: `ringbuf` tells the protocol."""

import math
from array import array
from collections.abc import Callable, Sequence

import numpy as np

from shmfeed.arguments import check_flag, shown
from shmfeed.bar import close_time
from shmfeed.errors import BadArgumentError, FeedLostError, ShmfeedError
from shmfeed.layout import (
    E_FORMING,
    E_UPDATED,
    E_WORD,
    FORMING_WORDS,
    H_BARS,
    H_TICK,
    S_INTENT,
    S_PUBLISHED,
    SLOT_HEADER_WORDS,
    SLOT_MASK,
    TIME_LIMIT,
    Geometry,
)
from shmfeed.memory.ringbuf import RingReader
from shmfeed.memory.words import CellPair, Words, boot_ns, check_writable

CLOSED = TIME_LIMIT  # the last open_time of a writer that is closed


class RingWriter:
    """Writes one stream. One thread of one process; `wake` is called after a close.

    Made by `FeedWriter.add_stream`; a feed's writer that is closed closes these too.
    """

    __slots__ = (
        "_at",
        "_capacity",
        "_forming",
        "_index",
        "_ints",
        "_last_open",
        "_row",
        "_slot",
        "_wake",
        "reader",
        "symbol",
        "timeframe",
    )

    def __init__(
        self,
        words: Words,
        geometry: Geometry,
        index: int,
        names: tuple[str, str],
        wake: Callable[[int], None],
    ) -> None:
        self.symbol, self.timeframe = names
        self.reader = RingReader(words, geometry, index)
        check_writable(words)
        self._ints = words.ints
        self._at = geometry.entry_word(index)
        self._slot = geometry.slot_word(words.ints[self._at + E_WORD] & SLOT_MASK)
        self._capacity = geometry.capacity
        self._forming = CellPair(words, self._at + E_FORMING, FORMING_WORDS)
        self._index = index
        self._wake = wake
        self._row = self.reader.count
        last = self.reader.last_closed()
        self._last_open = -1 if last is None else last.open_time

    def append(
        self,
        open_time: int,
        open: float,  # noqa: A002 # the field's name
        high: float,
        low: float,
        close: float,
        volume: float,
        money: float = math.nan,
        flags: int = 0,
        wake: bool = True,
    ) -> None:
        """Close a bar, and with it a forming one of the same or an older open_time.

        Times in ms UTC. Raises BadArgumentError, and changes nothing, for an
        open_time that is not newer than the last closed one or a value that is no
        number. Values are written as they are: judging them is the ledger's.
        """
        if wake.__class__ is not bool:  # the call is a tenth of an append
            wake = check_flag("wake", wake)  # type: ignore[unreachable] # untyped
        cells = self._cells(open_time, (open, high, low, close, volume, money), flags)
        ints, capacity = self._ints, self._capacity
        slot, row = self._slot, self._row
        at, stride = slot + SLOT_HEADER_WORDS + row % capacity, 2 * capacity
        ints[slot + S_INTENT] = row + 1
        # Fence: pairs with the readers'; on x86-64 stores keep their order.
        for cell in cells:
            ints[at] = ints[at + capacity] = cell
            at += stride
        now = boot_ns()
        ints[self._at + E_UPDATED] = now
        ints[H_TICK] = now
        ints[H_BARS] += 1
        ints[slot + S_PUBLISHED] = row + 1  # release: pairs with view's first load
        self._row = row + 1
        self._last_open = cells[0]
        if wake:
            self._wake(self._index)

    def update_forming(
        self,
        open_time: int,
        open: float,  # noqa: A002 # the field's name
        high: float,
        low: float,
        close: float,
        volume: float,
        money: float = math.nan,
        flags: int = 0,
        wake: bool = False,  # noqa: ARG002 # append's arguments
    ) -> None:
        """Replace the unfinished bar; nobody is woken.

        Raises BadArgumentError as `append` does, and changes nothing.
        """
        cells = self._cells(open_time, (open, high, low, close, volume, money), flags)
        self._forming.write(cells.tobytes())
        now = boot_ns()
        self._ints[self._at + E_UPDATED] = now
        self._ints[H_TICK] = now

    def close(self) -> None:
        """Write nothing any more: each later call raises FeedLostError."""
        self._last_open = CLOSED

    def _cells(
        self, open_time: int, values: tuple[float, ...], flags: int
    ) -> "memoryview[int]":
        """A row's words, made before the first of them is stored: a value may be
        refused, and one that converts itself runs code that may use this writer."""
        if type(open_time) is not int:
            open_time = check_time(open_time)
        self._check(open_time)
        times = array("q", (open_time, end_of(open_time, self.timeframe)))
        try:
            floats, rest = array("d", values), array("q", (flags,))
        except (TypeError, ValueError, OverflowError) as error:
            raise bad_values((*values, flags)) from error
        self._check(open_time)  # again: see above
        cells = times.tobytes() + floats.tobytes() + rest.tobytes()
        return memoryview(cells).cast("q")

    def _check(self, open_time: int) -> None:
        if not self._last_open < open_time < TIME_LIMIT:
            raise refusal(self.symbol, self.timeframe, self._last_open, open_time)


def check_time(open_time: object) -> int:
    """The open_time as an int; BadArgumentError for what is no integer."""
    if isinstance(open_time, int | np.integer) and not isinstance(open_time, bool):
        return int(open_time)
    raise BadArgumentError(f"open_time is {shown(open_time)}; it must be int ms UTC")


def end_of(open_time: int, timeframe: str) -> int:
    """When a bar of this open_time ends, ms UTC; BadArgumentError."""
    try:
        return close_time(open_time, timeframe)
    except (OverflowError, ValueError) as error:
        raise _out_of_range(open_time) from error


def refusal(
    symbol: str, timeframe: str, last_open: int, open_time: int
) -> ShmfeedError:
    """The error for an open_time that cannot follow `last_open`."""
    stream = f"{symbol} {timeframe}"
    if last_open == CLOSED:
        return FeedLostError(f"the writer of {stream} is closed")
    if not 0 <= open_time < TIME_LIMIT:
        return _out_of_range(open_time)
    return BadArgumentError(
        f"open_time {open_time} of {stream} is not newer than the last closed bar's,"
        f" {last_open}"
    )


def bad_values(values: Sequence[object]) -> BadArgumentError:
    """The error for values, money and flags among them, that are no numbers."""
    return BadArgumentError(
        "open, high, low, close, volume, money must be numbers and flags an int;"
        f" they are {shown(tuple(values))}"
    )


def _out_of_range(open_time: object) -> BadArgumentError:
    return BadArgumentError(
        f"open_time {shown(open_time)} is out of range; it must be int ms UTC"
    )
