"""One stream's rows in a buffer: the writer's verbs and the readers'.

Rows never change once they are published; a ring forgets its oldest by writing over
them. One writer, any number of readers that write nothing, no lock.

Append, row n:                              Read:
 (1) store intent = n + 1                    (1) acquire-load the catalog word, then
 (2) release fence                               published
 (3) write row n, twice                      (2) take the window below published
 (4) release-store published = n + 1         (3) after use: acquire fence, load intent
                                                 and, last, the slot's epoch

The window held while it was used if the epoch is the catalog word's and
`intent - first <= capacity`: row n is written over row n - capacity, and intent says
so before it happens. A writer killed anywhere leaves readers whole: the row it was at
was not published, and its successor writes it again.

The forming bar is a `Latch` in the stream's entry. One that is not newer than the
last closed row does not exist, so that closing a bar needs no second store. Closed and
forming together are read forming first: a bar that closes in between is then found
among the rows, never missing, never twice.

The writing half of a ring: `ringbuf` tells the protocol.
"""

import math
from array import array
from collections.abc import Callable, Sequence

import numpy as np

from shmfeed.bar import Bar, close_time
from shmfeed.errors import BadArgumentError, FeedLostError, ShmfeedError
from shmfeed.layout import (
    CONNECTED,
    E_FORMING,
    E_RECOVERING,
    E_SINCE,
    E_SUBSCRIBED,
    E_UPDATED,
    E_WORD,
    FORMING_WORDS,
    H_BARS,
    H_STATE,
    H_TICK,
    S_BASE,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    SLOT_BITS,
    SLOT_HEADER_WORDS,
    SLOT_MASK,
    TIME_LIMIT,
    Geometry,
)
from shmfeed.memory.integrity import damaged, slot_damage
from shmfeed.memory.liveness import is_alive, is_current, is_working
from shmfeed.memory.rows import ROW, Rows, Slice, Slot, column_number
from shmfeed.memory.words import (
    Latch,
    RetryBudget,
    Words,
    boot_ns,
    check_writable,
    fence,
)
from shmfeed.text import repr_short
from shmfeed.validation import check_flag, check_int


def check_entry(words: Words, geometry: Geometry, index: int) -> int:
    """Where entry `index` begins, in words; BadArgumentError where the buffer is too
    small for this geometry, it has no rows, or no such entry."""
    check_int("history", geometry.history)
    check_int("guard", geometry.guard, 0)
    index = check_int("index", index, 0, geometry.max_streams - 1)
    if len(words.raw) < geometry.size:
        raise BadArgumentError(
            f"{words.name} has {len(words.raw)} bytes; with {geometry} it must have"
            f" {geometry.size}"
        )
    return geometry.entry_word(index)


def checked_word(words: Words, geometry: Geometry, entry: int) -> int:
    """The catalog word; SegmentFormatError where it, or its slot, cannot be."""
    ints, budget = words.ints, None
    while True:
        word = ints[entry + E_WORD]
        fence()  # acquire: pairs with that of `Catalog`, before it is stored
        what = slot_damage(words, geometry, word)
        if what is None:
            return word
        fence()  # the word again, after what it names
        if ints[entry + E_WORD] == word:
            raise damaged(words, what)
        budget = budget or RetryBudget("catalog word")
        budget.spend()


def retry_budget(
    what: str, words: Words, geometry: Geometry, entry: int
) -> RetryBudget:
    """For reads of a stream: before it gives up, it looks whether the catalog holds."""
    return RetryBudget(what, lambda: checked_word(words, geometry, entry))


