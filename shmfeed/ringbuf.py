"""The ring: one stream's closed bars and its forming bar, in a plain buffer.

One writer, any number of readers. Readers write nothing, nothing is locked, and no side
waits for the other. This module is the protocol and its definition in pure Python;
`_ringbuf.c` is its twin, and names the steps by the same numbers. Release and acquire
are fences; x86-64 needs none.

A row never changes once it is published. The ring forgets its oldest row by writing the
newest one over it.

Append row n:                           Read the newest rows:
 (A1) store intent = n + 1               (R1) acquire-load the catalog word: it names
 (A2) release                                 the slot and the slot's epoch
 (A3) write row n's columns, each        (R2) acquire-load published: the window is
      at n % capacity and again               [first, published)
      `capacity` further                 (R3) use the rows, in place or as a copy
 (A4) release-store published = n + 1    (R4) acquire
                                         (R5) acquire-load intent, then the epoch

The rows of R3 are whole if the epoch is still the catalog word's and
`intent - first <= capacity`. Row n is written over row n - capacity, and A1 announces
it before A3 does it: a reader that saw a word of row n in R3 sees the intent in R5.

Replace the forming bar:                Read the forming bar:
 (U1) release                            (F1) acquire-load the counter
 (U2) fill the cell that readers do      (F2) copy the cell that it names
      not read                           (F3) acquire
 (U3) release-store the counter + 1      (F4) load the counter: equal, or redo from F1

This is a latch, `memory.words.Latch`, in the stream's catalog entry. A forming bar that
is not newer than the last closed row does not exist, so closing a bar needs no store
besides those of A1 to A4. A reader that wants both reads the forming bar first: a bar
that closes in between is then found among the rows, never missing and never twice.

Death. A writer that is killed at any step leaves readers unharmed. Before A4 row n is
not published; before U3 readers use the other cell. The next writer takes the counts as
they are, resets none, and writes row n again.

Swap. A late correction or a filled gap gives the stream new rows in a free slot; the
steps S1 to S4 are those of `memory.swap`, and S4 is the writer's here. Slices of the
old slot stay valid until that slot is reused; then R5 sees the new epoch.

Why two counts and not one odd/even word. Both are seqlock-style versions: read before
and after, valid if nothing moved. A sequence that is odd while its writer writes stays
odd for ever if the writer dies there, and starves readers beside a busy writer. Intent
and published only grow, and tell which rows a write concerns: a reader of older or
newer rows is not disturbed, and a dead writer leaves nothing that blocks a reader.
"""

import math
from collections.abc import Callable
from typing import NoReturn

