"""The feed that this process reads: attached when first needed, kept from then on."""

from typing import Any

from shmfeed.errors import FeedNotFoundError, NoDataError, UnsupportedPlatformError
from shmfeed.feed import Feed, Ring, attach
from wealthdata.choice import chosen_feed

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
