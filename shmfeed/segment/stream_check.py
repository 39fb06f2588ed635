"""A look at all of a stream's bars, once, where it is bound: not at each read."""

from contextlib import suppress

from shmfeed.core import RingReader
from shmfeed.errors import BusyRingError
from shmfeed.layout import Geometry
from shmfeed.memory.integrity import bar_damage, damaged, times_damage
from shmfeed.memory.words import Words


def closed_damage(reader: RingReader, timeframe: str) -> str | None:
    """What is wrong with the closed bars' times, None if nothing is.

    A writer that outruns the look leaves no verdict.
    """
    with suppress(BusyRingError):
        rows = reader.view(reader.geometry.history)
        what = times_damage(rows, timeframe)
        if rows.valid:
            return what
    return None


def forming_damage(reader: RingReader, timeframe: str) -> str | None:
    """What is wrong with the forming bar's times, None if nothing is."""
    bar = reader.forming_cell()
    return None if bar is None else bar_damage(bar, timeframe)


def sound_reader(
    words: Words, geometry: Geometry, index: int, names: tuple[str, str]
) -> RingReader:
    """The reader of entry `index`, looked at once: SegmentFormatError if its slot, or
    the times of its bars, are what no feeder can have written."""
    reader = RingReader(words, geometry, index)
    what = closed_damage(reader, names[1]) or forming_damage(reader, names[1])
    if what is not None:
        raise damaged(words, f"of {' '.join(names)} {what}")
    return reader
