"""How long to wait before a feeder that died is replaced, and when not to any more."""

import random

from shmfeed.config import Settings
from shmfeed.wire.backoff import full_jitter

DEATHS = 5  # in a row, without a connection between them
LEAST_LIFE = 1.0  # s between two launches: venues limit connections, Binance to 1/s


class Deaths:
    """The deaths of one manager's feeders, counted."""

    def __init__(self) -> None:
        self._rng = random.Random()  # noqa: S311 # it spreads load, no secrets
        self._in_vain = 0  # in a row, never connected

    def forgive(self) -> None:
        """Begin anew: somebody asked for another try."""
        self._in_vain = 0

    def delay_after(
        self, lived: float, had_connected: bool, settings: Settings
    ) -> float | None:
        """Seconds until the next feeder; None: there shall be none.

        A feeder that had been connected is replaced at once; only one that `lived`
        for less than LEAST_LIFE, as if each connection killed it, is waited after.
        """
        if had_connected:
            self._in_vain = 0
            return max(0.0, LEAST_LIFE - lived)
        self._in_vain += 1
        if self._in_vain >= DEATHS:
            return None
        base, most = settings.reconnect_delay_base, settings.reconnect_delay_max
        return full_jitter(self._rng, base, most, self._in_vain - 1)
