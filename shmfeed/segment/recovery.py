"""A look at a whole segment by the one who is to write it: what of it can be kept.

Nobody writes it meanwhile. What is damaged is named; bars are kept of each stream
whose names and slot are sound, whatever has become of the words around them: all of
them, or the longest run of those whose times can be.

What a segment takes over from the one it replaces: bars, their age, counters.
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
from shmfeed.memory.integrity import names_damage, slot_damage, sound_run
from shmfeed.memory.words import Words, boot_ns
from shmfeed.segment.mapping import Mapping
from shmfeed.segment.stream_check import closed_damage, forming_damage

# Words that are counted up: one near the end of an int64 would stop its writer.
_COUNTED = (
    H_WRITER_EPOCH,
    H_NOTE,
    *range(H_COUNTERS, H_COUNTERS + len(COUNTERS)),
)
_ENTRY_COUNTED = (E_GAPS, E_FORMING)
_EPOCH_LIMIT = COUNT_LIMIT >> SLOT_BITS


class Survey(NamedTuple):
    """The entries whose bars can be kept, in order, and all that is wrong."""

    sound: list[Entry]
    damage: list[str]


def survey(words: Words, geometry: Geometry) -> Survey:
    """What of a segment can be kept; it has no damage if it serves as it is."""
    damage = _header_damage(words, geometry)
    found = _candidates(words, geometry)
    marks = catalog_words(words, geometry, geometry.max_streams)
    twice = Counter(marks[entry.number] for entry in found)
    named = Counter((entry.symbol, entry.timeframe) for entry in found)
    sound = []
    for entry in found:
        what = _rows_damage(words, geometry, entry)
        if twice[marks[entry.number]] > 1 or named[entry.symbol, entry.timeframe] > 1:
            what = what or "another has the same slot or the same names"
        if what is None:
            sound.append(entry)
            reader = RingReader(words, geometry, entry.number)
            what = closed_damage(reader, entry.timeframe) or _small_damage(
                words, reader, entry
            )
        if what is not None:
            damage.append(f"stream {entry.number}: {what}")
    return Survey(sound, damage)


def kept_count(value: int) -> int:
    """A counter's value, 0 where it cannot be."""
    return value if 0 <= value < COUNT_LIMIT else 0


def kept_moment(value: int) -> int:
    """A CLOCK_BOOTTIME in ns, 0 of one that cannot be."""
    return value if 0 <= value <= boot_ns() + AHEAD_NS else 0


def _candidates(words: Words, geometry: Geometry) -> list[Entry]:
    """The entries that are counted; all that were begun, if the count cannot be."""
    count = words.ints[H_STREAMS]
    if 0 <= count <= geometry.max_streams:
        return [read_entry(words, geometry, index) for index in range(count)]
    marks = catalog_words(words, geometry, geometry.max_streams)
    begun = [index for index, mark in enumerate(marks) if mark]
    return [read_entry(words, geometry, index) for index in begun]


def _header_damage(words: Words, geometry: Geometry) -> list[str]:
    ints = words.ints
    damage = []
    if ints[H_RETIRED]:
        damage.append(f"its word `retired` is {ints[H_RETIRED]}")
    if not 0 <= ints[H_STREAMS] <= geometry.max_streams:
        damage.append(f"it counts {ints[H_STREAMS]} streams")
    if any(ints[word] != kept_count(ints[word]) for word in _COUNTED):
        damage.append("one of its counters is out of range")
    start, end = geometry.slot_word(0), geometry.slot_word(geometry.slots)
    epochs = ints[start + S_EPOCH : end : geometry.slot_words].tolist()
    if not 0 <= min(epochs) <= max(epochs) < _EPOCH_LIMIT:
        damage.append("the epoch of one of its slots is out of range")
    return damage


def _rows_damage(words: Words, geometry: Geometry, entry: Entry) -> str | None:
    """Why the closed bars of a stream cannot be kept, None if they can."""
    at = geometry.entry_word(entry.number)
    what = names_damage(entry.symbol, entry.timeframe)
    return what or slot_damage(words, geometry, words.ints[at + E_WORD])


def _small_damage(words: Words, reader: RingReader, entry: Entry) -> str | None:
    at = reader.entry
    for word in _ENTRY_COUNTED:
        value = words.ints[at + word]
        if value != kept_count(value):
            return f"word {word} of its entry is {value}"
    for word in (E_SINCE, E_UPDATED):
        value = words.ints[at + word]
        if value != kept_moment(value):
            return f"word {word} of its entry says {value} ns since the boot"
    return forming_damage(reader, entry.timeframe)


log = logging.getLogger(__name__)


def carry_over(
    old: Mapping, new: Mapping, catalog: Catalog, wanted: Collection[StreamKey]
) -> None:
    """Copy what is subscribed and sound, with its numbers; what is `wanted` first.

    The log tells of streams that the new segment has no room for.
    """
    subscribed = [e for e in survey(old.words, old.geometry).sound if e.subscribed]
    subscribed.sort(key=lambda entry: _names(entry) not in wanted)
    room = new.geometry.max_streams
    lost = sum(_copy_stream(old, new, catalog, entry) for entry in subscribed[:room])
    if lost:
        log.warning(
            "%s is made anew, history %d: %d older bars of its streams are left out;"
            " raise history",
            old.words.name,
            new.geometry.history,
            lost,
        )
    for word in range(H_COUNTERS, H_COUNTERS + len(COUNTERS)):
        new.words.ints[word] = kept_count(old.words.ints[word])
    if left := subscribed[room:]:
        log.warning(
            "%s is made anew, max_streams %d: %d streams that it carried are left out"
            " with their bars, the first of them %s; raise max_streams",
            old.words.name,
            room,
            len(left),
            " ".join(_names(left[0])),
        )


def _copy_stream(old: Mapping, new: Mapping, catalog: Catalog, entry: Entry) -> int:
    """How many bars that could be asked for have no room."""
    names = _names(entry)
    reader = RingReader(old.words, old.geometry, entry.number)
    rows = reader.view(new.geometry.history)
    first, last = sound_run(rows, entry.timeframe)
    index = catalog.add(names, boot_ns(), base=rows.first + first)
    writer = RingWriter(new.words, new.geometry, index, names, _wake_nobody)
    broken = forming_damage(reader, entry.timeframe)
    for row in range(first, last):
        bar = rows.bar(row)
        writer.append(bar.open_time, *bar[2:], wake=False)
    forming = None if broken else reader.forming()
    if forming is not None:
        writer.update_forming(forming.open_time, *forming[2:])
    ints, at = new.words.ints, new.geometry.entry_word(index)
    ints[at + E_UPDATED] = kept_moment(reader.updated)
    ints[at + E_GAPS] = kept_count(old.words.ints[reader.entry + E_GAPS])
    return len(reader.view(old.geometry.history)) - len(rows)


def _names(entry: Entry) -> StreamKey:
    return entry.symbol, entry.timeframe


def _wake_nobody(index: int) -> None:
    """Whoever waits is woken when the new segment is published."""
