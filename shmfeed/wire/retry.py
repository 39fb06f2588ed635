"""When a connection is dialled again: the backoff of one chain of connections.

Two counts are kept apart. The *row of failures* decides when the state is `error`; an
acknowledgement ends it. The *backoff* decides how long the next wait is. It begins
again only once a connection has lasted a minute and brought data. So a venue that
accepts a client and drops it after a second is dialled ever more rarely, though no
attempt fails.

A wait of the venue's own (`Retry-After`, a ban) is kept, and counts as no failure.
No I/O, no clock: the caller passes the time.
"""

import random
from typing import NamedTuple, Protocol

from shmfeed.wire.backoff import MAX_DOUBLINGS, equal_jitter

# Seconds. A connection that was acknowledged so long ago has lasted.
LASTING = 60.0
# Seconds. A connection that is lost sooner after its acknowledgement, without a bar,
# counts as a failed attempt.
SHORT_LIFE = 1.0


class ReconnectSettings(Protocol):
    """The settings of the policy; delays in seconds."""

    @property
    def reconnect_delay_base(self) -> float: ...
    @property
    def reconnect_delay_max(self) -> float: ...
    @property
    def max_reconnect_attempts(self) -> int | None: ...


class Life(NamedTuple):
    """The life of a connection after its acknowledgement, in seconds."""

    seconds: float
    had_data: bool

    @property
    def was_short(self) -> bool:
        """True if the connection was of no use: lost at once, without a bar."""
        return self.seconds < SHORT_LIFE and not self.had_data


class Demand(NamedTuple):
    """The venue's words about the next attempt.

    `wait` is in seconds, 0 without one. `is_slow` asks for a long wait without saying
    how long: the venue says that the client broke its rules.
    """

    wait: float = 0.0
    is_slow: bool = False


NO_DEMAND = Demand()


class ReconnectPolicy:
    """The policy of one chain of connections.

    Attributes:
        failures: Failed attempts in a row.
        next_at: The earliest time of the next attempt, by the caller's clock.
    """

    def __init__(self, settings: ReconnectSettings, rng: random.Random) -> None:
        self.settings = settings
        self.failures = 0
        self.next_at = 0.0
        self._rng = rng
        self._row = 0  # failures before the last acknowledgement
        self._delays = 0  # since the backoff began
        self._is_fresh = True  # no connection was lost since the backoff began

    @property
    def is_exhausted(self) -> bool:
        """True once `max_reconnect_attempts` attempts in a row have failed."""
        most = self.settings.max_reconnect_attempts
        return most is not None and self.failures >= most

    def begin_again(self) -> None:
        """Forget every failure: the user asks for an attempt now."""
        self.failures = self._row = self._delays = 0
        self.next_at = 0.0
        self._is_fresh = True

    def acknowledged(self) -> None:
        """End the row of failures, but not the backoff."""
        self._row, self.failures = self.failures, 0

    def failed(self, now: float, demand: Demand = NO_DEMAND) -> None:
        """Record an attempt that reached no acknowledgement."""
        if not demand.wait:
            self.failures += 1
        self._is_fresh = False
        self._wait(now, demand)

    def lost(self, now: float, life: Life, demand: Demand = NO_DEMAND) -> None:
        """Record the loss of an acknowledged connection."""
        if life.was_short and not demand.wait:
            self.failures = self._row + 1
        self._leave(now, life, demand, is_at_once=not life.was_short)

    def planned(self, now: float, life: Life) -> None:
        """Record that a connection in use is to be replaced by another one."""
        self._leave(now, life, NO_DEMAND, is_at_once=True)

    def _leave(
        self, now: float, life: Life, demand: Demand, *, is_at_once: bool
    ) -> None:
        has_lasted = life.seconds >= LASTING
        if has_lasted and life.had_data:
            self._is_fresh, self._delays = True, 0
        is_fresh, self._is_fresh = self._is_fresh, False
        if demand.wait:
            self._wait(now, demand)
        elif has_lasted or (is_fresh and is_at_once and not demand.is_slow):
            self.next_at = now
        else:
            self._wait(now, demand)

    def _wait(self, now: float, demand: Demand) -> None:
        if demand.is_slow:
            self._delays = MAX_DOUBLINGS
        base, most = (
            self.settings.reconnect_delay_base,
            self.settings.reconnect_delay_max,
        )
        delay = equal_jitter(self._rng, base, most, self._delays)
        self._delays += 1
        self.next_at = now + max(delay, demand.wait)
