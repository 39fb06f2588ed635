"""From a URL to an open WebSocket: name, TCP, proxy, TLS, handshake; one deadline.

`open_websocket` is the entry; the steps follow in the order in which it takes them.
Nothing here waits: each step is a generator that yields a socket and the poll events to
wait for, and the caller waits in its own way.

Only the policy enables a proxy or redirects; no environment variable and no server can.
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
    as_connection_lost,
    events_awaited,
)
from shmfeed.wire.handshake import (
    HandshakeError,
    RedirectedError,
    Target,
    parse_target,
)

MAX_LOOKUPS = 4
MAX_ANSWER_BYTES = 16 << 10

_HEADER_END = b"\r\n\r\n"
_SCHEMES = {"http": "ws", "https": "wss"}  # as servers also write them in a Location
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

PollRequest = tuple[socket.socket, int]  # a socket, and the poll events to wait for
_Address = tuple[int, Any]  # a family, and what socket.connect takes in it
Opened = tuple[socket.socket, bytes]  # the socket, and bytes behind the handshake


class ConnectPolicy(NamedTuple):
    """The settings that restrict where a connection may lead.

    `has_token` says that a token will be sent once the connection is open.
    """

    allow_insecure: bool = False
    proxy: str | None = None
    max_redirects: int = 0
    has_token: bool = False


def check_target(url: str, policy: ConnectPolicy) -> Target:
    """Return where `url` leads, without touching the network.

    Raises:
        BadArgumentError: It is not the URL of a WebSocket, or it would send
            unencrypted beyond this host, which the policy does not allow.
    """
    target = parse_target(url)
    address = url.partition("?")[0]
    if not policy.allow_insecure and endpoint.is_exposed(address, policy.proxy):
        way = f", on its way to proxy {policy.proxy}," if policy.proxy else ""
        raise BadArgumentError(
            f"{target.label}{way} is not encrypted and not on this host; "
            "use wss://, or set allow_insecure"
        )
    return target


def open_websocket(
    target: Target, policy: ConnectPolicy, timeout: float, clock: Callable[[], float]
) -> Generator[PollRequest, None, Opened]:
    """Open a WebSocket within `timeout` seconds of `clock`.

    It yields a socket and the poll events to wait for; the caller may resume it before
    they occur. After an error, or when it is closed, nothing stays open.

    Returns:
        The open, non-blocking socket, and the bytes that came behind the handshake.

    Raises:
        ConnectionLostError: For every failure.
    """
    deadline = ConnectDeadline(clock, timeout)
    prefix = ""
    for left in range(policy.max_redirects, -1, -1):
        with _explained(prefix):
            try:
                return (yield from _open(target, policy, deadline))
            except RedirectedError as redirect:
                if not left:
                    raise
                target = follow_redirect(redirect, target, policy)
                prefix = f"redirected to {target.label}: "
    raise AssertionError  # the last one returns or raises


class ConnectDeadline:
    """The deadline of opening a connection, divisible among several addresses."""

    def __init__(self, clock: Callable[[], float], timeout: float) -> None:
        self._clock = clock
        self._timeout = timeout
        self._end = clock() + timeout

    def check(self, doing: str) -> None:
        """Raise ConnectionLostError once the deadline is over."""
        if self._clock() > self._end:
            raise ConnectionLostError(f"{doing} timed out after {self._timeout:g} s")

    def share(self, attempts: int) -> "ConnectDeadline":
        """Return the deadline of the first of so many attempts: an equal share."""
        return ConnectDeadline(
            self._clock, max(0.0, self._end - self._clock()) / attempts
        )


def _open(
    target: Target, policy: ConnectPolicy, deadline: ConnectDeadline
) -> Generator[PollRequest, None, Opened]:
    sock = yield from _connect(target, policy, deadline)
    try:
        if target.is_secure:
            sock = tls = tls_context().wrap_socket(
                sock, server_hostname=target.host, do_handshake_on_connect=False
            )
            yield from _agree_on_tls(tls, deadline)
        inbox = yield from _upgrade(sock, target, deadline)
    except BaseException:
        sock.close()
        raise
    return sock, inbox


@contextmanager
def _explained(prefix: str) -> Iterator[None]:
    """Raise errors as ConnectionLostError, with `prefix` before their text."""
    try:
        with as_connection_lost():
            yield
    except ConnectionLostError as error:
        if not prefix:
            raise
        raise ConnectionLostError(f"{prefix}{error}") from error


def _connect(
    target: Target, policy: ConnectPolicy, deadline: ConnectDeadline
) -> Generator[PollRequest, None, socket.socket]:
    # Without encryption the policy allows only names of this host. `connect_tcp`
    # verifies that after the lookup.
    local = not (target.is_secure or policy.allow_insecure)
    if policy.proxy is None:
        host, port = target.host, target.port
        return (yield from connect_tcp(host, port, deadline, on_this_host=local))
    with _explained(f"proxy {policy.proxy}: "):
        parts = urlsplit(policy.proxy)
        host, port = parts.hostname or "", parts.port or 80
        sock = yield from connect_tcp(host, port, deadline, on_this_host=local)
        try:
            yield from _tunnel(sock, target, deadline)
        except BaseException:
            sock.close()
            raise
        return sock


# Name and TCP


def connect_tcp(
    host: str, port: int, deadline: ConnectDeadline, *, on_this_host: bool
) -> Generator[PollRequest, None, socket.socket]:
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


def _look_up(
    host: str, port: int, deadline: ConnectDeadline
) -> Generator[PollRequest, None, list[_Address]]:
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


def _connect_to(
    address: _Address, deadline: ConnectDeadline
) -> Generator[PollRequest, None, socket.socket]:
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


# Proxy, TLS and handshake


def _tunnel(
    sock: socket.socket, target: Target, deadline: ConnectDeadline
) -> Generator[PollRequest, None, None]:
    yield from _send(sock, handshake.tunnel_request(target), deadline)
    head, rest = yield from _read_head(sock, deadline)
    handshake.check_tunnel(head)
    if rest:  # a server speaks second, so these bytes are the proxy's own
        raise ConnectionLostError("the proxy sent more than its answer")


@cache
def tls_context() -> ssl.SSLContext:
    """Return this project's one TLS context; it verifies certificate and host name."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Without renegotiation, no server can make a send wait for a new handshake.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Session keys go to no file, though SSLKEYLOGFILE may be set. None is documented
    # as its default; only the type stubs do not know it.
    context.keylog_filename = None  # type: ignore[assignment]
    return context


