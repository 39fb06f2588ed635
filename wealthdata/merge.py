"""The bars of one stream from both sources: its ring and, before that, a context.

The ring is read first; that of a stream which the feed does not carry is rolled up.
Where the range reaches back beyond the ring's oldest bar, the context's older bars are
put before it, provided that both overlap or adjoin: no bar of the grid lies between the
context's newest bar and the ring's oldest. Otherwise bars are missing between them; the
ring's alone are returned, with one warning per context and stream.
"""

from typing import NamedTuple

import numpy as np

from shmfeed.bar import StreamKey, bars_between
from shmfeed.errors import BusyRingError, MissingBarsWarning, StreamNotFoundError
from shmfeed.feed import Ring
from shmfeed.health import RingStatus
from shmfeed.text import counted, format_ms
from wealthdata.attachment import AttachedFeed, no_data_error
from wealthdata.bar_history import BarHistory, read_back
from wealthdata.columns import (
    BarColumns,
    Ints,
    PrivateColumns,
    concatenate,
    from_bars,
    newest_close,
)
from wealthdata.freshness import FirstOfContext, warn
from wealthdata.request import PriceRequest
from wealthdata.rolled_history import roll_history
from wealthdata.rolled_ring import RolledBars, RolledRing, RolledUp, open_ring

_TRIES = 100
_NO_FEEDER = RingStatus(age=None, state="disconnected", health="dead")


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
    newest: int = 0  # close time of the newest closed bar of the stream, 0 for none
    ring: Ring | None = None  # the stream's, or that of the one it is rolled up from
    has_ring_rows: bool = False  # the feed has rows of the stream, in any range
    rolled: RolledUp | None = None  # None if the rows are the ring's own


def find_bars(
    key: StreamKey, request: PriceRequest, sources: Sources, private: bool
) -> FoundBars:
    """Return the requested bars of one stream, and their source.

    `private` asks for a copy instead of the ring's memory; rows that are rolled up
    always are one. Raise NoDataError, StreamNotFoundError or BusyRingError.
    """
    feed = sources.feed
    if feed is None:
        return _find_without_feed(key, request, sources)
    try:
        ring = open_ring(feed, key)
        status, epoch = ring.status(), ring.epoch
    except StreamNotFoundError:
        found = _find_in_history(key, request, sources)
        if found is None:
            raise
        return found._replace(feed=feed.name)
    if isinstance(ring, RolledRing):
        found, lacks = find_rolled(ring, request)
        source = ring.source
    else:
        found, lacks = _find_in_ring(ring, request, private, sources.history)
        source = ring
    feed.check()
    rolled, newest, has_rows = found.rolled, found.newest, found.has_ring_rows
    epoch = found.epoch if rolled else epoch
    if sources.history is not None and lacks:
        found = _prepend_history(key, request, sources, source, found)
    return found._replace(
        feed=feed.name,
        status=status,
        epoch=epoch,
        newest=max(newest, found.newest),  # the context's, where the ring has no row
        ring=source,
        has_ring_rows=has_rows,
        rolled=found.rolled if found.source == "context" else rolled,
    )


def _find_in_ring(
    ring: Ring, request: PriceRequest, private: bool, history: BarHistory | None
) -> tuple[FoundBars, bool]:
    """Return the ring's rows, and True if the range reaches back beyond the oldest."""
    private = private or request.include_now
    rows, newest = read_ring(ring, request, private)
    window = request.window(rows) if rows.forming else (0, len(rows))
    found = FoundBars(rows, *window, "live", not private, newest=newest)
    closes = rows.close_time[slice(*window)]
    lacks = history is not None and reaches_beyond(ring, closes, request)
    return found._replace(has_ring_rows=newest > 0), lacks


def find_rolled(ring: RolledRing, request: PriceRequest) -> tuple[FoundBars, bool]:
    """Return the rows, and True if the range reaches back beyond the oldest."""
    made = ring.read()
    found = _of_rolled(made, request, "live")
    bars, start = made.bars, request.start
    if start is None:
        lacks = request.limit is None or found.last - found.first < request.limit
    else:
        lacks = not len(bars) or bool(bars.close_time[0] > start)
    return found._replace(epoch=made.epoch, has_ring_rows=len(bars) > 0), lacks


def _of_rolled(made: RolledBars, request: PriceRequest, source: str) -> FoundBars:
    first, last = request.window(made.bars)
    rolled = made.described(last, request)
    return FoundBars(
        made.bars, first, last, source, newest=rolled.newest, rolled=rolled
    )


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
    # A backtest's strategy knows of no bar that closes after its own time.
    now = request.now if sources.backtest else None
    newest = sources.wall_clock if request.now is None else request.now
    limit, start, end = request.limit, request.start, request.latest_close
    rows = read_back(history, key, limit, start, end, newest)
    if not len(rows):
        made = roll_history(history, key, now)
        if made is not None:
            return _of_rolled(made, request, "context")
        streams = history.streams()
        known = sources.backtest if streams is None else key in streams
        if not known:
            return None
    found = FoundBars(rows, *request.window(rows), "context")
    visible = PriceRequest(None, now=now)
    closes = rows.close_time[: visible.window(rows)[1]]
    return found._replace(newest=int(closes[-1]) if len(closes) else 0)


