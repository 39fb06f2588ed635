"""A larger segment for a feed that runs: everything is copied, readers follow.

The one writer copies its own segment, so nothing is checked: the streams, their bars,
forming bars, counters and reasons, and the feed's words. Readers see the old segment
until it is retired, and the new one afterwards. Rows keep their numbers, in new slots
of a higher epoch.
"""

from shmfeed.core import RingReader
from shmfeed.layout import (
    E_EPOCH,
    E_NAMES,
    E_SUBSCRIBED,
    H_CATALOG,
    H_CLOCK_KNOWN,
    H_COUNTERS,
    H_ENTRY_START,
    H_STREAMS,
    H_TAKEN,
    H_WRITER_PID,
    SYMBOL_BYTES,
    TIMEFRAME_BYTES,
    WORD,
    Geometry,
)
from shmfeed.memory.catalog import Catalog
from shmfeed.memory.words import Words, boot_ns
from shmfeed.segment.recovery import add_copy

_E_NAMES_END = E_NAMES + (SYMBOL_BYTES + TIMEFRAME_BYTES) // WORD
assert H_CATALOG < H_CLOCK_KNOWN < H_TAKEN  # noqa: S101 # between the ranges below


def copy_feed(old: Catalog, new: Catalog) -> None:
    """Copy a feed into a new segment of at least as many streams.

    Raises:
        SegmentFullError: /dev/shm has no room for the streams' rows.
    """
    new.slots.prepare(len(old.index))
    for key, number in sorted(old.index.items(), key=lambda pair: pair[1]):
        reader = RingReader(old.words, old.geometry, number)
        rows = reader.view(old.geometry.history)
        add_copy(new, key, rows.first, rows.copy().block)
    for key in old.unsubscribed():
        new.unsubscribe(key, boot_ns())
    for key, number in old.index.items():
        _copy_entry(old, number, new, new.index[key])
    _copy_header(old.words, new.words, new.geometry)


def _copy_entry(old: Catalog, number: int, new: Catalog, index: int) -> None:
    source, target = old.geometry.entry_word(number), new.geometry.entry_word(index)
    ranges = (
        (E_SUBSCRIBED, E_EPOCH),
        (E_EPOCH + 1, E_NAMES),
        (_E_NAMES_END, new.geometry.entry_words),
    )
    for first, end in ranges:
        _copy(old.words, source + first, new.words, target + first, end - first)


def _copy_header(old: Words, new: Words, geometry: Geometry) -> None:
    ranges = (
        (H_WRITER_PID, H_STREAMS),
        (H_COUNTERS, H_ENTRY_START),
        (H_CATALOG + 1, H_TAKEN),
        (H_TAKEN + 1, geometry.header_words),
    )
    for first, end in ranges:
        _copy(old, first, new, first, end - first)


def _copy(old: Words, source: int, new: Words, target: int, count: int) -> None:
    found = old.raw[source * WORD : (source + count) * WORD]
    new.raw[target * WORD : (target + count) * WORD] = found
