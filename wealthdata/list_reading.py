"""The general query of a list: its securities one by one, as of one instant.

It serves any range, any field, forming bars, and contexts. The newest closed bar of
each security is found first, by one cut a feed; each is then read up to that bar.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shmfeed.bar import Timeframe
from shmfeed.errors import NoDataError, StreamNotFoundError
from wealthdata.attachment import AttachedFeed
from wealthdata.attrs import combine
from wealthdata.carried import Missing, name_nearest
from wealthdata.columns import PrivateColumns
from wealthdata.cross_section import (
    Planes,
    build_frame,
    closes_of,
    planes_of,
    seconds_late,
    seconds_left_out,
)
from wealthdata.judging import judge_unknown, log_frame
from wealthdata.list_query import warn_of_unknown
from wealthdata.list_rows import FeedPart
from wealthdata.merge import FoundBars, Sources, behind_of, find_bars
from wealthdata.request import PriceRequest, Shape
from wealthdata.securities import Security

if TYPE_CHECKING:
    from wealthdata.query import GeneralQuery

_Found = dict[Security, FoundBars]


def read_several(
    query: "GeneralQuery", securities: list[Security], shape: Shape
) -> pd.DataFrame:
    """Return the frame of these securities.

    Raise StaleFeedError or BusyRingError, and NoDataError or StreamNotFoundError
    if none of the securities is known.
    """
    limit, request = query.request.limit, query.request
    sources = {security: query.sources(security) for security in securities}
    newest = _newest_closes(sources, query.timeframe)
    while True:
        found = _find_each(sources, query.timeframe, request, newest)
        parts = [
            (security.written, bars.columns, bars.first, bars.last)
            for security, bars in found.items()
        ]
        planes = planes_of(parts, query.fields, shape.align)
        if not shape.align or limit is None or planes.close_time.shape[1] >= limit:
            break
        depth = request.limit or limit
        if all(last - first < depth for _, _, first, last in parts):
            break  # there are no older rows
        request = request._replace(limit=2 * depth)
    planes = planes.newest(shape, limit)
    shown = _shown(found, planes, shape)
    each = [
        query.attrs(
            bars,
            (security.symbol, query.timeframe),
            sources[security],
            shown[security],
        )
        for security, bars in found.items()
    ]
    ends = closes_of(parts) if shape.align else {}
    attrs = combine(each, seconds_late(ends))
    if ends:
        bound = query.request.latest_close
        left_out = _newest_left_out(found, newest, ends, bound)
        attrs["behind"] = seconds_left_out(ends, left_out, planes)
    else:
        attrs["behind"] = max(behind_of(bars, query.request) for bars in found.values())
    attrs["short"] += _short_of_unknown(query, found, sources)
    attrs["absent"] = planes.absent([security.written for security in securities])
    log_frame(attrs)
    return build_frame(planes, query.fields, shape, query.labels, attrs)


def _short_of_unknown(
    query: "GeneralQuery", found: _Found, sources: dict[Security, Sources]
) -> int:
    """Return the number of missing rows of securities that no source has.

    Raise ShortError, or warn, as the reactions say.
    """
    unknown = [security for security in sources if security not in found]
    for security in unknown:
        key = security.symbol, query.timeframe
        judge_unknown(key, query.request, sources[security], query.reactions)
    return len(unknown) * (query.request.limit or 0)


def _shown(found: _Found, planes: Planes, shape: Shape) -> _Found:
    """Return the rows of each security that a frame has.

    An aligned or a wide frame may have fewer than were found.
    """
    if shape == (False, False):
        return found
    times = dict(zip(planes.symbols, planes.close_time, strict=True))
    return {
        security: _rows_at(bars, times.get(security.written, ()))
        for security, bars in found.items()
    }


def _newest_left_out(
    found: _Found, newest: dict[str, int], ends: dict[str, int], bound: int | None
) -> int:
    """Return the close time of the newest bar, of those that a bound leaves out too.

    `newest` has those of the instant of the read. A rolled-up group with a hole is left
    out by no bound.
    """
    times = []
    for security, bars in found.items():
        closed = min(bars.newest, newest.get(security.written, bars.newest))
        is_bounded = bound is not None and closed > bound
        # The last row may be forming.
        end = min(closed, ends.get(security.written, 0))
        times.append(closed if is_bounded else end)
    return max(times)


def _rows_at(found: FoundBars, times: Any) -> FoundBars:
    """Return the found rows with these close times."""
    bars, first, last = found.columns, found.first, found.last
    rows = first + np.flatnonzero(np.isin(bars.close_time[first:last], times))
    if len(rows) == last - first:
        return found
    forming = bars.forming and len(bars) - 1 in rows
    shown = PrivateColumns(
        bars.open_time[rows],
        bars.close_time[rows],
        bars.floats[:, rows],
        bars["flags"][rows],
        forming,
    )
    return found._replace(columns=shown, first=0, last=len(rows))


def _newest_closes(
    sources: dict[Security, Sources], timeframe: Timeframe
) -> dict[str, int]:
    """Return the newest close times that the feeds have, each at one instant."""
    newest: dict[str, int] = {}
    for feed, securities in by_feed(sources).items():
        part = FeedPart(feed, securities, timeframe, ("close",))
        newest |= part.newest_closes()
    return newest


def _find_each(
    sources: dict[Security, Sources],
    timeframe: Timeframe,
    request: PriceRequest,
    newest: dict[str, int],
) -> _Found:
    found: _Found = {}
    unknown: dict[AttachedFeed, list[str]] = {}
    first: Missing | None = None
    for security, its_sources in sources.items():
        key = security.symbol, timeframe
        bounded = request._replace(newest=newest.get(security.written))
        try:
            bars = find_bars(key, bounded, its_sources, private=True)
        except (StreamNotFoundError, NoDataError) as error:
            its_feed, is_backtest = its_sources.feed, its_sources.backtest
            if security.feed and its_feed is None and not is_backtest:
                raise  # perhaps misspelt, which a frame without it would hide
            first = first or name_nearest(error, security, its_sources.named)
            if its_feed is not None:
                unknown.setdefault(its_feed, []).append(security.symbol)
        else:
            found[security] = bars
    if first is not None and not found:
        raise first
    for feed, symbols in unknown.items():
        warn_of_unknown(feed.name, timeframe, tuple(symbols))
    return found


def by_feed(
    sources: dict[Security, Sources],
) -> dict[AttachedFeed, list[Security]]:
    """Return the securities by feed, without those whose feed cannot be read."""
    listed: dict[AttachedFeed, list[Security]] = {}
    for security, its_sources in sources.items():
        if its_sources.feed is not None:
            listed.setdefault(its_sources.feed, []).append(security)
    return listed
