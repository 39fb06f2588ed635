"""The clock of the engine, as far as round trips bound it.

A leader says when it made a flush, and a follower how old the flush is, both by the
engine's clock, which neither can read without a delay. An answer that holds the
engine's time was written after its request was sent and before it was received: each
round trip bounds the difference of the two clocks from both sides. The bounds of the
quickest ones are kept, and widen with time, for clocks drift. The age of a flush is
then never underestimated, whatever the wall clocks of the hosts say.
"""

from math import inf

_DRIFT = 500e-6  # seconds a second: more than two bad oscillators


class EngineClock:
    """Bounds of the engine's clock minus a clock of this host that never steps."""

    def __init__(self) -> None:
        self._low, self._high = -inf, inf
        self._at = 0.0

    @property
    def is_known(self) -> bool:
        """True once a round trip was measured."""
        return self._low > -inf

    def forget(self) -> None:
        """Forget all bounds: another server has another clock."""
        self._low, self._high = -inf, inf

    def measure(self, sent: float, received: float, engine: float) -> None:
        """Take the engine's time from an answer.

        Args:
            sent, received: When the request was sent and the answer received, in
                seconds of this host's clock.
            engine: The engine's time, in seconds.
        """
        low, high = engine - received, engine - sent
        drift = _DRIFT * (received - self._at)
        kept_low, kept_high = self._low - drift, self._high + drift
        if low > kept_high or high < kept_low:
            kept_low, kept_high = low, high  # the engine's clock was set
        self._low, self._high = max(low, kept_low), min(high, kept_high)
        self._at = received

    def earliest(self, now: float) -> float:
        """Return a time that the engine's clock has reached at `now`, in seconds."""
        return now + self._low - _DRIFT * abs(now - self._at)

    def latest(self, now: float) -> float:
        """Return a time that the engine's clock has not passed at `now`."""
        return now + self._high + _DRIFT * abs(now - self._at)