from shmfeed.bar import Bar, Field, StreamKey
from shmfeed.errors import SegmentFormatError, StreamNotFoundError
from shmfeed.layout import (
    COLUMNS,
    E_FORMING,
    E_UPDATED,
    E_WORD,
    FORMING_WORDS,
    H_BARS,
    H_TICK,
    H_WRITER_EPOCH,
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
from shmfeed.memory.bar_cells import bar_cells, check_time
from shmfeed.memory.binding import SlotBinding
from shmfeed.memory.bound_entry import BoundEntry
from shmfeed.memory.keeping import Area
from shmfeed.memory.right import ENDED, Right, not_copied, refuse_append
from shmfeed.memory.rows import ROW, Rows, Slice, column_number
from shmfeed.memory.words import (
    Words,
    boot_ns,
    check_writable,
    fence,
)
from shmfeed.validation import check_flag, check_int


class RingReader(BoundEntry):
    """The reader of one stream in one segment.

    Args:
        words: The segment. A read-only buffer will do.
        geometry: The segment's sizes.
        index: The stream's entry number.

    Raises:
        BadArgumentError: The buffer is too small, or there is no such entry.
        SegmentFormatError: The stream's slot is damaged.
        StreamNotFoundError: The entry belongs to no stream. Each method raises it once
            the entry was given to another stream.

    Thread safety: any thread of any process may use a reader; it writes nothing into
    the buffer.
    """

    __slots__ = ("_binding",)

    def __init__(self, words: Words, geometry: Geometry, index: int) -> None:
        super().__init__(words, geometry, index)
        self._binding = SlotBinding(words, geometry, self.checked_word())

    def _current(self) -> tuple[int, Area]:
        pair = self._binding.pair
        if self.words.ints[self.entry + E_WORD] == pair[0]:
            return pair
        try:
            word = self.checked_word()
        except (SegmentFormatError, StreamNotFoundError):
            self._binding.leave()  # the stream may be gone for good
            raise
        return self._binding.move(word)

    @property
    def count(self) -> int:
        """The number of the next closed bar; it only grows within `epoch`."""
        budget = None
        while True:
            word, area = self._current()
            count = area.words[area.at + S_PUBLISHED]  # R2
            # A reused slot has a new epoch and counts another stream's rows.
            if area.words[area.at + S_EPOCH] == word >> SLOT_BITS:
                if count >= area.due:
                    self._binding.keep(area, count)
                return count
            budget = budget or self.retry_budget("count")
            budget.spend()

    @property
    def epoch(self) -> int:
        """The epoch of the bar numbers: a repair or a recreated feed raises it."""
        epoch: int = self.words.ints[self.entry + E_WORD] >> SLOT_BITS
        self.check_carried()
        return epoch

    @property
    def lapped(self) -> int:
        """The number of this reader's slices that were overwritten while they lived."""
        return self._binding.tally.lapped

    @property
    def lost(self) -> int:
        """The number of those that were alive when a verb or the limit found them."""
        return self._binding.tally.lost

    def view(self, n: int) -> Slice:
        """Return the last n closed bars without copying, steps R1 to R5.

        Args:
            n: At least 1. More than `history` counts as `history`.

        Returns:
            Read-only columns over the buffer, oldest first: n rows, or as many as there
            are. Use them, then ask `valid`.

        Raises:
            BadArgumentError: n is not an integer of at least 1.
            BusyRingError: The writer outran this read for 10 ms.
            SegmentFormatError: The stream's slot is damaged.
        """
        if type(n) is not int or n < 1:
            n = check_int("n", n)
        # Comparisons: calls of min and max would cost a tenth of a view.
        history = self.geometry.history
        most = n if n < history else history  # noqa: FURB136
        budget = None
        while True:
            word, area = self._current()
            words, at = area.words, area.at
            last = words[at + S_PUBLISHED]  # R2, acquire: pairs with A4
            if last >= area.due:
                self._binding.keep(area, last)
                continue
            first, base = last - most, words[at + S_BASE]
            if first < base:  # noqa: PLR1730
                first = base
            if first <= last and area.is_intact(word, first):
                # None if the area was closed meanwhile.
                found = self._binding.slice_of(area, word, first, last)
                if found is not None:
                    rows = Slice(*found)
                    if found[0].join(found[1]):
                        return rows
                continue
            budget = budget or self.retry_budget("view")
            budget.spend()

    def between(self, start: int, end: int, n: int, /) -> tuple[Slice, int]:
        """Return the closed bars that close from `start` to `end`, without copying.

        Args:
            start, end: ms UTC, both included.
            n: At least 1: of these bars, at most the newest n.

        Returns:
            The slice, as of `view`, and the close time of the newest closed bar, or 0.

        Raises what `view` raises.
        """
        n = check_int("n", n)
        budget = None
        while True:
            rows = self.view(self.geometry.history)
            found = rows._between(start, end, n)
            if found is not None and rows.valid:
                return found
            del rows, found  # no slice that lives is lost
            budget = budget or self.retry_budget("range")
            budget.spend()

    def snapshot(self, n: int, include_now: bool = False) -> Rows:
        """Return a private copy of the last n bars.

        Args:
            n: At least 1. More than `history` counts as `history`.
            include_now: Count the forming bar, if there is one, as the last of the n.

        Returns:
            Writable columns, oldest first: n rows, or as many as there are.

        Raises:
            BadArgumentError: n is not an integer of at least 1, or include_now is not
                a bool.
            BusyRingError: The writer outran this read for 10 ms.
            SegmentFormatError: The stream's slot is damaged.
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
                copy = rows._copy_with(bar, min(int(n), self.geometry.history))
            if rows.valid:
                return copy
            del rows  # no slice that lives is lost
            budget = budget or self.retry_budget("snapshot")
            budget.spend()

    def latest(self, field: "Field") -> float | int:
        """Return the newest value of a field.

        Args:
            field: A name of `layout.COLUMNS`.

        Returns:
            The forming bar's value if there is one, else the last closed bar's; NaN if
            there is no bar. An int for the times (ms UTC) and flags, else a float.

        Raises:
            BadArgumentError: There is no such field.
            BusyRingError: The writer outran this read for 10 ms.
        """
        number = column_number(field)
        bar = self.forming_cell()
        closed = self.last_closed()
        if closed is None or (bar is not None and bar.open_time > closed.open_time):
            closed = bar
        return math.nan if closed is None else closed[number]

    def forming(self) -> Bar | None:
        """Return the forming bar; None before the first, and once it has closed."""
        bar = self.forming_cell()
        closed = self.last_closed()
        if bar is None or closed is None or bar.open_time > closed.open_time:
            return bar
        return None

    def last_closed(self) -> Bar | None:
        """Return the newest closed bar, None before the first."""
        budget = None
        while True:
            word, area = self._current()
            words, at = area.words, area.at
            row = words[at + S_PUBLISHED] - 1  # R2
            if row + 1 >= area.due:
                self._binding.keep(area, row + 1)
                continue
            cells = area.row(row) if row >= words[at + S_BASE] else None
            if area.is_intact(word, row):
                return None if cells is None else Bar._make(ROW.unpack(cells))
            budget = budget or self.retry_budget("last closed bar")
            budget.spend()


class RingWriter:
    """The writer of one stream, as `FeedWriter.add_stream` returns it.

    `symbol` and `timeframe` name the stream, and `reader` reads it. Before each store
    the writer tests that this process may write, and `append` also that no other
    program wrote the rows.

    Args:
        words: The segment, writable.
        geometry: The segment's sizes.
        index: The stream's entry number.
        key: The stream's symbol and timeframe.
        wake: Called with `index` after each closed bar.
        right: The right to write the segment, held as long as this writer lives.

    Thread safety: one thread of one process writes a stream. A signal handler of that
    thread may write too: its bar comes wholly before or after the interrupted one.
    """

    __slots__ = (
        "_at",
        "_capacity",
        "_forming",
        "_index",
        "_ints",
        "_last_open",
        "_right",
        "_row",
        "_slot",
        "_wake",
        "_word",
        "reader",
        "symbol",
        "timeframe",
    )

    def __init__(
        self,
        words: Words,
        geometry: Geometry,
        index: int,
        key: StreamKey,
        wake: Callable[[int], None],
        right: Right,
    ) -> None:
        self.symbol, self.timeframe = key
        self.reader = RingReader(words, geometry, index)
        check_writable(words)
        self._ints = words.ints
        self._at = geometry.entry_word(index)
        self._slot = geometry.slot_word(words.ints[self._at + E_WORD] & SLOT_MASK)
        self._capacity = geometry.capacity
        at = self._at + E_FORMING + 1
        ends = at + FORMING_WORDS, at + 2 * FORMING_WORDS
        self._forming = slice(at, ends[0]), slice(*ends)
        self._index = index
        self._wake = wake
        self._right = right
        self._word = right.word
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
        """Close a bar, steps A1 to A4; a forming bar that is not newer is gone.

        Values are stored as they are: neither that a price is finite and lies between
        low and high, nor that `open_time` is on the timeframe's grid, is checked here.

        Args:
            open_time: int ms UTC, newer than that of the last closed bar.
            open, high, low, close, volume, money: Numbers, stored as float64.
            flags: An int64, a sum of the flags of `shmfeed.bar`.
            wake: Wake the readers that wait for this stream.

        Raises:
            BadArgumentError: An argument is refused; nothing was stored.
            FeedLostError: This process may not write the feed; nothing was stored.
        """
        if wake.__class__ is not bool:  # a call would cost a tenth of an append
            wake = check_flag("wake", wake)  # type: ignore[unreachable] # untyped
        cells = self._cells(open_time, (open, high, low, close, volume, money), flags)
        opened, now = cells[0], boot_ns()
        ints, updated = self._ints, self._at + E_UPDATED
        capacity, stride = self._capacity, 2 * self._capacity
        while True:
            slot, row = self._slot, self._row
            intent, published = slot + S_INTENT, slot + S_PUBLISHED
            at = slot + SLOT_HEADER_WORDS + row % capacity
            first = slice(at, at + len(COLUMNS) * stride, stride)
            again = slice(at + capacity, first.stop + capacity, stride)
            # Python runs signal handlers and other threads at calls and at the ends of
            # loops. Between this test and A4 there is neither, nor an allocation that
            # may collect garbage: no other append can run there.
            if (
                slot == self._slot
                and ints[published] == row == self._row
                and ints[H_WRITER_EPOCH] == self._word[0] > 0
                and self._last_open < opened
            ):
                ints[intent] = row + 1
                # A2, release: pairs with R4. x86-64 keeps stores in order.
                ints[first] = ints[again] = cells
                ints[updated] = ints[H_TICK] = now
                ints[H_BARS] += 1
                ints[published] = row + 1  # A4, release: pairs with R2
                self._row = row + 1
                self._last_open = opened
                break
            self._refuse(opened)
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
        wake: bool = False,  # noqa: ARG002 # the arguments of append
    ) -> None:
        """Replace the forming bar, steps U1 to U3. Wakes no reader.

        Arguments and errors are those of `append`.
        """
        cells = self._cells(open_time, (open, high, low, close, volume, money), flags)
        opened, now = cells[0], boot_ns()
        ints, at, both = self._ints, self._at, self._forming
        counter, updated = at + E_FORMING, at + E_UPDATED
        # No call from this test to U3, as in `append`.
        if ints[H_WRITER_EPOCH] == self._word[0] > 0 and self._last_open < opened:
            count = ints[counter] + 1
            # U1, release: pairs with F3. x86-64 keeps stores in order.
            ints[both[count & 1]] = cells
            ints[counter] = count  # U3, release: pairs with F1
            ints[updated] = ints[H_TICK] = now
        else:
            self._refuse(opened)

    def _enter_slot(self, before: int, word: int, row: int, last_open: int, /) -> bool:
        """Store the catalog word, step S4, and continue at `row` of its slot.

        Return False, and store nothing, if a bar was appended after row `before`.
        """
        slot = self.reader.geometry.slot_word(word & SLOT_MASK)
        fence()  # S4, release: pairs with R1
        ints, own = self._ints, self._slot + S_PUBLISHED
        # No call from here to S4: a signal handler may append.
        may_write = ints[H_WRITER_EPOCH] == self._word[0] > 0
        if may_write and ints[own] == before == self._row:
            ints[self._at + E_WORD] = word
            self._slot, self._row, self._last_open = slot, row, last_open
            return True
        self._refuse(TIME_LIMIT - 1)  # raises unless a bar was appended
        return False

    def close(self) -> None:
        """Stop writing and drop the right: each later call raises FeedLostError."""
        self._right = ENDED
        self._word = ENDED.word

    def __reduce__(self) -> NoReturn:
        raise not_copied("RingWriter")

    def _cells(
        self, open_time: int, values: tuple[float, ...], flags: int
    ) -> "memoryview[int]":
        # All conversion comes before the first store. It may run an object's own code,
        # which may use this writer: the caller tests everything again.
        if type(open_time) is not int:
            open_time = check_time(open_time)
        if not (self._last_open < open_time < TIME_LIMIT and self._word[0]):
            self._refuse(open_time)
        return bar_cells(open_time, values, flags, self.timeframe)

    def _refuse(self, open_time: int) -> None:
        # Raise, or return if another append came first and this one may follow.
        stream = f"{self.symbol} {self.timeframe}"
        published = self._ints[self._slot + S_PUBLISHED] if self._word[0] else 0
        refuse_append(
            self._right, stream, open_time, self._last_open, published, self._row
        )