class RingReader:
    """Reads one stream. Any thread, any process; writes nothing.

    Raises BadArgumentError for a buffer that is too small, SegmentFormatError for a
    slot that cannot be.
    """

    __slots__ = ("_forming", "_slot", "entry", "geometry", "words")

    def __init__(self, words: Words, geometry: Geometry, index: int) -> None:
        self.words = words
        self.geometry = geometry
        self.entry = check_entry(words, geometry, index)  # where it begins, in words
        self._forming = Latch(words, self.entry + E_FORMING, FORMING_WORDS)
        self._slot = self._find_slot()

    def _find_slot(self) -> tuple[int, Slot]:
        word = checked_word(self.words, self.geometry, self.entry)
        # One assignment: another thread finds an old pair or a new one, no mixture.
        self._slot = (word, Slot(self.words, self.geometry, word & SLOT_MASK))
        return self._slot

    def _budget(self, what: str) -> RetryBudget:
        return retry_budget(what, self.words, self.geometry, self.entry)

    def _current(self) -> tuple[int, Slot]:
        pair = self._slot
        if self.words.ints[self.entry + E_WORD] == pair[0]:
            return pair
        return self._find_slot()

    @property
    def is_current(self) -> bool:
        """True if the segment is surely still its feed's, without a system call."""
        return is_current(self.words.ints, boot_ns())

    def live_age(self, most: int) -> float | None:
        """Seconds since the stream's last update, where all is well and it is no
        longer ago than `most` ns; else None: whoever asks looks closer.

        All is well: the feeder lives, works and is connected, the stream is subscribed
        and nothing of it held back.
        """
        ints, at, now = self.words.ints, self.entry, boot_ns()
        age = now - ints[at + E_UPDATED]
        well = (
            0 <= age <= most
            and age != now  # no update yet
            and is_working(ints, now)
            and is_alive(ints, now)
            and ints[H_STATE] == CONNECTED
            and ints[at + E_SINCE] <= now
            and ints[at + E_SUBSCRIBED]
            and not ints[at + E_RECOVERING]
        )
        return age / 1_000_000_000 if well else None

    @property
    def count(self) -> int:
        """Number of the next closed bar; only grows within `epoch`."""
        budget = None
        while True:
            word, slot = self._current()
            count = slot.words[slot.at + S_PUBLISHED]  # acquire: as in view
            # A slot of another life counts another stream's rows.
            if slot.words[slot.at + S_EPOCH] == word >> SLOT_BITS:
                return count
            budget = budget or self._budget("count")
            budget.spend()

    @property
    def epoch(self) -> int:
        """Raised by a repair or a re-created feed; bar numbers hold within one."""
        return self.words.ints[self.entry + E_WORD] >> SLOT_BITS

    @property
    def updated(self) -> int:
        """CLOCK_BOOTTIME ns of the stream's last bar or update; 0: none yet."""
        return self.words.ints[self.entry + E_UPDATED]

    def view(self, n: int) -> Slice:
        """The last n closed bars, at most `history`, fewer if there are fewer.

        Zero-copy. Raises BadArgumentError for n < 1, BusyRingError.
        """
        if type(n) is not int or n < 1:
            n = check_int("n", n)
        # Comparisons, not min and max: two calls would be a tenth of a view.
        history = self.geometry.history
        most = n if n < history else history  # noqa: FURB136
        budget = None
        while True:
            word, slot = self._current()
            words, at = slot.words, slot.at
            last = words[at + S_PUBLISHED]  # acquire: pairs with append's last store
            first, base = last - most, words[at + S_BASE]
            if first < base:  # noqa: PLR1730
                first = base
            if first <= last and slot.held(word, first):
                return Slice(slot, word, first, last)
            budget = budget or self._budget("view")
            budget.spend()

    def snapshot(self, n: int, include_now: bool = False) -> Rows:
        """The last n bars, private and consistent.

        With `include_now` the forming bar, if there is one, is the last of the n.
        Raises BadArgumentError for n < 1, BusyRingError.
        """
        if include_now is not False:
            include_now = check_flag("include_now", include_now)
        bar = self.forming_cell() if include_now else None
        budget = None
        while True:
            rows = self.view(n)
            if bar is None:
                copy = rows.copy()
            else:
                copy = rows.copy_with(bar, min(int(n), self.geometry.history))
            if rows.valid:
                return copy
            budget = budget or self._budget("snapshot")
            budget.spend()

    def latest(self, field: str) -> float | int:
        """The newest value of a field, the forming bar's if there is one.

        NaN if there is no bar at all. Raises BadArgumentError, BusyRingError.
        """
        number = column_number(field)
        bar = self.forming_cell()
        closed = self.last_closed()
        if closed is None or (bar is not None and bar.open_time > closed.open_time):
            closed = bar
        return math.nan if closed is None else closed[number]

    def forming(self) -> Bar | None:
        """The unfinished bar, or None; never one that has closed already."""
        bar = self.forming_cell()
        closed = self.last_closed()
        if bar is None or closed is None or bar.open_time > closed.open_time:
            return bar
        return None

    def last_closed(self) -> Bar | None:
        """The newest closed bar, None if there is none."""
        budget = None
        while True:
            word, slot = self._current()
            words, at = slot.words, slot.at
            row = words[at + S_PUBLISHED] - 1  # acquire: as in view
            bar = slot.bar(row) if row >= words[at + S_BASE] else None
            if slot.held(word, row):
                return bar
            budget = budget or self._budget("last closed bar")
            budget.spend()

    def forming_cell(self) -> Bar | None:
        """The bar that the cells hold: it may have closed already. BusyRingError."""
        cell = self._forming.read()
        return None if cell is None else Bar._make(ROW.unpack(cell))


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
        self._forming = Latch(words, self._at + E_FORMING, FORMING_WORDS)
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
    raise BadArgumentError(
        f"open_time is {repr_short(open_time)}; it must be int ms UTC"
    )


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
        f" they are {repr_short(tuple(values))}"
    )


def _out_of_range(open_time: object) -> BadArgumentError:
    return BadArgumentError(
        f"open_time {repr_short(open_time)} is out of range; it must be int ms UTC"
    )
