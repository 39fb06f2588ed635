"""The token of the next connection, and the gate that each dial passes.

A token is a setting, the content of a file that is read again before each dial, or what
a manager's function returns. Without a new one the last one holds.

A feeder asks its manager by a number in its note, which the manager polls; the answer
comes over the control socket. Meanwhile the dial waits.
"""

import logging
import time
from collections.abc import Callable

from shmfeed.codecs import Codec
from shmfeed.control.peer import Peer
from shmfeed.errors import BadArgumentError
from shmfeed.settings.model import Settings
from shmfeed.wire.dial_budget import DialBudget

TOKEN_SECONDS = 2.0  # for which a manager's token serves further dials
RETRY_SECONDS = 0.05  # until a dial that waits for an answer is asked for again
SHORT_WAIT = 0.5  # s to wait for a manager that did not answer the last time

log = logging.getLogger(__name__)


class DialGate:
    """The gate of a session's dials: the user's budget, then a token for each one.

    Attributes:
        wanted: The number of requests to a manager for a token.
        is_asking: True while a dial waits for a manager's answer.
    """

    def __init__(
        self,
        budget: DialBudget,
        codec: Codec,
        settings: Callable[[], Settings],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the parts; no manager is asked yet.

        Args:
            budget: The dials of all feeders of this user.
            codec: The codec that gets the token.
            settings: Publishes `wanted`, and returns the settings in force.
            clock: A clock in seconds.
        """
        self.wanted = 0
        self.is_asking = False
        self._budget = budget
        self._codec = codec
        self._settings = settings
        self._clock = clock
        self._managers: dict[str, Peer] = {}  # those to ask, by name
        self._is_unanswered = False
        self._until = 0.0  # the limit of the wait, then that of the token's use
        self._fault = ""  # of the file, logged already
        self._refused = ""  # a token that the venue has refused

    def ask_manager(self, name: str, pid: int) -> None:
        """Ask a manager before each dial from now on, as long as its process runs.

        The present token counts as just answered.
        """
        self._managers = {n: one for n, one in self._managers.items() if one.may_run}
        self._managers[name] = Peer.of(pid)
        self.answered()

    def forget_manager(self, name: str) -> None:
        """Ask a manager no more."""
        if self._managers.pop(name, None) is not None:
            self.answered()

    def refuse_token(self, token: str) -> None:
        """Give this token, which the venue has refused, to no further connection.

        The one before it holds until there is another one. Do nothing for "".
        """
        self._refused = token or self._refused

    def answered(self) -> None:
        """Let dials go on: a manager has answered."""
        self.is_asking = self._is_unanswered = False
        self._until = self._clock() + TOKEN_SECONDS

    @property
    def is_banned(self) -> bool:
        """True if a venue's ban made the last `reserve` wait."""
        return self._budget.is_banned

    def reserve(self, host: str, port: int) -> float:
        """Record a dial and return 0.0, or return the seconds until one may begin."""
        if self._managers and self._waits_for_token():
            return RETRY_SECONDS
        wait = self._budget.reserve(host, port)
        if not wait:
            self._read_file()
        return wait

    def block(self, host: str, port: int, seconds: float) -> None:
        """Keep a wait that the venue asks for, for all feeders of this user."""
        self._budget.block(host, port, seconds)

    def _waits_for_token(self) -> bool:
        now = self._clock()
        if now < self._until and not self.is_asking:
            return False
        is_late = self.is_asking and now >= self._until
        if is_late or not any(one.may_run for one in self._managers.values()):
            self._go_without(now)
            return False
        if not self.is_asking:
            self.is_asking = True
            self.wanted += 1
            limit = self._settings().ack_timeout
            self._until = now + (SHORT_WAIT if self._is_unanswered else limit)
        return True

    def _go_without(self, now: float) -> None:
        self.is_asking = False
        self._until = now + TOKEN_SECONDS
        if not self._is_unanswered:
            self._is_unanswered = True
            log.warning("no manager gave a token, so the last one holds")

    def _read_file(self) -> None:
        try:
            token = self._settings().read_token()
            self._fault = ""
            if token != self._refused or not token:
                self._codec.csrf_token = token
        except BadArgumentError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                log.warning("no new token, so the last one holds: %s", self._fault)
