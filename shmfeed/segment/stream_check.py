"""Check of a stream's bars when a reader is bound to it, not at each read."""

from contextlib import suppress

from shmfeed.bar import StreamKey
from shmfeed.core import RingReader
from shmfeed.errors import BusyRingError
from shmfeed.memory.catalog import read_entry
from shmfeed.memory.integrity import (
    damaged,
    describe_bar_damage,
    describe_times_damage,
    not_carried,
)


def describe_closed_damage(reader: RingReader, timeframe: str) -> str | None:
    """Return the damage of the closed bars' times, or None.

    None also if a writer outruns the check.
    """
    with suppress(BusyRingError):
        rows = reader.view(reader.geometry.history)
        damage = describe_times_damage(rows, timeframe)
        if rows.valid:
            return damage
    return None


def describe_forming_damage(reader: RingReader, timeframe: str) -> str | None:
    """Return the damage of the forming bar's times, or None."""
    bar = reader.forming_cell()
    return None if bar is None else describe_bar_damage(bar, timeframe)


def check_reader(reader: RingReader, key: StreamKey) -> RingReader:
    """Return the reader of the stream `key`.

    Raises SegmentFormatError if the times of its bars are damaged, StreamNotFoundError
    if the entry was given to another stream.
    """
    entry = read_entry(reader.words, reader.geometry, reader.index)
    reader.check_carried()
    if entry is None or entry.key != key:
        raise not_carried(reader.words)
    damage = describe_closed_damage(reader, key[1])
    damage = damage or describe_forming_damage(reader, key[1])
    if damage is not None:
        raise damaged(reader.words, f"{' '.join(key)}: {damage}")
    return reader
