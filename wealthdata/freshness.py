"""Freshness of a stream, and the warnings that a read gives.

A warning is shown at the line of the strategy that called this package.
"""

import sys
import warnings
import weakref
from contextlib import suppress
from types import FrameType
from typing import Any

from shmfeed.bar import STALE_MIN_SECONDS, duration, stale_after
from shmfeed.errors import (
    BehindWarning,
    LappedWarning,
    StaleFeedError,
    StaleFeedWarning,
    UnsupportedPlatformError,
)
from shmfeed.feed import Ring
from shmfeed.health import RingStatus, silence
from shmfeed.text import counted
from wealthdata.reactions import Reactions

_MOST_REMEMBERED = 4096
_MOST_CONTEXTS = 256


def warn(message: str, category: type[UserWarning]) -> None:
    """Warn at the first caller outside this package.

    The caller has decided that the warning is due: Python's own record of the warnings
    that a line has given, which would hide that of a second backtest, is not asked.
    """
    frame = sys._getframe(1)
    while _is_of_this_package(frame) and frame.f_back is not None:
        frame = frame.f_back  # warnings.warn can skip files only from Python 3.12 on
    where = frame.f_code.co_filename, frame.f_lineno
    warnings.warn_explicit(message, category, *where, frame.f_globals.get("__name__"))


