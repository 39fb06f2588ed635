"""The two paths of `get_price`: a cached query of one ring, and the general query.

A cached query reads the newest bars of one stream from its ring alone; everything that
does not change between two calls is prepared. The general query takes any arguments and
bars from any source, and caches a query where that will serve the same call again.
"""

from contextlib import suppress
from typing import Any, NamedTuple

import pandas as pd

from shmfeed.bar import Field, StreamKey, Timeframe, check_timeframe, step
from shmfeed.errors import BusyRingError, NoDataError, StreamNotFoundError
from shmfeed.health import RingStatus, quiet_ns
from shmfeed.validation import check_flag, check_symbol
from wealthdata.attachment import AttachedFeed, add_usual_read, always_copy
from wealthdata.attrs import FrameAttrs, combine, make_attrs
from wealthdata.columns import BarColumns, count_missing
from wealthdata.context import (
    ContextView,
    current_views,
    open_sources,
    strategy_time,
)
from wealthdata.cross_section import Planes, Shape, build_frame, planes_of
from wealthdata.frame import (
    TIME,
    FrameTemplate,
    template_of,
    to_datetimes,
)
from wealthdata.freshness import check, warn_of_lost
from wealthdata.list_query import CachedListQuery, warn_of_unknown
from wealthdata.merge import FoundBars, Sources, find_bars
from wealthdata.price_table import PreparedRead, usual_attrs
from wealthdata.request import (
    PriceRequest,
    check_fields,
    check_newest,
    check_request,
    check_securities,
    check_stale_options,
)

_TRIES = 100


class CachedQuery:
    """A prepared read of one stream's newest bars: its ring and its template."""

    __slots__ = (
        "_build",
        "_compiled",
        "_feed",
        "_ring",
        "_step",
        "_stream",
        "_timeframe",
    )

    def __init__(
        self, feed: AttachedFeed, key: StreamKey, template: FrameTemplate
    ) -> None:
        """Prepare the read. The template has float fields only.

        Raise StreamNotFoundError.
        """
        self._ring = feed.ring(key)
        self._feed = feed.name
        self._timeframe = key[1]
        self._stream = (feed.name, *key)
        self._build = template.build
        self._step = step(key[1])  # 0 for months, which the calendar counts
        self._compiled = template.compiled

    def prepared(self) -> PreparedRead | None:
        """Return what the C core needs for this read, or None if it cannot serve it."""
        if self._compiled is None or not self._step:
            return None
        attrs = usual_attrs(self._feed)
        quiet = quiet_ns(self._timeframe)
        return PreparedRead(self._ring, self._compiled, attrs, self._step, quiet)

    def read(
        self,
        count: int | None,
        include_now: object,
        copy: object,
        max_age: float | None,
        on_stale: Any,
    ) -> pd.DataFrame | None:
        """Return the newest bars, or None if the general query must decide.

        Raise BadArgumentError, StaleFeedError or BusyRingError.
        """
        newest = check_newest(count, max_age, on_stale)
        if newest is None:
            return None
        count, max_age, on_stale = newest
        if not (isinstance(include_now, bool) and isinstance(copy, bool)):
            return None
        private = include_now or copy or always_copy()
        ring = self._ring
        try:
            bars: Any = (
                ring.snapshot(count, include_now) if private else ring.view(count)
            )
            status = ring.status()
            if ring._lost:
                warn_of_lost(ring)
        except StreamNotFoundError:
            return None  # the feed was recreated without this stream
        views, history = current_views()
        if (views or history) and _context_matters(bars, count, views, history):
            return None
        check(self._stream, status, max_age, on_stale, ring)
        attrs = make_attrs(private or bars.validity, self._values(bars, status))
        frame = self._build(bars.floats, bars.datetimes(TIME), attrs, not private)
        return frame if bars.valid else None

    def _values(self, bars: Any, status: RingStatus) -> dict[str, Any]:
        age, state, health = status
        if self._step:
            gaps = bars.missing(self._step)
        else:
            gaps = count_missing(bars, 0, len(bars), self._timeframe)
        return {
            "source": "live",
            "feed": self._feed,
            "age": age,
            "state": state,
            "health": health,
            "forming": bars.forming,
            "gaps": gaps,
        }


