"""The fixtures. Each gives a factory, for a test may want its own options, or two."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shmfeed.errors import BadArgumentError
from shmfeed.settings.loading import VARIABLES
from shmfeed.simulator import Venue
from shmfeed.testing.feed import FedFeed, Names
from shmfeed.validation import FEED_VARIABLE
from wealthdata import attachment

# What the factory says itself, by its venue or by the feed's name.
_OWN = ("endpoint", "port", "feed", "stop_with_manager")


class FeedFactory:
    """What the fixture `shmfeed_feed` gives: call it for a running feed."""

    def __init__(
        self,
        venues: Callable[..., Venue],
        monkeypatch: pytest.MonkeyPatch,
        ends: ExitStack,
    ) -> None:
        self._venues = venues
        self._monkeypatch = monkeypatch
        self._ends = ends  # called after the test, the last first

    def __call__(
        self,
        symbols: Names = "BTCUSDT",
        resolutions: Names = "1m",
        *,
        faults: str = "",
        seed: int = 7,
        speed: float | str = 1.0,
        protocol: str = "wealthai",
        bars: int = 300,
        venue: Venue | None = None,
        timeout: float = 30.0,
        wait: bool = True,
        **settings: Any,
    ) -> FedFeed:
        """A feed of these streams, fed by a venue, that wealthdata reads from now on.

        The venue has `bars` closed bars of each stream before the first live one, and
        `faults`, `seed`, `speed` and `protocol`; an own running `venue` has its own.
        Further keywords are settings of the feeder. It returns once those bars are
        there, or with `wait=False` at once: for a venue that lets nobody in. Raises
        what the manager's `start` raises.
        """
        taken = ", ".join(name for name in _OWN if name in settings)
        if taken:
            raise BadArgumentError(
                f"{taken}: this is the fixture's own; another venue is given as venue="
            )
        if venue is None:
            options = {"seed": seed, "speed": speed, "protocol": protocol}
            venue = self._venues(faults=faults, history=bars, **options)
        elif faults:
            raise BadArgumentError(
                f"faults {faults!r} and a venue: give the faults to that venue, as "
                "shmfeed_venue(faults=...) or by its set_faults()"
            )
        if venue.options.protocol == "binance":
            settings = {"market_type": "spot", **settings}
        feed = FedFeed(venue)
        self._ends.callback(feed.stop)
        self._point_wealthdata_to(feed)
        feed.start(symbols, resolutions, timeout, wait, **settings)
        return feed

    def _point_wealthdata_to(self, feed: FedFeed) -> None:
        """Also where the process, or its environment, has chosen another feed."""
        patch = self._monkeypatch
        for variable in VARIABLES:
            patch.delenv(variable, raising=False)  # no settings from outside
        patch.setenv(FEED_VARIABLE, feed.name)  # processes that the test starts
        patch.setattr(attachment._choice, "feed", feed.name)
        patch.setattr(attachment._choice, "context_only", None)


@pytest.fixture
def shmfeed_venue() -> Iterator[Callable[..., Venue]]:
    """A factory of running venues: `shmfeed_venue(faults="mute@2", seed=7, ...)`.

    The keywords are a Venue's. All are stopped after the test.
    """
    with ExitStack() as ends:
        yield lambda **options: ends.enter_context(Venue(**options))


@pytest.fixture
def shmfeed_feed(
    shmfeed_venue: Callable[..., Venue], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeedFactory]:
    """A factory of running feeds: `shmfeed_feed("BTCUSDT", "1m", faults="mute@2")`.

    Each has a name that nobody else has and a feeder process of its own; wealthdata
    reads the last one started, until the test ends and all are gone.
    """
    with ExitStack() as ends:
        yield FeedFactory(shmfeed_venue, monkeypatch, ends)
        attachment.detach()
