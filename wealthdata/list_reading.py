"""The general query of a list: its securities one by one, as of one instant.

It serves any range, any field, forming bars, and contexts. The newest closed bar of
each security is found first, by one cut a feed; each is then read up to that bar.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shmfeed.bar import Timeframe
from shmfeed.errors import NoDataError, StreamNotFoundError
from wealthdata.attachment import AttachedFeed
from wealthdata.attrs import combine
from wealthdata.cross_section import (
    Planes,
    build_frame,
    describe_aligned,
    planes_of,
)
from wealthdata.facts import count_each
from wealthdata.list_query import FeedPart, warn_of_unknown
from wealthdata.merge import FoundBars, Sources, find_bars
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
    late, behind = describe_aligned(parts, planes) if shape.align else ({}, 0.0)
    each = [
        query.attrs(bars, (security.symbol, query.timeframe), sources[security])
        for security, bars in found.items()
    ]
    planes = planes.newest(shape, limit)
    left_out = sum(bars.rolled.left_out for bars in found.values() if bars.rolled)
    attrs = combine(each, late)
    attrs["behind"] += behind
    attrs["gaps"] = planes.gaps(query.timeframe) + left_out
    attrs["forming"] = attrs["forming"] and _have_forming(planes, found)
    attrs["absent"] = planes.absent([security.written for security in securities])
    if shape != (False, False):
        for name, count in _count_rows(planes, found, limit).items():
            attrs[name] = count
    return build_frame(planes, query.fields, shape, query.labels, attrs)


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
    first = None
    for security, its_sources in sources.items():
        key = security.symbol, timeframe
        bounded = request._replace(newest=newest.get(security.written))
        try:
            bars = find_bars(key, bounded, its_sources, private=True)
        except (StreamNotFoundError, NoDataError) as error:
            its_feed, is_backtest = its_sources.feed, its_sources.backtest
            if security.feed and its_feed is None and not is_backtest:
                raise  # perhaps misspelt, which a frame without it would hide
            first = first or error
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


def _have_forming(planes: Planes, found: _Found) -> bool:
    """Return True if any security's last row is its forming bar."""
    by_name = {security.written: bars for security, bars in found.items()}
    for symbol, closes in zip(planes.symbols, planes.close_time, strict=True):
        bars, _, last, *_ = by_name[symbol]
        if bars.forming and last == len(bars) and bars.close_time[-1] in closes[-1:]:
            return True
    return False


def _count_rows(planes: Planes, found: _Found, limit: int | None) -> dict[str, Any]:
    """Return how many rows lack, and how many have flags, of an aligned or wide frame.

    It may have fewer rows of a security than were found.
    """
    times = dict(zip(planes.symbols, planes.close_time, strict=True))
    counts = Counter[str]()
    for security, bars in found.items():
        closes = bars.columns.close_time
        rows = np.flatnonzero(np.isin(closes, times.get(security.written, ())))
        counts["short"] += max(0, (limit or 0) - len(rows))
        counts.update(count_each(bars.columns["flags"][rows]))
    return dict(counts)
