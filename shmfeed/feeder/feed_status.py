"""The status of the connections and the last error, as readers see it."""

import os
from collections.abc import Callable
from typing import cast

from shmfeed._version import __version__
from shmfeed.errors import WebSocketConnectionError
from shmfeed.feeder.credentials import DialGate
from shmfeed.layout import State
from shmfeed.settings.model import Settings
from shmfeed.text import counted
from shmfeed.wire.events import SessionStatus
from shmfeed.wire.interface import FeedSession
from shmfeed.writer import FeedWriter

_LONGEST_PATH = 300


class FeedStatus:
    """The published status of one feed. Only the main loop uses it.

    `settings` returns the settings in force.
    """

    def __init__(
        self,
        writer: FeedWriter,
        session: FeedSession,
        gate: DialGate,
        settings: Callable[[], Settings],
    ) -> None:
        self._writer = writer
        self._session = session
        self._gate = gate
        self._settings = settings
        self._losses, self._is_uncovered = 0, False
        self._session_error = self._last_error = ""
        self._told = {"data": "", "store": ""}

    def changed(self, new: SessionStatus) -> None:
        """Publish a change of the session's status."""
        if new.last_error != self._session_error:
            self._last_error = self._session_error = new.last_error
        self._writer.set_state(cast("State", new.state))
        self._writer.set_next_attempt(new.next_attempt_at)
        self._publish(new)

    def tell(self, text: str) -> None:
        """Publish a text as the last error."""
        self._last_error = text
        self.publish()

    def tell_new(self, data: str, store: str) -> dict[str, str]:
        """Publish the last error of the data, or of the store, where it is another.

        Return those that were published.
        """
        errors = {"data": data, "store": store}
        new = {kind: text for kind, text in errors.items() if text != self._told[kind]}
        for text in new.values():
            self.tell(text)
        self._told |= new
        return new

    def streams_uncovered(self) -> None:
        """Record that streams have no connection, until `count_loss`."""
        self._is_uncovered = True

    def count_loss(self) -> None:
        """Count a loss, which managers report.

        A loss that no stream felt, because a second line carried them all, does not
        count.
        """
        self._losses += self._is_uncovered
        self._is_uncovered = False
        self.publish()

    def publish(self) -> None:
        """Publish the facts as they are now."""
        self._publish(self._session.status)

    def _publish(self, status: SessionStatus) -> None:
        settings = self._settings()
        self._writer.note(
            {
                # Readers compare it: a reused segment has its last feeder's note first.
                "writer": os.getpid(),
                "version": __version__,
                "endpoint": status.endpoint,
                "protocol": settings.protocol,
                "market_type": settings.market_type,
                "phase": status.phase,
                "attempts": status.attempts,
                "losses": self._losses,
                "error_kind": status.error_kind,
                "last_error": self._last_error or None,
                "token_wanted": self._gate.wanted,
                "store": _absolute(settings.store),
            }
        )


def gave_up_error(status: SessionStatus) -> WebSocketConnectionError:
    """Return the error of a feeder that has ended its attempts to connect."""
    return WebSocketConnectionError(
        f"the feeder gave up after {counted(status.attempts, 'attempt')} in a row, as"
        f" give_up says: {status.last_error}"
    )


def _absolute(path: str | None) -> str | None:
    """Return a path from the root, for commands with another working directory.

    None for one that could take the place of other facts.
    """
    whole = None if path is None else os.path.abspath(path)  # noqa: PTH100
    return whole if whole is not None and len(whole) <= _LONGEST_PATH else None
