"""Delivery of events to a webhook or a command, one after the other.

A thread of its own delivers. An attempt has ATTEMPT_SECONDS: after that the webhook's
connection is cut and the command killed. An attempt that fails is made again, with a
longer wait each time; an answer that says that the request itself is wrong is final.
"""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from shmfeed._version import __version__
from shmfeed.events.event import Event, encode_event

ATTEMPT_SECONDS = 10.0
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
MOST_WAITING = 100  # older ones are dropped
_AGAIN = {408, 425, 429}
Say = Callable[[str], None]


class _FinalError(Exception):
    """The receiver refuses this request; another attempt would not help."""


class Receiver:
    """A webhook, or a command that gets the event on its standard input."""

    def __init__(self, target: str | list[str], ca_file: str | None) -> None:
        self._target = target
        self._ca_file = ca_file
        self._lock = threading.Lock()  # guards the command that runs
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ended = False

    @property
    def name(self) -> str:
        """The receiver's name for messages, without what may be secret."""
        if isinstance(self._target, str):
            parts = urlsplit(self._target)
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return self._target[0]

    def deliver(self, body: bytes) -> None:
        """Make one attempt.

        Raises:
            OSError: The receiver is away, or slow, or failed.
            _FinalError: It refuses the request.
        """
        if isinstance(self._target, str):
            self._post(self._target, body)
        else:
            self._run(self._target, body)

    def end(self) -> None:
        """Kill a command that runs, and begin none any more. Any thread may call it."""
        with self._lock:
            self._is_ended = True
            if self._process is not None:
                _kill_group(self._process)

    def _post(self, url: str, body: bytes) -> None:
        parts = urlsplit(url)
        resource = parts.path or "/"
        if parts.query:
            resource += f"?{parts.query}"
        connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
        cut = threading.Timer(ATTEMPT_SECONDS, _shut, [connection])
        cut.daemon = True
        cut.start()
        begun = time.monotonic()
        try:
            headers = {
                "Content-Type": "application/json",
                "User-Agent": f"shmfeed/{__version__}",
                "Connection": "close",
            }
            connection.request("POST", resource, body, headers)
            status = connection.getresponse().status
        except (http.client.HTTPException, ValueError) as error:
            if time.monotonic() - begun >= ATTEMPT_SECONDS:
                raise TimeoutError(f"no answer within {ATTEMPT_SECONDS:g} s") from None
            raise OSError(f"the answer is not HTTP ({type(error).__name__})") from None
        finally:
            cut.cancel()
            connection.close()
        if status in _AGAIN or status >= 500:
            raise OSError(f"it answered with status {status}")
        if not 200 <= status < 300:
            raise _FinalError(f"it answered with status {status}")

    def _connection(
        self, scheme: str, host: str, port: int | None
    ) -> http.client.HTTPConnection:
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=ATTEMPT_SECONDS)
        context = ssl.create_default_context(cafile=self._ca_file)
        return http.client.HTTPSConnection(
            host, port, timeout=ATTEMPT_SECONDS, context=context
        )

    def _run(self, command: list[str], body: bytes) -> None:
        process = self._start(command)
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

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_ended:
                raise OSError("the feeder has ended")
            self._process = subprocess.Popen(  # noqa: S603 # the user's own command
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            return self._process


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _shut(connection: http.client.HTTPConnection) -> None:
    """Cut a connection, in whichever step its thread is."""
    sock = connection.sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


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
