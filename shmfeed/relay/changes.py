"""The changes of a feed's segment since the last flush.

A reader of changes remembers, for each entry of the catalog, the catalog word, the
count, the counter of the forming latch and the marks that it has told. One comparison
of arrays tells which streams have changed, so that a look at a feed of 2,000 streams in
which nothing happened costs some tens of microseconds.

Order of loads: the entries' epochs, the catalog, the marks, the forming bars, the rows.
So no mark tells of a row that is not there, and a bar that closes in between is among
the rows. Torn and overwritten values are not told; they are read again the next time.
A stream whose rows were swapped is compared with the slot in which they were before,
which rests; if that is used again already, the stream is told whole.
"""

import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import StreamKey
from shmfeed.core import RingReader
from shmfeed.errors import BusyRingError, SegmentFormatError, StreamNotFoundError
from shmfeed.layout import (
    E_EPOCH,
    E_FORMING,
    E_WORD,
    FORMING_WORDS,
    NO_BAR,
)
from shmfeed.memory.catalog import KnownStreams, known_streams
from shmfeed.memory.rows import FloatArray, IntArray
from shmfeed.memory.words import fence
from shmfeed.relay.flush import NO_ROWS, Catalog, Flush, RowsOfStreams, StreamMarks
from shmfeed.relay.segment_marks import MARK_WORDS, MarksReader, entry_words
from shmfeed.relay.segment_rows import (
    Difference,
    SegmentRows,
    Slots,
    difference,
)
from shmfeed.segment.mapping import Mapping

_TRIES = 20  # of a whole read that a writer outran
_UNKNOWN = -1  # in place of a counter: a forming bar that followers may have or lack
_MANY = 4  # a stream is told whole if more than one in so many of its rows differ
_UNSUBSCRIBED = StreamMarks(subscribed=False, since=0)


class StreamNumbers:
    """The numbers by which a leader's flushes name streams. None is used again."""

    def __init__(self) -> None:
        self.keys: list[StreamKey] = []
        self._numbers: dict[StreamKey, int] = {}

    def number(self, key: StreamKey) -> int:
        """Return a stream's number, a new one for a new stream."""
        found = self._numbers.setdefault(key, len(self.keys))
        if found == len(self.keys):
            self.keys.append(key)
        return found


def check_layout(mapping: Mapping) -> None:
    """Raise SegmentFormatError for a segment of layout 1."""
    if mapping.geometry.version == 1:
        raise SegmentFormatError(
            f"{mapping.words.name} has layout version 1, which cannot be published:"
            " restart the feeder with this version"
        )


class _Closed(NamedTuple):
    """Closed rows in pieces, the entry of each row, and the entries told whole."""

    entries: list[IntArray]
    blocks: list[FloatArray]
    whole: list[int]

    def add(self, entries: IntArray, rows: FloatArray) -> None:
        """Add rows, of an entry each."""
        if len(entries):
            self.entries.append(entries)
            self.blocks.append(rows)


