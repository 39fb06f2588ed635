"""The check that rows of history pass before they become a block.

Whatever a venue, a file or a program states, a block is sorted, lies on one grid, and
holds only values that a bar can have.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import FREE_PHASE, LAST_TIME, close_times, on_grid, step
from shmfeed.history.interface import Block, HistoryError
from shmfeed.layout import C_FLAGS, C_FLOATS, COLUMNS

# The values of a row, in the order of `layout.COLUMNS`. Times are ms UTC; a close time
# of 0 is not stated. Flags are those that the source itself knows, as NO_TRADE.
Row = tuple[float, float, float, float, float, float, float, float, float]

_OPEN_TIME, _CLOSE_TIME = 0, 1
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _MONEY = range(C_FLOATS, C_FLAGS)


def empty_block() -> Block:
    """Return a block without rows."""
    return np.empty((len(COLUMNS), 0))


def check_rows(rows: Sequence[Row] | NDArray[np.float64], timeframe: str) -> Block:
    """Return rows, or an array of them, as a block.

    Raises:
        HistoryError: They are no history of this timeframe; the message names the
            first row that is wrong, and what is wrong with it.
    """
    if not len(rows):
        return empty_block()
    table = np.array(rows, np.float64).T
    opens = _check_times(table[_OPEN_TIME], timeframe)
    closes = close_times(opens, timeframe)
    stated = table[_CLOSE_TIME]
    is_as_long = (stated == closes) | (stated == closes - 1) | (stated == 0)
    _refuse(~is_as_long, opens, f"not as long as {timeframe}")
    _check_values(table, opens)
    block = np.ascontiguousarray(table)
    money = block[_MONEY]
    money[~((money >= 0) & (money < np.inf))] = np.nan
    block[_OPEN_TIME] = opens.view(np.float64)
    block[_CLOSE_TIME] = closes.view(np.float64)
    block[C_FLAGS] = table[C_FLAGS].astype(np.int64).view(np.float64)
    return block


def joined(blocks: Sequence[Block]) -> Block:
    """Return blocks of ranges that do not overlap as one, whatever their order."""
    parts = sorted(
        (one for one in blocks if one.shape[1]), key=lambda one: int(times_of(one)[0])
    )
    return np.concatenate(parts, axis=1) if parts else empty_block()


def times_of(block: Block) -> NDArray[np.int64]:
    """Return the open times of a block, ms UTC."""
    times: NDArray[np.int64] = block[_OPEN_TIME].view(np.int64)
    return times


def cut_to(block: Block, first: int, last: int) -> Block:
    """Return the rows of a block that open from `first` to `last`, both included."""
    opens = times_of(block)
    begin, end = np.searchsorted(opens, (first, last + 1))
    return block[:, begin:end]


def closed_by(block: Block, now: int) -> Block:
    """Return the rows of a block that have closed at the time `now`, ms UTC."""
    closes = block[_CLOSE_TIME].view(np.int64)
    return block[:, : int(np.searchsorted(closes, now, side="right"))]


def _check_times(stated: NDArray[np.float64], timeframe: str) -> NDArray[np.int64]:
    if not ((stated >= 0) & (stated < LAST_TIME)).all():
        raise HistoryError("a row's open time is no time in ms", "malformed")
    opens = stated.astype(np.int64)
    _refuse(
        np.diff(opens, prepend=opens[0] - 1) <= 0, opens, "not after the row before it"
    )
    _refuse(~_on_grid(opens, timeframe), opens, f"off the grid of {timeframe}")
    return opens


def _on_grid(opens: NDArray[np.int64], timeframe: str) -> NDArray[np.bool_]:
    phase = None if timeframe == FREE_PHASE else 0
    length = step(timeframe)
    if not length:
        return np.array([on_grid(one, timeframe) for one in opens.tolist()])
    first = int(opens[0])
    good = (opens - first) % length == 0
    return good if on_grid(first, timeframe, phase) else np.zeros_like(good)


def _check_values(table: NDArray[np.float64], opens: NDArray[np.int64]) -> None:
    low, high = table[_LOW], table[_HIGH]
    first, last = table[_OPEN], table[_CLOSE]
    # A NaN fails every comparison.
    is_good = (
        (low > -np.inf)
        & (high < np.inf)
        & (low <= first)
        & (first <= high)
        & (low <= last)
        & (last <= high)
        & (table[_VOLUME] >= 0)
        & (table[_VOLUME] < np.inf)
    )
    _refuse(~is_good, opens, "values that no bar can have")


def _refuse(bad: NDArray[np.bool_], opens: NDArray[np.int64], reason: str) -> None:
    if bad.any():
        number = int(np.argmax(bad))
        moment = datetime.fromtimestamp(int(opens[number]) / 1000, UTC)
        raise HistoryError(
            f"row {number + 1} of {len(opens)}, {moment:%Y-%m-%d %H:%M:%S}: {reason}",
            "malformed",
        )
