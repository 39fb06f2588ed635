"""The slots that no entry names: which is used next, and with which epoch.

A slot has no pages before it is used for the first time, and is reserved then. Slots
are first used in ascending order, so one header word, H_TAKEN, tells which of them have
pages. Loading from a page that does not exist allocates it, and raises SIGBUS if
/dev/shm is full. Therefore no process looks at a slot that was never used.
"""

from collections import deque
from collections.abc import Callable, Collection

from shmfeed.errors import SegmentFullError
from shmfeed.layout import (
    COUNT_LIMIT,
    H_TAKEN,
    S_BASE,
    S_EPOCH,
    S_PUBLISHED,
    S_RESTED,
    S_RETIRED,
    Geometry,
)
from shmfeed.memory.words import Words, boot_ns
from shmfeed.text import counted

# Allocate the pages of (first, count) slots, or none and raise SegmentFullError.
Reserve = Callable[[int, int], None]


def no_reservation(first: int, count: int) -> None:
    """Allocate nothing: the buffer has all its pages."""


def slots_taken(words: Words, geometry: Geometry) -> int:
    """Return the number of slots that have been used; those after it have no pages."""
    return geometry.slots if geometry.version == 1 else words.ints[H_TAKEN]


def slot_words(words: Words, geometry: Geometry, word: int, count: int) -> list[int]:
    """Return word number `word` of the headers of the first `count` slots."""
    start, end = geometry.slot_word(0), geometry.slot_word(count)
    return words.ints[start + word : end : geometry.slot_words].tolist()


class SlotPool:
    """The free slots of one segment, as its writer knows them.

    A reader that reads or waits once in `guard` bars may rely on its slices. So a slot
    rests for so long once it is retired. The next free slot is the first one that has
    rested, else one that was never used, else the one that was retired longest ago: its
    old rows stay whole for readers as long as possible. A slot is marked as retired
    while an entry still names it, so that a writer that is killed between the two
    stores leaves no slot that looks as if it was retired earlier.

    Args:
        words: The segment, writable.
        geometry: The segment's sizes.
        used: The slots that entries name.
        first_epoch: An epoch above each of this feed's earlier segments.
        reserve: Called with (first, count) before the first use of these slots.

    Attributes:
        unrested: The number of slots that were used again before they had rested.
    """

    def __init__(
        self,
        words: Words,
        geometry: Geometry,
        used: Collection[int],
        first_epoch: int,
        reserve: Reserve = no_reservation,
    ) -> None:
        self.unrested = 0
        self._words = words
        self._geometry = geometry
        self._reserve = reserve
        self._taken = max(0, min(slots_taken(words, geometry), geometry.slots))
        epochs = slot_words(words, geometry, S_EPOCH, self._taken)
        self._last_epoch = max([first_epoch - 1, *epochs])
        retired = slot_words(words, geometry, S_RETIRED, self._taken)
        used = set(used)
        free = [slot for slot in range(self._taken) if slot not in used]
        self._unused = deque(slot for slot in free if not epochs[slot])
        once_used = [slot for slot in free if epochs[slot]]
        self._retired = deque(sorted(once_used, key=retired.__getitem__))

    def prepare(self, count: int) -> None:
        """Reserve pages so that `count` slots can be taken.

        Raises:
            SegmentFullError: There are not so many slots, or /dev/shm has no room for
                all of them. None is reserved then.
        """
        lacking = count - len(self._unused) - len(self._retired)
        if lacking > 0:
            self._reserve_more(lacking)

    def free(self) -> tuple[int, int]:
        """Return the next free slot and an epoch above all that slots have had.

        The slot stays free until `take`.

        Raises:
            SegmentFullError: No slot is free, or /dev/shm has no room for one.
        """
        slot = self._next()
        self._last_epoch += 1
        return slot, self._last_epoch

    def _next(self) -> int:
        now = boot_ns()
        for slot in self._retired:
            if self._rested(slot) <= now:
                return slot
        if not self._unused:
            try:
                self._reserve_more(1)
            except SegmentFullError:
                if not self._retired:
                    raise
        return (self._unused or self._retired)[0]

    def stamp(self, slot: int, epoch: int, rest: int) -> None:
        """Retire a slot, whose rows the slot of `epoch` is about to replace.

        It rests for `rest` ns; one without rows needs none.
        """
        ints, at = self._words.ints, self._geometry.slot_word(slot)
        is_empty = ints[at + S_BASE] == ints[at + S_PUBLISHED]
        ints[at + S_RESTED] = 0 if is_empty else min(boot_ns() + rest, COUNT_LIMIT - 1)
        ints[at + S_RETIRED] = epoch

    def take(self, slot: int) -> None:
        """Use a slot that `free` returned. Call it before an entry names the slot.

        An interrupt between the two leaves a slot unused until the next writer starts.
        In the other order it would leave a free slot whose rows are in use.
        """
        if slot in self._retired:
            self.unrested += self._rested(slot) > boot_ns()
        for free in self._unused, self._retired:
            if slot in free:
                free.remove(slot)

    def release(self, slot: int) -> None:
        """Free a slot that was taken and that no entry names."""
        self._retired.append(slot)

    def _rested(self, slot: int) -> int:
        rested: int = self._words.ints[self._geometry.slot_word(slot) + S_RESTED]
        return rested

    def _reserve_more(self, count: int) -> None:
        slots = self._geometry.slots
        if self._taken + count > slots:
            raise SegmentFullError(
                f"{self._words.name} has {counted(slots, 'slot')}, and each"
                " holds a stream's rows; raise max_streams"
            )
        self._reserve(self._taken, count)
        self._unused.extend(range(self._taken, self._taken + count))
        self._taken += count
        self._words.ints[H_TAKEN] = self._taken
