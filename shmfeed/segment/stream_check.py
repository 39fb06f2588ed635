"""Check of a stream's bars when a reader is bound to it, not at each read."""

from contextlib import suppress

from shmfeed.bar import StreamKey
from shmfeed.core import RingReader
from shmfeed.errors import BusyRingError
from shmfeed.layout import Geometry
from shmfeed.memory.integrity import bar_damage, damaged, times_damage
from shmfeed.memory.words import Words


def closed_damage(reader: RingReader, timeframe: str) -> str | None:
    """Return what is wrong with the times of the closed bars, or None.

    Also None if a writer outruns the check.
    """
    with suppress(BusyRingError):
        rows = reader.view(reader.geometry.history)
        what = times_damage(rows, timeframe)
        if rows.valid:
            return what
    return None


def forming_damage(reader: RingReader, timeframe: str) -> str | None:
    """Return what is wrong with the times of the forming bar, or None."""
    bar = reader.forming_cell()
    return None if bar is None else bar_damage(bar, timeframe)


def checked_reader(
    words: Words, geometry: Geometry, index: int, key: StreamKey
) -> RingReader:
    """Return a reader of catalog entry `index`, whose stream is `key`.

    Raises SegmentFormatError if its slot or the times of its bars are damaged.
    """
    reader = RingReader(words, geometry, index)
    what = closed_damage(reader, key[1]) or forming_damage(reader, key[1])
    if what is not None:
        raise damaged(words, f"of {' '.join(key)} {what}")
    return reader
