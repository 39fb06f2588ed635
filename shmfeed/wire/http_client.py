"""An HTTP client whose connections are opened as those of the WebSocket are.

The same settings hold: proxy, authorities, client certificate, and plain text to this
host alone. No environment variable matters, no redirect is followed, and nothing is
sent but the request. One deadline limits a request from the name's lookup to the last
byte of the answer, which has a largest size, packed and unpacked.
"""

import http.client
import io
import logging
import select
import socket
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple, cast
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.response import BaseHTTPResponse

from shmfeed._version import __version__
from shmfeed.settings.endpoint import redact
from shmfeed.text import one_line
from shmfeed.wire.answers import Answer
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.closing import ClosingPipe
from shmfeed.wire.connect import ConnectPolicy, connect
from shmfeed.wire.errors import (
    WOULD_BLOCK,
    ConnectionLostError,
    as_connection_lost,
    events_awaited,
)
from shmfeed.wire.handshake import Target
from shmfeed.wire.tcp import ConnectDeadline, WireSocket

TIMEOUT = 10.0  # s, of a whole request
MAX_BYTES = 16 << 20  # of an answer's body, packed and unpacked
MAX_IDLE = 4  # connections kept for further requests
_PORTS = {"http": 80, "https": 443}
_PIECE = 1 << 16
_GZIP = 31  # the window of zlib for gzip
_LEAST_TIME = 0.01  # s
_FRAMING_BYTES = 1 << 20  # of header lines and the frames of chunks
_NOT_HTTP = (http.client.HTTPException, urllib3.exceptions.HTTPError, ValueError)

# Its lines name the URL, whose query may hold a key.
logging.getLogger("urllib3").setLevel(logging.CRITICAL + 1)


class HttpAnswer(NamedTuple):
    """An answer; `sent` and `received` are CLOCK_BOOTTIME seconds."""

    head: Answer
    body: bytes
    sent: float
    received: float


class HttpClient:
    """A client of one service, for several threads.

    Attributes:
        label: The base address without its query, for messages.
        host: The service's host, and its port: the key of its limits.
    """

    def __init__(self, base: str, policy: Callable[[], ConnectPolicy]) -> None:
        """Take a checked base address; nothing is connected to yet.

        `policy` returns the policy in force; a new one gets new connections.
        """
        parts = urlsplit(base)
        self.label = redact(base)
        is_secure = parts.scheme == "https"
        port = parts.port or _PORTS[parts.scheme]
        name = parts.hostname or ""
        self.host = name, port
        self._target = Target(is_secure, name, port, "/", self.label)
        self._base_path, self._query = parts.path, parts.query
        self._policy_of = policy
        self._policy: ConnectPolicy | None = None
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._closing = ClosingPipe()

    def get(
        self,
        resource: str,
        max_bytes: int = MAX_BYTES,
        timeout: float = TIMEOUT,
    ) -> HttpAnswer:
        """Return the answer to a GET of `resource`, whatever its status.

        Args:
            resource: Path and query, behind the base address.
            max_bytes: The most bytes of the answer's body, packed or unpacked.
            timeout: Seconds until the last byte.

        Raises:
            ConnectionLostError: There is no whole answer.
        """
        if self._query:
            resource += ("&" if "?" in resource else "?") + self._query
        deadline = ConnectDeadline(time.monotonic, max(_LEAST_TIME, timeout))
        policy = self._policy_of()
        kept = self._take_idle(policy)
        if kept is not None:
            kept.deadline = deadline
            with suppress(_StaleError):  # the server has just closed it
                return self._ask(kept, resource, max_bytes)
        fresh = self._new_connection(policy, deadline)
        return self._ask(fresh, resource, max_bytes)

    def post(
        self,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float = TIMEOUT,
    ) -> int:
        """Post `body` to the base address, and return the status of the answer.

        The request has a connection of its own and is sent once; the body of the
        answer is not read.

        Args:
            body: The body of the request.
            headers: Its headers, beside the client's own.
            timeout: Seconds until the answer's header has come.

        Raises:
            ConnectionLostError: There is no answer.
        """
        resource = self._base_path or "/"
        if self._query:
            resource += f"?{self._query}"
        deadline = ConnectDeadline(time.monotonic, max(_LEAST_TIME, timeout))
        connection = self._new_connection(self._policy_of(), deadline)
        try:
            with as_connection_lost():
                return connection.post(resource, body, headers)
        finally:
            connection.close()

    def close(self) -> None:
        """End requests under way with an error, and close all connections."""
        self._closing.close()
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _new_connection(
        self, policy: ConnectPolicy, deadline: ConnectDeadline
    ) -> "_Connection":
        kind = _TlsConnection if self._target.is_secure else _Connection
        return kind(self._target, policy, self._closing, deadline)

    def _take_idle(self, policy: ConnectPolicy) -> "_Connection | None":
        stale: list[_Connection] = []
        with self._lock:
            if policy != self._policy:
                self._policy = policy
                stale, self._idle = self._idle, []
            taken = None
            while self._idle and taken is None:
                taken = self._idle.pop()
                if not taken.is_connected:
                    stale.append(taken)
                    taken = None
        for connection in stale:
            connection.close()
        return taken

    def _ask(
        self, connection: "_Connection", resource: str, max_bytes: int
    ) -> HttpAnswer:
        try:
            with as_connection_lost():
                path = self._base_path.rstrip("/") + resource
                answer = connection.ask(path, max_bytes)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            is_kept = not (connection.is_closed or self._closing.is_set)
            is_kept = is_kept and connection.policy == self._policy
            if is_kept and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return answer
        connection.close()
        return answer


