"""A bar's arguments as the 8-byte words of a row, and the errors that refuse them."""

from array import array
from collections.abc import Sequence

import numpy as np

from shmfeed.bar import close_time
from shmfeed.errors import BadArgumentError
from shmfeed.layout import TIME_LIMIT
from shmfeed.text import repr_short


def bar_cells(
    open_time: int, values: Sequence[float], flags: int, timeframe: str
) -> "memoryview[int]":
    """Return a row's words. Raise BadArgumentError if a value is refused.

    The conversion of an object may run its own code, so all are converted before the
    first store.
    """
    times = array("q", (open_time, checked_close_time(open_time, timeframe)))
    try:
        floats, rest = array("d", values), array("q", (flags,))
    except (TypeError, ValueError, OverflowError) as error:
        raise bad_values((*values, flags)) from error
    cells = times.tobytes() + floats.tobytes() + rest.tobytes()
    return memoryview(cells).cast("q")


def check_time(open_time: object) -> int:
    """Return open_time as an int. Raise BadArgumentError if it is not an integer."""
    if isinstance(open_time, int | np.integer) and not isinstance(open_time, bool):
        return int(open_time)
    raise BadArgumentError(
        f"open_time is {repr_short(open_time)}; it must be int ms UTC"
    )


def checked_close_time(open_time: int, timeframe: str) -> int:
    """Return the close time, ms UTC. Raise BadArgumentError if it is out of range."""
    try:
        return close_time(open_time, timeframe)
    except (OverflowError, ValueError) as error:
        raise _out_of_range(open_time) from error


def append_error(stream: str, last_open: int, open_time: int) -> BadArgumentError:
    """Return the error for an open_time that cannot follow `last_open`."""
    if not 0 <= open_time < TIME_LIMIT:
        return _out_of_range(open_time)
    return BadArgumentError(
        f"open_time {open_time} of {stream} is not newer than the last closed bar's,"
        f" {last_open}"
    )


def bad_values(values: Sequence[object]) -> BadArgumentError:
    """Return the error for values that are not numbers, money and flags included."""
    return BadArgumentError(
        "open, high, low, close, volume, money must be numbers and flags an int;"
        f" they are {repr_short(tuple(values))}"
    )


def _out_of_range(open_time: object) -> BadArgumentError:
    return BadArgumentError(
        f"open_time {repr_short(open_time)} is out of range; it must be int ms UTC"
    )
