"""A writer that was killed, as its segment shows it."""

from contextlib import suppress

from shmfeed.errors import ShmfeedError
from shmfeed.layout import H_ALIVE, H_WRITER_PID
from shmfeed.segment.mapping import open_segment, place


def killed_writer(feed: str) -> int:
    """Return the pid of a feed's last writer if it did not end by itself, else 0.

    The last writer must have gone: one that lives has not ended either.
    """
    with suppress(ShmfeedError):  # no segment, or a damaged one
        ints = open_segment(place(feed)).words.ints
        if ints[H_ALIVE]:  # a writer that ends stores 0
            return int(ints[H_WRITER_PID])
    return 0
