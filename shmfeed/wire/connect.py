"""From an address to an open WebSocket: TCP, TLS, handshake, all under one deadline.

Nothing here waits: `dial` yields what its socket has to be ready for, and its caller
waits for that in its own way. A proxy and redirects are as the rules say: by default
there are none, whatever the environment or the server wants.

What a connection may do to get where it shall: proxy and redirects. No I/O.

Without settings that say so it does neither, whatever the environment or a server says.

From a host's name to an open TCP connection, under one deadline.

Nothing here waits: the generators yield a socket and what it has to be ready for.
Looking up a name can take as long as the host's resolver likes, and nothing can end it.
So it has a thread of its own, which is left to itself once the deadline is over; there
are never more than MOST_LOOKUPS of them.
"""

import ipaddress
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from shmfeed.errors import BadArgumentError
from shmfeed.settings import endpoint
from shmfeed.settings.endpoint import is_loopback
from shmfeed.text import one_line
from shmfeed.wire import handshake
from shmfeed.wire.errors import (
    WOULD_BLOCK,
    ConnectionLostError,
    in_plain_words,
    wanted_by,
)
from shmfeed.wire.handshake import HandshakeError, RedirectedError, Target, parse

_SCHEMES = {"http": "ws", "https": "wss"}  # as servers also write them in a Location


class ConnectPolicy(NamedTuple):
    """The settings of that name, and whether a token will be sent once it is open."""

    allow_insecure: bool = False
    proxy: str | None = None
    max_redirects: int = 0
    has_token: bool = False


def start(url: str, rules: ConnectPolicy) -> Target:
    """Take the URL of a connection apart, without touching the network.

    BadArgumentError where it is none, or where it would send in the clear beyond this
    host and that is not allowed.
    """
    target = parse(url)
    address = url.partition("?")[0]
    if not rules.allow_insecure and endpoint.is_exposed(address, rules.proxy):
        way = f", on its way to proxy {rules.proxy}," if rules.proxy else ""
        raise BadArgumentError(
            f"{target.shown}{way} is not encrypted and not on this host; "
            "use wss://, or set allow_insecure"
        )
    return target


def follow(redirect: RedirectedError, target: Target, rules: ConnectPolicy) -> Target:
    """Where a server sends us on to from `target`; HandshakeError where we do not go.

    Never from wss:// to ws://; elsewhere only where neither a query nor a token, which
    may be secret, would have to go there too.
    """
    if not redirect.location:
        raise _unfollowed(redirect, "to nowhere")
    try:
        following = start(_location(redirect, target), rules)
    except BadArgumentError as error:
        raise _unfollowed(redirect, f"to what is not accepted: {error}") from error
    if target.secure and not following.secure:
        raise _unfollowed(redirect, f"from wss:// to {following.shown}")
    is_elsewhere = _origin(following) != _origin(target)
    if is_elsewhere and (rules.has_token or "?" in target.resource):
        raise _unfollowed(
            redirect,
            f"to {following.shown}, which is not to be given our token or query;"
            " if it is the venue's, name it as endpoint",
        )
    return following


def proxy_address(proxy: str) -> tuple[str, int]:
    """Host and port of a checked proxy."""
    parts = urlsplit(proxy)
    return parts.hostname or "", parts.port or 80


def _location(redirect: RedirectedError, target: Target) -> str:
    base = target.shown.partition("?")[0]
    try:
        url = urljoin(base, redirect.location)
    except ValueError as error:
        raise _unfollowed(redirect, "to what is no address") from error
    scheme, mark, rest = url.partition("://")
    return _SCHEMES.get(scheme.lower(), scheme) + mark + rest


def _unfollowed(redirect: RedirectedError, why: str) -> HandshakeError:
    return HandshakeError(
        f"the server redirects ({redirect.code}) {one_line(why, 500)}"
    )


def _origin(target: Target) -> tuple[bool, str, int]:
    return target.secure, target.host.lower(), target.port


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


MAX_ANSWER_BYTES = 16 << 10

_HEADER_END = b"\r\n\r\n"
_Opened = tuple[socket.socket, bytes]


