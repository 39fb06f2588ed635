"""The venue's clock as readers see it, and the bars that it says have closed."""

import time

from shmfeed.bar import floor, grid_steps
from shmfeed.core import RingReader
from shmfeed.layout import E_SINCE, H_CLOCK_KNOWN, H_CLOCK_OFFSET
from shmfeed.memory.words import boot_ns

_MS = 1_000_000


def venue_time(reader: RingReader, moment: int) -> int:
    """Return the venue's time at a moment of CLOCK_BOOTTIME, in ms UTC.

    Where the venue has not told its time, this host's clock serves.
    """
    offset = reader.words.ints[H_CLOCK_OFFSET] if is_venue_time_known(reader) else 0
    now: int = time.time_ns() - (boot_ns() - moment) + offset
    return now // _MS


def venue_now(reader: RingReader) -> int:
    """Return the venue's time, in ms UTC."""
    return venue_time(reader, boot_ns())


def is_venue_time_known(reader: RingReader) -> bool:
    """Return True if the venue has told its time."""
    return reader.geometry.version > 1 and bool(reader.words.ints[H_CLOCK_KNOWN])


def bars_due(reader: RingReader, timeframe: str, newest: int, moment: int) -> int:
    """Return how many bars had closed at a moment after the stream's newest one.

    Args:
        newest: Close time of the newest bar; 0 if the stream had none: the bars that
            have closed since its subscription count then.
        moment: ns of CLOCK_BOOTTIME.
    """
    now = venue_time(reader, moment)
    if not newest:
        since: int = reader.words.ints[reader.entry + E_SINCE]
        newest = floor(venue_time(reader, since), timeframe) if since else now
    return max(0, grid_steps(newest, now, timeframe))