def _is_of_this_package(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return bool(name.partition(".")[0] == "wealthdata")


StreamId = tuple[str, str, str]  # feed, symbol, timeframe

outages: set[tuple[StreamId, float | None]] = set()  # already warned of


def is_stale(
    status: RingStatus, max_age: float | None, timeframe: str, ring: Ring | None = None
) -> bool:
    """Return True if the stream is stale.

    A `max_age` in seconds is compared with the age alone. With None the feeder and the
    stream's connection count too, and the limit is that of `ring`, without one three
    bars, at least 30 s.
    """
    age = status.age
    if max_age is not None:
        return age is None or age > max_age
    if status.health in ("dead", "stale"):
        return True
    if status.state != "connected" and status.health != "polled":
        return True
    if ring is None:
        return age is not None and age > stale_after(timeframe)
    silent, limit = silence(ring._current_reader(), timeframe)
    return silent > limit


def check(
    stream: StreamId,
    status: RingStatus,
    max_age: float | None,
    on_stale: str,
    ring: Ring | None = None,
) -> None:
    """Raise StaleFeedError, or warn once per outage, if the stream is stale.

    A fresh stream ends its outage: the next one is warned of again. `ring` is the
    stream's, None where no feed carries it.
    """
    if on_stale == "ignore" and not outages:
        return
    age = status.age
    if (
        max_age is None
        and status.health == "live"
        and age is not None
        and age < STALE_MIN_SECONDS
        and not outages
    ):
        return  # the usual case: fresh, and no outage to end
    outage = stream, max_age
    if not is_stale(status, max_age, stream[2], ring):
        outages.discard(outage)
        return
    if on_stale == "ignore":
        return
    message = _stale_message(stream, status, max_age, ring)
    if on_stale == "raise":
        raise StaleFeedError(message)
    if outage not in outages:
        _remember(outages, outage)
        warn(message, StaleFeedWarning)


class FirstOfContext:
    """A warning that is due once for each context and stream.

    A second backtest in the same process is so warned like the first one. A context
    that no weak reference can point to is kept, and with it its id.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, set[StreamId]]] = {}

    def is_first(self, context: object, stream: StreamId) -> bool:
        """Return True once for each context and stream."""
        key, known = id(context), self._known
        if key not in known:
            if len(known) >= _MOST_CONTEXTS:
                known.clear()
            kept = context
            with suppress(TypeError):
                kept = weakref.ref(context, lambda _: known.pop(key, None))
            known[key] = kept, set()
        return is_first(known[key][1], stream)


_looked_for = FirstOfContext()  # streams without a feed, once named


def check_context(
    stream: StreamId,
    age: float | None,
    lacks_feed: bool,
    context: object,
    reactions: Reactions,
) -> None:
    """Raise StaleFeedError, or warn once, if a context's rows alone are stale.

    The first such read of a stream is warned of in any case, once for each context, and
    names the feed that was looked for.

    Args:
        stream: The stream, and the feed that was looked for.
        age: Seconds since the close of the newest row; None without a row.
        lacks_feed: True if this host has no such feed; else it lacks the stream's rows.
        context: The context, or the data adapter, that has the rows.
        reactions: Those of the read.
    """
    feed, symbol, timeframe = stream
    limit, outage = reactions.max_age, (stream, reactions.max_age)
    if limit is None:
        limit = stale_after(timeframe)
    is_old = age is None or age > limit
    if not is_old:
        outages.discard(outage)
    if reactions.on_stale == "ignore":
        return
    refuses = is_old and reactions.on_stale == "raise"
    is_new = is_old and outage not in outages
    if not (refuses or _looked_for.is_first(context, stream) or is_new):
        return
    has = (
        f"is not on this host{name_feeds(feed)}" if lacks_feed else "has no rows of it"
    )
    newest = "has no row" if age is None else f"closed {age:.1f} s ago"
    judged = "is stale" if is_old else "is of a context alone"
    message = (
        f"{symbol} {timeframe} {judged}: feed {feed!r} {has}, so the context's rows are"
        f" returned; the newest {newest}, limit {limit:g} s; see `shmfeed ls`, or mark"
        " a backtest as one (run_params.type == 'backtest',"
        " wealthdata.use(context_only=True), or SHMFEED_FEED=off)"
    )
    if refuses:
        raise StaleFeedError(message)
    if is_old:
        _remember(outages, outage)
    warn(message, StaleFeedWarning)


def name_feeds(missing: str) -> str:
    """Return a clause that names the feeds of this user, the nearest one first."""
    from shmfeed.listing import describe_feeds  # noqa: PLC0415 # only a warning needs it

    with suppress(UnsupportedPlatformError):
        return f" ({describe_feeds(missing)})"
    return ""


def _remember(known: set[Any], one: object) -> None:
    if len(known) >= _MOST_REMEMBERED:  # a caller may use a new max_age each time
        known.clear()
    known.add(one)


def is_first(known: set[Any], one: object) -> bool:
    """Return True if `one` was not known, and remember it: a warning is due once."""
    if one in known:
        return False
    _remember(known, one)
    return True


def end_outages(ended: set[tuple[StreamId, float | None]]) -> None:
    """End these outages: their streams are fresh."""
    if outages:
        outages.difference_update(ended)


def _stale_message(
    stream: StreamId, status: RingStatus, max_age: float | None, ring: Ring | None
) -> str:
    feed, symbol, timeframe = stream
    age = (
        "no update yet" if status.age is None else f"last update {status.age:.1f} s ago"
    )
    limit = max_age
    if limit is None:
        limit = stale_after(timeframe)
        if ring is not None:
            limit = silence(ring._current_reader(), timeframe).limit
    return (
        f"{symbol} {timeframe} of feed {feed!r} is stale: {_reason(status, ring)}{age},"
        f" limit {limit:g} s; health {status.health}, connection {status.state}; see"
        f" `shmfeed status --feed {feed}`"
    )


def _reason(status: RingStatus, ring: Ring | None) -> str:
    if status.health == "dead":
        return "the feeder is dead; "
    why = "" if ring is None else ring.why()
    return f"{why}; " if why else ""


_MOST_BEHIND = 15 * 3600.0  # seconds: the widest error of a forgotten time zone

behind_warned: set[StreamId] = set()


def warn_of_behind(stream: StreamId, behind: float) -> None:
    """Warn once a stream if a bound leaves out what a wrong time zone leaves out.

    `behind` is in seconds; more than one timeframe and at most 15 hours are warned of.
    """
    feed, symbol, timeframe = stream
    if not behind or not duration(timeframe) / 1000 < behind <= _MOST_BEHIND:
        return
    if not is_first(behind_warned, stream):
        return
    warn(
        f"{symbol} {timeframe} of feed {feed!r}: the last row closed {behind:g} s"
        " before the newest closed bar, which end_date or the context's current_dt"
        " leaves out; times are UTC, and a naive datetime.now() is local time, so pass"
        " datetime.now(timezone.utc)",
        BehindWarning,
    )


# The frames of a ring that were overwritten and warned of.
_lost: weakref.WeakKeyDictionary[Ring, int] = weakref.WeakKeyDictionary()


def warn_of_lost(ring: Ring) -> None:
    """Warn of frames that were overwritten since the last warning of the ring."""
    lost = ring._lost
    new = lost - _lost.get(ring, 0)
    if not new:
        return
    _lost[ring] = lost
    warn(
        f"{ring.symbol} {ring.timeframe} of feed {ring._feed.name!r}: the feeder has"
        f" overwritten rows of {counted(new, 'frame')} that this process holds; hold"
        " fewer, read this stream or wait for it more often, read with copy=True, or"
        " raise SHMFEED_KEEP_MB",
        LappedWarning,
    )
