"""Setting rows aside: copy the rows that slices hold before they are overwritten.

A slice lies over rows that the writer will overwrite later. Before that the reading
process copies them to private memory at the same addresses, so that each array, frame
or table that was made of them without a copy keeps its values.

For this a slot is mapped by itself, as an *area*: a second mapping of the same pages,
made without a descriptor, so that it works after the segment's name is gone. A slice
holds its area and nothing else of the segment. The area lists its living slices. Each
is *due* at a count of published rows: half of `guard` before the writer begins to
overwrite the slice's first row.

A verb of the reader, which loads the count of rows anyway, compares it with the least
of these counts. That comparison is all that a verb pays while no slice is due. Then:

 (K1) the reader uses the segment's own mapping again; no new slice joins the area
 (K2) copy the rows that slices cover into new private memory of the slot's size; the
      rest of it, the slot's header included, is never touched and stays zero
 (K3) make it read-only
 (K4) move it over the area's addresses: one system call, mremap with MREMAP_FIXED, and
      one step for other threads
 (K5) check each slice as R4 and R5 do, by the segment's header: a slice whose rows were
      whole is *kept*, and valid for ever

Other threads use the rows throughout. A thread that loads a row from the old pages may
see it overwritten between K2 and K4. K5 comes after K4 and thus after that load: the
intent that K5 loads is past that row, and the slice is not kept. A thread that loads
the row from the new pages sees the copy, whose rows were whole, since K5 comes after K2
too. A snapshot that is copied from the area's addresses, and ends after K4, loads epoch
0 from the untouched header: it fails its check, and is copied again.

Slices that are overwritten already are copied as they are: they change no more, but
stay invalid. A reader that leaves a slot, because of a swap, a new segment or its own
death, sets its living slices aside, so that no slice holds a segment.

Where K2 or K4 fails (a limit on mappings or memory), and where a slot cannot be mapped
by itself (a plain buffer, a segment of layout 1, a system without mremap), slices lie
over the segment's own memory and hold it. Their `valid` tells whether their rows are
whole.

The bounds. A row costs the nine pages that its columns lie in, so a process that
collects small frames needs a limit: SHMFEED_KEEP_MB. Linux allows a process 65,530
mappings, so kept areas may take half of these. Past either limit, the rows set aside
longest ago are given up. Their slices become invalid, are counted as lapped, and read
as zeros. A price of zero is noticed, where a price of another time is not.
"""

import os
import threading
import weakref
from typing import ClassVar

import numpy as np

from shmfeed.errors import BadArgumentError
from shmfeed.layout import (
    C_FLAGS,
    COLUMNS,
    S_EPOCH,
    S_INTENT,
    SLOT_BITS,
    SLOT_HEADER_WORDS,
    WORD,
)
from shmfeed.memory.pages import (
    FloatArray,
    IntArray,
    address_of,
    columns_at,
    joined,
    page_calls,
    slot_bytes,
    touched_bytes,
)
from shmfeed.memory.words import Words
from shmfeed.text import repr_short

KEEP_VARIABLE = "SHMFEED_KEEP_MB"
DEFAULT_KEEP_MB = 256
MOST_AREAS = 32_768  # that are set aside; their rows have a limit of their own
NEVER = 1 << 64  # a count that no ring reaches

# The states of a slice. Below KEPT, the slot's header says if it is valid.
LIVE = 0  # set aside before it is overwritten
UNKEPT = 1  # cannot be set aside: it may be overwritten
KEPT = 2  # set aside whole
LAPPED = 3  # overwritten

_MOST_DIGITS = 9
KEEPING = threading.RLock()  # held while slices are set aside
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=KEEPING.acquire,
        after_in_parent=KEEPING.release,
        after_in_child=KEEPING.release,
    )


class Tally:
    """Counts of the slices of one reader that were overwritten.

    Attributes:
        lapped: All of them.
        lost: Those that were still alive when a verb, or the limit, found them lapped.
    """

    __slots__ = ("lapped", "lost")

    def __init__(self) -> None:
        self.lapped = 0
        self.lost = 0


