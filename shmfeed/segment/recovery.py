"""Recovery of a segment by its next owner: inspect it, then migrate what is usable.

The new owner holds the locks, so no process writes the segment meanwhile. Inspection
lists each damage. A stream is usable if its key and its slot are intact, even if other
words are damaged. Migration copies a stream's closed bars, or the
longest run of them with valid times, and its counters into the segment that replaces
this one.
"""

import logging
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import StreamKey
from shmfeed.core import RingReader
from shmfeed.layout import (
    AHEAD_NS,
    COUNT_LIMIT,
    COUNTERS,
    E_COUNTERS,
    E_COUNTERS_ROOM,
    E_EPOCH,
    E_FORMING,
    E_GAPS,
    E_HOLES,
    E_SILENCE,
    E_SINCE,
    E_UPDATED,
    E_WHY,
    E_WORD,
    FORMING_WORDS,
    H_CATALOG,
    H_COUNTERS,
    H_HISTOGRAM,
    H_HISTOGRAM_ROOM,
    H_IDENTITY,
    H_NOTE,
    H_RETIRED,
    H_STREAMS,
    H_TEXT,
    H_WRITER_EPOCH,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    S_RESTED,
    S_RETIRED,
    SLOT_BITS,
    SLOT_MASK,
    Geometry,
)
from shmfeed.memory.catalog import (
    Catalog,
    Entry,
    entry_words,
    read_entries,
    read_entry,
)
from shmfeed.memory.holes import read_holes, write_holes
from shmfeed.memory.integrity import (
    describe_key_damage,
    describe_slot_damage,
    longest_valid_run,
)
from shmfeed.memory.rows import ROW
from shmfeed.memory.slots import slot_words, slots_taken
from shmfeed.memory.swap import fill_rows
from shmfeed.memory.words import Latch, Words, boot_ns
from shmfeed.segment.mapping import Mapping
from shmfeed.segment.stream_check import describe_closed_damage, describe_forming_damage
from shmfeed.text import counted

# Counters that a writer increments. One near the end of int64 would overflow.
_HEADER_COUNTS = (
    H_WRITER_EPOCH,
    H_NOTE,
    H_CATALOG,
    H_IDENTITY,
    H_TEXT,
    *range(H_COUNTERS, H_COUNTERS + len(COUNTERS)),
    *range(H_HISTOGRAM, H_HISTOGRAM + H_HISTOGRAM_ROOM),
)
_ENTRY_COUNTS = (
    E_GAPS,
    E_FORMING,
    E_EPOCH,
    E_SILENCE,
    *range(E_COUNTERS, E_COUNTERS + E_COUNTERS_ROOM),
    E_HOLES,
    E_WHY,
)
# The new segment's writer stores the other words of an entry again. Layout 1 has none
# of the counters: they are 0.
_COPIED_COUNTS = (E_GAPS, *range(E_COUNTERS, E_COUNTERS + E_COUNTERS_ROOM))
_EPOCH_LIMIT = COUNT_LIMIT >> SLOT_BITS

log = logging.getLogger(__name__)


class Inspection(NamedTuple):
    """The entries whose closed bars are usable, in order, and a line for each damage.

    A segment without damage can be reused in place.
    """

    usable: list[Entry]
    damage: list[str]


def inspect_segment(words: Words, geometry: Geometry) -> Inspection:
    """Inspect every word of a segment that its next writer relies on."""
    damage = _header_damage(words, geometry)
    found = _candidates(words, geometry)
    slots = entry_words(words, geometry, E_WORD, geometry.max_streams)
    by_slot = Counter(slots[entry.number] for entry in found)
    by_key = Counter(_key(entry) for entry in found)
    usable = []
    for entry in found:
        fault = _describe_entry_damage(words, geometry, entry)
        if by_slot[slots[entry.number]] > 1 or by_key[_key(entry)] > 1:
            fault = fault or "another stream has the same slot or the same key"
        if fault is None:
            usable.append(entry)
            reader = RingReader(words, geometry, entry.number)
            fault = describe_closed_damage(reader, entry.timeframe)
            fault = fault or _describe_values_damage(words, reader, entry)
        if fault is not None:
            damage.append(f"stream {entry.number}: {fault}")
    return Inspection(usable, damage)


def valid_count(value: int) -> int:
    """Return a counter's value, 0 if it is out of range."""
    return value if 0 <= value < COUNT_LIMIT else 0


def valid_moment(value: int) -> int:
    """Return a time of CLOCK_BOOTTIME in ns, 0 if it is out of range."""
    return value if 0 <= value <= boot_ns() + AHEAD_NS else 0


def _candidates(words: Words, geometry: Geometry) -> list[Entry]:
    # All entries; if their count is damaged, those that have a catalog word.
    count = words.ints[H_STREAMS]
    if 0 <= count <= geometry.max_streams:
        return read_entries(words, geometry, range(count))
    slots = entry_words(words, geometry, E_WORD, geometry.max_streams)
    found = (read_entry(words, geometry, n) for n, word in enumerate(slots) if word)
    return [entry for entry in found if entry is not None]


