"""What a segment takes over from the one it replaces: bars, their age, counters."""

import logging
from collections.abc import Collection

from shmfeed.layout import COUNTERS, E_GAPS, E_UPDATED, H_COUNTERS
from shmfeed.memory.catalog import Catalog, Entry, Names
from shmfeed.memory.core import RingReader, RingWriter
from shmfeed.memory.damage import sound_run
from shmfeed.memory.segment import Mapping
from shmfeed.memory.sound import forming_damage
from shmfeed.memory.survey import kept_count, kept_moment, survey
from shmfeed.memory.words import boot_ns

log = logging.getLogger(__name__)


def carry_over(
    old: Mapping, new: Mapping, catalog: Catalog, wanted: Collection[Names]
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


def _names(entry: Entry) -> Names:
    return entry.symbol, entry.timeframe


def _wake_nobody(index: int) -> None:
    """Whoever waits is woken when the new segment is published."""
