"""Bars: their fields, their flags, and the time grids that they lie on.

A bar's identity is its `open_time`, integer milliseconds UTC. Its `close_time` is
`open_time` plus the timeframe. Grids start at the epoch, weeks on a Monday, months
are calendar months, all UTC. The grid of `3d` alone has a *phase*, which its venue
chooses for each stream: Binance counts from a symbol's first day.
"""

import math
import operator
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

if TYPE_CHECKING:  # saves two modules at import
    from numpy.typing import NDArray

# The names that a caller may write, for type checkers. A test compares them with the
# tables.
Field = Literal[
    "open",
    "high",
    "low",
    "close",
    "volume",
    "money",
    "open_time",
    "close_time",
    "flags",
]
Timeframe = Literal[
    "1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h",
    "1d", "3d", "1w", "1M",
]  # fmt: skip
TimeframeAlias = Literal["60m", "120m", "240m", "24h", "daily", "minute"]

INT_FIELDS: tuple[Field, ...] = ("open_time", "close_time", "flags")
FLOAT_FIELDS: tuple[Field, ...] = ("open", "high", "low", "close", "volume", "money")
FIELDS: tuple[Field, ...] = (*FLOAT_FIELDS, *INT_FIELDS)
DEFAULT_FIELDS = FLOAT_FIELDS[:5]

# Flags of a row: what closed it, and what is known to be wrong with it.
CLOSED_BY_VENUE = 1  # the venue's own flag
CLOSED_BY_NEXT = 2  # the first message of a newer bar
CLOSED_BY_CLOCK = 4  # its close_time and `close_grace` have passed
UNCONFIRMED = 8  # its values are not known to be final
AFTER_GAP = 16  # at least one bar before this one is missing
BACKFILLED = 32  # its values come from history
REVISED = 64  # its values differ from what was first published
NO_TRADE = 128  # the venue says that nothing traded
POLLED = 256  # it came by REST while the socket was silent

FLAG_NAMES = {
    CLOSED_BY_VENUE: "closed_by_venue",
    CLOSED_BY_NEXT: "closed_by_next",
    CLOSED_BY_CLOCK: "closed_by_clock",
    UNCONFIRMED: "unconfirmed",
    AFTER_GAP: "after_gap",
    BACKFILLED: "backfilled",
    REVISED: "revised",
    NO_TRADE: "no_trade",
    POLLED: "polled",
}

_SECOND = 1000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_WEEK = 7 * _DAY
_FIRST_MONDAY = 4 * _DAY  # the epoch was a Thursday; 1970-01-05 a Monday
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTH = "1M"
FREE_PHASE = "3d"  # the timeframe whose grid begins where its venue says

# Each timeframe's length in milliseconds. The 30 days of a month are nominal: they set
# limits of age, never a grid.
TIMEFRAMES: dict[str, int] = {
    "1s": _SECOND,
    "1m": _MINUTE,
    "3m": 3 * _MINUTE,
    "5m": 5 * _MINUTE,
    "15m": 15 * _MINUTE,
    "30m": 30 * _MINUTE,
    "1h": _HOUR,
    "2h": 2 * _HOUR,
    "4h": 4 * _HOUR,
    "6h": 6 * _HOUR,
    "8h": 8 * _HOUR,
    "12h": 12 * _HOUR,
    "1d": _DAY,
    FREE_PHASE: 3 * _DAY,
    "1w": _WEEK,
    _MONTH: 30 * _DAY,
}
ALIASES = {
    "60m": "1h",
    "120m": "2h",
    "240m": "4h",
    "24h": "1d",
    "daily": "1d",
    "minute": "1m",
}
_PER_MS = {
    np.dtype("M8[ms]"): np.array(1),  # arrays: converting an int at each call is slow
    np.dtype("M8[us]"): np.array(1_000),
    np.dtype("M8[ns]"): np.array(1_000_000),
}
STALE_MIN_SECONDS = 30.0  # no stream is stale sooner
_STALE_BARS = 3
LAST_TIME = 4_102_444_800_000  # 2100-01-01, exclusive: no venue sends a later time


StreamKey = tuple[str, Timeframe]  # (symbol, timeframe), in the feed's spelling


class Bar(NamedTuple):
    """One bar. Times are int ms UTC, prices and volume float.

    `close_time` is exclusive. `money` is the quote turnover, NaN if the venue sends
    none. `flags` is a sum of this module's flag constants, 0 if nothing is known.
    """

    open_time: int
    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    money: float = math.nan
    flags: int = 0


def check_timeframe(text: object, name: str = "timeframe") -> Timeframe:
    """Return the canonical spelling of a timeframe or of an alias.

    Case matters: `1M` is a month. Raises BadArgumentError, which calls the argument
    `name`, with the accepted ones and the nearest.
    """
    if isinstance(text, str):
        known = ALIASES.get(text, text)
        if known in TIMEFRAMES:
            return cast("Timeframe", known)
    accepted = " ".join([*TIMEFRAMES, *ALIASES])
    near = nearest_timeframe(text) if isinstance(text, str) else None
    meant = "" if near is None else f"; did you mean {near}?"
    raise BadArgumentError(
        f"{name} {repr_short(text)} is not accepted; one of: {accepted}{meant}"
    )


# Units as other libraries write them, in lower case. Only in `1M` is M a month.
_UNITS = {
    "s": ("s", "sec", "second"),
    "m": ("m", "t", "min", "minute"),
    "h": ("h", "hr", "hour"),
    "d": ("d", "day", "daily"),
    "w": ("w", "wk", "week"),
    "M": ("mo", "mon", "month"),
}
_SPELLINGS = {word: unit for unit, words in _UNITS.items() for word in words}
_WRITTEN = re.compile(r"([0-9]{0,4})[ _-]?([a-z]+?)(?:s|ly)?([0-9]{0,4})")


