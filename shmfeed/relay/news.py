"""News of a leader, as a follower's session hands them to its feeder."""

from dataclasses import dataclass, field

import numpy as np

from shmfeed.layout import NO_BAR
from shmfeed.relay.flush import NO_ROWS, Head, RowsOfStreams, StreamMarks
from shmfeed.wire.events import Delivery, Streams


@dataclass(frozen=True, slots=True)
class LeaderNews(Delivery):
    """Rows, forming bars and marks of a leader, as of one moment of this host.

    Attributes:
        epoch: The leader's epoch.
        streams: The leader's streams by number.
        made_at: When the leader told it, or earlier: CLOCK_BOOTTIME ns. The ages of
            marks count back from here.
        heard_at: When the link brought it: CLOCK_BOOTTIME ns.
        closed, forming: Rows, as in a flush.
        whole: Streams of which `closed` has all rows.
        marks: The marks that have changed.
        head: The head, if it has changed.
        sent: The leader's wall clock at `made_at`, ms UTC; 0 if it is not known.
    """

    epoch: int
    streams: Streams
    made_at: int
    heard_at: int
    closed: RowsOfStreams = NO_ROWS
    forming: RowsOfStreams = NO_ROWS
    whole: tuple[int, ...] = ()
    marks: dict[int, StreamMarks] = field(default_factory=dict)
    head: Head | None = None
    sent: int = 0


def with_absent(forming: RowsOfStreams, streams: int) -> RowsOfStreams:
    """Return the forming bars of so many streams; those without one have `NO_BAR`."""
    absent = np.setdiff1d(np.arange(streams, dtype=np.int64), forming.numbers)
    nothing = np.zeros((len(forming.block), len(absent)))
    nothing.view(np.int64)[:2] = NO_BAR
    numbers = np.concatenate([forming.numbers, absent])
    block = np.concatenate([forming.block, nothing], axis=1)
    order = np.argsort(numbers, kind="stable")
    return RowsOfStreams(numbers[order], np.ascontiguousarray(block[:, order]))
