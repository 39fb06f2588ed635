"""The long way of `get_price`: any arguments, bars from anywhere.

The short way of `get_price`: one stream's newest bars, out of its ring alone.
"""

from typing import Any, NamedTuple

import pandas as pd

from shmfeed.bar import StreamKey, check_timeframe, step
from shmfeed.errors import BusyRingError, StreamNotFoundError
from shmfeed.validation import check_flag, check_symbol
from wealthdata.attachment import Live, always_copy
from wealthdata.attrs import Reading, combine, make_reading
from wealthdata.columns import Rows, missing_bars
from wealthdata.context import Marked, bound, current_marks, sources
from wealthdata.frame import TIME, Layout, layout_of, long_frame, times
from wealthdata.freshness import judge
from wealthdata.merge import Found, Sources, find
from wealthdata.request import (
    DEFAULT_COUNT,
    Want,
    check_fields,
    check_freshness,
    check_securities,
    check_want,
)


class Plan:
    """What can be known beforehand of a call: its stream's ring, its layout."""

    __slots__ = ("_feed", "_frame", "_ring", "_step", "_stream", "_timeframe")

    def __init__(self, live: Live, names: StreamKey, layout: Layout) -> None:
        """`layout` is one of float fields only. Raises StreamNotFoundError."""
        self._ring = live.ring(*names)
        self._feed = live.name
        self._timeframe = names[1]
        self._stream = (live.name, *names)
        self._frame = layout.frame
        # A month has no length: its bars are counted by the calendar.
        self._step = step(names[1])

    def read(
        self,
        count: int | None,
        include_now: object,
        copy: object,
        max_age: float | None,
        on_stale: Any,
    ) -> pd.DataFrame | None:
        """The newest bars, or None where the long way must decide.

        Raises BadArgumentError, StaleFeedError, BusyRingError.
        """
        if count is None:
            count = DEFAULT_COUNT
        elif count.__class__ is not int or count < 1:
            return None
        if not (max_age is None and on_stale.__class__ is str and on_stale == "warn"):
            max_age, on_stale = check_freshness(max_age, on_stale)
        if not (isinstance(include_now, bool) and isinstance(copy, bool)):
            return None
        private = include_now or copy or always_copy()
        ring = self._ring
        try:
            rows: Any = (
                ring.snapshot(count, include_now) if private else ring.view(count)
            )
            status = ring.status()
        except StreamNotFoundError:
            return None  # the feed of this name is another one by now
        marks, older = current_marks()
        if (marks or older) and _leaves(rows, count, marks, older):
            return None
        judge(self._stream, status, max_age, on_stale)
        reading = make_reading(private or rows, self._facts(rows, status))
        frame = self._frame(rows.floats, rows.datetimes(TIME), reading, not private)
        return frame if rows.valid else None

    def _facts(
        self, rows: Any, status: tuple[float | None, str, str]
    ) -> dict[str, Any]:
        age, state, health = status
        if self._step:
            gaps = rows.missing(self._step)
        else:
            gaps = missing_bars(rows, 0, len(rows), self._timeframe)
        return {
            "source": "live",
            "feed": self._feed,
            "age": age,
            "state": state,
            "health": health,
            "forming": rows.forming,
            "gaps": gaps,
        }


def _leaves(rows: Rows, count: int, marks: tuple[Marked, ...], older: object) -> bool:
    """Whether a context has a say in this read: for its bars, or for its time."""
    if older is not None and len(rows) < count:
        return True
    if any(marked.backtest for marked in marks):
        return True
    now = bound(marks)
    return now is not None and bool(len(rows)) and bool(rows.close_time[-1] > now)


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


def _remember(key: tuple[object, ...], names: StreamKey, ask: _Ask) -> None:
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


def _read(found: Found, names: StreamKey, ask: _Ask) -> Reading:
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
