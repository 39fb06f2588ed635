"""Holes: bars that are missing between a stream's rows, and what is known of each.

The rows show which bars are missing. The stream's entry has a latch of marks, in which
the feeder says what became of its attempts to fill each hole. A reader takes the holes
from the rows, so that a mark that is old, damaged or merged with others can neither
make up a hole nor hide one.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import bars_between, close_time, previous_open, step
from shmfeed.errors import BadArgumentError
from shmfeed.layout import (
    E_HOLES,
    HOLE_REASONS,
    HOLE_STATES,
    HOLE_WORDS,
    HOLES,
    TIME_LIMIT,
    WORD,
    Geometry,
    HoleReason,
    HoleState,
)
from shmfeed.memory.words import Latch, Words
from shmfeed.validation import check_choice

_CELL_WORDS = 1 + HOLES * HOLE_WORDS


class Gap(NamedTuple):
    """Bars that are missing between two rows. Open times in ms UTC, both included."""

    first: int
    last: int
    missing: int


class HoleRecord(NamedTuple):
    """A hole as the feeder marks it. Open times in ms UTC, both included.

    Attributes:
        first, last: The first and the last missing bar.
        missing: The number of missing bars, at least 1.
        state: `open` (it will be asked for), `given_up` (it is asked for at long
            distances), `none_at_venue` (the venue has no such bars).
        reason: The reason for the state, "" before the first attempt.
    """

    first: int
    last: int
    missing: int
    state: HoleState = "open"
    reason: HoleReason = ""


class TimedRows(Protocol):
    """Rows with their open times, oldest first: those of a ring, or of a file."""

    @property
    def open_time(self) -> NDArray[np.int64]: ...


def find_gaps(rows: TimedRows, timeframe: str) -> list[Gap]:
    """Return the bars that are missing between these rows, oldest first.

    Of a Slice, the result counts only if its `valid` is True afterwards.
    """
    opens, length = rows.open_time, step(timeframe)
    if length:
        before = np.flatnonzero(np.diff(opens) >= 2 * length)
        pairs = zip(opens[before].tolist(), opens[before + 1].tolist(), strict=True)
        return [_gap(*pair, timeframe) for pair in pairs]
    months = pairwise(opens.tolist())
    return [_gap(*pair, timeframe) for pair in months if bars_between(*pair, timeframe)]


def _gap(earlier: int, later: int, timeframe: str) -> Gap:
    missing = bars_between(earlier, later, timeframe)
    first = close_time(earlier, timeframe)
    return Gap(first, previous_open(later, timeframe), missing)


def merge_records(records: Iterable[HoleRecord]) -> list[HoleRecord]:
    """Return at most `layout.HOLES` records in the order of time.

    If there are more, neighbours of one state and reason become one record, and then
    the oldest ones: their missing bars are summed, and the worst state stays.
    """
    found = sorted(records)
    if len(found) > HOLES:
        found = _merge_equals(found)
    if len(found) > HOLES:
        split = len(found) - HOLES + 1
        found = [_merge(found[:split]), *found[split:]]
    return found


def _merge_equals(records: list[HoleRecord]) -> list[HoleRecord]:
    found = records[:1]
    for record in records[1:]:
        if found[-1][3:] == record[3:]:
            found[-1] = _merge([found[-1], record])
        else:
            found.append(record)
    return found


def _merge(records: Sequence[HoleRecord]) -> HoleRecord:
    worst = worst_record(records)
    first = min(record.first for record in records)
    last = max(record.last for record in records)
    missing = sum(record.missing for record in records)
    return HoleRecord(first, last, missing, worst.state, worst.reason)


def worst_record(records: Iterable[HoleRecord]) -> HoleRecord:
    """Return the record of the worst state, of equals the first. There is one."""
    return min(records, key=lambda record: HOLE_STATES.index(record.state))


def write_holes(
    words: Words, geometry: Geometry, index: int, records: Iterable[HoleRecord]
) -> None:
    """Replace the marks of the stream with entry number `index`.

    Raises BadArgumentError if a record is not one; the marks stay then.
    """
    cell = _pack([_checked(record) for record in merge_records(records)])
    _latch(words, geometry, index).write(cell)


def read_holes(words: Words, geometry: Geometry, index: int) -> list[HoleRecord] | None:
    """Return the marks of a stream, oldest first; None if no feeder ever set any.

    Records with values that no feeder can have stored are left out.
    """
    if geometry.version == 1:  # its entries end before
        return None
    cell = _latch(words, geometry, index).read()
    return None if cell is None else _unpack(cell)


def _latch(words: Words, geometry: Geometry, index: int) -> Latch:
    return Latch(words, geometry.entry_word(index) + E_HOLES, _CELL_WORDS)


def _checked(record: HoleRecord) -> HoleRecord:
    check_choice("state", record.state, HOLE_STATES)
    check_choice("reason", record.reason, HOLE_REASONS)
    if _is_sound(*record[:3]):
        return record
    raise BadArgumentError(
        f"a hole from {record.first} to {record.last} of {record.missing} bars is not"
        " accepted; its open times must be ms UTC in order, and its bars at least 1"
    )


def _is_sound(first: int, last: int, missing: int) -> bool:
    return 0 <= first <= last < TIME_LIMIT and missing >= 1


def _pack(records: Sequence[HoleRecord]) -> bytes:
    cells = np.zeros(_CELL_WORDS, np.int64)
    cells[0] = len(records)
    for number, record in enumerate(records):
        at = 1 + number * HOLE_WORDS
        state, reason = HOLE_STATES.index(record.state), record.reason
        cells[at : at + HOLE_WORDS] = *record[:3], state, HOLE_REASONS.index(reason)
    return cells.tobytes()


def _unpack(cell: bytes) -> list[HoleRecord]:
    count = int.from_bytes(cell[:WORD], "little", signed=True)
    cells = np.frombuffer(cell, np.int64, offset=WORD).reshape(HOLES, HOLE_WORDS)
    return [
        HoleRecord(first, last, missing, HOLE_STATES[state], HOLE_REASONS[reason])
        for first, last, missing, state, reason in cells.tolist()[: max(0, count)]
        if _is_sound(first, last, missing)
        and 0 <= state < len(HOLE_STATES)
        and 0 <= reason < len(HOLE_REASONS)
    ]
