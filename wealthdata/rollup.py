"""ROLL-UP: bars of a longer timeframe, made of closed bars of a shorter one.

The bars of one group lie between two times of the longer grid. A group is *whole* if
none of its bars is missing: it becomes one bar. Any other group is left out: the one
under way, the oldest one if the rows begin inside it, and one with a hole.

    open, high, low, close   of the first bar, the highest, the lowest, of the last bar
    volume, money            sums; NaN if one of them is NaN
    closed_by_...            of the last bar
    no_trade                 if all bars have it
    after_gap                if the group before it is left out, or its first bar has it
    any other flag           if one bar has it

Venues count volumes in decimals, of which doubles are the nearest. So values of at most
DECIMALS decimals are summed as decimals; the sum is the double that the venue's own bar
has. The sum of a group depends on its own bars alone.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import (
    AFTER_GAP,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    FLOAT_FIELDS,
    FREE_PHASE,
    NO_TRADE,
    TIMEFRAMES,
    Timeframe,
    duration,
    floor,
    step,
)
from wealthdata.columns import BarColumns, Floats, Ints, PrivateColumns

DECIMALS = 8

_OPEN, _HIGH, _LOW, _CLOSE = range(4)
_SUMS = slice(FLOAT_FIELDS.index("volume"), None)
_CLOSED = CLOSED_BY_VENUE | CLOSED_BY_NEXT | CLOSED_BY_CLOCK
_OF_ANY = ~(_CLOSED | NO_TRADE | AFTER_GAP)
_UNIT = 10**DECIMALS
_EXACT = 2.0**52  # doubles below it have all integers, and a fraction
_MONTH = np.timedelta64(1, "M")


def divides(source: str, timeframe: str) -> bool:
    """Return True if bars of `timeframe` are made of whole bars of `source`.

    A month has whole days, and no whole weeks. The grid of `3d` begins where its venue
    says, so that no other one fits it.
    """
    if FREE_PHASE in {source, timeframe} or duration(source) >= duration(timeframe):
        return False
    return (step(timeframe) or duration("1d")) % duration(source) == 0


# For each timeframe the ones that divide it, the longest first.
SOURCES: dict[str, tuple[Timeframe, ...]] = {
    timeframe: tuple(s for s in reversed(TIMEFRAMES) if divides(s, timeframe))  # type: ignore[misc]
    for timeframe in TIMEFRAMES
}


class Groups(NamedTuple):
    """The whole groups of some rows.

    Attributes:
        bars: A bar for each.
        first_rows: The row of the first bar of each.
        rest: The first row that a later group may begin with: that of the group under
            way, if it has no hole so far, else the number of rows.
    """

    bars: PrivateColumns
    first_rows: Ints
    rest: int


def roll_up(
    rows: BarColumns, source: str, timeframe: str, before: int | None = None
) -> Groups:
    """Return the whole groups of consecutive rows of the timeframe `source`.

    `before` is the close time of the group made last of earlier rows, None if there is
    none: its successor tells from it whether one was left out between them.
    """
    times = rows.open_time
    starts, ends = _bounds(times, timeframe)
    firsts = np.flatnonzero(np.diff(starts, prepend=-1))
    counts = np.diff(firsts, append=len(times))
    opens, closes = starts[firsts], ends[firsts]
    whole = counts == (closes - opens) // step(source)
    rest = len(times)
    if rest and not whole[-1]:
        so_far = int(rows.close_time[-1] - opens[-1]) // step(source)
        rest = int(firsts[-1]) if so_far == counts[-1] else rest
    opens, closes = opens[whole], closes[whole]
    floats, flags = _combine(rows, firsts, counts, whole)
    earlier = np.concatenate((opens[:1] if before is None else [before], closes[:-1]))
    flags[earlier[: len(opens)] != opens] |= AFTER_GAP
    return Groups(PrivateColumns(opens, closes, floats, flags), firsts[whole], rest)


def _bounds(times: Ints, timeframe: str) -> tuple[Ints, Ints]:
    """Return the start and the end of the group that each of these times lies in."""
    if length := step(timeframe):
        starts: Ints = times - (times - floor(0, timeframe)) % length
        return starts, starts + length
    months = times.view("M8[ms]").astype("M8[M]")
    both = (m.astype("M8[ms]").view(np.int64) for m in (months, months + _MONTH))
    begins, ends = both
    return begins, ends


def _combine(
    rows: BarColumns, firsts: Ints, counts: Ints, whole: NDArray[np.bool_]
) -> tuple[Floats, Ints]:
    """Return the floats and flags of the whole groups."""
    values, flags = rows.floats, np.asarray(rows["flags"])
    combined = np.empty((len(FLOAT_FIELDS), int(np.count_nonzero(whole))))
    if not combined.size:
        return combined, np.empty(0, np.int64)
    lasts = (firsts + counts - 1)[whole]
    combined[_OPEN] = values[_OPEN, firsts[whole]]
    combined[_HIGH] = np.maximum.reduceat(values[_HIGH], firsts)[whole]
    combined[_LOW] = np.minimum.reduceat(values[_LOW], firsts)[whole]
    combined[_CLOSE] = values[_CLOSE, lasts]
    combined[_SUMS] = _sums(values[_SUMS], firsts)[:, whole]
    of_any = np.bitwise_or.reduceat(flags, firsts)[whole] & _OF_ANY
    of_all = np.bitwise_and.reduceat(flags, firsts)[whole] & NO_TRADE
    ended_by, begun = flags[lasts] & _CLOSED, flags[firsts[whole]] & AFTER_GAP
    return combined, of_any | of_all | ended_by | begun


def _sums(values: Floats, firsts: Ints) -> Floats:
    """Return the sums of the groups that begin at these rows, of each value."""
    known = np.abs(values) < _EXACT  # False for NaN
    finite = np.where(known, values, 0.0)
    whole = np.floor(finite).astype(np.int64)
    parts = finite - whole
    units, exact = np.zeros_like(whole), np.zeros_like(known)
    for decimals in range(2, DECIMALS + 1, 2):  # the fewest that make the value
        unit = 10**decimals
        found = np.rint(parts * unit).astype(np.int64)
        new = known & ~exact & (_decimal(whole, found, unit) == finite)
        units[new] = found[new] * (_UNIT // unit)
        exact |= new
        if exact.all():
            break
    totals, left = (np.add.reduceat(part, firsts, axis=1) for part in (whole, units))
    decimal = _decimal(totals + left // _UNIT, left % _UNIT, _UNIT)
    wide = np.add.reduceat(values.astype(np.longdouble), firsts, axis=1)
    is_decimal = np.logical_and.reduceat(exact, firsts, axis=1)
    sums: Floats = np.where(is_decimal, decimal, wide.astype(np.float64))
    return sums


def _decimal(whole: Ints, parts: Ints, unit: int) -> Floats:
    """Return the doubles nearest to whole + parts / unit."""
    few = np.abs(whole) < _EXACT / unit  # one rounding; else two, of which one is tiny
    joined = (np.where(few, whole, 0) * unit + parts) / unit
    found: Floats = np.where(few, joined, whole + parts / unit)
    return found
