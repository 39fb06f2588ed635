"""Changes of rows that are in a ring already: by a message, and the future cut off.

Rows never change in place: the changes of a stream are gathered, and one swap puts them
in force together.
"""

import logging
from typing import Literal, NamedTuple

import numpy as np

from shmfeed.bar import BACKFILLED, CLOSED_BY_VENUE, UNCONFIRMED, Bar, StreamKey
from shmfeed.codecs.interface import BarEvent
from shmfeed.core import RingReader
from shmfeed.errors import SegmentFullError
from shmfeed.feeder.bar_check import same_values
from shmfeed.feeder.closed_rows import revised
from shmfeed.memory.rows import ROW
from shmfeed.text import counted
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

ChangeKind = Literal["confirmed", "doubted", "revised", "past"]


class RowChange(NamedTuple):
    """A change that waits for its swap.

    `confirmed` and `doubted` change a flag, `revised` the values to those of `bar`. A
    `past` one is a closing message for a row that the ledger does not know, as in
    PastFinal: whether it revises the row is told by the ring.
    """

    kind: ChangeKind
    open_time: int
    bar: Bar | None = None
    event: BarEvent | None = None
    is_other_line: bool = False
    is_new: bool = False

    def may_revise(self, row: Bar) -> bool:
        """Return True if the message revises a row whose values differ.

        Of a row that history has corrected, a message may repeat the final that was
        corrected. Where that final is not known, history is asked.
        """
        if self.kind != "past":
            return True
        if self.is_other_line and row.flags & CLOSED_BY_VENUE:
            return False
        corrected = BACKFILLED | CLOSED_BY_VENUE
        return self.is_new or row.flags & corrected != corrected


class RowChanged(NamedTuple):
    """The outcome of a change: the row before and after, None without such a row."""

    change: RowChange
    old: Bar | None
    new: Bar | None


def apply_changes(
    writer: FeedWriter, key: StreamKey, reader: RingReader, changes: list[RowChange]
) -> list[RowChanged]:
    """Make these changes of a stream in one step; return the outcome of each.

    Raises SegmentFullError if there is no memory for it. Nothing is changed then.
    """
    rows = reader.snapshot(writer.geometry.history)
    done: list[RowChanged] = []
    must_swap = False
    for change in changes:
        place = int(np.searchsorted(rows.open_time, change.open_time))
        if place == len(rows) or rows.open_time[place] != change.open_time:
            done.append(RowChanged(change, None, None))
            continue
        old = rows.bar(place)
        new = _changed(old, change)
        done.append(RowChanged(change, old, new))
        if new != old:
            rows.block[:, place] = np.frombuffer(ROW.pack(*new))
            must_swap = True
    if must_swap:
        writer.replace_rows(*key, rows.block)
    return done


def _changed(row: Bar, change: RowChange) -> Bar:
    bar, event = change.bar, change.event
    if bar is not None and event is not None and not same_values(row, bar):
        return revised(row, bar, event.closed) if change.may_revise(row) else row
    if change.kind == "doubted":
        return row._replace(flags=row.flags | UNCONFIRMED)
    return row._replace(flags=row.flags & ~UNCONFIRMED)


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
