"""The server of the control socket: a feeder answers managers and commands.

The socket is a file beside the feed's lock, for processes of the same user alone. One
thread accepts and one thread serves each connection, so that a request that waits for
the venue delays no other. The process that holds the feed's lock owns the file.
"""

import contextlib
import logging
import os
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Self

import msgspec

from shmfeed.control.held import HeldConnections, HeldHandler
from shmfeed.control.lines import LineReader, TooLongError, address, send
from shmfeed.control.messages import (
    HELD_OPS,
    OPS,
    REQUEST_LIMIT,
    ControlError,
    ControlRequest,
    RequestError,
    decode_request,
    encode_answer,
    encode_error,
)
from shmfeed.control.peer import peer_pid, peer_uid
from shmfeed.errors import BadArgumentError, ShmfeedError
from shmfeed.segment.mapping import identity_at

MAX_CONNECTIONS = 32
# A closed connection counts as open until its thread notices, which takes a while on a
# busy host. A new client waits this long for a free connection.
_FREE_WAIT_SECONDS = 0.5
# A client that asks sends its request at once: one that sent none for so long is closed
# first when a new client needs its place.
_SHORT_IDLE_SECONDS = 1.0
_MAX_IDLE_OF_A_PROCESS = 4  # beyond it a process's connections are closed first
_BACKLOG = 64

Handler = Callable[[ControlRequest], dict[str, object]]
_log = logging.getLogger(__name__)