class ChangeReader:
    """The changes of one segment since they were read last.

    The first read tells all, and so does the first one after `start_again`.

    Attributes:
        mapping: The segment.
        is_first: True if the next read tells all.
    """

    def __init__(self, mapping: Mapping, numbers: StreamNumbers) -> None:
        """Raise SegmentFormatError for a segment of layout 1."""
        check_layout(mapping)
        self.mapping = mapping
        self._numbers = numbers
        self._rows = SegmentRows(mapping)
        self._words = self._rows.words
        self._starts = entry_words(mapping)
        self._marks = MarksReader(mapping)
        self.start_again()

    def is_of(self, mapping: Mapping) -> bool:
        """Return True if this is the segment whose changes are read."""
        return mapping.words is self.mapping.words

    def start_again(self) -> None:
        """Tell all at the next read: what was told has not arrived."""
        streams = self.mapping.geometry.max_streams
        self.is_first = True
        self._known: KnownStreams | None = None
        # By entry number: the stream's number, and what was told of it.
        self._streams: IntArray = np.full(streams, -1)
        self._epochs: IntArray = np.zeros(streams, np.int64)
        self._told_words: IntArray = np.zeros(streams, np.int64)
        self._told_counts: IntArray = np.zeros(streams, np.int64)
        self._told_forming: IntArray = np.zeros(streams, np.int64)
        self._told_marks: IntArray = np.full((streams, len(MARK_WORDS)), -1)
        self._active: IntArray = np.empty(0, np.int64)
        self._gone: list[int] = []  # numbers of streams that have no entry any more

    def read(self, everything: bool = True) -> Flush | None:
        """Return the changes as a flush without a head, None without a change.

        Args:
            everything: False leaves out forming bars, and the marks of streams that
                have no new rows.

        Raises:
            BusyRingError: The writer outran the read. Read again.
            SegmentFormatError: The segment is damaged.
        """
        try:
            return self._read(everything)
        except (BusyRingError, SegmentFormatError):
            self.start_again()  # a part may count as told, and is not
            raise

    def _read(self, everything: bool) -> Flush | None:
        catalog, is_first = self._read_catalog(), self.is_first
        everything = everything or catalog is not None
        cells = self._words.take(self._marks_at)
        forming = self._read_forming() if everything else NO_ROWS
        closed = self._read_all() if is_first else self._read_closed()
        if not everything and not closed.entries and not closed.whole:
            return None
        rows = self._arrange(closed)
        whole = self._streams[closed.whole].tolist() + (self._gone if is_first else [])
        marks = self._read_marks(cells, None if everything else closed)
        self.is_first = False
        flush = Flush(
            time.time_ns() // 1_000_000,
            rows,
            forming,
            tuple(sorted(whole)),
            marks,
            catalog,
            is_whole=is_first,
        )
        return None if _is_empty(flush) else flush

    # The catalog

    def _read_catalog(self) -> Catalog | None:
        """Take the streams of the catalog, if they have changed; return new ones."""
        words, geometry, _ = self.mapping
        epochs = self._words.take(self._starts + E_EPOCH)
        fence()  # acquire: the names are read after their entries' epochs
        known = known_streams(words, geometry, self._known)
        if known is self._known:
            return None
        self._known = known
        before = len(self._numbers.keys)
        streams: IntArray = np.full(geometry.max_streams, -1)
        for key, entry in known.numbers.items():
            streams[entry] = self._numbers.number(key)
        changed = (streams != self._streams) | (epochs != self._epochs)
        for entry in np.flatnonzero(changed).tolist():
            self._forget(entry)
        # A first flush tells of all streams that ever were, that they are empty.
        all_numbers = np.arange(len(self._numbers.keys))
        before_now = all_numbers if self.is_first else self._streams
        gone = np.setdiff1d(before_now, streams)
        self._gone += gone[gone >= 0].tolist()
        self._streams, self._epochs = streams, epochs
        self._active = np.flatnonzero(streams >= 0)
        self._active_starts = self._starts[self._active]
        self._marks_at = self._active_starts[:, np.newaxis] + MARK_WORDS
        if self.is_first or len(self._numbers.keys) > before:
            return Catalog(tuple(self._numbers.keys), geometry.history)
        return None

    def _forget(self, entry: int) -> None:
        """Forget what was told of an entry: it is another stream's now."""
        self._told_words[entry] = self._told_counts[entry] = 0
        self._told_forming[entry] = 0 if self.is_first else _UNKNOWN
        self._told_marks[entry] = -1
        self._marks.forget(entry)

    def _are_bound(self, entries: IntArray) -> NDArray[np.bool_]:
        """Return for each of these entries if it is still its stream's, step B3."""
        fence()  # B2, acquire: pairs with E2, in `Catalog`
        epochs = self._words.take(self._starts[entries] + E_EPOCH)
        are_bound: NDArray[np.bool_] = epochs == self._epochs[entries]
        are_bound &= epochs & 1 == 0
        return are_bound

    # Marks

    def _read_marks(
        self, cells: IntArray, closed: _Closed | None
    ) -> dict[int, StreamMarks]:
        """Return changed marks by stream number: all, or those of streams with rows."""
        changed = (cells != self._told_marks[self._active]).any(axis=1)
        if closed is not None:
            has_rows = np.zeros(len(self._streams), np.bool_)
            for entries in closed.entries:
                has_rows[entries] = True
            has_rows[closed.whole] = True
            changed &= has_rows[self._active]
        chosen = np.flatnonzero(changed)
        chosen = chosen[self._are_bound(self._active[chosen])]
        entries = self._active[chosen]
        marks = self._marks.marks(entries, cells[chosen])
        self._told_marks[entries] = cells[chosen]
        found = dict(zip(self._streams[entries].tolist(), marks, strict=True))
        gone, self._gone = self._gone, []
        return {**dict.fromkeys(gone, _UNSUBSCRIBED), **found}

    # Forming bars

    def _read_forming(self) -> RowsOfStreams:
        """Return the forming bars that have changed, steps F1 to F4."""
        at = self._active_starts + E_FORMING
        counters = self._words.take(at)
        chosen = np.flatnonzero(counters != self._told_forming[self._active])
        if not len(chosen):
            return NO_ROWS
        at, counters, entries = at[chosen], counters[chosen], self._active[chosen]
        fence()  # F1, acquire: pairs with U3
        cells = at + 1 + (counters & 1) * FORMING_WORDS
        block = self._words.take(cells + np.arange(FORMING_WORDS)[:, np.newaxis])
        fence()  # F3, acquire: pairs with U1
        is_whole = (self._words.take(at) == counters) & self._are_bound(entries)
        # Rows are read now, after the bars: one may have closed meanwhile.
        slots = self._load_slots(entries)
        is_whole &= slots.are_sound
        is_newer = (counters > 0) & (block[0] > self._rows.last_opens(slots))
        is_told = is_newer | ((counters > 0) & (block[0] == NO_BAR))
        is_told |= self._told_forming[entries] == _UNKNOWN
        block[0, ~is_newer] = NO_BAR
        self._told_forming[entries[is_whole]] = counters[is_whole]
        kept = np.flatnonzero(is_whole & is_told)
        return _sorted(self._streams[entries[kept]], block[:, kept].view(np.float64))

    # Closed rows

    def _load_slots(self, entries: IntArray) -> Slots:
        words = self._words.take(self._starts[entries] + E_WORD)
        fence()  # R1, acquire: pairs with S4
        return self._rows.slots(words)

    def _read_all(self) -> _Closed:
        """Return all rows of all streams. Raise BusyRingError."""
        found = _Closed([], [], [])
        left = self._active
        for _ in range(_TRIES):
            left = self._read_whole(left, found)
            if not len(left):
                return found
        raise BusyRingError(
            f"{self.mapping.words.name}: the writer outran the read of {len(left)}"
            f" streams {_TRIES} times"
        )

    def _read_whole(self, entries: IntArray, found: _Closed) -> IntArray:
        """Read all rows of these entries; return those that must be read again."""
        slots = self._load_slots(entries)
        self._check(entries[~slots.are_sound])
        first = self._rows.newest(slots)
        first[~slots.are_sound] = slots.published[~slots.are_sound]
        block = self._rows.rows(slots, first, slots.published)
        is_whole = self._rows.are_whole(slots, first) & self._are_bound(entries)
        owners = np.repeat(entries, slots.published - first)
        if not is_whole.all():
            kept = np.repeat(is_whole, slots.published - first)
            owners, block = owners[kept], block[:, kept]
        found.add(owners, block)
        done = entries[is_whole]
        found.whole.extend(done.tolist())
        self._told(done, slots.take(np.flatnonzero(is_whole)))
        return entries[~is_whole]

    def _read_closed(self) -> _Closed:
        """Return the rows that have changed."""
        found = _Closed([], [], [])
        words = self._words.take(self._active_starts + E_WORD)
        fence()  # R1, acquire: pairs with S4
        slots = self._rows.slots(words)
        told = self._told_counts[self._active]
        is_same_slot = words == self._told_words[self._active]
        has_changed = ~is_same_slot | (slots.published != told)
        if not has_changed.any():
            return found
        self._check(self._active[has_changed & ~slots.are_sound])
        has_changed &= slots.are_sound
        added = slots.published - told
        is_short = (added > 0) & (added <= self.mapping.geometry.history)
        is_short &= is_same_slot & (told >= slots.base)
        self._read_new(np.flatnonzero(has_changed & is_short), slots, found)
        others = self._active[has_changed & ~is_short]
        for entry in others.tolist():
            self._read_other(entry, found)
        return found

    def _read_new(self, chosen: IntArray, slots: Slots, found: _Closed) -> None:
        """Read the rows that these streams' slots have beyond those told."""
        entries, slots = self._active[chosen], slots.take(chosen)
        if not len(chosen):
            return
        first = self._told_counts[entries]
        block = self._rows.rows(slots, first, slots.published)
        is_whole = self._rows.are_whole(slots, first) & self._are_bound(entries)
        counts = slots.published - first
        kept = np.repeat(is_whole, counts)
        found.add(np.repeat(entries, counts)[kept], block[:, kept])
        self._told(entries[is_whole], slots.take(np.flatnonzero(is_whole)))

    def _read_other(self, entry: int, found: _Closed) -> None:
        """Read a stream with other rows than those told: the difference, or all."""
        entries = np.array([entry])
        slots = self._load_slots(entries)
        if not slots.are_sound[0]:
            return
        first = self._rows.newest(slots)
        rows = self._rows.rows(slots, first, slots.published)
        changes = self._compare(entry, rows)
        if not (self._rows.are_whole(slots, first) & self._are_bound(entries))[0]:
            return
        self._told(entries, slots)
        differ = 0 if changes is None else changes.rows.shape[1]
        if changes is None or changes.has_lost or differ * _MANY > rows.shape[1]:
            self._take(found, entry, rows, is_whole=True)
            self._told_forming[entry] = _UNKNOWN  # other rows may hide it, or show it
        else:
            self._take(found, entry, changes.rows, is_whole=False)

    def _compare(self, entry: int, rows: FloatArray) -> Difference | None:
        """Return what differs from the rows told, None if those are gone."""
        words = self._told_words[[entry]]
        if not words[0]:
            return None
        before = self._rows.slots(words)
        last = self._told_counts[[entry]]
        history = self.mapping.geometry.history
        first = np.maximum(before.base, last - history)
        if not before.are_sound[0] or not first[0] <= last[0] <= before.published[0]:
            return None
        sent = self._rows.rows(before, first, last)
        if not self._rows.are_whole(before, first)[0]:
            return None
        return difference(sent, rows, history)

    def _told(self, entries: IntArray, slots: Slots) -> None:
        self._told_words[entries] = slots.words
        self._told_counts[entries] = slots.published

    @staticmethod
    def _take(found: _Closed, entry: int, rows: FloatArray, is_whole: bool) -> None:
        found.add(np.full(rows.shape[1], entry), rows)
        if is_whole:
            found.whole.append(entry)

    def _arrange(self, closed: _Closed) -> RowsOfStreams:
        if not closed.entries:
            return NO_ROWS
        entries, blocks = closed.entries, closed.blocks
        if len(blocks) == 1:  # which may be large
            return _sorted(self._streams[entries[0]], blocks[0])
        numbers = self._streams[np.concatenate(entries)]
        return _sorted(numbers, np.concatenate(blocks, axis=1))

    def _check(self, entries: Iterable[int]) -> None:
        """Raise SegmentFormatError if the slot of one of these entries is damaged.

        A slot that its writer is filling, or an entry that changes hands, is whole.
        """
        for entry in entries:
            try:
                RingReader(*self.mapping[:2], int(entry))
            except (StreamNotFoundError, BusyRingError):
                continue


def _sorted(numbers: IntArray, block: FloatArray) -> RowsOfStreams:
    """Return rows sorted by stream; those of a stream are sorted already."""
    if not len(numbers):
        return NO_ROWS
    if (np.diff(numbers) >= 0).all():
        return RowsOfStreams(numbers, block)
    order = np.argsort(numbers, kind="stable")
    return RowsOfStreams(numbers[order], block[:, order])


def _is_empty(flush: Flush) -> bool:
    return not (
        flush.is_whole
        or len(flush.closed.numbers)
        or len(flush.forming.numbers)
        or flush.whole
        or flush.marks
        or flush.catalog
    )
