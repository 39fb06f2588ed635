"""Merge history into the rows of a stream. Pure: arrays in, arrays out.

Rows and history are blocks: float64 (9, n), the columns of `layout.COLUMNS`, sorted by
open time. Of an answer of history

- bars that the stream lacks, before its last row, are inserted with the flag
  `backfilled`; the flag `after_gap` of a row stays while a bar before it is missing;
- a row that differs takes the values of history if the rule lets it, with the flags
  `backfilled` and `revised`, and is final then;
- an `unconfirmed` row with the same values is final;
- bars after the stream's last row are returned, for the ledger to append.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import (
    AFTER_GAP,
    BACKFILLED,
    CLOSED_BY_VENUE,
    FREE_PHASE,
    NO_TRADE,
    REVISED,
    UNCONFIRMED,
    Bar,
    close_time,
    grid_steps,
    on_grid,
    phase_of,
    step,
)
from shmfeed.history.interface import Block
from shmfeed.layout import C_FLAGS

Ints = NDArray[np.int64]

# Outcomes for a row, in `Merge.changes`.
KEPT, ADDED, CORRECTED, CONFIRMED = range(4)

_OPEN, _CLOSE = 0, 1
_PRICES = slice(2, 6)
_VOLUME, _MONEY = 6, 7
_VALUES = slice(2, 8)
_OWN_FLAGS = NO_TRADE | UNCONFIRMED  # of a bar of history


class MergeRule(NamedTuple):
    """The permissions of an answer of history.

    Attributes:
        may_correct: It may replace the values of rows.
        settled: A row that a closing message ended is replaced only if it closed at
            this time of the venue or before, ms UTC.
        most: Rows that the stream may have.
    """

    may_correct: bool
    settled: int
    most: int


class Merge(NamedTuple):
    """The rows after a merge.

    Attributes:
        block: The stream's rows, up to its last one.
        changes: The outcome for each of them.
        newer: Bars of history after the last row, without flags of their own.
        filled, prepended: Bars that were inserted between rows, and before the first.
        corrected, confirmed: Rows that were replaced, and that are final now.
        unsettled: Rows that differ, and that history may not replace yet.
        former: The corrected rows as they were.
    """

    block: Block
    changes: NDArray[np.int8]
    newer: Block
    filled: int = 0
    prepended: int = 0
    corrected: int = 0
    confirmed: int = 0
    unsettled: int = 0
    former: Block = np.empty((9, 0))

    @property
    def is_changed(self) -> bool:
        """True if a row differs from before, or there are more."""
        return bool(self.changes.any())


def opens_of(block: Block) -> Ints:
    """Return the open times of a block."""
    cells: Ints = block[_OPEN].view(np.int64)
    return cells


def closes_of(block: Block) -> Ints:
    """Return the close times of a block."""
    cells: Ints = block[_CLOSE].view(np.int64)
    return cells


def flags_of(block: Block) -> Ints:
    """Return the flags of a block."""
    cells: Ints = block[C_FLAGS].view(np.int64)
    return cells


def bars_of(block: Block, from_row: int = 0) -> list[Bar]:
    """Return the rows of a block as bars, from a row on."""
    block = block[:, max(0, from_row) :]
    times = block[: _VALUES.start].view(np.int64).tolist()
    values = block[_VALUES].tolist()
    return list(map(Bar, *times, *values, flags_of(block).tolist()))


def block_of(bars: Sequence[Bar]) -> Block:
    """Return bars as a block."""
    block = np.empty((len(Bar._fields), len(bars)))
    columns = list(zip(*bars, strict=True))
    for number, values in enumerate(columns):
        is_time = number < _VALUES.start or number == C_FLAGS
        block[number] = (
            np.array(values, np.int64).view(np.float64) if is_time else values
        )
    return block


def same_rows(one: Block, other: Block) -> NDArray[np.bool_]:
    """Return where prices, volume and, where both know it, money are equal."""
    same: NDArray[np.bool_] = (one[_PRICES] == other[_PRICES]).all(axis=0)
    same &= one[_VOLUME] == other[_VOLUME]
    unknown = np.isnan(one[_MONEY]) | np.isnan(other[_MONEY])
    same &= unknown | (one[_MONEY] == other[_MONEY])
    return same


def within(block: Block, first: int, last: int, closed_by: int) -> Block:
    """Return the bars that open from `first` to `last` and close by a time."""
    opens = opens_of(block)
    wanted = (opens >= first) & (opens <= last) & (closes_of(block) <= closed_by)
    return np.ascontiguousarray(block[:, wanted])


def off_grid(block: Block, timeframe: str, phase: int | None) -> int:
    """Return the open time of the first bar off the grid, -1 if all lie on it.

    `phase` is None if it is not known yet: then the first bar tells it.
    """
    opens = opens_of(block)
    if not len(opens):
        return -1
    first = int(opens[0])
    if timeframe == FREE_PHASE and phase is None:
        phase = phase_of(first, timeframe) if on_grid(first, timeframe, None) else 0
    length = step(timeframe)
    if length and on_grid(first, timeframe, phase):
        wrong = ((opens - first) % length != 0) | (closes_of(block) != opens + length)
        return int(opens[wrong.argmax()]) if wrong.any() else -1
    for opened, closes in zip(opens.tolist(), closes_of(block).tolist(), strict=True):
        is_right = on_grid(opened, timeframe, phase)
        if not is_right or closes != close_time(opened, timeframe):
            return int(opened)
    return -1


def missing_within(blocks: list[Block], first: int, last: int, timeframe: str) -> int:
    """Return how many bars of the grid from `first` to `last` the blocks lack."""
    if last < first:
        return 0
    opens = np.unique(np.concatenate([opens_of(block) for block in blocks]))
    found = int(np.count_nonzero((opens >= first) & (opens <= last)))
    return max(0, grid_steps(first, last, timeframe) + 1 - found)


def merge(rows: Block, history: Block, rule: MergeRule) -> Merge:
    """Return a stream's rows with an answer of history.

    Args:
        rows: The stream's rows; they are left as they are.
        history: Closed bars on the stream's grid.
        rule: The permissions of history.

    Of rows there are at most `rule.most` afterwards: the oldest give way to bars that
    fill holes, and bars before the first row are taken as far as there is room.
    """
    block = rows.copy()
    known, opens = opens_of(rows), opens_of(history)
    newer = opens > known[-1] if len(known) else np.ones(len(opens), bool)
    place = np.searchsorted(known, opens)
    had = np.zeros(len(opens), bool)
    had[~newer] = known[place[~newer]] == opens[~newer]
    changes, numbers = _compare(block, place[had], history[:, had], rule)
    former = np.ascontiguousarray(rows[:, changes == CORRECTED])
    added = history[:, ~newer & ~had]
    block, changes, counts = _insert(block, changes, added, rule.most)
    after = np.ascontiguousarray(history[:, newer])
    flags_of(after)[:] &= _OWN_FLAGS
    return Merge(block, changes, after, *counts, *numbers, former)


def _compare(
    block: Block, at: Ints, history: Block, rule: MergeRule
) -> tuple[NDArray[np.int8], tuple[int, int, int]]:
    """Change rows of `block` at `at` in place; return the outcome for all rows."""
    changes = np.zeros(block.shape[1], np.int8)
    rows = block[:, at]
    flags, own = flags_of(rows), flags_of(history) & _OWN_FLAGS
    same = same_rows(rows, history)
    is_settled = closes_of(rows) <= rule.settled
    is_open = is_settled | (flags & CLOSED_BY_VENUE == 0)
    differs = ~same if rule.may_correct else np.zeros(len(at), bool)
    taken = differs & is_open
    confirmed = (flags & UNCONFIRMED != 0) & (own & UNCONFIRMED == 0) & (same | taken)
    flags = np.where(confirmed, flags & ~UNCONFIRMED, flags)
    replaced = (flags & ~_OWN_FLAGS) | BACKFILLED | REVISED | own
    flags = np.where(taken, replaced, flags)
    block[_VALUES, at[taken]] = history[_VALUES][:, taken]
    flags_of(block)[at] = flags
    changes[at[confirmed]] = CONFIRMED
    changes[at[taken]] = CORRECTED
    numbers = map(np.count_nonzero, (taken, confirmed, differs & ~is_open))
    corrected, final, unsettled = (int(number) for number in numbers)
    return changes, (corrected, final, unsettled)


def _insert(
    block: Block, changes: NDArray[np.int8], added: Block, most: int
) -> tuple[Block, NDArray[np.int8], tuple[int, int]]:
    """Return rows and changes with bars added, and how many fill and precede them."""
    if not added.shape[1]:
        return block, changes, (0, 0)
    oldest = opens_of(block)[0]
    is_before = opens_of(added) < oldest
    filled = int(np.count_nonzero(~is_before))
    room = max(0, most - block.shape[1] - filled)
    prepended = min(room, int(np.count_nonzero(is_before)))
    added = added[:, added.shape[1] - filled - prepended :]
    flags_of(added)[:] = (flags_of(added) & _OWN_FLAGS) | BACKFILLED
    whole = np.concatenate([block, added], axis=1)
    order = np.argsort(opens_of(whole), kind="stable")
    whole = np.ascontiguousarray(whole[:, order])
    changes = np.concatenate([changes, np.full(added.shape[1], ADDED, np.int8)])[order]
    _mark_gaps(whole, changes)
    return whole[:, -most:], changes[-most:], (filled, prepended)


def _mark_gaps(block: Block, changes: NDArray[np.int8]) -> None:
    """Set the flag `after_gap` of added rows and of those behind them."""
    is_new = changes == ADDED
    beside = np.flatnonzero(is_new[1:] | is_new[:-1]) + 1
    follows = closes_of(block)[beside - 1] == opens_of(block)[beside]
    flags = flags_of(block)
    flags[beside] = np.where(
        follows, flags[beside] & ~AFTER_GAP, flags[beside] | AFTER_GAP
    )
