"""A flush: the changes that a leader sends to the followers of a feed in one step.

Rows are blocks: float64 (9, n), the columns of `layout.COLUMNS`, as in the ring. Of a
stream a flush says only what has changed since the one before. Moments travel as ages,
in ms before `Flush.sent`, so that no host has to trust the clock of another.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import StreamKey
from shmfeed.identity import FeedIdentity
from shmfeed.layout import COLUMNS, Reason, State
from shmfeed.memory.holes import HoleRecord

NEVER = -1  # an age: it has not happened


class StreamMarks(NamedTuple):
    """The leader's marks of a stream, from which readers tell its health.

    Attributes:
        subscribed: False after the unsubscription.
        since: Age of the last (un)subscription.
        updated: Age of the last append or forming update.
        away: Age of the connection's loss, NEVER while one carries the stream.
        back: Age of the connection's return.
        compared: Age of the last comparison with history, NEVER if silences are not
            compared, 0 before the first one (`is_uncompared` tells).
        is_uncompared: True while the first comparison is due.
        silence: ms without an update after which the stream is stale, 0: the default.
        recovering: True while newer bars are held back.
        reason, why: As `FeedMarks.explain` takes them.
        holes: As `FeedMarks.set_holes` takes them.
    """

    subscribed: bool = True
    since: int = NEVER
    updated: int = NEVER
    away: int = NEVER
    back: int = NEVER
    compared: int = NEVER
    is_uncompared: bool = False
    silence: int = 0
    recovering: bool = False
    reason: Reason = ""
    why: str = ""
    holes: tuple[HoleRecord, ...] = ()


class RowsOfStreams(NamedTuple):
    """Rows of several streams, sorted by stream and open time.

    Attributes:
        numbers: int64 (n,), each row's stream: its place in `Catalog.streams`.
        block: float64 (9, n).
    """

    numbers: NDArray[np.int64]
    block: NDArray[np.float64]


NO_ROWS = RowsOfStreams(np.empty(0, np.int64), np.empty((len(COLUMNS), 0)))


class Catalog(NamedTuple):
    """The streams of a feed. A stream keeps its number for the life of an epoch.

    Attributes:
        streams: The streams by number, unsubscribed ones among them.
        history: Rows that a ring of the leader holds, and each ring of the engine.
    """

    streams: tuple[StreamKey, ...]
    history: int


def carried_streams(
    catalog: Catalog, marks: Mapping[int, StreamMarks]
) -> tuple[StreamKey, ...]:
    """Return the streams of a catalog that are not unsubscribed, in its order."""
    return tuple(
        key
        for number, key in enumerate(catalog.streams)
        if number not in marks or marks[number].subscribed
    )


class Head(NamedTuple):
    """The leader and its feed as a whole.

    Attributes:
        identity: Where the rows come from.
        leader: host:pid.
        since: When it became the leader, ms UTC by its clock.
        state: The feed's state; `disconnected` once its feeder is dead.
        last_error: The feed's last error, "" for none.
        clock_offset: The venue's clock minus the leader's in ms, None: not known.
        message_age: Age of the last message of the venue.
    """

    identity: FeedIdentity
    leader: str
    since: int
    state: State
    last_error: str = ""
    clock_offset: float | None = None
    message_age: int = NEVER


class Flush(NamedTuple):
    """The changes of a feed since the flush before.

    Attributes:
        sent: The leader's wall clock when the flush was made, ms UTC; it measures the
            difference of clocks and nothing else.
        closed: Closed rows, new, revised or filled in later.
        forming: The newest forming bar of each stream that has another one. One that
            opens at `layout.NO_BAR` says that the stream's bar was taken back.
        whole: Streams of which `closed` has all rows; others that were there are gone.
        marks: By stream number, those that have changed.
        catalog: The streams, if they have changed.
        head: If it has changed.
        is_whole: True for a flush that does not build on the one before: the first of
            an epoch, and of a connection. All streams are `whole` then, and their
            marks, the catalog and the head are there.
        read_at: When the ages were taken, or before, in seconds of the leader's
            CLOCK_BOOTTIME; 0: at the write. It stays on the leader's host.
    """

    sent: int
    closed: RowsOfStreams = NO_ROWS
    forming: RowsOfStreams = NO_ROWS
    whole: tuple[int, ...] = ()
    marks: dict[int, StreamMarks] = {}  # noqa: RUF012 # never changed
    catalog: Catalog | None = None
    head: Head | None = None
    is_whole: bool = False
    read_at: float = 0.0