def _header_damage(words: Words, geometry: Geometry) -> list[str]:
    ints = words.ints
    damage = []
    if ints[H_RETIRED]:
        damage.append(f"its word `retired` is {ints[H_RETIRED]}")
    if not 0 <= ints[H_STREAMS] <= geometry.max_streams:
        damage.append(f"it counts {ints[H_STREAMS]} streams")
    count = max(0, min(ints[H_STREAMS], geometry.max_streams))
    epochs = entry_words(words, geometry, E_EPOCH, count)
    if any(epoch != valid_count(epoch) for epoch in epochs):
        damage.append("the epoch of one of its entries is out of range")
    counts = [word for word in _HEADER_COUNTS if word < geometry.header_words]
    if any(ints[word] != valid_count(ints[word]) for word in counts):
        damage.append("one of its counters is out of range")
    taken = slots_taken(words, geometry)
    if not 0 <= taken <= geometry.slots:
        damage.append(f"it counts {taken} slots in use")
        return damage
    limits = (S_EPOCH, _EPOCH_LIMIT), (S_RETIRED, COUNT_LIMIT), (S_RESTED, COUNT_LIMIT)
    for word, limit in limits:
        found = slot_words(words, geometry, word, taken)
        if not 0 <= min(found, default=0) <= max(found, default=0) < limit:
            damage.append(f"word {word} of one of its slots is out of range")
    return damage


def _describe_entry_damage(
    words: Words, geometry: Geometry, entry: Entry
) -> str | None:
    at = geometry.entry_word(entry.number)
    damage = describe_key_damage(entry.symbol, entry.timeframe)
    return damage or describe_slot_damage(words, geometry, words.ints[at + E_WORD])


def _describe_values_damage(
    words: Words, reader: RingReader, entry: Entry
) -> str | None:
    start, size = reader.entry, reader.geometry.entry_words
    values = words.ints[start : start + size].tolist()
    for word in _ENTRY_COUNTS:
        if word < size and not 0 <= values[word] < COUNT_LIMIT:
            return f"word {word} of its entry is {values[word]}"
    for word in (E_SINCE, E_UPDATED):
        value = values[word]
        if value != valid_moment(value):
            return f"word {word} of its entry is {value}, not a time since boot"
    return describe_forming_damage(reader, entry.timeframe)


def migrate(
    old: Mapping,
    new: Mapping,
    catalog: Catalog,
    wanted: Collection[StreamKey],
) -> None:
    """Copy usable streams that are subscribed, and the counters, into a new segment.

    The `wanted` streams are copied first. The log names what does not fit.
    """
    usable = inspect_segment(old.words, old.geometry).usable
    subscribed = [entry for entry in usable if entry.subscribed]
    subscribed.sort(key=lambda entry: _key(entry) not in wanted)
    capacity = new.geometry.max_streams
    dropped = sum(
        _copy_stream(old, new, catalog, entry) for entry in subscribed[:capacity]
    )
    for word in range(H_COUNTERS, H_HISTOGRAM + H_HISTOGRAM_ROOM):
        new.words.ints[word] = valid_count(old.words.ints[word])
    if dropped:
        log.warning(
            "%s is recreated with history %d and drops %s of its streams;"
            " raise history",
            old.words.name,
            new.geometry.history,
            counted(dropped, "older bar"),
        )
    if left := subscribed[capacity:]:
        log.warning(
            "%s is recreated with max_streams %d and drops %d of its streams with their"
            " bars, the first of them %s; raise max_streams",
            old.words.name,
            capacity,
            len(left),
            " ".join(_key(left[0])),
        )


def _copy_stream(old: Mapping, new: Mapping, catalog: Catalog, entry: Entry) -> int:
    """Copy one stream. Return how many bars that readers could ask for are dropped."""
    key = _key(entry)
    reader = RingReader(old.words, old.geometry, entry.number)
    rows = reader.view(new.geometry.history)
    first, last = longest_valid_run(rows, entry.timeframe)
    block = rows.copy().block[:, first:last]
    index = add_copy(catalog, key, rows.first + first, block)
    ints, at = new.words.ints, new.geometry.entry_word(index)
    broken = describe_forming_damage(reader, entry.timeframe)
    forming = None if broken else reader.forming()
    if forming is not None:
        Latch(new.words, at + E_FORMING, FORMING_WORDS).write(ROW.pack(*forming))
    ints[at + E_UPDATED] = valid_moment(reader.updated)
    size = old.geometry.entry_words
    values = old.words.ints[reader.entry : reader.entry + size].tolist()
    for word in _COPIED_COUNTS:
        if word < size:
            ints[at + word] = valid_count(values[word])
    marks = read_holes(old.words, old.geometry, entry.number)
    if marks is not None:
        write_holes(new.words, new.geometry, index, marks)
    return len(reader.view(old.geometry.history)) - len(rows)


def add_copy(
    catalog: Catalog, key: StreamKey, first: int, block: NDArray[np.float64]
) -> int:
    """Add a stream with these rows to a new segment; return its entry number.

    `first` is the number of the first row.
    """
    words, geometry = catalog.words, catalog.geometry
    index = catalog.add(key, boot_ns(), base=first)
    slot = words.ints[geometry.entry_word(index) + E_WORD] & SLOT_MASK
    fill_rows(words, geometry, slot, first, block.view(np.int64))
    start, end = geometry.slot_word(slot), first + block.shape[1]
    words.ints[start + S_INTENT] = words.ints[start + S_PUBLISHED] = end
    return index


def _key(entry: Entry) -> StreamKey:
    return entry.symbol, entry.timeframe