def behind_of(found: FoundBars, request: PriceRequest) -> float:
    """Return the seconds from the last row to the newest bar that is left out."""
    closes = found.columns.close_time[found.first : found.last]
    return seconds_behind(closes, found.newest, request.latest_close)


def seconds_behind(close_time: Ints, newest: int, bound: int | None) -> float:
    """Return the seconds from the last row to the newest bar that a bound leaves out.

    `newest` is the close time of the newest closed bar, `bound` the latest one that the
    rows may have. Of no rows, count from the bound. Return 0 if none is left out.
    """
    if bound is None or newest <= bound:
        return 0.0
    last = int(close_time[-1]) if len(close_time) else bound
    return max(0, newest - last) / 1000


def read_ring(
    ring: Ring, request: PriceRequest, private: bool
) -> tuple[BarColumns, int]:
    """Return the rows of the range that the ring has, and its newest close, 0 for none.

    Raise BusyRingError.
    """
    limit = request.limit
    if limit is None or not request.is_newest:
        return read_range(ring, request, private)
    if request.include_now and limit > ring.history:
        return read_range(ring, request, private)  # a snapshot has `history` rows
    rows: BarColumns = (
        ring.snapshot(limit, request.include_now) if private else ring.view(limit)
    )
    return rows, newest_close(rows)


def read_range(
    ring: Ring, request: PriceRequest, private: bool
) -> tuple[BarColumns, int]:
    """Return the rows of a bounded range, and the ring's newest close, 0 without one.

    Only the rows of the range are copied, or held. With `include_now` the forming bar
    follows them, whether the range has it or not. Raise BusyRingError.
    """
    reader = ring._current_reader()
    for _ in range(_TRIES):
        # The forming bar first: if it closes in between, it is found among the rows.
        cell = reader.forming_cell() if request.include_now else None
        rows, newest = reader.between(*request.bounds)
        if not private:
            return rows, newest
        copy = rows.copy()
        if not rows.valid:
            del rows  # or the next try would count a frame of this process as lost
            continue
        if cell is None or cell.close_time <= newest:
            return copy, newest
        if request.newest is not None and newest > request.newest:
            return copy, newest  # another bar was forming at the instant of the read
        return concatenate(copy, len(copy), from_bars([cell], forming=True)), newest
    raise BusyRingError(
        f"{ring.symbol} {ring.timeframe}: bars closed during each of {_TRIES} reads;"
        " read a shorter range, or try again"
    )


def reaches_beyond(ring: Ring, close_time: Ints, request: PriceRequest) -> bool:
    """Return True if the range reaches back beyond the ring's oldest row.

    `close_time` has the rows of the range that the ring has.
    """
    start = request.start
    if start is None:
        return request.limit is None or len(close_time) < request.limit
    if len(close_time) and close_time[0] <= start:
        return False
    before = PriceRequest(1, end=start - 1).bounds
    return not len(ring._current_reader().between(*before)[0])


def _copy_all(ring: Ring, request: PriceRequest) -> BarColumns:
    """Return a copy of all rows of the ring, and of the forming bar if it is asked for.

    The range may begin before the oldest of them.
    """
    # Not what has closed since the instant of the read: a range ends before it.
    newest, include_now = request.newest, request.include_now
    asked = PriceRequest(ring.history, include_now=include_now, newest=newest)
    return read_range(ring, asked, private=True)[0]


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
    is_part = found.shared or not request.is_newest
    if is_part and found.rolled is None and sources.feed is not None:
        rows = _copy_all(ring, request)
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


_warned = FirstOfContext()


def _warn_of_missing_bars(
    key: StreamKey, sources: Sources, hole: tuple[int, int], missing: int
) -> None:
    feed = sources.feed.name if sources.feed else ""
    if not _warned.is_first(sources.owner, (feed, *key)):
        return
    begin, end = map(format_ms, hole)
    warn(
        f"{key[0]} {key[1]}: {counted(missing, 'bar')} missing from {begin} to {end},"
        f" between the context's bars and those of feed {feed!r}; the feed's alone"
        " are returned. If this is a backtest, mark it as one: run_params.type =="
        " 'backtest' in its context, wealthdata.use(context_only=True), or"
        " SHMFEED_FEED=off",
        MissingBarsWarning,
    )
