"""A pytest plugin for authors of strategies: venues and feeds for one test.

In the tests' conftest.py:

    pytest_plugins = ["shmfeed.testing"]

A test then asks for the fixture `shmfeed_feed`, or for `shmfeed_venue` alone. Each
fixture is a factory, so that a test can pass options, or start two feeds.
"""

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from shmfeed.errors import BadArgumentError
from shmfeed.feed import attach
from shmfeed.manager import WebSocketManager
from shmfeed.segment.mapping import place
from shmfeed.settings.loading import VARIABLES
from shmfeed.simulator import Venue
from shmfeed.status import FeedStatus, status_without_feed
from shmfeed.text import counted
from shmfeed.validation import FEED_VARIABLE
from wealthdata import attachment, choices

try:
    import pytest
except ModuleNotFoundError as error:
    if error.name != "pytest":
        raise
    raise ImportError(
        "shmfeed.testing is a plugin of pytest, which is not installed: "
        "pip install pytest websockets",
        name="pytest",
    ) from None

__all__ = ["FeedFactory", "RunningFeed", "shmfeed_feed", "shmfeed_venue"]

_Names = str | Sequence[str]
_POLL_SECONDS = 0.01
# Reconnect quickly and without end: an outage in a test is short and intended.
_SETTINGS: dict[str, Any] = {
    "reconnect_delay_base": 0.05,
    "reconnect_delay_max": 0.5,
    "max_reconnect_attempts": None,
}
_FIXTURES_SETTINGS = ("endpoint", "port", "feed", "stop_with_manager")