def _agree_on_tls(
    sock: ssl.SSLSocket, deadline: ConnectDeadline
) -> Generator[PollRequest, None, None]:
    while True:
        try:
            sock.do_handshake()
        except WOULD_BLOCK as blocked:
            events = events_awaited(blocked, select.POLLIN)
        else:
            return
        deadline.check("the TLS handshake")
        yield sock, events


def _upgrade(
    sock: socket.socket, target: Target, deadline: ConnectDeadline
) -> Generator[PollRequest, None, bytes]:
    key = handshake.new_key()
    yield from _send(sock, handshake.upgrade_request(target, key), deadline)
    head, inbox = yield from _read_head(sock, deadline)
    handshake.check_upgrade(head, key)
    return inbox


def _send(
    sock: socket.socket, data: bytes, deadline: ConnectDeadline
) -> Generator[PollRequest, None, None]:
    while data:
        try:
            data = data[sock.send(data) :]
        except WOULD_BLOCK as blocked:
            deadline.check("the handshake")
            yield sock, events_awaited(blocked, select.POLLOUT)


def _read_head(
    sock: socket.socket, deadline: ConnectDeadline
) -> Generator[PollRequest, None, tuple[bytes, bytes]]:
    """Return the header of an answer, and the bytes that came behind it."""
    answer = b""
    while _HEADER_END not in answer:
        deadline.check("the handshake")
        try:
            answer += _read(sock, MAX_ANSWER_BYTES - len(answer))
        except WOULD_BLOCK as blocked:
            yield sock, events_awaited(blocked, select.POLLIN)
    head, _, rest = answer.partition(_HEADER_END)
    return head, rest


def _read(sock: socket.socket, most: int) -> bytes:
    if most <= 0:
        raise ConnectionLostError(
            f"the answer to the handshake is longer than {MAX_ANSWER_BYTES} bytes"
        )
    data = sock.recv(most)
    if not data:
        raise ConnectionLostError(
            "the server closed the connection during the handshake"
        )
    return data


# Redirects


def follow_redirect(
    redirect: RedirectedError, target: Target, policy: ConnectPolicy
) -> Target:
    """Return the target of a redirect from `target`.

    A redirect from wss:// to ws:// is refused, and so is one to another host or port if
    there is a token or a query, which may be secret.

    Raises:
        HandshakeError: The redirect is not followed.
    """
    if not redirect.location:
        raise _not_followed(redirect, "to nowhere")
    try:
        following = check_target(_location(redirect, target), policy)
    except BadArgumentError as error:
        why = f"to an address that is not accepted: {error}"
        raise _not_followed(redirect, why) from error
    if target.is_secure and not following.is_secure:
        raise _not_followed(redirect, f"from wss:// to {following.label}")
    is_elsewhere = _origin(following) != _origin(target)
    if is_elsewhere and (policy.has_token or "?" in target.resource):
        raise _not_followed(
            redirect,
            f"to {following.label}, which must not get the feeder's token or"
            " query; if it is the venue's, give it as endpoint",
        )
    return following


def _location(redirect: RedirectedError, target: Target) -> str:
    base = target.label.partition("?")[0]
    try:
        url = urljoin(base, redirect.location)
    except ValueError as error:
        raise _not_followed(redirect, "to no valid address") from error
    scheme, mark, rest = url.partition("://")
    return _SCHEMES.get(scheme.lower(), scheme) + mark + rest


def _not_followed(redirect: RedirectedError, why: str) -> HandshakeError:
    return HandshakeError(
        f"the server redirects ({redirect.code}) {one_line(why, 500)}"
    )


def _origin(target: Target) -> tuple[bool, str, int]:
    return target.is_secure, target.host.lower(), target.port