class Validity:
    """The answer of a slice's `valid`, without a reference to its rows.

    After the slice's death it is the last answer: nothing uses the rows any more.
    """

    __slots__ = ("_area", "first", "last", "state", "word")

    def __init__(self, area: "Area", word: int, first: int, last: int) -> None:
        self._area: Area | None = area
        self.word = word
        self.first = first
        self.last = last
        self.state = LIVE if area.can_keep else UNKEPT

    @property
    def valid(self) -> bool:
        """True while all rows are whole: the writer has not begun to replace one."""
        area = self._area
        if self.state >= KEPT or area is None:
            return self.state == KEPT
        if area.is_intact(self.word, self.first):
            return True
        with KEEPING:  # the slice is perhaps being set aside: wait for its state
            if self.state < KEPT and area.segment_area is not None:
                return area.segment_area.is_intact(self.word, self.first)
            return self.state == KEPT

    def count_flags(
        self, flags: tuple[int, ...], first: int, last: int, /
    ) -> tuple[int, ...] | None:
        """Return how many of the rows `first` to `last` - 1 have each of these flags.

        Return None after the slice's death, and if rows were overwritten. The rows are
        given by their numbers.
        """
        area = self._area
        if area is None or not self.first <= first <= last <= self.last:
            return None
        start = first % area.capacity
        column = area.ints[C_FLAGS, start : start + last - first]
        counts = tuple(int(np.count_nonzero(column & flag)) for flag in flags)
        return counts if self.valid else None

    def copy_block(self) -> FloatArray | None:
        """Return a copy of all columns of the rows: float64 (9, n).

        Return None after the slice's death, and if rows were overwritten.
        """
        area = self._area
        if area is None:
            return None
        start = self.first % area.capacity
        block: FloatArray = area.floats[
            :, start : start + self.last - self.first
        ].copy()
        return block if self.valid else None

    def end(self) -> None:
        """Give the last answer: the slice dies."""
        area = self._area
        if area is None:
            return
        if self.state < KEPT:
            self.state = KEPT if self.valid else LAPPED
            area.tally.lapped += self.state == LAPPED
        self._area = None
        area.living.discard(self)


