"""Closed rows of many streams of a segment, read at once, each step for all of them.

The steps are those of a ring's reader, R1 to R5 of `ringbuf`, on arrays with an item a
stream: a minute's close of all streams costs one gathering of words, not a read for
each. Rows that a writer has begun to replace meanwhile are left out; the caller reads
their streams again later.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.layout import (
    COLUMNS,
    S_BASE,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    SLOT_BITS,
    SLOT_HEADER_WORDS,
    SLOT_MASK,
)
from shmfeed.memory.rows import FloatArray, IntArray
from shmfeed.memory.slots import slots_taken
from shmfeed.memory.words import fence
from shmfeed.segment.mapping import Mapping

_FEW = 8  # rows a stream up to which gathering is cheaper than a copy for each stream
NOTHING: FloatArray = np.empty((len(COLUMNS), 0))


class Slots(NamedTuple):
    """The slots that some catalog words name, as they were when they were loaded.

    Attributes:
        words: The catalog words, steps R1.
        at: The word at which each slot begins.
        base, published: The first row, and the end of the rows, steps R2.
        are_sound: False where a word names no slot in use, or another epoch of it.
    """

    words: IntArray
    at: IntArray
    base: IntArray
    published: IntArray
    are_sound: NDArray[np.bool_]

    def take(self, chosen: IntArray) -> "Slots":
        """Return some of these slots."""
        words, at, base, published, are_sound = self
        return Slots(
            words[chosen],
            at[chosen],
            base[chosen],
            published[chosen],
            are_sound[chosen],
        )


class SegmentRows:
    """The closed rows of one segment.

    Attributes:
        words: All words of the segment, int64 (n,).
    """

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._geometry = geometry = mapping.geometry
        self.words: IntArray = np.frombuffer(mapping.words.raw, np.int64)
        self._first_slot = geometry.slot_word(0)
        self._columns = np.arange(len(COLUMNS))[:, np.newaxis] * geometry.column_words

    def slots(self, catalog_words: IntArray) -> Slots:
        """Return the slots that these catalog words name, steps R1 and R2."""
        geometry, words = self._geometry, self.words
        number, epoch = catalog_words & SLOT_MASK, catalog_words >> SLOT_BITS
        taken = min(slots_taken(self._mapping.words, geometry), geometry.slots)
        in_use = (epoch >= 1) & (number < taken)
        # A slot that is not in use may have no pages: load the header's words instead.
        at = np.where(in_use, self._first_slot + number * geometry.slot_words, 0)
        published = words.take(at + S_PUBLISHED)
        fence()  # R2, acquire: pairs with A4
        base = words.take(at + S_BASE)
        are_sound = in_use & (words.take(at + S_EPOCH) == epoch)
        are_sound &= (base >= 0) & (base <= published)
        return Slots(catalog_words, at, base, published, are_sound)

    def newest(self, slots: Slots) -> IntArray:
        """Return the number of the first of the `history` newest rows of each slot."""
        return np.maximum(slots.base, slots.published - self._geometry.history)

    def rows(self, slots: Slots, first: IntArray, last: IntArray) -> FloatArray:
        """Return the rows `first` to `last` - 1 of each slot, step R3, slot by slot.

        Use those alone of which `are_whole` is True afterwards.
        """
        counts = last - first
        total = int(counts.sum())
        if not total:
            return NOTHING
        if total > _FEW * len(counts):
            return self._copies(slots, first, counts)
        starts = np.cumsum(counts) - counts
        row = np.arange(total) + np.repeat(first - starts, counts)
        at = np.repeat(slots.at, counts) + row % self._geometry.capacity
        cells: IntArray = self.words.take(at + SLOT_HEADER_WORDS + self._columns)
        return cells.view(np.float64)

    def _copies(self, slots: Slots, first: IntArray, counts: IntArray) -> FloatArray:
        # Rows are there twice, so that any window is one piece of each column.
        found = np.empty((len(COLUMNS), int(counts.sum())), np.int64)
        places = slots.at + SLOT_HEADER_WORDS + first % self._geometry.capacity
        size, end = self._geometry.column_words, 0
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            begin, end = end, end + count
            for column in range(len(COLUMNS)):
                at = place + column * size
                found[column, begin:end] = self.words[at : at + count]
        return found.view(np.float64)

    def last_opens(self, slots: Slots) -> IntArray:
        """Return the open time of each slot's newest row, -1 where it has no row."""
        has_rows = slots.are_sound & (slots.published > slots.base)
        row = np.where(has_rows, slots.published - 1, 0) % self._geometry.capacity
        opens = self.words.take(slots.at + SLOT_HEADER_WORDS + row)
        return np.where(has_rows, opens, -1)

    def are_whole(self, slots: Slots, first: IntArray) -> NDArray[np.bool_]:
        """Return for each slot if its rows from `first` on were whole, steps R4, R5."""
        fence()  # R4, acquire
        intent = self.words.take(slots.at + S_INTENT)
        fence()
        epoch = self.words.take(slots.at + S_EPOCH)
        are_whole: NDArray[np.bool_] = epoch == slots.words >> SLOT_BITS
        are_whole &= slots.are_sound & (intent - first <= self._geometry.capacity)
        return are_whole


class Difference(NamedTuple):
    """The difference of a stream's rows from those that were sent.

    Attributes:
        rows: The rows that are new or have other values.
        has_lost: True if rows that were sent are not there any more.
    """

    rows: FloatArray
    has_lost: bool


def difference(sent: FloatArray, rows: FloatArray, history: int) -> Difference:
    """Compare a stream's rows with those of before; both are sorted by open time.

    Rows that were sent and are older than the oldest of `history` rows are not lost:
    they have fallen out of the stream's history.
    """
    old, new = sent.view(np.int64), rows.view(np.int64)
    known = np.searchsorted(old[0], new[0])
    is_same = known < old.shape[1]
    known[~is_same] = 0
    if old.shape[1]:
        is_same &= (old[:, known] == new).all(axis=0)
    due = old[0]
    if new.shape[1] >= history:
        due = due[due >= new[0, 0]]
    has_lost = not bool(np.isin(due, new[0], assume_unique=True).all())
    return Difference(rows[:, ~is_same], has_lost)
