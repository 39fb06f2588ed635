"""A venue's log of connections, requests and frames, for any thread to wait on."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

_KEPT = 10_000  # requests and messages; a venue may run for months


def most_within(times: Iterable[float], seconds: float) -> int:
    """Return the most of these times that lie within any `seconds`."""
    ordered = sorted(times)
    most = first = 0
    for number, moment in enumerate(ordered):
        while moment - ordered[first] >= seconds:
            first += 1
        most = max(most, number - first + 1)
    return most


class RestRequest(NamedTuple):
    """One request to the venue's REST.

    Attributes:
        time: In time.monotonic().
        path: Its path.
        params: Its parameters.
        weight: The request weight that the venue counted.
        status: The HTTP status of the answer; 0 without an answer.
    """

    time: float
    path: str
    params: dict[str, str]
    weight: int
    status: int

    @classmethod
    def now(cls, path: str, params: dict[str, str], weight: int, status: int) -> Self:
        """Return a request that comes now."""
        return cls(time.monotonic(), path, params, weight, status)


class VenueLog:
    """Counters and requests, written by the venue's thread.

    Attributes:
        open_connections: Clients connected now.
        connections: Clients accepted in all.
        frames: Frames handed to the sockets.
        requests: Subscription requests.
        accepted: Subscription requests that were acknowledged.
        messages: Text messages that clients sent.
        last_requests: The last 10,000 requests, parsed.
        last_messages: The last 10,000 messages.
        dials: Attempts to connect, refused ones included.
        dial_times: The last 10,000 of them, in time.monotonic().
        banned_dials: Those that came during a ban.
        rest_requests: Requests to REST, refused ones included.
        rest_weight: The request weight of all of them.
        last_rest: The last 10,000 of them.

    Thread safety:
        Any thread may read and wait; one condition guards every change.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.open_connections = 0
        self.connections = 0
        self.frames = 0
        self.accepted = 0
        self.requests = 0
        self.messages = 0
        self.last_requests: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.last_messages: deque[str] = deque(maxlen=_KEPT)
        self.dials = 0
        self.banned_dials = 0
        self.dial_times: deque[float] = deque(maxlen=_KEPT)
        self.rest_requests = self.rest_weight = 0
        self.last_rest: deque[RestRequest] = deque(maxlen=_KEPT)

    def add_dial(self, is_banned: bool) -> None:
        with self._changed:
            self.dials += 1
            self.banned_dials += is_banned
            self.dial_times.append(time.monotonic())
            self._changed.notify_all()

    def add_rest(self, request: RestRequest) -> None:
        with self._changed:
            self.rest_requests += 1
            self.rest_weight += request.weight
            self.last_rest.append(request)
            self._changed.notify_all()

    def most_dials(self, seconds: float = 60.0) -> int:
        """Return the most dials that came within any `seconds`, of the last 10,000."""
        with self._changed:
            return most_within(self.dial_times, seconds)

    def add_connection(self) -> None:
        with self._changed:
            self.open_connections += 1
            self.connections += 1
            self._changed.notify_all()

    def remove_connection(self) -> None:
        with self._changed:
            self.open_connections -= 1
            self._changed.notify_all()

    def add_message(self, text: str) -> None:
        with self._changed:
            self.messages += 1
            self.last_messages.append(text)
            self._changed.notify_all()

    def add_request(self, request: dict[str, Any], accepted: bool) -> None:
        with self._changed:
            self.requests += 1
            self.last_requests.append(request)
            self.accepted += accepted
            self._changed.notify_all()

    def add_frames(self, count: int) -> None:
        with self._changed:
            self.frames += count
            self._changed.notify_all()

    def wait_for(
        self, what: str, reached: Callable[["VenueLog"], bool], timeout: float
    ) -> None:
        """Sleep until `reached` holds; raise a TimeoutError that names `what`."""
        with self._changed:
            if not self._changed.wait_for(lambda: reached(self), timeout):
                raise TimeoutError(
                    f"timed out after {timeout:g} s waiting for {what}; the venue has "
                    f"{self.open_connections} connections ({self.connections} in all), "
                    f"{self.accepted} of {self.requests} subscriptions accepted, "
                    f"{self.messages} messages received, {self.frames} sent, "
                    f"{self.rest_requests} REST requests"
                )