class Area:
    """The memory of one slot as this process maps it, and the slices over it.

    Args:
        words: The slot is at word `at` of these.
        at: The word at which the slot begins.
        capacity: The slot's rows.
        guard: The bars that may close before a view of `history` is invalid.
        tally: Counts the slices that are overwritten.
        can_keep: True if the slot is mapped by itself.

    Attributes:
        living: The validities of the slices that are alive.
        due: The least count of published rows at which one of them has to be set aside
            or, if it cannot be, is overwritten.
        closed: True once no slice may join.
        segment_area: The same slot in the segment, while the slices are set aside.
        kept: The bytes that were set aside.
    """

    __slots__ = (
        "__weakref__",
        "address",
        "at",
        "can_keep",
        "capacity",
        "closed",
        "due",
        "guard",
        "kept",
        "living",
        "segment_area",
        "tally",
        "words",
    )

    def __init__(
        self,
        words: Words,
        at: int,
        capacity: int,
        guard: int,
        tally: Tally,
        can_keep: bool = False,
    ) -> None:
        self.words = words.ints
        self.at = at
        self.capacity = capacity
        self.guard = guard
        self.tally = tally
        self.can_keep = can_keep
        self.address = words.address + at * WORD
        self.living: set[Validity] = set()
        self.due = NEVER
        self.closed = False
        self.segment_area: Area | None = None
        self.kept = 0

    def is_intact(self, word: int, first: int) -> bool:
        """Return True if the rows loaded from `first` on were whole, steps R4 and R5.

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

    def row(self, number: int) -> bytes:
        """Return the words of row `number`. Call `is_intact` afterwards."""
        stride = 2 * self.capacity
        start = self.at + SLOT_HEADER_WORDS + number % self.capacity
        return bytes(self.words[start : start + len(COLUMNS) * stride : stride])

    @property
    def floats(self) -> FloatArray:
        """The columns: float64 (9, 2 * capacity). The array does not hold the area."""
        return columns_at(self.address, self.capacity)

    @property
    def ints(self) -> IntArray:
        """The columns as int64."""
        return self.floats.view(np.int64)

    def map_alone(self) -> "Area | None":
        """Return an area of the same slot that is mapped by itself, if it can be."""
        calls = page_calls()
        size = slot_bytes(self.capacity)
        pages = None if calls is None else calls.duplicate(self.address, size)
        if pages is None:
            return None
        # The mapping ends with its last array. The garbage collector clears neither.
        raw = np.frombuffer(pages, np.uint8)
        raw.flags.writeable = False
        words = Words(raw, "the slot")
        return Area(words, 0, self.capacity, self.guard, self.tally, can_keep=True)

    def join(self, validity: Validity) -> bool:
        """Count a slice as alive. Return False if it came too late to be used.

        The slice is in the set before `closed` is loaded, and set_aside sets `closed`
        before it lists the set: each slice is listed, or is refused here.
        """
        self.living.add(validity)
        due = self._due(validity)
        if due < self.due:
            with KEEPING:
                self.due = min(due, self.due)
        if self.closed:
            validity.state = LAPPED  # not counted: its reader never gets it
            self.living.discard(validity)
        return not self.closed

    def update_due(self) -> int:
        """Note which slices were overwritten, and return the next count that is due."""
        with KEEPING:
            try:
                self.due = NEVER  # `join` waits for the lock from here on
                self._judge(self)
                self.due = min(map(self._due, list(self.living)), default=NEVER)
            except BaseException:  # a signal handler's
                self.due = 0
                raise
            return self.due

    def set_aside(self, segment_area: "Area") -> bool:
        """Set the slices aside, steps K2 to K5. Return False if they cannot be.

        No reader uses the area any more. `segment_area` is its slot in the segment.
        """
        with KEEPING:
            if self.closed or not self.can_keep:
                return False
            try:
                self.closed = True
                self.segment_area = segment_area
                if self.living:
                    self._move(segment_area.address)
                self._settle(segment_area)
            except BaseException:  # a signal handler's
                self._settle(segment_area)
                raise
            return self.moved

    @property
    def moved(self) -> bool:
        """True if the slices are set aside: no other slot has epoch 0."""
        return self.can_keep and self.words[self.at + S_EPOCH] == 0

    def _settle(self, segment_area: "Area") -> None:
        if self.moved:
            self._judge(segment_area, KEPT)  # K5
        else:
            _forget(weakref.ref(self))
        self.segment_area = None

    def _judge(self, area: "Area", whole: int = LIVE) -> None:
        # Note which slices were overwritten; the others are `whole`, if that is KEPT.
        for validity in list(self.living):
            if validity.state < KEPT:
                if not area.is_intact(validity.word, validity.first):
                    self.mark_lapped(validity)
                elif whole:
                    validity.state = whole

    def reopen(self) -> None:
        """Let slices join again, after they could not be set aside."""
        with KEEPING:
            self.closed, self.due = False, 0
            for validity in list(self.living):
                if validity.state == LIVE:
                    validity.state = UNKEPT
            self.update_due()

    def mark_lapped(self, validity: Validity) -> None:
        """Note that the rows of a slice that is alive were overwritten."""
        validity.state = LAPPED
        self.tally.lapped += 1
        self.tally.lost += 1

    def _due(self, validity: Validity) -> int:
        if validity.state == LIVE:
            return validity.first + self.capacity - self.guard // 2
        if validity.state == UNKEPT:
            return validity.first + self.capacity + 1
        return NEVER

    def _move(self, segment: int) -> None:
        calls = page_calls()
        ranges = joined(
            (start, start + validity.last - validity.first)
            for validity in list(self.living)
            for start in [validity.first % self.capacity]
        )
        needed = touched_bytes(self.capacity, ranges)
        size = slot_bytes(self.capacity)
        if needed > _Kept.limit or calls is None:
            return
        copy = calls.allocate(size)
        if copy is None:
            return
        source = columns_at(self.address, self.capacity)
        into = columns_at(address_of(copy), self.capacity)
        for first, last in ranges:
            into[:, first:last] = source[:, first:last]
        _make_room(needed)
        if needed:
            _Kept.areas[weakref.ref(self, _forget)] = needed
            _Kept.bytes += needed
        calls.move(copy, size, self.address, segment)


class _Kept:
    """The rows that this process has set aside: bytes by area, oldest first."""

    areas: ClassVar[dict["weakref.ref[Area]", int]] = {}
    bytes = 0
    limit = 0


def _forget(area: "weakref.ref[Area]") -> None:
    with KEEPING:
        if area in _Kept.areas:  # no call, and no signal handler, in between
            _Kept.bytes -= _Kept.areas[area]
            del _Kept.areas[area]


def _make_room(needed: int) -> None:
    # Give up the rows set aside longest ago until `needed` bytes more, an area, fit.
    while _Kept.areas and (
        _Kept.bytes > _Kept.limit - needed
        or len(_Kept.areas) + (needed > 0) > MOST_AREAS
    ):
        reference = next(iter(_Kept.areas))
        area = reference()
        _forget(reference)
        calls = page_calls()
        if area is not None and calls is not None:
            for validity in list(area.living):
                if validity.state != LAPPED:
                    area.mark_lapped(validity)
            calls.empty(area.address, slot_bytes(area.capacity))


def kept_bytes() -> int:
    """Return the bytes that this process has set aside for slices that are alive.

    They are counted in whole pages of memory. SHMFEED_KEEP_MB bounds them.

    Thread safety: any thread may call it.
    """
    return _Kept.bytes


def limit_kept(limit: int, /) -> None:
    """Set the most bytes to set aside, 0 for none, and give up what is above it."""
    with KEEPING:
        _Kept.limit = limit
        _make_room(0)


def keep_limit() -> int:
    """Return the limit that SHMFEED_KEEP_MB states, in bytes.

    Raises BadArgumentError if it is not a whole number of MiB.
    """
    text = os.environ.get(KEEP_VARIABLE, "").strip()
    if not text:
        return DEFAULT_KEEP_MB << 20
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise BadArgumentError(
            f"{KEEP_VARIABLE} is {repr_short(text)}; it must be a whole number of MiB,"
            f" from 0 (keep nothing) to {10**_MOST_DIGITS - 1}"
        )
    return int(text) << 20


limit_kept(DEFAULT_KEEP_MB << 20)
