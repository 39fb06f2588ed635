"""Published rows compared with history, and with each other.

Pure functions of blocks, the form of `Rows.block`: float64 (9, n), sorted by open time,
the int64 columns by their bits.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.history.blocks import times_of
from shmfeed.history.interface import Block
from shmfeed.layout import C_FLOATS, COLUMNS

_VALUES = COLUMNS[C_FLOATS : C_FLOATS + 6]  # open high low close volume money
_PRICES = 4
_CLOSE_TIME = 1
# Sums of floats differ in the last digits, by the order of the terms.
_SUM_ERROR = 1e-9
# Prices of another venue agree as far as `take_history` believes them.
OTHERS_TOLERANCE = 0.001


class Difference(NamedTuple):
    """A value of a row that differs from the expected one.

    Attributes:
        open_time: The row's, ms UTC.
        field: The name of the value.
        published: The value that was published.
        expected: The value in history, or rolled up.
    """

    open_time: int
    field: str
    published: float
    expected: float


class Comparison(NamedTuple):
    """The differences between published rows and others of the same range.

    Attributes:
        compared: The number of rows that both have.
        missing: Open times of the rows that were not published.
        unknown: Open times of the published rows that history does not have.
        differences: The values that differ, oldest row first.
    """

    compared: int
    missing: list[int]
    unknown: list[int]
    differences: list[Difference]

    @property
    def differing(self) -> int:
        """The number of rows with a value that differs."""
        return len({one.open_time for one in self.differences})


def compare(published: Block, history: Block, *, is_own: bool) -> Comparison:
    """Compare published rows with history of the same range.

    The venue's own history must have the same values, another one's about the same
    prices. `money` is compared where both have it.
    """
    ours, theirs = times_of(published), times_of(history)
    _, left, right = np.intersect1d(ours, theirs, True, return_indices=True)
    return Comparison(
        len(left),
        np.setdiff1d(theirs, ours, True).tolist(),
        np.setdiff1d(ours, theirs, True).tolist(),
        _differences(published[:, left], history[:, right], is_own),
    )


def _differences(published: Block, history: Block, is_own: bool) -> list[Difference]:
    one = published[C_FLOATS : C_FLOATS + len(_VALUES)]
    other = history[C_FLOATS : C_FLOATS + len(_VALUES)]
    if is_own:
        wrong = one != other
        wrong[-1] &= np.isfinite(one[-1]) & np.isfinite(other[-1])
    else:
        wrong = ~np.isclose(one, other, rtol=OTHERS_TOLERANCE, atol=0.0)
        wrong[_PRICES:] = False
    return _listed(times_of(published), one, other, wrong)


def compare_rolled(short: Block, long: Block) -> Comparison:
    """Compare rows with shorter ones of the same stream, rolled up.

    A long row counts if the short ones fill its time without a hole. Its `money` is
    compared where all have it.
    """
    rolled = _roll_up(short, long)
    whole = ~np.isnan(rolled[0])
    one = long[C_FLOATS : C_FLOATS + len(_VALUES), whole]
    other = rolled[:, whole]
    wrong = ~np.isclose(one, other, rtol=_SUM_ERROR, atol=0.0)
    wrong[-1] &= np.isfinite(one[-1]) & np.isfinite(other[-1])
    times = times_of(long)[whole]
    return Comparison(len(times), [], [], _listed(times, one, other, wrong))


def _roll_up(short: Block, long: Block) -> NDArray[np.float64]:
    """Return the values of each long row from the short ones, NaN if one is missing."""
    rolled = np.full((len(_VALUES), long.shape[1]), np.nan)
    opens, closes = times_of(short), short[_CLOSE_TIME].view(np.int64)
    begins, ends = times_of(long), long[_CLOSE_TIME].view(np.int64)
    first, last = np.searchsorted(opens, begins), np.searchsorted(opens, ends)
    values = short[C_FLOATS : C_FLOATS + len(_VALUES)]
    for row in range(long.shape[1]):
        part = slice(first[row], last[row])
        if part.start == part.stop or opens[part.start] != begins[row]:
            continue
        joins = closes[part][:-1] == opens[part][1:]
        if joins.all() and closes[part.stop - 1] == ends[row]:
            opened, high, low, close, volume, money = values[:, part]
            rolled[:, row] = (
                *(opened[0], high.max(), low.min(), close[-1]),
                *(volume.sum(), money.sum()),
            )
    return rolled


def _listed(
    times: NDArray[np.int64],
    published: NDArray[np.float64],
    expected: NDArray[np.float64],
    wrong: NDArray[np.bool_],
) -> list[Difference]:
    return [
        Difference(
            int(times[row]),
            _VALUES[field],
            float(published[field, row]),
            float(expected[field, row]),
        )
        for row, field in np.argwhere(wrong.T).tolist()
    ]
