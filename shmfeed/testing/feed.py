"""A feed for one test: a venue, a feeder process of its own, and what becomes of it."""

import os
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from shmfeed.errors import BadArgumentError
from shmfeed.feed import attach
from shmfeed.manager import WebSocketManager
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue
from shmfeed.status import FeedStatus, status_without_feed

Names = str | Sequence[str]
_POLL = 0.01
# Impatient, and never tired: an outage in a test is short, and is meant.
_SETTINGS: dict[str, Any] = {
    "reconnect_delay_base": 0.05,
    "reconnect_delay_max": 0.5,
    "max_reconnect_attempts": None,
}


class FedFeed:
    """A feed that a venue feeds through a feeder process.

    `name` is the feed's, `venue` the Venue, `manager` its strategy manager.
    """

    def __init__(self, venue: Venue) -> None:
        self.name = f"t{os.getpid()}x{secrets.token_hex(4)}"
        self.venue = venue
        self.manager = WebSocketManager(self.name)

    def start(
        self,
        symbols: Names,
        resolutions: Names,
        timeout: float,
        wait: bool,
        **settings: Any,
    ) -> None:
        """Launch the feeder; with `wait`, until the venue's history has come."""
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
            self._await_history(timeout)

    def status(self) -> FeedStatus:
        """The manager's status: state, health, counters, streams."""
        return self.manager.get_status()

    def wait(self, timeout: float = 20.0, **wanted: Any) -> FeedStatus:
        """Sleep until the status is as wanted: the status, or TimeoutError.

        A number is reached when the status has as much or more: `wait(reconnects=1)`,
        `wait(last_message_age=1.5)`; anything else when it is equal:
        `wait(health="stale")`. BadArgumentError for a key that no status has.
        """
        known = status_without_feed(self.name)
        for name in wanted:
            if name not in known:
                raise BadArgumentError(
                    f"a status has no {name!r}; it has: {' '.join(known)}"
                )
        deadline = time.monotonic() + timeout
        while True:
            status = self.status()
            now: Mapping[str, object] = status
            if all(_reached(now[name], value) for name, value in wanted.items()):
                return status
            if time.monotonic() > deadline:
                found = {name: now[name] for name in (*wanted, "last_error")}
                raise TimeoutError(f"waited {timeout:g} s for {wanted}; now: {found}")
            time.sleep(_POLL)

    def kill(self) -> None:
        """kill -9 the feeder; the manager starts another one."""
        pid = self.status()["pid"]
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the feeder and remove the feed; idempotent."""
        self.manager.stop()
        # Lock files stay, elsewhere; but this feed's name will not come again.
        place(self.name).lock.unlink(missing_ok=True)

    def _await_history(self, timeout: float) -> None:
        # What comes live comes behind it; a venue's faults may have cost some of it.
        deadline = time.monotonic() + timeout
        bars = self.venue.options.history
        with attach(self.name) as feed:
            for ring in [feed.ring(*names) for names in feed.streams()]:
                while ring.count < bars and ring.forming() is None:
                    if time.monotonic() > deadline:
                        raise TimeoutError(
                            f"waited {timeout:g} s for {bars} bars of {ring.symbol} "
                            f"{ring.timeframe}; there are {ring.count}: wait=False "
                            "does not wait for them"
                        )
                    time.sleep(_POLL)


def _reached(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return value is not None and bool(value >= wanted)
    return bool(value == wanted)
