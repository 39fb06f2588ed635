"""The feed that this process reads: attached when first needed, kept from then on.

Which feed this process reads, and whether it may read one at all.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from shmfeed.errors import (
    BadArgumentError,
    FeedNotFoundError,
    NoDataError,
    UnsupportedPlatformError,
)
from shmfeed.feed import Feed, Ring, attach
from shmfeed.validation import check_feed_name, check_flag, switched_on

DEFAULT_FEED = "default"
OFF = "off"  # instead of a feed's name: contexts only, as in a backtest


class _Choice:
    """What `use` chose; None: the environment says."""

    feed: str | None = None
    context_only: bool | None = None


_choice = _Choice()
# The feed's name, by what was said: by the environment, as it keeps it, and by `use`.
_names: dict[tuple[Any, str | None, bool | None], str | None] = {}


def use(feed: str | None = None, context_only: bool | None = None) -> None:
    """Choose, for this process, the feed to read, or contexts only (a backtest).

    What is None stays as it was chosen before; `use()` gives both choices back to
    the environment: `SHMFEED_FEED` names a feed, or is `off`; else the feed is
    `default`. Raises BadArgumentError for a name that is not accepted.
    """
    if feed is not None:
        check_feed_name(feed)
    if context_only is not None:
        context_only = check_flag("context_only", context_only)
    if feed is None and context_only is None:
        _choice.feed = _choice.context_only = None
    if feed is not None:
        _choice.feed = feed
    if context_only is not None:
        _choice.context_only = context_only


def chosen_feed() -> str | None:
    """The feed's name; None where no live bar may be seen. BadArgumentError."""
    said = _feed_variable(), _choice.feed, _choice.context_only
    try:
        return _names[said]
    except KeyError:
        name = _names[said] = _name(*said)
    return name


def _name(variable: Any, feed: str | None, context_only: bool | None) -> str | None:
    named = (variable and _text(variable)) or DEFAULT_FEED
    name = feed or named
    if context_only or OFF in (named.lower(), name.lower()):
        return None
    try:
        return check_feed_name(name)
    except BadArgumentError as error:  # what `use` takes has been checked
        raise BadArgumentError(f"{error} (from environment SHMFEED_FEED)") from None


def always_copy() -> bool:
    """Whether SHMFEED_COPY asks for private frames in the whole process.

    Raises BadArgumentError for a word that is neither yes nor no.
    """
    variable = _copy_variable()
    return variable is not None and switched_on("SHMFEED_COPY", _text(variable))


class _Variables(NamedTuple):
    """How a variable of the environment is looked up; how what is found is text."""

    look_up: Callable[[str], Callable[[], Any]]
    text: Callable[[Any], str]


def _variables() -> _Variables:
    """A dict lookup instead of os.environ's, which costs a microsecond for a name that
    is not set; it sees the same variables. The plain one where os.environ is built
    otherwise."""
    table = getattr(os.environ, "_data", None)
    encode = getattr(os.environ, "encodekey", None)
    decode = getattr(os.environ, "decodevalue", None)
    if not (isinstance(table, dict) and encode and decode):
        return _Variables(lambda name: partial(os.environ.get, name), str)
    return _Variables(lambda name: partial(table.get, encode(name)), decode)


_look_up, _text = _variables()
_feed_variable, _copy_variable = _look_up("SHMFEED_FEED"), _look_up("SHMFEED_COPY")


_MOST_PLANS = 4096  # what a caller may make this process remember


class Live:
    """An attached feed and what is remembered of it: rings, and plans of reads."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.name = feed.name
        self._rings: dict[tuple[str, str], Ring] = {}
        self.plans: dict[Any, Any] = {}

    def ring(self, symbol: str, timeframe: str) -> Ring:
        """The stream's ring; StreamNotFoundError naming what there is."""
        ring = self._rings.get((symbol, timeframe))
        if ring is None:
            ring = self.feed.ring(symbol, timeframe)
            self._rings[symbol, timeframe] = ring
        return ring

    def remember(self, key: object, plan: object) -> None:
        if len(self.plans) >= _MOST_PLANS:
            self.plans.clear()
        self.plans[key] = plan


class _Kept:
    """The feed that was read last; another one takes its place."""

    live: Live | None = None


_kept = _Kept()


def current() -> Live | None:
    """The feed to read; None in a backtest, or where there is no such feed.

    While there is none each call looks for it once, so that a feed that appears is
    seen by the next call. Raises SegmentFormatError for what is no feed of ours.
    """
    name = chosen_feed()
    live = _kept.live
    if live is not None and live.name == name:
        return live
    if name is None:
        return None
    try:
        live = Live(attach(name))
    except (FeedNotFoundError, UnsupportedPlatformError):
        return None
    _kept.live = live
    return live


def detach() -> None:
    """Let go of the feed; frames stay readable, and the next call attaches again."""
    _kept.live = None


def no_data(why: str) -> NoDataError:
    """The error where neither a feed nor a context serves: what to start."""
    name = chosen_feed()
    if name is None:
        return NoDataError(
            f"{why}; no feed is read here (context_only, or SHMFEED_FEED=off): give"
            " the bars with wealthdata.set_context(context)"
        )
    try:
        attach(name)
    except UnsupportedPlatformError as error:
        return NoDataError(
            f"{why}: give the bars with wealthdata.set_context(context); {error}"
        )
    except FeedNotFoundError:
        pass
    return NoDataError(
        f"there is no feed {name!r} on this host, and {why}: start one with `shmfeed"
        f" run --feed {name} --symbols .. --resolutions ..` or a manager's start(), or"
        " give the bars with wealthdata.set_context(context)"
    )
