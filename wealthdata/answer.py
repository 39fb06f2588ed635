"""The long way of `get_price`: any arguments, bars from anywhere."""

from typing import NamedTuple

import pandas as pd

from shmfeed.arguments import check_flag
from shmfeed.bar import check_timeframe
from shmfeed.errors import BusyRingError
from shmfeed.names import check_symbol
from wealthdata.adapter import current_marks
from wealthdata.choice import always_copy
from wealthdata.columns import missing_bars
from wealthdata.context import bound, sources
from wealthdata.frame import times
from wealthdata.fresh import judge
from wealthdata.merge import Found, Sources, find
from wealthdata.older import Names
from wealthdata.plan import Plan
from wealthdata.reading import Reading, combine, make_reading
from wealthdata.request import (
    Want,
    check_fields,
    check_freshness,
    check_securities,
    check_want,
)
from wealthdata.shapes import layout_of, long_frame

_TRIES = 100


class _Ask(NamedTuple):
    """A call's checked arguments, and where its bars may come from."""

    fields: tuple[str, ...]
    timeframe: str
    want: Want
    private: bool
    max_age: float | None
    on_stale: str
    sources: Sources


def get(
    security: object,
    frequency: str,
    fields: object,
    range_: tuple[object, object, object, bool],
    copy: bool,
    freshness: tuple[float | None, str],
) -> pd.DataFrame:
    """`get_price`, its arguments not yet checked; `range_` is start_date, end_date,
    count and include_now, `freshness` max_age and on_stale."""
    max_age, on_stale = check_freshness(*freshness)
    want = check_want(*range_)
    marks, older = current_marks()
    ask = _Ask(
        check_fields(fields),
        check_timeframe(frequency),
        want._replace(now=bound(marks)),
        check_flag("copy", copy) or always_copy(),
        max_age,
        on_stale,
        sources(marks, older),
    )
    if not isinstance(security, str):
        return _several(check_securities(security), ask)
    return _one(check_symbol(security), ask, (security, frequency, fields))


def _one(symbol: str, ask: _Ask, key: tuple[object, ...]) -> pd.DataFrame:
    names = symbol, ask.timeframe
    layout = layout_of(ask.fields)
    private = ask.private or not layout.only_floats
    for _ in range(_TRIES):
        found = find(names, ask.want, ask.sources, private)
        reading = _read(found, names, ask)
        if not found.shared:
            return layout.private(found.rows, found.first, found.last, reading)
        window = slice(found.first, found.last)
        floats, closes = found.rows.floats[:, window], found.rows.close_time[window]
        frame = layout.frame(floats, times(closes), reading, True)
        if found.rows.valid:
            _remember(key, names, ask)
            return frame
    raise BusyRingError(
        f"{symbol} {ask.timeframe}: the writer outran each of {_TRIES} reads; read"
        " fewer rows, or copy=True"
    )


def _remember(key: tuple[object, ...], names: Names, ask: _Ask) -> None:
    live, fields = ask.sources.live, key[-1]
    if live is not None and (fields is None or isinstance(fields, str | tuple)):
        live.remember(key, Plan(live, names, layout_of(ask.fields)))


def _several(symbols: list[str], ask: _Ask) -> pd.DataFrame:
    parts, readings = [], []
    for symbol in symbols:
        names = symbol, ask.timeframe
        found = find(names, ask.want, ask.sources, private=True)
        readings.append(_read(found, names, ask))
        parts.append((symbol, found.rows, found.first, found.last))
    return long_frame(ask.fields, parts, combine(readings))


def _read(found: Found, names: Names, ask: _Ask) -> Reading:
    """What the frame will say of this read; raises or warns if it is stale."""
    rows, first, last, source, shared, feed, status = found
    if feed is not None and status is not None:
        judge((feed, *names), status, ask.max_age, ask.on_stale)
    facts = {
        "source": source,
        "feed": feed,
        "age": None if status is None or source == "context" else status.age,
        "state": None if status is None else status.state,
        "health": None if status is None else status.health,
        "forming": rows.forming and last == len(rows) and first < last,
        "gaps": missing_bars(rows, first, last, names[1]),
    }
    return make_reading(rows if shared else True, facts)
