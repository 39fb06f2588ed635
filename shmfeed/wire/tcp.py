"""From a host's name to a connected socket, and the steps of a dialogue on it.

Nothing here waits: each step is a generator that yields a socket and the poll events to
wait for, and the caller waits in its own way. One deadline limits all steps together.
"""

import ipaddress
import os
import select
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from shmfeed.settings.endpoint import is_loopback
from shmfeed.wire.errors import WOULD_BLOCK, ConnectionLostError, events_awaited

MAX_LOOKUPS = 4

_lookups = threading.BoundedSemaphore(MAX_LOOKUPS)
# Without traffic, a peer that vanished is noticed within a minute; with data on the
# way to it, within 20 s. By name, because not every platform has them all.
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 20_000),
)


class WireSocket(Protocol):
    """A socket that never blocks, plain or TLS, as far as the wire uses it."""

    def recv(self, bufsize: int, /) -> bytes: ...
    def send(self, data: bytes, /) -> int: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


PollRequest = tuple[WireSocket, int]  # a socket, and the poll events to wait for
_Result = TypeVar("_Result")
Steps = Generator[PollRequest, None, _Result]
_Address = tuple[int, Any]  # a family, and what socket.connect takes in it


class ConnectDeadline:
    """The deadline of opening a connection, divisible among several addresses."""

    def __init__(self, clock: Callable[[], float], timeout: float) -> None:
        self._clock = clock
        self._timeout = timeout
        self._end = clock() + timeout

    @property
    def is_over(self) -> bool:
        """True once no time is left."""
        return self._clock() > self._end

    @property
    def left(self) -> float:
        """The seconds that are left, 0.0 once it is over."""
        return max(0.0, self._end - self._clock())

    def check(self, doing: str) -> None:
        """Raise ConnectionLostError once the deadline is over."""
        if self.is_over:
            raise ConnectionLostError(f"{doing} timed out after {self._timeout:g} s")

    def share(self, attempts: int) -> "ConnectDeadline":
        """Return the deadline of the first of so many attempts: an equal share."""
        return ConnectDeadline(self._clock, self.left / attempts)

    def at_most(self, seconds: float) -> "ConnectDeadline":
        """Return a deadline in `seconds` from now, or this one's if that is sooner."""
        return ConnectDeadline(self._clock, min(seconds, self._end - self._clock()))


def connect_tcp(
    host: str, port: int, deadline: ConnectDeadline, *, on_this_host: bool
) -> Steps[socket.socket]:
    """Return a non-blocking socket, connected to the first address that answers.

    With `on_this_host`, every address of `host` has to be this host's own, whatever
    the resolver says. After an error, or when it is closed, nothing stays open.

    Raises:
        ConnectionLostError, OSError: No address could be connected to.
    """
    addresses = yield from _look_up(host, port, deadline)
    if not addresses:
        raise ConnectionLostError(f"no address found for {host}")
    if on_this_host:
        _check_local(host, addresses)
    *others, last = addresses
    for tried, address in enumerate(others):
        with suppress(OSError):  # ConnectionLostError too: try the next address
            attempts = len(others) + 1 - tried
            return (yield from _connect_to(address, deadline.share(attempts)))
    return (yield from _connect_to(last, deadline))


def send_all(sock: WireSocket, data: bytes, deadline: ConnectDeadline) -> Steps[None]:
    """Send all of `data`."""
    while data:
        try:
            data = data[sock.send(data) :]
        except WOULD_BLOCK as blocked:
            deadline.check("the handshake")
            yield sock, events_awaited(blocked, select.POLLOUT)


def receive_some(
    sock: WireSocket, most: int, deadline: ConnectDeadline
) -> Steps[bytes]:
    """Return what has come, at most `most` bytes; nothing at the end of the stream."""
    while True:
        deadline.check("the handshake")
        try:
            return sock.recv(most)
        except WOULD_BLOCK as blocked:
            yield sock, events_awaited(blocked, select.POLLIN)


def _look_up(host: str, port: int, deadline: ConnectDeadline) -> Steps[list[_Address]]:
    if _is_address(host):
        return _addresses(host, port)
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        found: list[_Address] = []
        _start_lookup(host, port, found, theirs)
        while _is_open(ours):
            deadline.check(f"looking up {host}")
            yield ours, select.POLLIN
    return found


def _start_lookup(
    host: str, port: int, found: list[_Address], done: socket.socket
) -> None:
    # getaddrinfo() takes as long as the host's resolver likes, and nothing can end it.
    # It gets a thread, which is left to itself once the deadline is over.
    def ask() -> None:
        try:
            found.extend(_addresses(host, port))
        finally:
            _lookups.release()
            done.close()

    # Taken last, because only the thread gives it back.
    if not _lookups.acquire(blocking=False):
        done.close()
        raise ConnectionLostError(
            f"{host} cannot be looked up: {MAX_LOOKUPS} earlier lookups still hang in"
            " this host's resolver"
        )
    # A daemon thread, so that a lookup that hangs cannot delay the end of the process.
    thread = threading.Thread(target=ask, name="shmfeed-lookup", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        _lookups.release()
        done.close()
        raise ConnectionLostError(f"cannot start a thread to look up {host}") from error


def _addresses(host: str, port: int) -> list[_Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in found]


def _check_local(host: str, addresses: list[_Address]) -> None:
    for _, (address, *_) in addresses:
        if not is_loopback(address):
            raise ConnectionLostError(
                f"{host} resolves to {address}, which is another host;"
                " use wss://, or set allow_insecure"
            )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_open(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) != b""
    except BlockingIOError:
        return True


def _connect_to(address: _Address, deadline: ConnectDeadline) -> Steps[socket.socket]:
    family, place = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        for level, name, value in _SOCKET_OPTIONS:
            if hasattr(socket, name):
                sock.setsockopt(level, getattr(socket, name), value)
        with suppress(BlockingIOError):
            sock.connect(place)
        while not _is_connected(sock):
            deadline.check("connecting")
            yield sock, select.POLLOUT
    except BaseException:
        sock.close()
        raise
    return sock


def _is_connected(sock: socket.socket) -> bool:
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
    try:
        sock.getpeername()
    except OSError:  # not yet
        return False
    return True
