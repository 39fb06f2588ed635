"""The bars of one stream from both sources: its ring and, before that, a context.

The ring is read first. Where the range reaches back beyond the ring's oldest bar, the
context's older bars are put before it, provided that both overlap or adjoin: no bar of
the grid lies between the context's newest bar and the ring's oldest. Otherwise bars are
missing between them; the ring's alone are returned, with one warning per context and
stream.
"""

import weakref
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from shmfeed.bar import StreamKey, bars_between
from shmfeed.errors import BusyRingError, MissingBarsWarning, StreamNotFoundError
from shmfeed.feed import Ring
from shmfeed.health import RingStatus
from shmfeed.text import counted
from wealthdata.attachment import AttachedFeed, no_data_error
from wealthdata.bar_history import BarHistory, read_back
from wealthdata.columns import BarColumns, PrivateColumns, concatenate
from wealthdata.freshness import warn
from wealthdata.request import PriceRequest

_TRIES = 100
_NO_FEEDER = RingStatus(age=None, state="disconnected", health="dead")
_SLACK = 16  # bars that may close between a view of the ring and its copy


class Sources(NamedTuple):
    """The sources of one read. `feed` is None in a backtest, and without a feed.

    `named` is the feed that the call names, None if it leaves that to the choice.
    """

    feed: AttachedFeed | None
    history: BarHistory | None
    backtest: bool = False
    wall_clock: int = 0  # ms UTC, near the newest bar of a history function
    named: str | None = None
    owner: object = None  # the context, or adapter, whose bars `history` has


class FoundBars(NamedTuple):
    """Rows `first` to `last`, last exclusive, of `columns`, and their source."""

    columns: BarColumns
    first: int
    last: int
    source: str
    shared: bool = False  # the columns are the ring's own memory
    feed: str | None = None
    status: RingStatus | None = None  # None if the feed does not carry the stream
    epoch: int = 0  # of the ring's bar numbers, before its rows were read


def find_bars(
    key: StreamKey, request: PriceRequest, sources: Sources, private: bool
) -> FoundBars:
    """Return the requested bars of one stream, and their source.

    `private` asks for a copy instead of the ring's memory. Raise NoDataError,
    StreamNotFoundError or BusyRingError.
    """
    feed = sources.feed
    if feed is None:
        return _find_without_feed(key, request, sources)
    try:
        ring = feed.ring(key)
        status, epoch = ring.status(), ring.epoch
    except StreamNotFoundError:
        found = _find_in_history(key, request, sources)
        if found is None:
            raise
        return found._replace(feed=feed.name)
    private = private or request.include_now
    found = FoundBars(*read_ring(ring, request, private), "live", not private)
    feed.check()
    if _reaches_beyond(found, request):
        found = _prepend_history(key, request, sources, ring, found)
    return found._replace(feed=feed.name, status=status, epoch=epoch)


def _find_without_feed(
    key: StreamKey, request: PriceRequest, sources: Sources
) -> FoundBars:
    if sources.history is None:
        raise no_data_error("no context with bars is set", sources.named)
    found = _find_in_history(key, request, sources)
    if found is None:
        reason = _not_in_history(key, sources.history)
        if sources.backtest:
            raise StreamNotFoundError(reason)
        raise no_data_error(reason, sources.named)
    return found if sources.backtest else found._replace(status=_NO_FEEDER)


def _not_in_history(key: StreamKey, history: BarHistory) -> str:
    known = history.streams()
    held = "nothing" if known is None else ", ".join(map(" ".join, known)) or "nothing"
    return f"the context has no {key[0]} {key[1]}; it has: {held}"


def _find_in_history(
    key: StreamKey, request: PriceRequest, sources: Sources
) -> FoundBars | None:
    """Return the context's bars alone; None if the context does not have the stream.

    A history function cannot list its streams: it has a stream if it returns a bar of
    it, and in a backtest it has every stream.
    """
    history = sources.history
    if history is None:
        return None
    newest = sources.wall_clock if request.now is None else request.now
    limit, start, end = request.limit, request.start, request.latest_close
    rows = read_back(history, key, limit, start, end, newest)
    if not len(rows):
        streams = history.streams()
        known = sources.backtest if streams is None else key in streams
        if not known:
            return None
    return FoundBars(rows, *request.window(rows), "context")


def read_ring(
    ring: Ring, request: PriceRequest, private: bool
) -> tuple[BarColumns, int, int]:
    """Return rows of the ring, with first and last row of the range in them.

    Raise BusyRingError.
    """
    if request.limit is not None and (request.is_newest or not private):
        rows: BarColumns = (
            ring.snapshot(request.limit, request.include_now)
            if private
            else ring.view(request.limit)
        )
        first, last = request.window(rows)
        if request.is_newest or last == len(rows):
            return rows, first, last
    return _read_range(ring, request, private)


