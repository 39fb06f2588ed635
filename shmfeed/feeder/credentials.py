"""The token of the next connection, and the gate that each dial passes.

A token is a setting, the content of a file that is read again before each dial, or what
a manager's function returns. If no new one is to be had, the last one holds.
"""

import logging
from collections.abc import Callable

from shmfeed.codecs import Codec
from shmfeed.errors import BadArgumentError
from shmfeed.settings.model import Settings
from shmfeed.wire.dial_budget import DialBudget

log = logging.getLogger(__name__)


class DialGate:
    """The gate of a session's dials: the user's budget, then a token for each one."""

    def __init__(
        self, budget: DialBudget, codec: Codec, settings: Callable[[], Settings]
    ) -> None:
        self._budget = budget
        self._codec = codec
        self._settings = settings
        self._fault = ""  # of the file, logged already

    def reserve(self, host: str, port: int) -> float:
        """Record a dial and return 0.0, or return the seconds until one may begin."""
        wait = self._budget.reserve(host, port)
        if not wait:
            self._renew_token()
        return wait

    def block(self, host: str, port: int, seconds: float) -> None:
        """Keep a wait that the venue asks for, for all feeders of this user."""
        self._budget.block(host, port, seconds)

    def _renew_token(self) -> None:
        try:
            self._codec.csrf_token = self._settings().read_token()
            self._fault = ""
        except BadArgumentError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                log.warning("no new token, so the last one holds: %s", self._fault)
