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

from shmfeed.bar import StreamKey
from shmfeed.core import RingReader, RingWriter
from shmfeed.layout import (
    AHEAD_NS,
    COUNT_LIMIT,
    COUNTERS,
    E_FORMING,
    E_GAPS,
    E_SINCE,
    E_UPDATED,
    E_WORD,
    H_COUNTERS,
    H_NOTE,
    H_RETIRED,
    H_STREAMS,
    H_WRITER_EPOCH,
    S_EPOCH,
    SLOT_BITS,
    Geometry,
)
from shmfeed.memory.catalog import Catalog, Entry, catalog_words, read_entry
from shmfeed.memory.integrity import (
    describe_key_damage,
    describe_slot_damage,
    longest_valid_run,
)
from shmfeed.memory.right import Right
from shmfeed.memory.words import Words, boot_ns
from shmfeed.segment.mapping import Mapping
from shmfeed.segment.stream_check import describe_closed_damage, describe_forming_damage
from shmfeed.text import counted

# Counters that a writer increments. One near the end of int64 would overflow.
_HEADER_COUNTS = (
    H_WRITER_EPOCH,
    H_NOTE,
    *range(H_COUNTERS, H_COUNTERS + len(COUNTERS)),
)
_ENTRY_COUNTS = (E_GAPS, E_FORMING)
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
    slots = catalog_words(words, geometry, geometry.max_streams)
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
        return [read_entry(words, geometry, index) for index in range(count)]
    slots = catalog_words(words, geometry, geometry.max_streams)
    used = [index for index, word in enumerate(slots) if word]
    return [read_entry(words, geometry, index) for index in used]


def _header_damage(words: Words, geometry: Geometry) -> list[str]:
    ints = words.ints
    damage = []
    if ints[H_RETIRED]:
        damage.append(f"its word `retired` is {ints[H_RETIRED]}")
    if not 0 <= ints[H_STREAMS] <= geometry.max_streams:
        damage.append(f"it counts {ints[H_STREAMS]} streams")
    if any(ints[word] != valid_count(ints[word]) for word in _HEADER_COUNTS):
        damage.append("one of its counters is out of range")
    start, end = geometry.slot_word(0), geometry.slot_word(geometry.slots)
    epochs = ints[start + S_EPOCH : end : geometry.slot_words].tolist()
    if not 0 <= min(epochs) <= max(epochs) < _EPOCH_LIMIT:
        damage.append("the epoch of one of its slots is out of range")
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
    at = reader.entry
    for word in _ENTRY_COUNTS:
        value = words.ints[at + word]
        if value != valid_count(value):
            return f"word {word} of its entry is {value}"
    for word in (E_SINCE, E_UPDATED):
        value = words.ints[at + word]
        if value != valid_moment(value):
            return f"word {word} of its entry is {value}, not a time since boot"
    return describe_forming_damage(reader, entry.timeframe)


def migrate(
    old: Mapping,
    new: Mapping,
    catalog: Catalog,
    wanted: Collection[StreamKey],
    right: Right,
) -> None:
    """Copy usable streams that are subscribed, and the counters, into a new segment.

    `right` is the right to write the new one. The `wanted` streams are copied first.
    The log names what does not fit.
    """
    usable = inspect_segment(old.words, old.geometry).usable
    subscribed = [entry for entry in usable if entry.subscribed]
    subscribed.sort(key=lambda entry: _key(entry) not in wanted)
    capacity = new.geometry.max_streams
    dropped = sum(
        _copy_stream(old, new, catalog, entry, right) for entry in subscribed[:capacity]
    )
    for word in range(H_COUNTERS, H_COUNTERS + len(COUNTERS)):
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


def _copy_stream(
    old: Mapping, new: Mapping, catalog: Catalog, entry: Entry, right: Right
) -> int:
    """Copy one stream. Return how many bars that readers could ask for are dropped."""
    key = _key(entry)
    reader = RingReader(old.words, old.geometry, entry.number)
    rows = reader.view(new.geometry.history)
    first, last = longest_valid_run(rows, entry.timeframe)
    index = catalog.add(key, boot_ns(), base=rows.first + first)
    writer = RingWriter(new.words, new.geometry, index, key, _wake_no_reader, right)
    broken = describe_forming_damage(reader, entry.timeframe)
    for row in range(first, last):
        bar = rows.bar(row)
        writer.append(bar.open_time, *bar[2:], wake=False)
    forming = None if broken else reader.forming()
    if forming is not None:
        writer.update_forming(forming.open_time, *forming[2:])
    ints, at = new.words.ints, new.geometry.entry_word(index)
    ints[at + E_UPDATED] = valid_moment(reader.updated)
    ints[at + E_GAPS] = valid_count(old.words.ints[reader.entry + E_GAPS])
    return len(reader.view(old.geometry.history)) - len(rows)


def _key(entry: Entry) -> StreamKey:
    return entry.symbol, entry.timeframe


def _wake_no_reader(index: int) -> None:
    """Readers are woken when the new segment is published."""
