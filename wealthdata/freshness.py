"""Freshness of a stream, and the warnings that a read gives.

A warning is shown at the line of the strategy that called this package.
"""

import sys
import warnings
from typing import Literal, Protocol, get_args

from shmfeed.bar import STALE_LEAST, stale_after
from shmfeed.errors import StaleFeedError

OnStale = Literal["warn", "raise", "ignore"]
ON_STALE: tuple[OnStale, ...] = get_args(OnStale)

_MAX_OUTAGES = 4096


class StaleFeedWarning(UserWarning):
    """The returned bars are older than allowed. Given once per outage and stream."""


class MissingBarsWarning(UserWarning):
    """A context's bars end before the ring's begin and were left out; once a stream."""


def warn(message: str, category: type[UserWarning]) -> None:
    """Warn at the first caller outside this package."""
    level = 2  # warnings.warn can skip files by itself only from Python 3.12 on
    while True:
        try:
            name = sys._getframe(level).f_globals.get("__name__", "")
        except ValueError:
            break
        if name.partition(".")[0] != "wealthdata":
            break
        level += 1
    warnings.warn(message, category, stacklevel=level + 1)


class StreamFreshness(Protocol):
    """Age, state and health of a stream as of a read: a ring's `status()`."""

    @property
    def age(self) -> float | None: ...
    @property
    def state(self) -> str: ...
    @property
    def health(self) -> str: ...


StreamId = tuple[str, str, str]  # feed, symbol, timeframe

_outages: set[tuple[StreamId, float | None]] = set()  # already warned of


def is_stale(found: StreamFreshness, max_age: float | None, timeframe: str) -> bool:
    """Return True if the stream is stale.

    A `max_age` in seconds is compared with the age alone. With None the feeder and
    its connection count too, and the limit is three bars, at least 30 s.
    """
    age = found.age
    if max_age is not None:
        return age is None or age > max_age
    if found.health in ("dead", "stale") or found.state != "connected":
        return True
    return age is not None and age > stale_after(timeframe)


def check(
    stream: StreamId, found: StreamFreshness, max_age: float | None, on_stale: str
) -> None:
    """Raise StaleFeedError, or warn once per outage, if the stream is stale.

    A fresh stream ends its outage: the next one is warned of again.
    """
    if on_stale == "ignore":
        return
    age = found.age
    if (
        max_age is None
        and found.health == "live"
        and age is not None
        and age < STALE_LEAST
        and not _outages
    ):
        return  # the usual case: fresh, and no outage to end
    outage = stream, max_age
    if not is_stale(found, max_age, stream[2]):
        _outages.discard(outage)
        return
    message = _stale_message(stream, found, max_age)
    if on_stale == "raise":
        raise StaleFeedError(message)
    if outage not in _outages:
        if len(_outages) >= _MAX_OUTAGES:  # a caller may use a new max_age each time
            _outages.clear()
        _outages.add(outage)
        warn(message, StaleFeedWarning)


def _stale_message(
    stream: StreamId, found: StreamFreshness, max_age: float | None
) -> str:
    feed, symbol, timeframe = stream
    age = "no update yet" if found.age is None else f"last update {found.age:.1f} s ago"
    limit = stale_after(timeframe) if max_age is None else max_age
    return (
        f"{symbol} {timeframe} of feed {feed!r} is stale: {_reason(found)}{age}, limit"
        f" {limit:g} s; health {found.health}, connection {found.state}; see `shmfeed"
        f" status --feed {feed}`"
    )


def _reason(found: StreamFreshness) -> str:
    if found.health == "dead":
        return "the feeder is dead; "
    return "" if found.state == "connected" else "the feeder is not connected; "
