"""Leases at a feeder: connections that hold them, asked for again after a restart.

One thread serves all leases of a process, and ends with the last one.
"""

import itertools
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from shmfeed.control.client import request_line
from shmfeed.control.lines import address, send
from shmfeed.control.messages import ANSWER_LIMIT, ControlError, decode_answer
from shmfeed.control.peer import peer_uid
from shmfeed.control.wake_pipe import WakePipe
from shmfeed.errors import (
    FeedNotFoundError,
    ShmfeedError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.forks import after_fork_in_child

FIRST_DELAY, LONGEST_DELAY = 0.03, 0.5  # s between two connections to a feeder
REFUSED_SECONDS = 10.0  # until a lease that was held before is asked for again
_SEND_SECONDS = 1.0
_PIECE = 1 << 16

log = logging.getLogger(__name__)
_ids = itertools.count(1)


class LeaseClaim:
    """One lease at the feeder of one feed. Only the keeper's thread steps it.

    Attributes:
        settled: Set once the lease is held for the first time, or refused for good.
        is_held: True while the feeder has acknowledged it and lives.
        refusal: The error of a lease that is refused for good, None before that.
        is_over: True once it is not wanted any more.
    """

    def __init__(
        self,
        feed: str,
        path: str | os.PathLike[str],
        fields: dict[str, object],
        on_settled: Callable[[], None],
    ) -> None:
        """Connect to nothing yet. `fields` are those of the request."""
        self.settled = threading.Event()
        self.is_held = self.is_over = False
        self.refusal: ShmfeedError | None = None
        self.due = 0.0  # when to connect, of time.monotonic
        self.connection: socket.socket | None = None
        self._feed = feed
        self._path = address(path)
        self._id = next(_ids)
        self._line = request_line(self._id, "lease", fields)
        self._on_settled = on_settled
        self._answer = bytearray()
        self._delay = FIRST_DELAY
        self._last_error: ShmfeedError | None = None
        self._is_asking = False
        self._told = ""

    def timeout_error(self, timeout: float) -> ShmfeedError:
        """Return the reason why the lease is not held after `timeout` seconds."""
        if self._is_asking:
            return WebSocketSubscriptionError(
                f"the venue did not acknowledge the lease within {timeout:g} s"
            )
        if self._last_error is not None:
            return WebSocketConnectionError(
                f"the feeder of feed {self._feed!r} did not accept the lease within"
                f" {timeout:g} s: {self._last_error}"
            )
        return FeedNotFoundError(
            f"no feeder of feed {self._feed!r} came within {timeout:g} s; start one:"
            f" shmfeed run --feed {self._feed}"
        )

    def step(self, is_readable: bool, now: float) -> None:
        """Connect if that is due, or take what the feeder has sent."""
        if self.connection is None:
            if now >= self.due:
                self._connect(now)
        elif is_readable:
            self._read(self.connection, now)

    def close(self) -> None:
        """Give the lease back: the feeder sees the end of the connection."""
        connection, self.connection = self.connection, None
        self.is_held = False
        if connection is not None:
            connection.close()

    def release(self) -> None:
        """End the claim, from any thread; its thread closes the connection."""
        self.is_over = True
        self.is_held = False
        connection = self.connection
        if connection is not None:
            with suppress(OSError):  # closed meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def _connect(self, now: float) -> None:
        self._retry(now)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(self._path)
            is_own = peer_uid(connection) == os.geteuid()
        except OSError:  # no feeder yet, or its backlog is full
            connection.close()
            return
        if not is_own:
            self._last_error = ControlError(
                f"the process that listens at {self._path} belongs to another user"
            )
        if not is_own or not send(connection, self._line, _SEND_SECONDS):
            connection.close()
            return
        connection.setblocking(False)
        self._answer.clear()
        self.connection, self._is_asking = connection, True

    def _read(self, connection: socket.socket, now: float) -> None:
        try:
            piece = connection.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._answer += piece
        line, end, _ = self._answer.partition(b"\n")
        if end and self._is_asking:
            self._take(bytes(line), now)
        elif not piece or len(self._answer) > ANSWER_LIMIT:
            self._lost(now)

    def _take(self, line: bytes, now: float) -> None:
        self._is_asking = False
        self._answer.clear()
        try:
            decode_answer(line, self._id)
        except (WebSocketConnectionError, ControlError) as error:
            self._last_error = error
            self.close()
            self._retry(now)
        except ShmfeedError as error:
            self.close()
            self._refused(error, now)
        else:
            self.is_held = not self.is_over
            self._delay, self._told, self._last_error = FIRST_DELAY, "", None
            self._settle()

    def _refused(self, error: ShmfeedError, now: float) -> None:
        if not self.settled.is_set():
            self.refusal = error
            self._settle()
            return
        self.due = now + REFUSED_SECONDS
        if str(error) != self._told:
            self._told = str(error)
            log.warning(
                "feed %s: a lease was not renewed, and is asked for again: %s",
                self._feed,
                error,
            )

    def _settle(self) -> None:
        if not self.settled.is_set():
            self.settled.set()
            self._on_settled()

    def _lost(self, now: float) -> None:
        was_held = self.is_held
        self.close()
        self._is_asking = False
        self._retry(now)
        if was_held and not self.is_over:
            log.info("feed %s: the feeder has ended; its lease is renewed", self._feed)

    def _retry(self, now: float) -> None:
        self.due = now + self._delay
        self._delay = min(LONGEST_DELAY, self._delay * 1.5)


class LeaseKeeper:
    """The claims of this process, and the thread that serves them.

    A forked child has none: its copies of the connections are closed.

    Thread safety: any thread may call any method.
    """

    def __init__(self) -> None:
        self._reset()
        after_fork_in_child(self._disown)

    def _reset(self) -> None:
        # The garbage collector, or a signal handler, may drop a lease in the thread
        # that holds it.
        self._lock = threading.RLock()
        self._claims: list[LeaseClaim] = []
        self._thread: threading.Thread | None = None
        self._pipe: WakePipe | None = None

    def add(self, claim: LeaseClaim) -> None:
        """Ask for a lease, and keep it until `drop`."""
        with self._lock:
            self._claims.append(claim)
            if self._pipe is None:
                self._pipe = WakePipe()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="shmfeed-leases", daemon=True
                )
                self._thread.start()
            self._wake()

    def drop(self, claim: LeaseClaim) -> None:
        """Give a lease back. Idempotent."""
        claim.release()
        with self._lock:
            self._wake()

    def _wake(self) -> None:
        if self._pipe is not None:
            self._pipe.wake()

    def _run(self) -> None:
        while True:
            with self._lock:
                for claim in [one for one in self._claims if one.is_over]:
                    claim.close()
                    self._claims.remove(claim)
                if not self._claims or self._pipe is None:
                    self._end()
                    return
                claims, pipe = list(self._claims), self._pipe
            ready = _wait(claims, pipe)
            now = time.monotonic()
            for claim in claims:
                try:
                    claim.step(claim in ready, now)
                except Exception:
                    log.exception("serving a lease failed")
                    claim.close()
                    claim.due = now + REFUSED_SECONDS

    def _end(self) -> None:
        pipe, self._pipe, self._thread = self._pipe, None, None
        if pipe is not None:
            pipe.close()

    def _disown(self) -> None:
        claims, pipe = self._claims, self._pipe
        self._reset()
        for claim in claims:
            claim.is_over = True
            claim.close()
        if pipe is not None:
            pipe.disown()


def _wait(claims: list[LeaseClaim], pipe: WakePipe) -> set[LeaseClaim]:
    """Wait until a claim has something to do; return those that are readable."""
    poll = select.poll()
    poll.register(pipe.fd, select.POLLIN)
    by_fd: dict[int, LeaseClaim] = {}
    due = None
    for claim in claims:
        connection = claim.connection
        if connection is not None and connection.fileno() >= 0:
            by_fd[connection.fileno()] = claim
            poll.register(connection, select.POLLIN)
        elif connection is None and not claim.refusal:
            due = claim.due if due is None else min(due, claim.due)
    left = None if due is None else max(0.0, due - time.monotonic()) * 1000
    found = poll.poll(None if left is None else left + 1)
    ready = set()
    for fd, _ in found:
        if fd == pipe.fd:
            pipe.drain()
        else:
            ready.add(by_fd[fd])
    return ready


keeper = LeaseKeeper()
