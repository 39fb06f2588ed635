"""When a manager launches a feeder again that died, and when it gives up."""

import random

from shmfeed.settings.model import Settings
from shmfeed.wire.backoff import equal_jitter

MAX_FAILURES = 5  # in a row, without a connection in between
MIN_LIFETIME = 1.0  # s between launches: venues limit connections, Binance to 1/s


class RestartPolicy:
    """The policy by which a manager replaces a feeder that died, or gives up."""

    def __init__(self) -> None:
        self._rng = random.Random()  # noqa: S311 # it spreads load, no secrets
        self._failures = 0  # feeders in a row that died before they were connected

    def reset(self) -> None:
        """Forget all failures, because the user asked for another try."""
        self._failures = 0

    def delay_after(
        self, lived: float, had_connected: bool, settings: Settings
    ) -> float | None:
        """Return the seconds until the next launch, or None to give up.

        A feeder that had been connected is replaced at once, but not within
        MIN_LIFETIME of its own launch, in case each connection kills it.
        """
        if had_connected:
            self._failures = 0
            return max(0.0, MIN_LIFETIME - lived)
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            return None
        base, most = settings.reconnect_delay_base, settings.reconnect_delay_max
        return equal_jitter(self._rng, base, most, self._failures - 1)
