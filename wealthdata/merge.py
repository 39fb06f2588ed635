"""The hybrid: the ring's bars and, before them, a context's, as one run of bars.

The ring is asked first. Bars that it lacks at the old end come from the context where
the two overlap or adjoin: where no bar of the grid lies between the context's newest
and the ring's oldest. Else there is a hole, the ring alone serves, and a warning says
so once.
"""

from typing import NamedTuple

import numpy as np

from shmfeed.bar import StreamKey, bars_between
from shmfeed.errors import BusyRingError, StreamNotFoundError
from shmfeed.feed import Ring
from wealthdata.attachment import Live, no_data
from wealthdata.columns import Columns, Rows, joined
from wealthdata.freshness import MissingBarsWarning, Status, warn
from wealthdata.history import Older, enough_rows
from wealthdata.request import Want

_TRIES = 100
_SLACK = 16  # bars that may close between the two looks of one read


class Sources(NamedTuple):
    """Where bars may come from. `live` is None in a backtest and without a feed."""

    live: Live | None
    older: Older | None
    backtest: bool = False
    wall: int = 0  # ms UTC: about when a history function's newest bar is


class Found(NamedTuple):
    """Rows `first` to `last`, last exclusive, of `rows`, and where they are from."""

    rows: Rows
    first: int
    last: int
    source: str
    shared: bool = False  # rows are the ring's own memory
    feed: str | None = None
    status: Status | None = None  # the stream's, if the feed carries it


class _NoFeeder(NamedTuple):
    age: float | None = None
    state: str = "disconnected"
    health: str = "dead"


def find(names: StreamKey, want: Want, sources: Sources, private: bool) -> Found:
    """The bars that are wanted of one stream, and from where.

    `private` asks for rows of their own instead of the ring's memory. Raises
    NoDataError, StreamNotFoundError, BusyRingError.
    """
    live = sources.live
    if live is None:
        return _without_feed(names, want, sources)
    try:
        ring = live.ring(*names)
        status = ring.status()
    except StreamNotFoundError:
        found = _older_only(names, want, sources)
        if found is None:
            raise
        return found._replace(feed=live.name)
    private = private or want.include_now
    found = Found(*take(ring, want, private), "live", not private)
    if _lacks(found, want):
        found = _with_older(names, want, sources, ring, found)
    return found._replace(feed=live.name, status=status)


def _without_feed(names: StreamKey, want: Want, sources: Sources) -> Found:
    if sources.older is None:
        raise no_data("no context with bars is set")
    found = _older_only(names, want, sources)
    if found is None:
        why = _not_there(names, sources.older)
        raise StreamNotFoundError(why) if sources.backtest else no_data(why)
    return found if sources.backtest else found._replace(status=_NoFeeder())


def _not_there(names: StreamKey, older: Older) -> str:
    known = older.streams()
    there = "nothing" if known is None else ", ".join(map(" ".join, known)) or "nothing"
    return f"the context has no {names[0]} {names[1]}; it has: {there}"


def _older_only(names: StreamKey, want: Want, sources: Sources) -> Found | None:
    """The context's bars alone; None if it does not know the stream.

    One that cannot say what it knows is taken to know a stream if it has a bar of it,
    and in a backtest always.
    """
    older = sources.older
    if older is None:
        return None
    newest = sources.wall if want.now is None else want.now
    rows = enough_rows(older, names, want.n, want.start, want.bound, newest)
    if not len(rows):
        streams = older.streams()
        known = sources.backtest if streams is None else names in streams
        if not known:
            return None
    return Found(rows, *want.window(rows), "context")


def take(ring: Ring, want: Want, private: bool) -> tuple[Rows, int, int]:
    """The ring's rows, and the window on them. BusyRingError."""
    if want.n is not None and (want.newest or not private):
        now = want.include_now
        rows: Rows = ring.snapshot(want.n, now) if private else ring.view(want.n)
        first, last = want.window(rows)
        if want.newest or last == len(rows):
            return rows, first, last
    return _take_range(ring, want, private)


