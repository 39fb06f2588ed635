"""Blocks of bars on a grid of minutes, as history and rings have them."""

import numpy as np

from shmfeed.bar import CLOSED_BY_VENUE, TIMEFRAMES
from shmfeed.memory.rows import Rows

MINUTE = TIMEFRAMES["1m"]


def bar_block(numbers, flags=CLOSED_BY_VENUE, timeframe="1m", close=1.5):
    """Return float64 (9, n): the bars of a grid with these numbers since 1970."""
    length, count = TIMEFRAMES[timeframe], len(numbers)
    block = np.empty((9, count))
    ints = block.view(np.int64)
    ints[0] = np.asarray(numbers, np.int64) * length
    ints[1] = ints[0] + length
    ints[8] = flags
    for column, value in enumerate((1.0, 2.0, 0.5, close, 7.0, np.nan), start=2):
        block[column] = value
    return block


def bar_rows(numbers, flags=CLOSED_BY_VENUE, timeframe="1m"):
    """Return Rows of the bars with these numbers."""
    return Rows(bar_block(numbers, flags, timeframe), 0)
