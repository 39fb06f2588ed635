"""The connection that a manager holds to its feeder: its wants end with it."""

import os
import socket
import threading
import time
from typing import Any

from shmfeed.control.client import is_closed, open_claim
from shmfeed.errors import BadArgumentError, ShmfeedError
from shmfeed.forks import ForkRegistry
from shmfeed.process_name import process_name
from shmfeed.settings.model import Settings

HOLD_SECONDS = 2.0  # for a feeder's answer, which it gives at once
RETRY_SECONDS = 1.0  # after a feeder that has not accepted
UNKNOWN_SECONDS = 5.0  # after one of an earlier version, which knows no claims


class HeldClaim:
    """The connection that a manager holds, opened again after its end.

    Thread safety: one thread calls `keep`; any thread may call `end`, for good.
    """

    def __init__(self, path: str | os.PathLike[str], manager: str) -> None:
        """Connect to nothing yet. `path` is the feeder's control socket."""
        self._path = path
        self._manager = manager
        self._connection: socket.socket | None = None
        self._claimed: tuple[str, float] | None = None
        self._not_before = 0.0
        self._ended = threading.Event()
        _claims.add(self)

    def keep(self, settings: Settings) -> None:
        """Hold a connection as the settings name it, unless it is held already."""
        name, linger = claim_name(settings), settings.manager_linger
        if self._ended.is_set() or time.monotonic() < self._not_before:
            return
        if self._claimed == (name, linger) and not self._is_closed():
            return
        fields: dict[str, Any] = {"name": name, "linger": linger}
        fields |= {"manager": self._manager}
        try:
            connection = open_claim(self._path, "hold", HOLD_SECONDS, **fields)
        except BadArgumentError:
            self._not_before = time.monotonic() + UNKNOWN_SECONDS
        except ShmfeedError:
            self._not_before = time.monotonic() + RETRY_SECONDS
        else:
            before, self._connection = self._connection, connection
            self._claimed = name, linger
            if before is not None:
                before.close()
            if self._ended.is_set():
                connection.close()

    def _is_closed(self) -> bool:
        return self._connection is None or is_closed(self._connection)

    def end(self) -> None:
        """Close the connection, and hold none any more."""
        self._ended.set()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def disown(self) -> None:
        """Close the copy of a forked child: it would outlive the parent."""
        self.end()


def claim_name(settings: Settings) -> str:
    """Return the name of a manager's wants."""
    return settings.name or process_name()


_claims: ForkRegistry[HeldClaim] = ForkRegistry()