def nearest_timeframe(text: str) -> str | None:
    """Return the timeframe that another spelling means, such as 1m for 1min."""
    found = _WRITTEN.fullmatch(text.strip().lower()[:16])
    if found is None or (found[1] and found[3]):
        return None
    unit = _SPELLINGS.get(found[2])
    near = f"{(found[1] or found[3] or '1').lstrip('0')}{unit}"
    return near if near in TIMEFRAMES or near in ALIASES else None


def flag_names(flags: int) -> list[str]:
    """Return the names of a row's flags, in the order of their values.

    Raises BadArgumentError if `flags` is not an integer. A bit without a name is
    written as its value.
    """
    try:
        rest = operator.index(flags)  # numpy's integers too
    except TypeError:
        raise BadArgumentError(
            f"flags is {repr_short(flags)}; it must be an int"
        ) from None
    names = [name for bit, name in FLAG_NAMES.items() if rest & bit]
    rest &= ~sum(FLAG_NAMES)
    return [*names, str(rest)] if rest else names


def duration(timeframe: str) -> int:
    """Return a timeframe's length in ms, a month's nominal 30 days."""
    return TIMEFRAMES[timeframe]


def step(timeframe: str) -> int:
    """Return the fixed step of a timeframe's grid in ms, 0 for a month."""
    return 0 if timeframe == _MONTH else TIMEFRAMES[timeframe]


def stale_after(timeframe: str) -> float:
    """Return the seconds of silence after which a stream is stale: 3 bars, at least 30.

    Health, freshness and a connection's limit of silence all use this rule.
    """
    return max(_STALE_BARS * TIMEFRAMES[timeframe] / _SECOND, STALE_MIN_SECONDS)


def close_time(open_time: int, timeframe: str) -> int:
    """Return the end of the bar that opens at `open_time`, ms UTC, exclusive."""
    if timeframe != _MONTH:
        return open_time + TIMEFRAMES[timeframe]
    return _month_start(_month_number(open_time) + 1)


def close_times(opens: "NDArray[np.int64]", timeframe: str) -> "NDArray[np.int64]":
    """Return the ends of the bars that open at these times: int64 (n,), ms UTC."""
    length = step(timeframe)
    if length:
        return opens + length
    return np.array([close_time(at, timeframe) for at in opens.tolist()], np.int64)


def floor(time: int, timeframe: str, phase: int = 0) -> int:
    """Return the open_time of the bar that contains `time`, ms UTC.

    `phase` is the grid's, in ms; only that of `3d` may differ from 0.
    """
    if timeframe == _MONTH:
        return _month_start(_month_number(time))
    start = _FIRST_MONDAY if timeframe == "1w" else phase
    return time - (time - start) % TIMEFRAMES[timeframe]


def on_grid(open_time: int, timeframe: str, phase: int | None = 0) -> bool:
    """Return True if a bar of this timeframe may open at `open_time`, ms UTC.

    `phase` is as in `floor`; None if the phase of a `3d` grid is not known yet: its
    bars may open at any midnight.
    """
    if not 0 <= open_time < LAST_TIME:
        return False
    if phase is None:
        timeframe, phase = "1d", 0
    return floor(open_time, timeframe, phase) == open_time


def phase_of(open_time: int, timeframe: str) -> int:
    """Return the phase of the grid that a bar of this timeframe opens on, in ms."""
    return open_time % TIMEFRAMES[FREE_PHASE] if timeframe == FREE_PHASE else 0


def bars_between(earlier: int, later: int, timeframe: str) -> int:
    """Return how many bars of the grid open after `earlier` and before `later`."""
    return missing_bars(grid_steps(earlier, later, timeframe), 2)


def previous_open(opened: int, timeframe: str) -> int:
    """Return the open_time of the bar before the one that opens then, ms UTC."""
    return floor(opened - 1, timeframe, phase_of(opened, timeframe))


def grid_steps(earlier: int, later: int, timeframe: str) -> int:
    """Return how many timeframes `later` lies after `earlier`."""
    if timeframe == _MONTH:
        return _month_number(later) - _month_number(earlier)
    return (later - earlier) // TIMEFRAMES[timeframe]


def missing_bars(steps: int, count: int) -> int:
    """Return how many bars are missing from `count` bars that span `steps` steps.

    The only definition of a gap; `csrc/rows.h` repeats it in C.
    """
    return max(0, steps - count + 1)


def datetimes(
    times: "NDArray[np.int64]", dtype: "np.dtype[np.datetime64]"
) -> "NDArray[np.datetime64]":
    """Return times in ms UTC as a new array of datetime64 of ms, us or ns.

    Raises BadArgumentError for another dtype.
    """
    return (times * per_ms(dtype)).view(dtype)


def per_ms(dtype: object) -> "NDArray[np.int64]":
    """Return how many units of a datetime64 dtype make one millisecond.

    Raises BadArgumentError for another dtype.
    """
    number = _PER_MS.get(dtype) if isinstance(dtype, np.dtype) else None
    if number is None:
        known = " ".join(map(str, _PER_MS))
        raise BadArgumentError(f"dtype {repr_short(dtype)} is unknown; one of: {known}")
    return number


def _month_number(time: int) -> int:
    try:
        moment = _EPOCH + timedelta(milliseconds=time)
    except OverflowError:
        raise BadArgumentError(f"time {time} ms UTC is outside the calendar") from None
    return moment.year * 12 + moment.month - 1


def _month_start(number: int) -> int:
    moment = datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)
