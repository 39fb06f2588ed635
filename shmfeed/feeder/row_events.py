"""Events about rows: what a repair is needed for, what it did, what a store keeps."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from shmfeed.bar import Bar, StreamKey


class HoleFound(NamedTuple):
    """Bars are missing before a row. Open times in ms UTC, both included."""

    key: StreamKey
    first: int
    last: int
    missing: int


class UnconfirmedFound(NamedTuple):
    """A row's last values are not known to be final."""

    key: StreamKey
    open_time: int


class RevisionFound(NamedTuple):
    """A closing message of the venue differs from a row, which was replaced."""

    key: StreamKey
    old: Bar
    new: Bar


class DisagreementFound(NamedTuple):
    """Closing messages differ; the row stands as it is until history tells.

    Those of two lines do, or one differs from a row that history has corrected.
    """

    key: StreamKey
    open_time: int


Found = HoleFound | UnconfirmedFound | RevisionFound | DisagreementFound


class DueBars(NamedTuple):
    """Closed bars that by the venue's clock should be there and are not.

    Attributes:
        key: The stream.
        first, last: Open times in ms UTC of the missing bars, both included.
        late: Seconds since the close of the first of them, by the venue's clock.
        silent: Seconds since the last message about the stream.
    """

    key: StreamKey
    first: int
    last: int
    late: float
    silent: float


# The purpose of an answer: new rows of a poll are `polled`, all others `backfilled`.
HistoryUse = Literal["warmup", "repair", "poll"]


class HistoryEffect(NamedTuple):
    """The changes that an answer of history made to a stream's rows.

    Attributes:
        appended: Rows that came after the ring's last.
        filled: Rows that filled holes.
        prepended: Rows before the ring's first.
        corrected: Rows whose values were replaced.
        confirmed: Rows that are known to be final now.
        disbelieved: The reason if nothing was taken, "" if the history was believed.
        missing: Bars of the range that neither ring nor history has.
        unsettled: Rows that differ, and that history may correct only later: a closing
            message ended them less than `rest_settle` before it was asked.
        failed: The reason if rows could not be changed for want of memory; ask again.
    """

    appended: int = 0
    filled: int = 0
    prepended: int = 0
    corrected: int = 0
    confirmed: int = 0
    disbelieved: str = ""
    missing: int = 0
    unsettled: int = 0
    failed: str = ""


# Why a version of a row was written.
Cause = Literal[
    "closed",  # by a message, the next bar, or the clock
    "replayed",  # the same, of a bar that was over before its stream was connected
    "backfilled",  # by history
    "polled",  # by REST while the socket was silent
    "revised",  # other values took the place of those published
    "confirmed",  # a flag changed, or the values were found to be final
    "doubted",
    "cut",  # it is no row any more: it began after the venue's clock
]


class RowVersion(NamedTuple):
    """One version of a closed bar.

    Attributes:
        key: The stream.
        bar: The row, with its flags.
        received: When its last message, or the answer, arrived: ns UTC of this host.
        published: When readers could see it: ns UTC of this host.
        cause: The reason for this version.
    """

    key: StreamKey
    bar: Bar
    received: int
    published: int
    cause: Cause


# A row for the store: its stream, the row, CLOCK_BOOTTIME seconds of its last message
# (-inf if unknown), and why it was written.
RecordedRow = tuple[StreamKey, Bar, float, Cause]


class RowRecorder(Protocol):
    """A recorder of every version of each closed bar."""

    def record(self, rows: Sequence[RecordedRow], now: float, published: int) -> None:
        """Keep versions of rows, in order. It never waits, and never raises.

        Readers could see them at `published`, ns UTC of this host, which is `now` in
        CLOCK_BOOTTIME seconds. The caller leaves `rows` alone afterwards.
        """
        ...