class RunningFeed:
    """A feed for one test: a venue, and a feeder process of its own.

    Attributes:
        name: The feed's name, unique to the test.
        venue: The Venue that the feeder is connected to.
        manager: The feed's strategy manager.
    """

    def __init__(self, venue: Venue) -> None:
        self.name = f"t{os.getpid()}x{secrets.token_hex(4)}"
        self.venue = venue
        self.manager = WebSocketManager(self.name)

    def start(
        self,
        symbols: _Names,
        resolutions: _Names,
        timeout: float,
        wait: bool,
        **settings: Any,
    ) -> None:
        """Start the feeder; with `wait`, return once the venue's history is there."""
        given: dict[str, Any] = {
            "symbols": symbols,
            "resolutions": resolutions,
            "endpoint": self.venue.url,
            "protocol": self.venue.options.protocol,
            "stop_with_manager": True,
        }
        self.manager.configure(**given, **{**_SETTINGS, **settings})
        self.manager.start(timeout, wait=wait)
        if wait:
            self._wait_history(timeout)

    def status(self) -> FeedStatus:
        """Return the manager's status."""
        return self.manager.get_status()

    def wait(self, timeout: float = 20.0, **wanted: Any) -> FeedStatus:
        """Sleep until the status has the wanted values.

        Args:
            timeout: Seconds.
            **wanted: Keys of a status. A number is reached when the status value is at
                least that, as in `wait(reconnects=1)` or `wait(last_message_age=1.5)`;
                any other value when it is equal, as in `wait(health="stale")`.

        Returns:
            The status.

        Raises:
            TimeoutError: A value was not reached in time.
            BadArgumentError: A status has no such key.
        """
        known = status_without_feed(self.name)
        for name in wanted:
            if name not in known:
                raise BadArgumentError(
                    f"unknown key {name!r} of a status; one of: {' '.join(known)}"
                )
        deadline = time.monotonic() + timeout
        while True:
            status = self.status()
            now: Mapping[str, object] = status
            if all(_is_reached(now[name], value) for name, value in wanted.items()):
                return status
            if time.monotonic() > deadline:
                found = {name: now[name] for name in (*wanted, "last_error")}
                raise TimeoutError(
                    f"timed out after {timeout:g} s waiting for {wanted}; "
                    f"the status has {found}"
                )
            time.sleep(_POLL_SECONDS)

    def kill(self) -> None:
        """Kill the feeder with SIGKILL; the manager starts another one."""
        pid = self.status()["pid"]
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the feeder and remove the feed. Idempotent."""
        self.manager.stop()
        # A feed's lock file stays, for its next feeder; this name has no next one.
        place(self.name).lock.unlink(missing_ok=True)

    def _wait_history(self, timeout: float) -> None:
        # Live bars follow the history; faults may have cost some of it.
        deadline = time.monotonic() + timeout
        bars = self.venue.options.history
        with attach(self.name) as feed:
            for ring in [feed.ring(*key) for key in feed.streams()]:
                while ring.count < bars and ring.forming() is None:
                    if time.monotonic() > deadline:
                        raise TimeoutError(
                            f"timed out after {timeout:g} s waiting for "
                            f"{counted(bars, 'bar')} of {ring.symbol} "
                            f"{ring.timeframe}; the ring has "
                            f"{ring.count}; wait=False does not wait"
                        )
                    time.sleep(_POLL_SECONDS)


def _is_reached(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return value is not None and bool(value >= wanted)
    return bool(value == wanted)


class FeedFactory:
    """The value of the fixture `shmfeed_feed`: call it for a running feed."""

    def __init__(
        self,
        venues: Callable[..., Venue],
        monkeypatch: pytest.MonkeyPatch,
        exits: ExitStack,
    ) -> None:
        self._venues = venues
        self._monkeypatch = monkeypatch
        self._exits = exits  # closed after the test

    def __call__(
        self,
        symbols: _Names = "BTCUSDT",
        resolutions: _Names = "1m",
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
    ) -> RunningFeed:
        """Start a feed of these streams, which wealthdata reads from now on.

        Args:
            symbols: One symbol or several.
            resolutions: One timeframe or several.
            faults: The venue's faults; see docs/faults.md.
            seed: The venue's seed.
            speed: Venue seconds per second, or "max".
            protocol: The venue's protocol.
            bars: Closed bars that the venue has before the first live one.
            venue: A running Venue of the test's own, with options of its own.
            timeout: Seconds.
            wait: Return once the history is there; False returns at once, for a venue
                that admits no client.
            **settings: Settings of the feeder.

        Raises:
            BadArgumentError: A setting belongs to the fixture, or the venue and its
                options are both given.
            TimeoutError: The history was not there in time.
            ShmfeedError: The manager's `start` failed.
        """
        taken = ", ".join(name for name in _FIXTURES_SETTINGS if name in settings)
        if taken:
            raise BadArgumentError(
                f"the fixture sets {taken} itself; give another venue as venue="
            )
        if venue is None:
            options = {"seed": seed, "speed": speed, "protocol": protocol}
            venue = self._venues(faults=faults, history=bars, **options)
        elif faults:
            raise BadArgumentError(
                f"faults {faults!r} do not apply to the given venue; give them to it, "
                "as shmfeed_venue(faults=...) or by its set_faults()"
            )
        if venue.options.protocol == "binance":
            settings = {"market_type": "spot", **settings}
        feed = RunningFeed(venue)
        self._exits.callback(feed.stop)
        self._select_in_wealthdata(feed)
        feed.start(symbols, resolutions, timeout, wait, **settings)
        return feed

    def _select_in_wealthdata(self, feed: RunningFeed) -> None:
        """Let wealthdata read this feed, whatever process and environment chose."""
        patch = self._monkeypatch
        for variable in VARIABLES:
            patch.delenv(variable, raising=False)
        patch.setenv(FEED_VARIABLE, feed.name)  # for processes that the test starts
        earlier = choices.replace_choices({"feed": feed.name})
        self._exits.callback(choices.replace_choices, earlier)


@pytest.fixture
def shmfeed_venue() -> Iterator[Callable[..., Venue]]:
    """Yield a factory of running venues: `shmfeed_venue(faults="mute@2", seed=7, ...)`.

    Its keywords are those of Venue. All venues are stopped after the test.
    """
    with ExitStack() as exits:
        yield lambda **options: exits.enter_context(Venue(**options))


@pytest.fixture
def shmfeed_feed(
    shmfeed_venue: Callable[..., Venue], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeedFactory]:
    """Yield a factory of feeds: `shmfeed_feed("BTCUSDT", "1m", faults="mute@2")`.

    Each feed has a unique name and a feeder process of its own. wealthdata reads the
    feed started last, until the test ends and all feeds are removed.
    """
    with ExitStack() as exits:
        yield FeedFactory(shmfeed_venue, monkeypatch, exits)
        attachment.detach()