def _read_range(
    ring: Ring, request: PriceRequest, private: bool
) -> tuple[BarColumns, int, int]:
    for _ in range(_TRIES):
        # The range is searched for in place; only its rows are copied, or held.
        epoch, longest = ring.epoch, ring.history
        view = ring.view(longest)
        first = request.window(view)[0]
        if not view.valid:
            continue
        count = len(view) - first + _SLACK
        rows = (
            ring.snapshot(count, request.include_now) if private else ring.view(count)
        )
        if rows.forming and not request.admits_forming(rows):
            rows = ring.snapshot(count)  # it stood in the place of the oldest row
        # Bars that closed in between may have pushed the oldest out of the rows.
        reaches = rows.first <= view.first + first or len(rows) >= longest
        if reaches and ring.epoch == epoch:
            return rows, *request.window(rows)
    raise BusyRingError(
        f"{ring.symbol} {ring.timeframe}: bars closed during each of {_TRIES} reads;"
        " read a shorter range, or try again"
    )


def _reaches_beyond(found: FoundBars, request: PriceRequest) -> bool:
    """Return True if the range reaches back beyond the ring's oldest row."""
    if request.limit is not None:
        return found.last - found.first < request.limit
    if found.first > 0:
        return False
    rows, start = found.columns, request.start
    return not len(rows) or start is None or rows.close_time[0] > start


def _prepend_history(
    key: StreamKey,
    request: PriceRequest,
    sources: Sources,
    ring: Ring,
    found: FoundBars,
) -> FoundBars:
    history = sources.history
    if history is None:
        return found
    rows = found.columns
    if found.shared and sources.feed is not None:
        rows = read_ring(ring, request, True)[0]
        sources.feed.check()
    if not len(rows):
        return _find_in_history(key, request, sources) or found
    older = _read_older(key, request, history, rows)
    oldest = int(rows.open_time[0])
    count = int(np.searchsorted(older.open_time, oldest))
    if not _contributes(older, count, request):
        return found
    newest = int(older.open_time[-1])
    missing = bars_between(newest, oldest, key[1]) if newest < oldest else 0
    if missing:
        hole = int(older.close_time[-1]), oldest
        _warn_of_missing_bars(key, sources, hole, missing)
        return found
    return _joined_window(concatenate(older, count, rows), count, request)


def _read_older(
    key: StreamKey, request: PriceRequest, history: BarHistory, rows: BarColumns
) -> PrivateColumns:
    """Return enough of the context's bars for the part of the range before `rows`."""
    first, last = request.window(rows)
    limit = None if request.limit is None else max(1, request.limit - (last - first))
    oldest, newest = int(rows.open_time[0]), int(rows.open_time[-1])
    bound = request.latest_close
    end = oldest if bound is None else min(oldest, bound)
    return read_back(history, key, limit, request.start, end, newest)


def _contributes(older: PrivateColumns, count: int, request: PriceRequest) -> bool:
    """Return True if any of the first `count` rows is in the range."""
    closes = older.close_time[:count]
    if request.start is not None:
        closes = closes[closes >= request.start]
    if request.latest_close is not None:
        closes = closes[closes <= request.latest_close]
    return bool(len(closes))


def _joined_window(
    rows: PrivateColumns, count: int, request: PriceRequest
) -> FoundBars:
    """Return the range in joined rows, of which the first `count` are the context's."""
    first, last = request.window(rows)
    source = "mixed"
    if last <= count:
        source = "context"
    elif first >= count:
        source = "live"
    return FoundBars(rows, first, last, source)


# The feeds and streams that were warned of, by the id of each context. A context that
# no weak reference can point to is kept, and with it its id.
_warned: dict[int, tuple[object, set[tuple[str, StreamKey]]]] = {}
_MOST_CONTEXTS = 256


def _is_first(owner: object, stream: tuple[str, StreamKey]) -> bool:
    """Return True once for each context and stream."""
    key = id(owner)
    if key not in _warned:
        if len(_warned) >= _MOST_CONTEXTS:
            _warned.clear()
        kept = owner
        with suppress(TypeError):
            kept = weakref.ref(owner, lambda _: _warned.pop(key, None))
        _warned[key] = kept, set()
    streams = _warned[key][1]
    if stream in streams:
        return False
    streams.add(stream)
    return True


def _warn_of_missing_bars(
    key: StreamKey, sources: Sources, hole: tuple[int, int], missing: int
) -> None:
    feed = sources.feed.name if sources.feed else ""
    if not _is_first(sources.owner, (feed, key)):
        return
    begin, end = (np.datetime64(moment, "ms") for moment in hole)
    warn(
        f"{key[0]} {key[1]}: {counted(missing, 'bar')} missing from {begin} to {end}"
        f" UTC, between the context's bars and those of feed {feed!r}; the feed's alone"
        " are returned. If this is a backtest, mark it as one: run_params.type =="
        " 'backtest' in its context, wealthdata.use(context_only=True), or"
        " SHMFEED_FEED=off",
        MissingBarsWarning,
    )