def _context_matters(
    bars: BarColumns, count: int, views: tuple[ContextView, ...], history: object
) -> bool:
    """Return True if a context may add bars to this read, or hides some of them."""
    if history is not None and len(bars) < count:
        return True
    if any(view.is_backtest for view in views):
        return True
    now = strategy_time(views)
    return now is not None and bool(len(bars)) and bool(bars.close_time[-1] > now)


class GeneralQuery(NamedTuple):
    """The checked arguments of a call, and the sources of its bars."""

    fields: tuple[Field, ...]
    timeframe: Timeframe
    request: PriceRequest
    private: bool
    max_age: float | None
    on_stale: str
    sources: Sources

    def read_one(self, symbol: str) -> tuple[pd.DataFrame, bool]:
        """Return the frame of one symbol, and True if it lies over the ring alone.

        Raise NoDataError, StreamNotFoundError, StaleFeedError or BusyRingError.
        """
        key = symbol, self.timeframe
        template = template_of(self.fields)
        private = self.private or not template.only_floats
        for _ in range(_TRIES):
            found = find_bars(key, self.request, self.sources, private)
            attrs = self._attrs(found, key)
            bars, first, last = found.columns, found.first, found.last
            if not found.shared:
                return template.build_private(bars, first, last, attrs), False
            floats, closes = bars.floats[:, first:last], bars.close_time[first:last]
            frame = template.build(floats, to_datetimes(closes), attrs, True)
            if bars.valid:
                return frame, True
        raise BusyRingError(
            f"{symbol} {self.timeframe}: the feeder overwrote rows during each of"
            f" {_TRIES} reads; read fewer rows, or use copy=True"
        )

    def read_several(self, symbols: list[str], shape: Shape) -> pd.DataFrame:
        """Return the frame of these symbols.

        Raise StaleFeedError or BusyRingError, and NoDataError or StreamNotFoundError
        if none of the symbols is known.
        """
        limit, request = self.request.limit, self.request
        while True:
            found = self._find_each(symbols, request)
            parts = [(s, f.columns, f.first, f.last) for s, f in found.items()]
            planes = planes_of(parts, self.fields, shape.align)
            if not shape.align or limit is None or planes.close_time.shape[1] >= limit:
                break
            depth = request.limit or limit
            if all(last - first < depth for _, _, first, last in parts):
                break  # there are no older rows
            request = request._replace(limit=2 * depth)
        attrs = combine([self._attrs(f, (s, self.timeframe)) for s, f in found.items()])
        present = set(planes.symbols)
        planes = planes.newest(shape, limit)
        attrs["absent"] = [symbol for symbol in symbols if symbol not in present]
        attrs["gaps"] = planes.gaps(self.timeframe)
        attrs["forming"] = attrs["forming"] and _have_forming(planes, found)
        return build_frame(planes, self.fields, shape, attrs)

    def _find_each(
        self, symbols: list[str], request: PriceRequest
    ) -> dict[str, FoundBars]:
        found, unknown, first = {}, [], None
        for symbol in symbols:
            key = symbol, self.timeframe
            try:
                found[symbol] = find_bars(key, request, self.sources, private=True)
            except (StreamNotFoundError, NoDataError) as error:
                if self.sources.feed is None and self.sources.history is None:
                    raise  # no security can have bars
                unknown.append(symbol)
                first = first or error
        if first is not None and not found:
            raise first
        if unknown and self.sources.feed is not None:
            warn_of_unknown(self.sources.feed.name, self.timeframe, tuple(unknown))
        return found

    def _attrs(self, found: FoundBars, key: StreamKey) -> FrameAttrs:
        """Return the frame's attrs, after the check of the stream's freshness."""
        bars, first, last, source, shared, feed, status = found
        ring = None
        if self.sources.feed is not None and status is not None:
            ring = self.sources.feed.ring(key)
            warn_of_lost(ring)
        if feed is not None and status is not None:
            check((feed, *key), status, self.max_age, self.on_stale, ring)
        values = {
            "source": source,
            "feed": feed,
            "age": None if status is None or source == "context" else status.age,
            "state": None if status is None else status.state,
            "health": None if status is None else status.health,
            "forming": bars.forming and last == len(bars) and first < last,
            "gaps": count_missing(bars, first, last, key[1]),
        }
        validity: Any = found.columns
        return make_attrs(validity.validity if shared else True, values)