def _take_range(ring: Ring, want: Want, private: bool) -> tuple[Rows, int, int]:
    for _ in range(_TRIES):
        # The whole ring is looked at in place; only the range, if any, is copied.
        epoch, history = ring.epoch, ring.history
        view = ring.view(history)
        first, last = want.window(view)
        if not view.valid:
            continue
        if not private:
            return view, first, last
        rows = ring.snapshot(len(view) - first + _SLACK, want.include_now)
        # Bars that closed in between may have pushed the oldest out of the copy.
        reaches = rows.first <= view.first + first or len(rows) >= history
        if reaches and ring.epoch == epoch:
            return rows, *want.window(rows)
    raise BusyRingError(
        f"{ring.symbol} {ring.timeframe}: bars closed during each of {_TRIES} reads;"
        " read a shorter range, or try again"
    )


def _lacks(found: Found, want: Want) -> bool:
    """Whether the range reaches back beyond the oldest of the ring's rows."""
    if want.n is not None:
        return found.last - found.first < want.n
    if found.first > 0:
        return False
    rows = found.rows
    return not len(rows) or want.start is None or rows.close_time[0] > want.start


def _with_older(
    names: StreamKey, want: Want, sources: Sources, ring: Ring, found: Found
) -> Found:
    """`found`, or the context's bars and the ring's in one."""
    if sources.older is None:
        return found
    rows = take(ring, want, True)[0] if found.shared else found.rows
    if not len(rows):
        return _older_only(names, want, sources) or found
    before = _before(names, want, sources.older, rows)
    oldest = int(rows.open_time[0])
    count = int(np.searchsorted(before.open_time, oldest))
    if not _contributes(before, count, want):
        return found
    end = int(before.open_time[-1])
    missing = bars_between(end, oldest, names[1]) if end < oldest else 0
    if missing:
        _warn_of_hole(names, sources, (int(before.close_time[-1]), oldest), missing)
        return found
    return _window(joined(before, count, rows), count, want)


def _before(names: StreamKey, want: Want, older: Older, rows: Rows) -> Columns:
    """The context's bars: enough of them for what `rows` lack at the old end."""
    first, last = want.window(rows)
    count = None if want.n is None else max(1, want.n - (last - first))
    oldest, newest = int(rows.open_time[0]), int(rows.open_time[-1])
    end = oldest if want.bound is None else min(oldest, want.bound)
    return enough_rows(older, names, count, want.start, end, newest)


def _contributes(before: Columns, count: int, want: Want) -> bool:
    """Whether any of the first `count` rows is in the range that is wanted."""
    closes = before.close_time[:count]
    if want.start is not None:
        closes = closes[closes >= want.start]
    if want.bound is not None:
        closes = closes[closes <= want.bound]
    return bool(len(closes))


def _window(rows: Columns, count: int, want: Want) -> Found:
    """The range in joined rows of which the first `count` are the context's."""
    first, last = want.window(rows)
    source = "mixed"
    if last <= count:
        source = "context"
    elif first >= count:
        source = "live"
    return Found(rows, first, last, source)


_warned: set[tuple[str, StreamKey]] = set()


def _warn_of_hole(
    names: StreamKey, sources: Sources, hole: tuple[int, int], missing: int
) -> None:
    feed = sources.live.name if sources.live else ""
    if (feed, names) in _warned:
        return
    _warned.add((feed, names))
    begin, end = (np.datetime64(moment, "ms") for moment in hole)
    warn(
        f"{names[0]} {names[1]}: {missing} bars are missing from {begin} to {end} UTC,"
        f" between the context's and those of feed {feed!r}, which serve alone. A"
        " backtest says that it is one: run_params.type == 'backtest' in its context,"
        " wealthdata.use(context_only=True), or SHMFEED_FEED=off",
        MissingBarsWarning,
    )