class _StaleError(ConnectionLostError):
    """A kept connection that ended before any byte of the answer."""


class _Connection(HTTPConnection):
    """One connection, opened by the steps of `wire.connect`."""

    def __init__(
        self,
        target: Target,
        policy: ConnectPolicy,
        closing: ClosingPipe,
        deadline: ConnectDeadline,
    ) -> None:
        super().__init__(target.host, target.port)
        self.deadline = deadline
        self.policy = policy
        self._target = target
        self._closing = closing
        self._is_used = False
        self._left = 0

    def connect(self) -> None:
        steps = connect(self._target, self.policy, self.deadline)
        try:
            while True:
                sock, events = next(steps)
                self.wait(sock, events)
        except StopIteration as end:
            self.sock = cast("socket.socket", _BlockingSocket(end.value, self))
        finally:
            steps.close()

    def ask(self, resource: str, max_bytes: int) -> HttpAnswer:
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        self._left = 2 * max_bytes + _FRAMING_BYTES
        sent = boot_seconds()
        response = self._exchange("GET", resource, None, headers)
        self._is_used = True
        try:
            body = _read_body(response, max_bytes)
        except BaseException:
            response.close()  # it may own the connection
            raise
        return HttpAnswer(_head_of(response), body, sent, boot_seconds())

    def post(self, resource: str, body: bytes, headers: Mapping[str, str]) -> int:
        self._left = _FRAMING_BYTES
        response = self._exchange(
            "POST", resource, body, {**headers, "Connection": "close"}
        )
        try:
            return response.status
        finally:
            response.close()

    def _exchange(
        self,
        method: str,
        resource: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> BaseHTTPResponse:
        """Send a request, and return its answer once the header has come."""
        try:
            self.request(
                method,
                resource,
                body=body,
                headers={**headers, "User-Agent": f"shmfeed/{__version__}"},
                preload_content=False,
                decode_content=False,
            )
            return self.getresponse()
        except http.client.RemoteDisconnected as error:
            raise self._lost() from error
        except (BrokenPipeError, ConnectionResetError) as error:
            if self._is_used:
                raise self._lost() from error
            raise
        except OSError:  # some are ValueErrors, too
            raise
        except _NOT_HTTP as error:
            raise ConnectionLostError("the answer is not HTTP") from error

    def wait(self, sock: WireSocket, events: int) -> None:
        """Wait until the socket is ready, the deadline is over, or the client ends."""
        waiting = select.poll()
        waiting.register(sock.fileno(), events)
        waiting.register(self._closing.fd, select.POLLIN)
        self.check()
        waiting.poll(self.deadline.left * 1000 + 1)
        if self._closing.is_set:
            raise ConnectionLostError("the client was closed")

    def check(self) -> None:
        """Raise ConnectionLostError if the deadline is over, or the client ends."""
        self.deadline.check("the request")
        if self._closing.is_set:
            raise ConnectionLostError("the client was closed")

    def count(self, size: int) -> None:
        """Count bytes of the answer, and raise ConnectionLostError if it never ends."""
        self._left -= size
        if self._left < 0:
            raise ConnectionLostError("the answer's header or body does not end")

    def _lost(self) -> ConnectionLostError:
        words = "the server closed the connection without an answer"
        return _StaleError(words) if self._is_used else ConnectionLostError(words)


class _TlsConnection(_Connection):
    default_port: ClassVar[int] = _PORTS["https"]  # type: ignore[misc]


class _BlockingSocket:
    """A socket of the wire as http.client uses one: its calls wait."""

    def __init__(self, sock: WireSocket, owner: _Connection) -> None:
        self._sock = sock
        self._owner = owner
        self._users = 1  # this object, and the files made of it

    def sendall(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._sock.send(data) :]
            except WOULD_BLOCK as blocked:
                events = events_awaited(blocked, select.POLLOUT)
                self._owner.wait(self._sock, events)

    def receive(self, most: int) -> bytes:
        # A server that sends faster than this reads never lets it wait.
        self._owner.check()
        while True:
            try:
                data = self._sock.recv(most)
            except WOULD_BLOCK as blocked:
                events = events_awaited(blocked, select.POLLIN)
                self._owner.wait(self._sock, events)
            else:
                self._owner.count(len(data))
                return data

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._users += 1
        return io.BufferedReader(_Incoming(self), _PIECE)

    def settimeout(self, _timeout: object) -> None:
        """Do nothing: the request's deadline is the limit."""

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._users -= 1
        if not self._users:
            self._sock.close()


class _Incoming(io.RawIOBase):
    """The bytes that come from a socket."""

    def __init__(self, sock: _BlockingSocket) -> None:
        super().__init__()
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._sock.receive(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._sock.close()


def _head_of(response: BaseHTTPResponse) -> Answer:
    fields = {name.lower(): response.headers.getlist(name) for name in response.headers}
    return Answer(response.status, one_line(response.reason or "", 80), fields)


def _read_body(response: BaseHTTPResponse, most: int) -> bytes:
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "", "gzip"):
        raise ConnectionLostError(
            f"the answer is packed as {one_line(packing, 40)!r}, which was not asked"
            " for"
        )
    unpack = zlib.decompressobj(_GZIP) if packing == "gzip" else None
    packed = 0
    body = bytearray()
    while data := _read_piece(response):
        packed += len(data)
        try:
            body += unpack.decompress(data, most + 1 - len(body)) if unpack else data
        except zlib.error:
            raise ConnectionLostError("the answer's gzip is damaged") from None
        if max(packed, len(body)) > most:
            raise ConnectionLostError(f"the answer is longer than {most} bytes")
    if unpack and not unpack.eof and packed:
        raise ConnectionLostError("the answer ended too early")
    return bytes(body)


def _read_piece(response: BaseHTTPResponse) -> bytes:
    try:
        return response.read(_PIECE, decode_content=False)
    except OSError:
        raise
    except _NOT_HTTP as error:
        for cause in (error, *error.args):
            if isinstance(cause, http.client.IncompleteRead):
                raise ConnectionLostError("the answer ended too early") from None
            if isinstance(cause, OSError):
                raise cause from None
        raise ConnectionLostError("the answer's body is not HTTP") from error
