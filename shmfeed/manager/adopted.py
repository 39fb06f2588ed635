"""A feeder that a manager has adopted: its process, its end, and its settings.

The feeder may run in another PID namespace, as in another container that shares
/dev/shm. Its own pid then names no process, or another one, here. A process that is
visible here is known by its pid and its start time, and any other by its heartbeat and
its socket: the kernel refuses a connection if no process listens.
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from shmfeed.control.client import is_listening, listener_pid
from shmfeed.control.peer import process_start
from shmfeed.errors import ShmfeedError
from shmfeed.segment.mapping import Place, identity_at
from shmfeed.settings.digest import differing
from shmfeed.settings.model import Settings
from shmfeed.settings.schema import TOKEN, TOKEN_FILE
from shmfeed.status import Heartbeat

COMPARE_SECONDS = 5.0  # between two comparisons of settings
_COMPARE_TIMEOUT = 0.5
_SILENT_SECONDS = 1.0  # a feeder beats twice as often
_POLL_SECONDS = 0.02

log = logging.getLogger(__name__)


class AdoptedFeeder:
    """The feeder that has answered at a feed's control socket.

    Attributes:
        pid: Its pid in its own PID namespace.
        epoch: Its writer epoch, None of a feeder of an earlier version.
        differs: The names of settings that it has in another value.
    """

    def __init__(
        self, where: Place, answer: Mapping[str, Any], ask: Callable[..., Any]
    ) -> None:
        """Note which process has given this answer. `ask` sends it a request."""
        self.pid = int(answer["pid"])
        self.epoch: int | None = answer.get("epoch")
        self.differs: list[str] = []
        self._ask = ask
        self._token: str | None = None  # that this manager gave it
        self._compare_at = 0.0
        self._where = where
        self._socket = identity_at(where.socket)
        self._local_pid = 0  # 0: not visible here
        with suppress(ShmfeedError):  # it has ended meanwhile
            self._local_pid = listener_pid(where.socket)
        self._started = process_start(self._local_pid) if self._local_pid else None
        self._beat: Heartbeat | None = None
        self._asked = time.monotonic()

    def is_gone(self, beat: Heartbeat | None) -> bool:
        """Return True if it has ended, or has released the feed.

        `beat` is the heartbeat in the feed's segment now.
        """
        if self._started is not None:
            if process_start(self._local_pid) != self._started:
                return True
            # The process may live on after it has released the feed.
            has_socket = identity_at(self._where.socket) is not None
            return not has_socket and (beat is None or not beat.is_alive)
        if identity_at(self._where.socket) != self._socket:
            return True
        return self._is_silent(beat) and not is_listening(self._where.socket)

    def _is_silent(self, beat: Heartbeat | None) -> bool:
        # A socket that no process listens on is asked once a second.
        now = time.monotonic()
        if beat is not None and beat != self._beat:
            self._beat, self._asked = beat, now
        if now - self._asked < _SILENT_SECONDS:
            return False
        self._asked = now
        return True

    def hand_over(self, settings: Settings, state: str, token: str, asks: bool) -> None:
        """Give it the token; log which other settings differ.

        If it failed, or is not connected with another token, it tries again at once.
        With `asks` it asks this manager for the tokens of later connections.
        """
        has_failed = state == "error"
        self.compare(settings)
        if token and (asks or not {TOKEN, TOKEN_FILE}.isdisjoint(self.differs)):
            self.give_token(token, asks)
            self.differs = [n for n in self.differs if n not in (TOKEN, TOKEN_FILE)]
            has_failed = state != "connected"
        if has_failed:
            self._ask("start")
        if self.differs:
            log.warning(
                "feed %s: the running feeder (pid %d) keeps its own values of: %s",
                self._where.name,
                self.pid,
                ", ".join(self.differs),
            )

    def give_token(self, token: str, asks: bool) -> None:
        """Send it a token; an empty one says that there is no new one."""
        self._ask("token", token=token, asks=asks)
        self._token = token or self._token

    def compare(self, settings: Settings) -> None:
        """Compare its settings with these, now and then: it may be reloaded."""
        now = time.monotonic()
        if now < self._compare_at:
            return
        self._compare_at = now + COMPARE_SECONDS
        nonce = secrets.token_hex(16)
        # It has ended, or it is of an earlier version and does not know the request.
        with suppress(ShmfeedError):
            told = self._ask("settings", _COMPARE_TIMEOUT, nonce=nonce)["digests"]
            if self._token is not None:
                settings = settings.with_token(self._token)
            self.differs = differing(settings, told, nonce)

    def wait_for_exit(self, timeout: float) -> bool:
        """Wait until it has ended; return False if it runs after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._runs():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _runs(self) -> bool:
        if self._started is not None:
            return process_start(self._local_pid) == self._started
        return identity_at(self._where.socket) == self._socket and is_listening(
            self._where.socket
        )
