"""Rows of a store as blocks, the form of `Rows.block`, with checks of what was read."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import AFTER_GAP, FREE_PHASE, close_times, floor, phase_of, step
from shmfeed.layout import C_FLAGS, C_FLOATS, COLUMNS, FLOATS, TIME_LIMIT

Block = NDArray[np.float64]  # (9, n), int64 columns by their bits

# The columns of a record of the store, in the order of `RECORD`.
RECORD = "open_time, open, high, low, close, volume, money, flags"
_FLAGS = 7
_OPEN_TIME, _CLOSE_TIME = 0, 1
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _MONEY = range(C_FLOATS, C_FLOATS + FLOATS)


def to_block(records: Sequence[Sequence[Any]], timeframe: str) -> Block:
    """Return records of the columns `RECORD` as a block, in their order.

    Raises:
        sqlite3.DatabaseError: A value is not a number, or out of range.
    """
    try:
        return _to_block(records, timeframe)
    except (ValueError, TypeError, OverflowError) as error:
        raise sqlite3.DatabaseError(str(error)) from error


def _to_block(records: Sequence[Sequence[Any]], timeframe: str) -> Block:
    block = np.empty((len(COLUMNS), len(records)))
    if not records:
        return block
    # A NULL becomes NaN. Times and flags are far below 2**53, and so exact.
    table = np.array(records, np.float64)
    ints = block.view(np.int64)
    times = table[:, 0]
    if not ((times >= 0) & (times < TIME_LIMIT) & (times % 1 == 0)).all():
        raise ValueError("an open time is out of range")
    ints[_OPEN_TIME] = times
    ints[_CLOSE_TIME] = close_times(ints[_OPEN_TIME], timeframe)
    block[C_FLOATS : C_FLOATS + FLOATS] = table[:, 1:_FLAGS].T
    flags = table[:, _FLAGS]
    if not ((flags >= 0) & (flags < 1 << 53)).all():
        raise ValueError("the flags of a bar are out of range")
    ints[C_FLAGS] = flags
    return block


def sound_rows(block: Block, timeframe: str) -> Block:
    """Return the rows of a sorted block whose times and values a bar can have.

    Holes are flagged as the rows are: `after_gap` on each row that does not adjoin the
    one before it. The first row keeps its flag.
    """
    opens = block[_OPEN_TIME].view(np.int64)
    kept = block[:, _on_grid(opens, timeframe) & _has_sound_values(block)]
    if kept.shape[1] > 1:
        flags = kept[C_FLAGS].view(np.int64)
        closes = kept[_CLOSE_TIME].view(np.int64)
        gaps = kept[_OPEN_TIME].view(np.int64)[1:] != closes[:-1]
        flags[1:] = np.where(gaps, flags[1:] | AFTER_GAP, flags[1:] & ~AFTER_GAP)
    return kept


def _on_grid(opens: NDArray[np.int64], timeframe: str) -> NDArray[np.bool_]:
    if not len(opens):
        return np.empty(0, np.bool_)
    if not step(timeframe):
        return np.array([floor(at, timeframe) == at for at in opens.tolist()])
    # All grids of fixed steps are those of the newest bar but for `3d`'s, whose phase
    # the newest bar decides.
    phase = phase_of(int(opens[-1]), timeframe) if timeframe == FREE_PHASE else 0
    start = floor(0, timeframe, phase)
    on_grid: NDArray[np.bool_] = (opens - start) % step(timeframe) == 0
    return on_grid


def _has_sound_values(block: Block) -> NDArray[np.bool_]:
    floats = block[C_FLOATS : C_FLOATS + FLOATS - 1]
    low, high = block[_LOW], block[_HIGH]
    with np.errstate(invalid="ignore"):
        sound: NDArray[np.bool_] = (
            np.isfinite(floats).all(axis=0)
            & (low <= np.minimum(block[_OPEN], block[_CLOSE]))
            & (high >= np.maximum(block[_OPEN], block[_CLOSE]))
            & (block[_VOLUME] >= 0)
            & ~np.isinf(block[_MONEY])
        )
    return sound


def differing(block: Block, stored: Block) -> NDArray[np.bool_]:
    """Return True for each row of a block that differs from the one beside it.

    Two NaN are equal, and so are 0.0 and -0.0.
    """
    ints = (block.view(np.int64) != stored.view(np.int64))[[_OPEN_TIME, C_FLAGS]]
    floats = slice(C_FLOATS, C_FLOATS + FLOATS)
    ours, theirs = block[floats], stored[floats]
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    differ: NDArray[np.bool_] = ints.any(axis=0) | ~same.all(axis=0)
    return differ
