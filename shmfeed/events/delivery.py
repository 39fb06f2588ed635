"""Delivery of events to a webhook or a command, one after the other.

A thread of its own delivers. An attempt has ATTEMPT_SECONDS: after that the webhook's
connection is cut and the command killed. An attempt that fails is made again, with a
longer wait each time; an answer that says that the request itself is wrong is final.
"""

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol
from urllib.parse import urlsplit

from shmfeed.events.event import Event, encode_event
from shmfeed.settings.endpoint import is_loopback
from shmfeed.wire.connect import ConnectPolicy
from shmfeed.wire.errors import ConnectionLostError
from shmfeed.wire.http_client import HttpClient

ATTEMPT_SECONDS = 10.0
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
MOST_WAITING = 100  # older ones are dropped
_AGAIN = {408, 425, 429}
Say = Callable[[str], None]


class _FinalError(Exception):
    """The receiver refuses this request; another attempt would not help."""


class Receiver(Protocol):
    """A receiver of events, which gets one after the other.

    Attributes:
        name: Its name for messages, without what may be secret.
    """

    name: str

    def deliver(self, body: bytes) -> None:
        """Make one attempt.

        Raises:
            OSError: The receiver is away, or slow, or failed.
            _FinalError: It refuses the request.
        """

    def end(self) -> None:
        """End an attempt under way, and begin none any more. Any thread may call it."""


def receiver_of(target: str | list[str], policy: ConnectPolicy) -> Receiver:
    """Return the receiver of `on_event`, which `policy` says how to reach."""
    return Webhook(target, policy) if isinstance(target, str) else Command(target)


class Webhook:
    """A web server, to which events are posted.

    It is connected to as the venue is: by the proxy, authorities, client's certificate
    and TLS versions of the settings. A webhook on this host is reached directly.
    """

    def __init__(self, url: str, policy: ConnectPolicy) -> None:
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        if is_loopback(parts.hostname or ""):
            policy = policy._replace(proxy=None, proxy_password_file=None)
        self._client = HttpClient(url, lambda: policy)

    def deliver(self, body: bytes) -> None:
        try:
            status = self._client.post(
                body, {"Content-Type": "application/json"}, ATTEMPT_SECONDS
            )
        except ConnectionLostError as error:
            raise OSError(str(error)) from None
        if status in _AGAIN or status >= 500:
            raise OSError(f"it answered with status {status}")
        if not 200 <= status < 300:
            raise _FinalError(f"it answered with status {status}")

    def end(self) -> None:
        self._client.close()


class Command:
    """A command that gets the event on its standard input."""

    def __init__(self, words: list[str]) -> None:
        self.name = words[0]
        self._words = words
        self._lock = threading.Lock()  # guards the command that runs
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ended = False

    def deliver(self, body: bytes) -> None:
        process = self._start()
        try:
            process.communicate(body, timeout=ATTEMPT_SECONDS)
        except subprocess.TimeoutExpired:
            raise OSError(f"it did not end within {ATTEMPT_SECONDS:g} s") from None
        finally:
            with self._lock:
                self._process = None
            _kill_group(process)  # its children, too
            process.wait()
        if process.returncode:
            raise ChildProcessError(f"it ended with exit code {process.returncode}")

    def end(self) -> None:
        with self._lock:
            self._is_ended = True
            if self._process is not None:
                _kill_group(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_ended:
                raise OSError("the feeder has ended")
            self._process = subprocess.Popen(  # noqa: S603 # the user's own command
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            return self._process


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Delivery:
    """The events that wait for a receiver, and the thread that delivers them."""

    def __init__(self, feed: str, receiver: Receiver, say: Say) -> None:
        """Begin to deliver. `say` gets the lines for the log, in that thread."""
        self._feed = feed
        self._receiver = receiver
        self._say = say
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(self, event: Event) -> None:
        """Let an event wait for its turn; the oldest one gives way where many wait."""
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(event)
            self._changed.notify()

    def close(self, seconds: float) -> None:
        """Deliver what waits, for so long, and end; a command that hangs is killed."""
        with self._changed:
            self._deadline = time.monotonic() + seconds
            self._changed.notify()
        try:
            self._thread.join(seconds)
        finally:
            self._receiver.end()

    def _work(self) -> None:
        while (event := self._next()) is not None:
            self._deliver(event)

    def _next(self) -> Event | None:
        with self._changed:
            while not self._waiting:
                if self._deadline < float("inf"):
                    return None
                self._changed.wait()
            event = self._waiting.popleft()
            dropped, self._dropped = self._dropped, 0
        if dropped:
            self._say(f"{dropped} older events were dropped")
        return event

    def _deliver(self, event: Event) -> None:
        body, delay, failures = encode_event(self._feed, event), FIRST_DELAY, 0
        while True:
            try:
                self._receiver.deliver(body)
            except _FinalError as error:
                self._say(f"{self._receiver.name} refuses {event.event}: {error}")
                return
            except OSError as error:
                failures += 1
                if failures == 1:
                    reason = error.strerror or str(error)
                    name, kind = self._receiver.name, event.event
                    self._say(f"{name} cannot be told {kind}, tried again: {reason}")
            else:
                if failures:
                    self._say(f"{self._receiver.name} takes events again")
                return
            if not self._pause(delay):
                return
            delay = min(2 * delay, LONGEST_DELAY)

    def _pause(self, seconds: float) -> bool:
        """Wait before another attempt. Return False if none may follow."""
        end = time.monotonic() + seconds
        with self._changed:
            while (left := min(end, self._deadline) - time.monotonic()) > 0:
                self._changed.wait(left)
            return time.monotonic() < self._deadline
