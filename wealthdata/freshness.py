"""Whether a stream's bars are as new as the caller needs them.

Warnings of this package, shown at the strategy's line that called it.
"""

import sys
import warnings
from typing import Protocol

from shmfeed.bar import STALE_LEAST, stale_after
from shmfeed.errors import StaleFeedError


class StaleFeedWarning(UserWarning):
    """The bars that were returned are older than allowed; once an outage and stream."""


class MissingBarsWarning(UserWarning):
    """A context's bars end before the ring's begin and were left out; once a stream."""


def warn(message: str, category: type[UserWarning]) -> None:
    level = 2  # warnings.warn skips files by itself from Python 3.12 on
    while True:
        try:
            name = sys._getframe(level).f_globals.get("__name__", "")
        except ValueError:
            break
        if name.partition(".")[0] != "wealthdata":
            break
        level += 1
    warnings.warn(message, category, stacklevel=level + 1)


_MOST_OUTAGES = 4096


class Status(Protocol):
    """How a stream is, as of a read: what a ring's `status()` returns."""

    @property
    def age(self) -> float | None: ...
    @property
    def state(self) -> str: ...
    @property
    def health(self) -> str: ...


Stream = tuple[str, str, str]  # feed, symbol, timeframe

_outages: set[tuple[Stream, float | None]] = set()  # those that were warned of


def is_stale(status: Status, max_age: float | None, timeframe: str) -> bool:
    """With a `max_age` the age alone decides; None: the feeder and connection, too."""
    age = status.age
    if max_age is not None:
        return age is None or age > max_age
    if status.health in ("dead", "stale") or status.state != "connected":
        return True
    return age is not None and age > stale_after(timeframe)


def judge(stream: Stream, status: Status, max_age: float | None, on_stale: str) -> None:
    """Raise or warn if the stream is stale, once an outage; forget one that is over."""
    if on_stale == "ignore":
        return
    age = status.age
    if (
        max_age is None
        and status.health == "live"
        and age is not None
        and age < STALE_LEAST
        and not _outages
    ):
        return  # the usual case, and nothing to forget
    outage = stream, max_age
    if not is_stale(status, max_age, stream[2]):
        _outages.discard(outage)
        return
    message = _message(stream, status, max_age)
    if on_stale == "raise":
        raise StaleFeedError(message)
    if outage not in _outages:
        if len(_outages) >= _MOST_OUTAGES:  # a caller whose max_age is new each time
            _outages.clear()
        _outages.add(outage)
        warn(message, StaleFeedWarning)


def _message(stream: Stream, status: Status, max_age: float | None) -> str:
    feed, symbol, timeframe = stream
    age = "nothing has come yet" if status.age is None else f"{status.age:.1f} s old"
    limit = stale_after(timeframe) if max_age is None else max_age
    return (
        f"{symbol} {timeframe} of feed {feed!r} is stale: {_reason(status)}{age}, the"
        f" limit is {limit:g} s; its health is {status.health}, the connection"
        f" {status.state}; see `shmfeed status --feed {feed}`"
    )


def _reason(status: Status) -> str:
    """What is wrong besides the age."""
    if status.health == "dead":
        return "its feeder is dead; "
    return "" if status.state == "connected" else "its feeder is not connected; "
