"""From an address to an open WebSocket: TCP, TLS, handshake, all under one deadline.

Nothing here waits: `dial` yields what its socket has to be ready for, and its caller
waits for that in its own way. Looking up a host's name is the one step that no deadline
bounds. No proxy is ever used, whatever the environment says.
"""

import os
import select
import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import cache
from typing import Any

from shmfeed.wire import handshake
from shmfeed.wire.frames import WOULD_BLOCK, ConnectionLostError, in_plain_words
from shmfeed.wire.handshake import Target

MAX_ANSWER_BYTES = 16 << 10

_HEADER_END = b"\r\n\r\n"
_Address = tuple[int, Any]  # a family, and what socket.connect takes in it
_Wanted = tuple[socket.socket, int]  # a socket, and the poll events to wait for
# A peer that vanished is noticed within a minute while nothing is sent, and 20 s after
# something was. Names, because not every platform has them all.
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 20_000),
)


def dial(
    target: Target, timeout: float, clock: Callable[[], float]
) -> Generator[_Wanted, None, tuple[socket.socket, bytes]]:
    """Open a WebSocket within `timeout` s of `clock`.

    Yields its socket and the poll events that this has to be ready for; to be resumed
    then, or just later. Returns the open, non-blocking socket and what came behind the
    handshake. Raises ConnectionLostError; nothing stays open then, or when closed.
    """
    limit = _Limit(clock, timeout)
    with in_plain_words():
        sock = yield from _connect(target, limit)
        try:
            if target.secure:
                sock = tls = _wrap(sock, target.host)
                yield from _agree(tls, limit)
            inbox = yield from _upgrade(sock, target, limit)
        except BaseException:
            sock.close()
            raise
        return sock, inbox


class _Limit:
    """A deadline, and how much of it may be spent on one of several ways."""

    def __init__(self, clock: Callable[[], float], timeout: float) -> None:
        self._clock = clock
        self._timeout = timeout
        self._deadline = clock() + timeout

    def check(self, doing: str) -> None:
        if self._clock() > self._deadline:
            raise ConnectionLostError(f"{doing} timed out after {self._timeout:g} s")

    def share(self, ways: int) -> "_Limit":
        return _Limit(self._clock, max(0.0, self._deadline - self._clock()) / ways)


def _connect(target: Target, limit: _Limit) -> Generator[_Wanted, None, socket.socket]:
    *others, last = _addresses(target)
    for tried, address in enumerate(others):
        with suppress(OSError):  # the next address may do; ConnectionLostError is one
            ways = len(others) + 1 - tried
            return (yield from _connect_to(address, limit.share(ways)))
    return (yield from _connect_to(last, limit))


def _addresses(target: Target) -> list[_Address]:
    host, port = target.host, target.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectionLostError(f"no address found for {host}") from error
    return [(family, address) for family, _, _, _, address in found]


def _connect_to(
    address: _Address, limit: _Limit
) -> Generator[_Wanted, None, socket.socket]:
    family, place = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        for level, name, value in _SOCKET_OPTIONS:
            if hasattr(socket, name):
                sock.setsockopt(level, getattr(socket, name), value)
        with suppress(BlockingIOError):
            sock.connect(place)
        while not _connected(sock):
            limit.check("connecting")
            yield sock, select.POLLOUT
    except BaseException:
        sock.close()
        raise
    return sock


def _connected(sock: socket.socket) -> bool:
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
    try:
        sock.getpeername()
    except OSError:  # not yet
        return False
    return True


def _wrap(sock: socket.socket, host: str) -> ssl.SSLSocket:
    return tls_context().wrap_socket(
        sock, server_hostname=host, do_handshake_on_connect=False
    )


def _agree(sock: ssl.SSLSocket, limit: _Limit) -> Generator[_Wanted, None, None]:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            wanted = select.POLLIN
        except ssl.SSLWantWriteError:
            wanted = select.POLLOUT
        else:
            return
        limit.check("the TLS handshake")
        yield sock, wanted


def _upgrade(
    sock: socket.socket, target: Target, limit: _Limit
) -> Generator[_Wanted, None, bytes]:
    key = handshake.new_key()
    request = handshake.request(target, key)
    while request:
        try:
            request = request[sock.send(request) :]
        except WOULD_BLOCK:
            limit.check("the handshake")
            yield sock, select.POLLOUT
    answer = b""
    while _HEADER_END not in answer:
        limit.check("the handshake")
        try:
            answer += _read(sock, MAX_ANSWER_BYTES - len(answer))
        except WOULD_BLOCK:
            yield sock, select.POLLIN
    head, _, inbox = answer.partition(_HEADER_END)
    handshake.check_answer(head, key)
    return inbox


def _read(sock: socket.socket, room: int) -> bytes:
    if room <= 0:
        raise ConnectionLostError(
            f"the answer to the handshake is longer than {MAX_ANSWER_BYTES} bytes"
        )
    data = sock.recv(room)
    if not data:
        raise ConnectionLostError("closed by the server during the handshake")
    return data


@cache
def tls_context() -> ssl.SSLContext:
    """The one way this project does TLS: certificate and host name are verified."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Session keys go to no file, though SSLKEYLOGFILE may be set; None is documented
    # as its default, only the type stubs do not know it.
    context.keylog_filename = None  # type: ignore[assignment]
    return context
