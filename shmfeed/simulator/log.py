"""What has happened at a venue, to be read and waited for from any thread."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_KEPT = 10_000  # requests and messages: a venue may run for months


class Record:
    """Counts and requests, written by the venue's thread, under one condition."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.connections = 0  # open now
        self.total = 0  # ever accepted
        self.frames = 0  # handed to the system's sockets
        self.accepted = 0  # subscription requests acknowledged
        self.requests = 0
        self.messages = 0
        self.asked: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.received: deque[str] = deque(maxlen=_KEPT)

    def connected(self) -> None:
        with self._changed:
            self.connections += 1
            self.total += 1
            self._changed.notify_all()

    def disconnected(self) -> None:
        with self._changed:
            self.connections -= 1
            self._changed.notify_all()

    def heard(self, text: str) -> None:
        with self._changed:
            self.messages += 1
            self.received.append(text)
            self._changed.notify_all()

    def requested(self, asked: dict[str, Any], accepted: bool) -> None:
        with self._changed:
            self.requests += 1
            self.asked.append(asked)
            self.accepted += accepted
            self._changed.notify_all()

    def sent(self, frames: int) -> None:
        with self._changed:
            self.frames += frames
            self._changed.notify_all()

    def wait_for(
        self, what: str, reached: Callable[["Record"], bool], timeout: float
    ) -> None:
        """Sleep until `reached` is true of this record; TimeoutError says `what`."""
        with self._changed:
            if not self._changed.wait_for(lambda: reached(self), timeout):
                raise TimeoutError(
                    f"waited {timeout:g} s for {what}; now: {self.connections} "
                    f"connections ({self.total} ever), {self.accepted} of "
                    f"{self.requests} subscriptions accepted, "
                    f"{self.messages} messages received, {self.frames} sent"
                )
