"""Bars of a timeframe that a context does not have: rolled up from a shorter one.

A backtest reads what a live strategy reads, so the rules are those of a feed: the
longest timeframe that divides the one asked for, and whole groups alone.
"""

from weakref import WeakKeyDictionary

import numpy as np

from shmfeed.bar import StreamKey, Timeframe, check_timeframe, close_time, floor
from wealthdata.bar_history import BarHistory
from wealthdata.columns import PrivateColumns
from wealthdata.rolled_ring import RolledBars
from wealthdata.rollup import SOURCES, roll_up

# For each history and stream the source's rows, and the bars that were made of them.
_Made = dict[StreamKey, tuple[PrivateColumns, RolledBars]]
_made: "WeakKeyDictionary[BarHistory, _Made]" = WeakKeyDictionary()


def roll_history(
    history: BarHistory, key: StreamKey, now: int | None
) -> RolledBars | None:
    """Return the bars of a stream that the history does not have, made of another one.

    `now` is the strategy's time: of the source no later bar is known. Return None if
    the history has the stream, or nothing that it can be made of.
    """
    streams = history.streams()
    if streams is None or key in streams:
        return None
    symbol, timeframe = key[0], check_timeframe(key[1])
    source = next((s for s in SOURCES[timeframe] if (symbol, s) in streams), None)
    if source is None:
        return None
    rows = history.rows((symbol, source), 1 << 62)
    made = _made.setdefault(history, {})
    known = made.get(key)
    if known is None or known[0] is not rows:
        known = made[key] = rows, _roll_all(rows, source, timeframe)
    return _as_of(known[1], rows, now)


def _roll_all(
    rows: PrivateColumns, source: Timeframe, timeframe: Timeframe
) -> RolledBars:
    groups = roll_up(rows, source, timeframe)
    bars = groups.bars
    for array in (bars.open_time, bars.close_time, bars.floats, bars.flags):
        array.flags.writeable = False
    begin, end = (rows.open_time[0], rows.close_time[-1]) if len(rows) else (0, 0)
    return RolledBars(
        bars,
        groups.first_rows,
        timeframe,
        source,
        epoch=0,
        last=len(rows),
        rest=groups.rest,
        begin=int(begin),
        end=int(end),
        due=close_time(floor(int(end), timeframe), timeframe),
    )


def _as_of(made: RolledBars, rows: PrivateColumns, now: int | None) -> RolledBars:
    """Return the bars with the end of the source as it was at `now`."""
    if now is None or made.end <= now:
        return made
    known = int(np.searchsorted(rows.close_time, now, "right"))
    return made._replace(end=int(rows.close_time[known - 1]) if known else 0)
