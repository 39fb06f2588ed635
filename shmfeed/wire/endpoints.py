"""The endpoints of a link, tried in turn: an *attempt* is one pass over all of them.

An endpoint at which the venue has asked for a wait is passed over until then. No I/O.
"""

import math
from collections.abc import Callable, Iterable

from shmfeed.wire.client import RefusedError
from shmfeed.wire.errors import ClosedError, ConnectionLostError, RefusedUpgradeError
from shmfeed.wire.retry import Demand

# Seconds after which a line that serves from another endpoint tries its own again.
RETURN_SECONDS = 60.0
_POLICY_VIOLATION = 1008
_NOT_ALLOWED = (401, 403)  # HTTP status codes

Failure = tuple[str, ConnectionLostError]  # an endpoint without its query, and why


class Failures(list[Failure]):
    """The failures of one attempt, in order."""

    @property
    def demand(self) -> Demand:
        """The venue's words about the next attempt."""
        wait = min(error.retry_after for _, error in self)
        return Demand(wait, any(_is_violation(error) for _, error in self))

    @property
    def was_refused(self) -> bool:
        """True if a venue has refused the subscription itself."""
        return any(isinstance(error, RefusedError) for _, error in self)

    @property
    def rejects_settings(self) -> bool:
        """True if a venue has refused the subscription, or the client itself."""
        return self.was_refused or any(
            isinstance(error, RefusedUpgradeError) and error.code in _NOT_ALLOWED
            for _, error in self
        )

    def last_error(self, attempts: int) -> tuple[str, str]:
        """Return the kind and the text of these failures; 0 attempts: so far."""
        refusals = [error for _, error in self if isinstance(error, RefusedError)]
        if refusals and attempts:
            return "subscription", str(refusals[-1])
        return "connection", _listed(self, attempts)


class EndpointCycle:
    """The endpoints, the present attempt's place among them, and its failures.

    Attributes:
        return_at: The time at which to try the first endpoint of the list again.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        self.return_at = math.inf
        self._urls = list(urls)
        self._blocked_until = dict.fromkeys(self._urls, 0.0)
        self._first = 0  # the endpoint that an attempt begins with
        self._turn = 0  # endpoints tried by the present attempt
        self._failures = Failures()

    @property
    def is_midway(self) -> bool:
        """True if the present attempt has tried an endpoint, and others are left."""
        return self._turn > 0

    @property
    def home(self) -> str:
        """The first endpoint of the list."""
        return self._urls[0]

    @property
    def failures(self) -> Failures:
        """The failures of the present attempt."""
        return self._failures

    @property
    def next_at(self) -> float:
        """The time at which the first endpoint may be dialled again."""
        return min(self._blocked_until.values())

    def next(self, now: float, may_dial: Callable[[str], bool]) -> str | None:
        """Return the endpoint to dial; None if this attempt has none left."""
        while self._turn < len(self._urls):
            url = self._urls[(self._first + self._turn) % len(self._urls)]
            if self._blocked_until[url] <= now and may_dial(url):
                return url
            self._turn += 1
        return None

    def begin(self, url: str = "", *, after: bool = False) -> Failures:
        """Begin a new attempt, at `url` or `after` it. Return the failures so far."""
        if url:
            self._first = self._urls.index(url) + after
        failures, self._failures = self._failures, Failures()
        self._turn = 0
        return failures

    def serve(self, url: str, now: float, *, may_return: bool) -> None:
        """Record the endpoint that serves now, and when to return from it."""
        self.begin(url)
        is_away = may_return and url != self.home
        self.return_at = now + RETURN_SECONDS if is_away else math.inf

    def begin_return(self, now: float, may_dial: Callable[[str], bool]) -> bool:
        """Begin an attempt with the first endpoint. Return False if it must wait."""
        self.return_at = now + RETURN_SECONDS
        self.begin(self.home)
        return self.next(now, may_dial) == self.home

    def fail(self, label: str, failure: ConnectionLostError) -> bool:
        """Record a failed endpoint. Return True if it was the attempt's last one."""
        self._failures.append((label, failure))
        self._turn += 1
        return self._turn >= len(self._urls)

    def block(self, url: str, until: float) -> None:
        """Pass this endpoint over until then."""
        self._blocked_until[url] = until

    def demand_after_loss(self, failure: ConnectionLostError, now: float) -> Demand:
        """Return the venue's words about the next dial, after a connection ended so."""
        wait = 0.0 if self.next_at <= now else failure.retry_after
        return Demand(wait, _is_violation(failure))


def _is_violation(failure: ConnectionLostError) -> bool:
    if not isinstance(failure, ClosedError | RefusedError):
        return False
    return failure.code == _POLICY_VIOLATION


def _listed(failures: list[Failure], attempts: int) -> str:
    count = f"{attempts} attempt{'' if attempts == 1 else 's'}"
    after = f" after {count}" if attempts else ""
    if len(failures) == 1:
        ((where, error),) = failures
        return f"could not connect to {where}{after}: {error}"
    each = ", ".join(f"{where} ({error})" for where, error in failures)
    return f"could not connect to {each}{after}"