class ControlServer:
    """A server at `path` that calls `handle` for each request, until it is closed.

    Several threads call `handle` at once. It returns the answer's fields, or raises a
    ShmfeedError, which the client raises again. The caller holds the feed's lock, so
    the server replaces a socket file that a dead feeder left. It closes a connection
    that sends no whole line for `idle` seconds or a line that is no request. If a new
    client finds all connections taken, it closes one of a process that has many idle
    ones, else the one that is idle longest.

    `held` is called with each request that holds its connection, and with None at that
    connection's end. It returns the answer to come.

    Raises:
        ControlError: The server cannot listen at `path`.
        BadArgumentError: `path` is too long.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        handle: Handler,
        *,
        ops: Collection[str] = OPS,
        idle: float = 15.0,
        held: HeldHandler | None = None,
    ) -> None:
        self._path = address(path)
        self._handle = handle
        self._ops = ops
        self._idle = idle
        self._pid = os.getpid()
        self._closing = threading.Event()
        self._lock = threading.Lock()  # guards the connections and their closing
        self._ended = threading.Condition(self._lock)  # a connection has ended
        self._connections: dict[socket.socket, threading.Thread] = {}
        # The time since which each has no whole request, and the pid of its peer.
        self._idle_since: dict[socket.socket, tuple[float, int]] = {}
        self._held: HeldConnections | None = None
        self._socket = _listen(self._path)
        self._identity = identity_at(self._path)
        if held is not None:
            self._held = HeldConnections(held)
        self._accepting = threading.Thread(
            target=self._accept, name="control", daemon=True
        )
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def is_reachable(self) -> bool:
        """False if the file at `path` is no longer this server's."""
        return identity_at(self._path) == self._identity

    def close(self, timeout: float = 5.0) -> None:
        """Remove the file and end all threads and descriptors. Idempotent.

        Requests that are being handled get their answer, within `timeout` seconds. In
        a forked child this does nothing: file and threads are the parent's.
        """
        if os.getpid() != self._pid or self._closing.is_set():
            return
        self._closing.set()
        # Unlink first: while the socket is open, its inode cannot be used again.
        if identity_at(self._path) == self._identity:
            Path(self._path).unlink(missing_ok=True)
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._accepting.join()
        self._socket.close()
        deadline = time.monotonic() + timeout
        self._end(socket.SHUT_RD, deadline)
        self._end(socket.SHUT_RDWR, deadline + 0.2)
        if self._held is not None:
            self._held.close()

    def _end(self, how: int, deadline: float) -> None:
        me = threading.current_thread()  # a handler that closes still gets its answer
        with self._lock:
            others = {c: t for c, t in self._connections.items() if t is not me}
            for connection in others:
                _shutdown(connection, how)
        for thread in others.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                # Closing, or EMFILE, which only waiting can resolve.
                if not self._closing.wait(0.1):
                    reason = error.strerror
                    _log.warning(
                        "control socket: cannot accept connections: %s", reason
                    )
                continue
            self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        uid = peer_uid(connection)
        if uid != os.geteuid():
            _log.warning("control socket: refused a process of user %d", uid)
            connection.close()
            return
        thread = threading.Thread(
            target=self._serve, args=(connection,), name="control-peer", daemon=True
        )
        with self._ended:
            admitted = self._make_room() and _start(thread)
            if admitted:
                self._connections[connection] = thread
                self._idle_since[connection] = time.monotonic(), peer_pid(connection)
        if not admitted:
            error = ControlError(
                f"this feeder already serves {MAX_CONNECTIONS} connections; close one,"
                " or try again"
            )
            send(connection, encode_error(None, error), 0.1)
            connection.close()

    def _make_room(self) -> bool:
        """Wait for a free connection; close an idle one if none ends by itself."""
        if self._has_free_connection():
            return True
        if not self._close_hoarded() and not self._close_longest_idle(
            _SHORT_IDLE_SECONDS
        ):
            if self._ended.wait_for(self._has_free_connection, _FREE_WAIT_SECONDS):
                return True
            self._close_longest_idle(0.0)
        return self._ended.wait_for(self._has_free_connection, _FREE_WAIT_SECONDS)

    def _close_hoarded(self) -> bool:
        """Close an idle connection of the process that has most of them, if many."""
        counts = Counter(pid for _, pid in self._idle_since.values())
        pid, most = counts.most_common(1)[0] if counts else (0, 0)
        if most <= _MAX_IDLE_OF_A_PROCESS:
            return False
        idle = [c for c, (_, owner) in self._idle_since.items() if owner == pid]
        return self._close_first(idle)

    def _close_longest_idle(self, least: float) -> bool:
        latest = time.monotonic() - least
        idle = [c for c, (since, _) in self._idle_since.items() if since <= latest]
        return self._close_first(idle)

    def _close_first(self, idle: list[socket.socket]) -> bool:
        if not idle:
            return False
        longest = min(idle, key=self._idle_since.__getitem__)
        del self._idle_since[longest]
        _shutdown(longest, socket.SHUT_RDWR)  # its thread ends
        return True

    def _has_free_connection(self) -> bool:
        return len(self._connections) < MAX_CONNECTIONS

    def _serve(self, connection: socket.socket) -> None:
        is_held = False
        try:
            is_held = self._converse(connection, peer_pid(connection))
        except TooLongError:
            error = BadArgumentError(
                f"this request is longer than {REQUEST_LIMIT} bytes"
            )
            send(connection, encode_error(None, error), self._idle)
        except OSError:  # idle for too long, or disconnected
            pass
        finally:
            with self._lock:
                del self._connections[connection]
                self._idle_since.pop(connection, None)
                if not is_held:
                    connection.close()
                self._ended.notify()

    def _converse(self, connection: socket.socket, pid: int) -> bool:
        """Answer requests; return True once the client holds the connection."""
        lines = LineReader(connection, REQUEST_LIMIT)
        while not self._closing.is_set():
            line = lines.read(time.monotonic() + self._idle)
            with self._lock:
                self._idle_since.pop(connection, None)
            if line is None:
                break
            try:
                request = decode_request(line, self._ops)
            except RequestError as error:
                sent = send(connection, encode_error(error.id, error), self._idle)
                if error.id is None or not sent:  # it may not be a client of ours
                    break
            else:
                # The sender may be of another PID namespace: the kernel translates.
                request = msgspec.structs.replace(request, pid=pid)
                if request.op in HELD_OPS and self._held is not None:
                    return self._hold(self._held, connection, request)
                line = _answer(request.id, partial(self._handle, request))
                if not send(connection, line, self._idle):
                    break
            with self._lock:
                self._idle_since[connection] = time.monotonic(), pid
        return False

    def _hold(
        self,
        held: HeldConnections,
        connection: socket.socket,
        request: ControlRequest,
    ) -> bool:
        if not held.has_room_for(request.pid):
            error = ControlError(
                "too many connections to this feeder are held; end a manager or a lease"
            )
            send(connection, encode_error(request.id, error), self._idle)
            return False

        def encode(done: "Future[dict[str, object]]") -> tuple[bytes, bool]:
            return _answer(request.id, done.result), done.exception() is None

        held.add(connection, request, encode)
        return True


def _answer(request_id: int, result: Callable[[], dict[str, object]]) -> bytes:
    """Return the line of a result, or of the error that it raises."""
    try:
        return encode_answer(request_id, result())
    except ShmfeedError as error:
        return encode_error(request_id, error)
    except Exception:  # noqa: BLE001  a bug in a handler must not end the server
        _log.exception("control socket: request failed")
        fault = ControlError("the feeder failed on this request; read the feeder's log")
        return encode_error(request_id, fault)


def _start(thread: threading.Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:  # the limit of threads is reached
        return False
    return True


def _shutdown(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # the peer may be gone
        connection.shutdown(how)


def _listen(path: str) -> socket.socket:
    _remove_stale(path)
    with contextlib.ExitStack() as opened:
        try:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            opened.callback(listener.close)
            # bind() takes the mode from the socket: others never have access to it.
            os.fchmod(listener.fileno(), 0o600)
            listener.settimeout(None)
            listener.bind(path)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise ControlError(f"cannot listen at {path}: {error.strerror}") from None
        opened.pop_all()
    return listener


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise ControlError(f"{path} is not a socket of this user; remove it")
    Path(path).unlink(missing_ok=True)
