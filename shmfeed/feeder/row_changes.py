"""Changes of rows that are in a ring already: a flag changed, the future cut off."""

import logging

import numpy as np

from shmfeed.bar import UNCONFIRMED, StreamKey
from shmfeed.core import RingReader
from shmfeed.errors import SegmentFullError
from shmfeed.layout import C_FLAGS
from shmfeed.text import counted
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)


def mark_confirmed(
    writer: FeedWriter,
    key: StreamKey,
    reader: RingReader,
    open_time: int,
    is_confirmed: bool,
) -> None:
    """Take the flag `unconfirmed` from the row at `open_time`, or give it one."""
    rows = reader.snapshot(writer.geometry.history)
    place = int(np.searchsorted(rows.open_time, open_time))
    if place == len(rows) or rows.open_time[place] != open_time:
        return
    block = rows.block
    flags = block[C_FLAGS].view(np.int64)
    if is_confirmed:
        flags[place] &= ~UNCONFIRMED
    else:
        flags[place] |= UNCONFIRMED
    try:
        writer.replace_rows(*key, block)
    except SegmentFullError as error:
        log.warning("cannot change a flag of a bar of %s %s: %s", *key, error)


def cut_future(
    writer: FeedWriter, key: StreamKey, latest: int, venue_now: int
) -> str | None:
    """Drop a stream's bars that open after `latest`. Return the logged text.

    Return None if there is no memory for a copy of the stream without them.
    """
    try:
        cut = writer.cut_rows(*key, latest + 1)
    except SegmentFullError as error:
        log.warning("cannot cut off the future of %s %s: %s", *key, error)
        return None
    said = (
        f"{key[0]} {key[1]} had {counted(cut, 'bar')} from the future, now cut off:"
        f" bars open after {latest}, and the venue's clock is at {venue_now}"
    )
    log.warning(said)
    return said
