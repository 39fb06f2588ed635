"""Connections that clients hold: a feeder sees the end of each at once.

A manager, a lease and a publisher keep one connection open after their request, and a
publisher tells more on it. The kernel closes it
when the process ends, however that ends and in whichever PID namespace it runs. One
thread waits for all of them, so that a held connection costs no thread.
"""

import itertools
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple

from shmfeed.control.messages import (
    TOLD_OPS,
    ControlRequest,
    RequestError,
    decode_request,
)
from shmfeed.control.wake_pipe import WakePipe

MAX_HELD = 512
MAX_OF_A_PROCESS = 256
_TOLD_BYTES = 1 << 16  # of a line that is told

# Carries a request out, or with None tells that the connection has ended.
HeldHandler = Callable[[ControlRequest | None, int], "Future[dict[str, Any]]"]


# Returns the line of an answer, and True if the claim was accepted.
Encode = Callable[["Future[dict[str, Any]]"], tuple[bytes, bool]]


_numbers = itertools.count(1)  # of all servers of this process


class _Held(NamedTuple):
    connection: socket.socket
    pid: int
    op: str
    rest: bytearray  # of a line that has not ended


class HeldConnections:
    """The connections that clients of one server hold, and the thread that watches.

    Thread safety: any thread may call any method.
    """

    def __init__(self, handle: HeldHandler) -> None:
        """Start the thread. `handle` gets each request with its connection's number."""
        self._handle = handle
        self._lock = threading.Lock()
        self._held: dict[int, _Held] = {}  # by number
        self._numbers: dict[int, int] = {}  # by descriptor
        self._answers: deque[tuple[int, bytes, bool]] = deque()
        self._poll = select.poll()
        self._pipe = WakePipe()
        self._poll.register(self._pipe.fd, select.POLLIN)
        self._is_open = True
        self._thread = threading.Thread(
            target=self._run, name="control-held", daemon=True
        )
        self._thread.start()

    def has_room_for(self, pid: int) -> bool:
        """Return True if a process may hold another connection.

        Processes of another PID namespace, pid 0, cannot be told apart.
        """
        with self._lock:
            own = sum(1 for one in self._held.values() if one.pid == pid)
            return len(self._held) < MAX_HELD and (not pid or own < MAX_OF_A_PROCESS)

    def add(
        self, connection: socket.socket, request: ControlRequest, encode: Encode
    ) -> None:
        """Hold a connection, and answer its request when that is done.

        The connection of a claim that is not accepted is closed after the answer.
        """
        connection.setblocking(False)
        with self._lock:
            number = next(_numbers)
            self._held[number] = _Held(connection, request.pid, request.op, bytearray())
            self._numbers[connection.fileno()] = number
        answer = self._handle(request, number)

        def answered(done: "Future[dict[str, Any]]") -> None:
            self._answers.append((number, *encode(done)))
            self._pipe.wake()

        answer.add_done_callback(answered)
        with self._lock:  # only now, so that the request comes before its end
            if number in self._held:
                self._poll.register(connection, select.POLLIN)
        self._pipe.wake()

    def close(self) -> None:
        """Send the answers that are there, close all connections, end the thread."""
        self._is_open = False
        self._pipe.wake()
        self._thread.join()
        for number in list(self._held):
            self._end(number)
        self._pipe.close()

    def _run(self) -> None:
        while self._is_open or self._answers:
            for fd, _ in self._poll.poll():
                if fd == self._pipe.fd:
                    self._pipe.drain()
                else:
                    self._receive(self._numbers[fd])
            while self._answers:
                number, line, is_accepted = self._answers.popleft()
                if not self._send(number, line) or not is_accepted:
                    self._end(number)

    def _receive(self, number: int) -> None:
        """Pass on what a client tells; end a connection that its client has closed.

        Ended too is one that sends what it may not.
        """
        told = _told_on(self._held[number])
        if told is None:
            self._end(number)
            return
        for request in told:
            self._handle(request, number)

    def _send(self, number: int, line: bytes) -> bool:
        held = self._held.get(number)
        if held is None:
            return False
        try:  # a client that does not read its one answer is cut off
            return held.connection.send(line, socket.MSG_DONTWAIT) == len(line)
        except OSError:
            return False

    def _end(self, number: int) -> None:
        """End a connection, and tell so."""
        with self._lock:
            held = self._held.pop(number, None)
            if held is None:
                return
            fd = held.connection.fileno()
            del self._numbers[fd]
            with suppress(KeyError):  # its answer came before it was registered
                self._poll.unregister(fd)
            held.connection.close()
        self._handle(None, number)


def _told_on(held: _Held) -> list[ControlRequest] | None:
    """Return what a client has told; None where its connection has to end."""
    if held.op not in TOLD_OPS:
        return None
    try:
        piece = held.connection.recv(_TOLD_BYTES)
    except BlockingIOError:
        return []
    except OSError:
        return None
    *lines, rest = bytes(held.rest + piece).split(b"\n")
    if not piece or len(rest) > _TOLD_BYTES:
        return None
    held.rest[:] = rest
    try:
        return [decode_request(line, (held.op,)) for line in lines]
    except RequestError:
        return None