def dial(
    target: Target, rules: ConnectPolicy, timeout: float, clock: Callable[[], float]
) -> Generator[Wanted, None, _Opened]:
    """Open a WebSocket within `timeout` s of `clock`.

    Yields its socket and the poll events that this has to be ready for; to be resumed
    then, or just later. Returns the open, non-blocking socket and what came behind the
    handshake. Raises ConnectionLostError; nothing stays open then, or when closed.
    """
    limit = Limit(clock, timeout)
    prefix = ""
    for left in range(rules.max_redirects, -1, -1):
        with _explained(prefix):
            try:
                return (yield from _open(target, rules, limit))
            except RedirectedError as redirect:
                if not left:
                    raise
                target = follow(redirect, target, rules)
                prefix = f"redirected to {target.shown}: "
    raise AssertionError  # the last one returns or raises


def _open(
    target: Target, rules: ConnectPolicy, limit: Limit
) -> Generator[Wanted, None, _Opened]:
    sock = yield from _reach(target, rules, limit)
    try:
        if target.secure:
            sock = tls = _wrap(sock, target.host)
            yield from _agree(tls, limit)
        inbox = yield from _upgrade(sock, target, limit)
    except BaseException:
        sock.close()
        raise
    return sock, inbox


@contextmanager
def _explained(prefix: str) -> Iterator[None]:
    """Errors leave as ConnectionLostError, their text behind `prefix`."""
    try:
        with in_plain_words():
            yield
    except ConnectionLostError as error:
        if not prefix:
            raise
        raise ConnectionLostError(f"{prefix}{error}") from error


def _reach(
    target: Target, rules: ConnectPolicy, limit: Limit
) -> Generator[Wanted, None, socket.socket]:
    # In the clear the rules allow a name of this host; here it has to be one.
    local = not (target.secure or rules.allow_insecure)
    if rules.proxy is None:
        return (yield from reach(target.host, target.port, limit, on_this_host=local))
    with _explained(f"proxy {rules.proxy}: "):
        place = proxy_address(rules.proxy)
        sock = yield from reach(*place, limit, on_this_host=local)
        try:
            yield from _tunnel(sock, target, limit)
        except BaseException:
            sock.close()
            raise
        return sock


def _tunnel(
    sock: socket.socket, target: Target, limit: Limit
) -> Generator[Wanted, None, None]:
    yield from _send(sock, handshake.tunnel_request(target), limit)
    head, rest = yield from _head(sock, limit)
    handshake.check_tunnel(head)
    if rest:  # the server speaks second: whose words would these be?
        raise ConnectionLostError("it sent more than its answer")


def _wrap(sock: socket.socket, host: str) -> ssl.SSLSocket:
    return tls_context().wrap_socket(
        sock, server_hostname=host, do_handshake_on_connect=False
    )


def _agree(sock: ssl.SSLSocket, limit: Limit) -> Generator[Wanted, None, None]:
    while True:
        try:
            sock.do_handshake()
        except WOULD_BLOCK as blocked:
            wanted = wanted_by(blocked, select.POLLIN)
        else:
            return
        limit.check("the TLS handshake")
        yield sock, wanted


def _upgrade(
    sock: socket.socket, target: Target, limit: Limit
) -> Generator[Wanted, None, bytes]:
    key = handshake.new_key()
    yield from _send(sock, handshake.request(target, key), limit)
    head, inbox = yield from _head(sock, limit)
    handshake.check_answer(head, key)
    return inbox


def _send(
    sock: socket.socket, data: bytes, limit: Limit
) -> Generator[Wanted, None, None]:
    while data:
        try:
            data = data[sock.send(data) :]
        except WOULD_BLOCK as blocked:
            limit.check("the handshake")
            yield sock, wanted_by(blocked, select.POLLOUT)


def _head(
    sock: socket.socket, limit: Limit
) -> Generator[Wanted, None, tuple[bytes, bytes]]:
    """The header of an answer, and what came behind it."""
    answer = b""
    while _HEADER_END not in answer:
        limit.check("the handshake")
        try:
            answer += _read(sock, MAX_ANSWER_BYTES - len(answer))
        except WOULD_BLOCK as blocked:
            yield sock, wanted_by(blocked, select.POLLIN)
    head, _, rest = answer.partition(_HEADER_END)
    return head, rest


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
    # What was agreed stays: no server can make a send wait for a new handshake.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Session keys go to no file, though SSLKEYLOGFILE may be set; None is documented
    # as its default, only the type stubs do not know it.
    context.keylog_filename = None  # type: ignore[assignment]
    return context
