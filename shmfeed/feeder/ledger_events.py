"""The events of a stream's ledger: what a message, or time, changes."""

from math import inf
from typing import Literal, NamedTuple

from shmfeed.bar import Bar
from shmfeed.codecs.interface import BarEvent


class CarriedLedger(NamedTuple):
    """The knowledge of a ledger beside its rows, for that of the next feeder.

    Attributes:
        is_doubtful: Messages about the forming bar may be lost.
        stamp: The newest event time about the forming bar, ms UTC, 0 without one.
        is_flagged: The last message about the forming bar had a flag.
        is_ahead: The clock closes bars by its stricter rule.
        held: The last messages about the bars that wait, oldest bar first.
    """

    is_doubtful: bool = True
    stamp: int = 0
    is_flagged: bool = True
    is_ahead: bool = False
    held: tuple[BarEvent, ...] = ()


class RowWrite(NamedTuple):
    """A write to the ring: `bar` as a row if `closed`, else as the forming bar.

    The flags of a row tell what closed it; those of a forming bar are 0. `missing` is
    the number of bars missing in front of a row, and `expected` the open time of the
    first of them. `heard` is when the last message about a row's bar came, seconds.
    """

    closed: bool
    bar: Bar
    missing: int = 0
    expected: int = 0
    heard: float = -inf


class Anomaly(NamedTuple):
    """A message that changes no row, counted under `kind`.

    `malformed`: its values or times cannot be a bar's; `reason` says why. `ahead`: it
    begins too far ahead of the venue's clock. `late`: it is about the past.
    `duplicates`: it repeats the values of a final bar, or `is_older` than the last
    update of the forming one. `revisions`: it has other values for a bar that is held.
    `disagreements`: the final message of another line has.
    """

    kind: Literal[
        "malformed", "ahead", "late", "duplicates", "revisions", "disagreements"
    ]
    event: BarEvent
    reason: str = ""
    is_older: bool = False


class PastFinal(NamedTuple):
    """A closing message for a bar that is older than the rows the ledger knows.

    `is_other_line` says that another line's message ended the row. `is_new` says that
    history has corrected the row, and that this is not the final that it corrected.
    """

    bar: Bar
    event: BarEvent
    is_other_line: bool = False
    is_new: bool = False


class RowRevised(NamedTuple):
    """A message has other values for a row, which `bar` replaces."""

    bar: Bar
    event: BarEvent


class RowProven(NamedTuple):
    """The row that opens at `open_time` has its final values.

    Trade numbers say so, or its closing message, which came late.
    """

    open_time: int


class RowDoubted(NamedTuple):
    """The row that opens at `open_time` may lack its last update.

    The clock had ended it while messages about it were being lost, or before the last
    of them came.
    """

    open_time: int


class HistoryAwaited(NamedTuple):
    """Newer bars are held until history tells of older ones.

    `lacking` is the open time of a bar that lacks its end, -1 if none does. `missing`
    bars are missing between `first` and `last`, open times both, 0 bars if none are.
    """

    lacking: int
    first: int = 0
    last: int = 0
    missing: int = 0


class RecoveringChanged(NamedTuple):
    """The stream starts or stops holding newer bars; meanwhile it is recovering."""

    is_recovering: bool


LedgerEvent = (
    RowWrite
    | Anomaly
    | PastFinal
    | RowRevised
    | RowProven
    | RowDoubted
    | HistoryAwaited
    | RecoveringChanged
)
