"""Requests of managers, on their way from the control threads to the main loop."""

import queue
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from itertools import product
from typing import Any

from shmfeed.control.messages import VERSION, ControlRequest
from shmfeed.control.wake_pipe import WakePipe
from shmfeed.errors import (
    BadArgumentError,
    ShmfeedError,
    WebSocketConnectionError,
)
from shmfeed.layout import MAX_STREAMS

DISCONNECTED = "disconnected"  # not of the control protocol: a held connection's end


class PendingRequest:
    """A request whose sender waits. The main loop calls `finish` or `fail`, once.

    `connection` is the number of the connection that the sender holds, 0 for none.
    """

    def __init__(self, request: ControlRequest, connection: int = 0) -> None:
        self.request = request
        self.connection = connection
        self.answer: Future[dict[str, Any]] = Future()

    def finish(self, **fields: Any) -> None:
        """Answer with these fields."""
        self.answer.set_result(fields)

    def fail(self, error: ShmfeedError) -> None:
        """Answer with an error, which is raised at the sender."""
        self.answer.set_exception(error)


def asked_pairs(request: ControlRequest) -> Iterator[tuple[str, str]]:
    """Return each symbol of a request with each of its timeframes, not checked yet.

    Raises:
        BadArgumentError: There are too many, and checking each would block the loop.
    """
    symbols, resolutions = request.symbols or (), request.resolutions or ()
    count = len(symbols) * len(resolutions)
    if count > MAX_STREAMS:
        raise BadArgumentError(
            f"symbols x resolutions are {count} streams; a feed has at most"
            f" {MAX_STREAMS}: use several feeds"
        )
    return product(symbols, resolutions)


class RequestQueue:
    """The queue of requests, and the pipe that wakes the main loop for them."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[PendingRequest] = queue.SimpleQueue()
        self._pipe = WakePipe()
        self.wake_fd = self._pipe.fd
        self._is_open = True

    def ask(self, request: ControlRequest) -> dict[str, Any]:
        """Queue a request, wait for the main loop's answer and return it.

        Control threads call it. Every request gets an answer, also while the feeder
        stops.

        Raises:
            ShmfeedError: The main loop's answer is this error.
        """
        return self.post(request).result()

    def post(
        self, request: ControlRequest, connection: int = 0
    ) -> "Future[dict[str, Any]]":
        """Queue a request, and return its answer to come.

        Control threads call it. Every request gets an answer, also while the feeder
        stops.
        """
        pending = PendingRequest(request, connection)
        self._queue.put(pending)
        if self._is_open:
            self.wake()
        else:  # checked after putting, because `end` may drain at any time
            self._fail_all()
        return pending.answer

    def post_held(
        self, request: ControlRequest | None, connection: int
    ) -> "Future[dict[str, Any]]":
        """Queue a request that holds its connection; None: the connection's end."""
        if request is None:
            request = ControlRequest(v=VERSION, id=0, op=DISCONNECTED)
        return self.post(request, connection)

    def wake(self) -> None:
        """Wake the main loop, from any thread or signal handler.

        After `close` it does nothing.
        """
        self._pipe.wake()

    def drain(self) -> Iterable[PendingRequest]:
        """Return an iterator over the requests that are there now.

        Requests that come meanwhile wait for the next call, so that a busy sender
        cannot starve the main loop.
        """
        count = self._queue.qsize()
        return self._first(count) if count else ()

    def end(self) -> None:
        """Fail the requests that are there, and all that still come."""
        self._is_open = False
        self._fail_all()

    def close(self) -> None:
        """Close the pipe. Other threads and signal handlers may still call `wake`."""
        self._pipe.close()

    def _first(self, count: int) -> Iterator[PendingRequest]:
        with suppress(queue.Empty):
            for _ in range(count):
                yield self._queue.get_nowait()

    def _fail_all(self) -> None:
        for pending in self.drain():
            pending.fail(
                WebSocketConnectionError("the feeder is stopping; start it again")
            )
