"""From a host's name to an open TCP connection, under one deadline.

Nothing here waits: the generators yield a socket and what it has to be ready for.
Looking up a name can take as long as the host's resolver likes, and nothing can end it.
So it has a thread of its own, which is left to itself once the deadline is over; there
are never more than MOST_LOOKUPS of them.
"""

import ipaddress
import os
import select
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from shmfeed.settings.endpoint import is_loopback
from shmfeed.wire.lost import ConnectionLostError

MOST_LOOKUPS = 4

Wanted = tuple[socket.socket, int]  # a socket, and the poll events to wait for
_Address = tuple[int, Any]  # a family, and what socket.connect takes in it
_lookups = threading.BoundedSemaphore(MOST_LOOKUPS)
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


class Limit:
    """A deadline, and how much of it may be spent on one of several ways."""

    def __init__(self, clock: Callable[[], float], timeout: float) -> None:
        self._clock = clock
        self._timeout = timeout
        self._deadline = clock() + timeout

    def check(self, doing: str) -> None:
        """Raise ConnectionLostError once the deadline is over."""
        if self._clock() > self._deadline:
            raise ConnectionLostError(f"{doing} timed out after {self._timeout:g} s")

    def share(self, ways: int) -> "Limit":
        return Limit(self._clock, max(0.0, self._deadline - self._clock()) / ways)


def reach(
    host: str, port: int, limit: Limit, *, on_this_host: bool
) -> Generator[Wanted, None, socket.socket]:
    """A non-blocking socket connected to the first address of `host` that answers.

    `on_this_host`: only to an address of this one, whatever the resolver says. Raises
    ConnectionLostError or OSError; nothing stays open then, or when closed.
    """
    addresses = yield from _look_up(host, port, limit)
    if not addresses:
        raise ConnectionLostError(f"no address found for {host}")
    if on_this_host:
        _check_local(host, addresses)
    *others, last = addresses
    for tried, address in enumerate(others):
        with suppress(OSError):  # the next address may do; ConnectionLostError is one
            ways = len(others) + 1 - tried
            return (yield from _connect(address, limit.share(ways)))
    return (yield from _connect(last, limit))


def _look_up(
    host: str, port: int, limit: Limit
) -> Generator[Wanted, None, list[_Address]]:
    if _is_address(host):
        return _addresses(host, port)
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        found: list[_Address] = []
        _begin(host, port, found, theirs)
        while _is_open(ours):
            limit.check(f"looking up {host}")
            yield ours, select.POLLIN
    return found


def _begin(host: str, port: int, found: list[_Address], done: socket.socket) -> None:
    def ask() -> None:
        try:
            found.extend(_addresses(host, port))
        finally:
            _lookups.release()
            done.close()

    # Last of what may be refused: room that is taken comes back with the thread.
    if not _lookups.acquire(blocking=False):
        done.close()
        raise ConnectionLostError(
            f"{host} cannot be looked up: {MOST_LOOKUPS} look-ups before it hang in"
            " this host's resolver"
        )
    # A daemon: one that hangs keeps no process from ending.
    thread = threading.Thread(target=ask, name="shmfeed-look-up", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        _lookups.release()
        done.close()
        raise ConnectionLostError(f"no thread can be had to look up {host}") from error


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
                f"{host} is {address} to this host's resolver, which is not this host;"
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


def _connect(address: _Address, limit: Limit) -> Generator[Wanted, None, socket.socket]:
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