def _have_forming(planes: Planes, found: dict[str, FoundBars]) -> bool:
    """Return True if any security's last row is its forming bar."""
    for symbol, closes in zip(planes.symbols, planes.close_time, strict=True):
        bars, _, last, *_ = found[symbol]
        if bars.forming and last == len(bars) and bars.close_time[-1] in closes[-1:]:
            return True
    return False


def run(
    security: object,
    frequency: str,
    fields: object,
    *,
    start_date: object,
    end_date: object,
    count: object,
    include_now: object,
    copy: object,
    max_age: object,
    on_stale: object,
    shape: tuple[object, object],
) -> pd.DataFrame:
    """Check the arguments of `get_price` and return its frame by the general query."""
    age_limit, reaction = check_stale_options(max_age, on_stale)
    request = check_request(start_date, end_date, count, include_now)
    views, history = current_views()
    query = GeneralQuery(
        fields=check_fields(fields),
        timeframe=check_timeframe(frequency),
        request=request._replace(now=strategy_time(views)),
        private=check_flag("copy", copy) or always_copy(),
        max_age=age_limit,
        on_stale=reaction,
        sources=open_sources(views, history),
    )
    checked = Shape(check_flag("align", shape[0]), check_flag("wide", shape[1]))
    if not isinstance(security, str):
        return _read_list(query, security, frequency, fields, checked, copy)
    symbol = check_symbol(security)
    frame, from_ring_alone = query.read_one(symbol)
    if from_ring_alone and _can_be_key(fields):
        _cache(query, symbol, (security, frequency, fields))
    return frame


def _can_be_key(fields: object) -> bool:
    """Return True if these checked fields never change and can be hashed."""
    return fields is None or isinstance(fields, str | tuple)


def _read_list(
    query: GeneralQuery,
    security: object,
    frequency: str,
    fields: object,
    shape: Shape,
    copy: object,
) -> pd.DataFrame:
    symbols = check_securities(security)
    feed, request = query.sources.feed, query.request
    if feed is not None and request.is_newest and template_of(query.fields).only_floats:
        with suppress(StreamNotFoundError):  # the general query looks for a context
            cached = CachedListQuery(
                feed, tuple(symbols), query.timeframe, query.fields, shape
            )
            frame = cached.read(
                request.limit, request.include_now, copy, query.max_age, query.on_stale
            )
            if frame is not None:
                if isinstance(security, list | tuple) and _can_be_key(fields):
                    arguments = tuple(security), frequency, fields, *shape
                    feed.cache_list_query(arguments, cached)
                    add_usual_read(feed, arguments[:3], cached.prepared())
                return frame
    return query.read_several(symbols, shape)


def _cache(query: GeneralQuery, symbol: str, arguments: object) -> None:
    feed = query.sources.feed
    if feed is not None:
        key, template = (symbol, query.timeframe), template_of(query.fields)
        cached = CachedQuery(feed, key, template)
        feed.cache_query(arguments, cached)
        add_usual_read(feed, arguments, cached.prepared())
