"""From a URL to an open WebSocket: name, TCP, proxy, TLS, handshake; one deadline.

`open_websocket` is the entry; the steps follow in the order in which it takes them.
Nothing here waits: each step is a generator that yields a socket and the poll events to
wait for, and the caller waits in its own way.

Only the policy enables a proxy or redirects; no environment variable and no server can.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from shmfeed.errors import BadArgumentError
from shmfeed.settings import endpoint
from shmfeed.text import one_line
from shmfeed.wire import handshake
from shmfeed.wire.answers import read_answer, read_body, words_of
from shmfeed.wire.errors import (
    WOULD_BLOCK,
    ConnectionLostError,
    HandshakeError,
    RedirectedError,
    as_connection_lost,
    events_awaited,
)
from shmfeed.wire.handshake import Target, parse_target
from shmfeed.wire.tcp import ConnectDeadline, Steps, connect_tcp, send_all

_SCHEMES = {"http": "ws", "https": "wss"}  # as servers also write them in a Location


class ServerTime(NamedTuple):
    """The time that a server states, ms UTC; `read_at` by time.monotonic."""

    time: int
    read_at: float


class Opened(NamedTuple):
    """An open WebSocket: its socket, and what came with the handshake.

    `inbox` are the bytes behind the answer.
    """

    sock: socket.socket
    inbox: bytes
    server_time: ServerTime | None


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
) -> Steps[Opened]:
    """Open a WebSocket within `timeout` seconds of `clock`.

    It yields a socket and the poll events to wait for; the caller may resume it before
    they occur. After an error, or when it is closed, nothing stays open.

    Returns:
        The open WebSocket; its socket never blocks.

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


def _open(
    target: Target, policy: ConnectPolicy, deadline: ConnectDeadline
) -> Steps[Opened]:
    sock = yield from _connect(target, policy, deadline)
    try:
        if target.is_secure:
            sock = tls = tls_context().wrap_socket(
                sock, server_hostname=target.host, do_handshake_on_connect=False
            )
            yield from _agree_on_tls(tls, deadline)
        return (yield from _upgrade(sock, target, deadline))
    except BaseException:
        sock.close()
        raise


@contextmanager
def _explained(prefix: str) -> Iterator[None]:
    """Raise errors as ConnectionLostError, with `prefix` before their text."""
    try:
        with as_connection_lost():
            yield
    except ConnectionLostError as error:
        if not prefix:
            raise
        raise error.behind(prefix) from error


def _connect(
    target: Target, policy: ConnectPolicy, deadline: ConnectDeadline
) -> Steps[socket.socket]:
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


# Proxy, TLS and handshake


def _tunnel(
    sock: socket.socket, target: Target, deadline: ConnectDeadline
) -> Steps[None]:
    yield from send_all(sock, handshake.tunnel_request(target), deadline)
    answer, rest = yield from read_answer(sock, deadline)
    if answer.code // 100 != 2:
        body = yield from read_body(sock, answer, rest, deadline)
        raise handshake.tunnel_refusal(answer, words_of(answer, body))
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


def _agree_on_tls(sock: ssl.SSLSocket, deadline: ConnectDeadline) -> Steps[None]:
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
) -> Steps[Opened]:
    key = handshake.new_key()
    yield from send_all(sock, handshake.upgrade_request(target, key), deadline)
    answer, rest = yield from read_answer(sock, deadline)
    if answer.code != handshake.SWITCHING:
        body = b""
        if answer.code // 100 != 3:  # of a redirect, only the place counts
            body = yield from read_body(sock, answer, rest, deadline)
        raise handshake.refusal(answer, words_of(answer, body))
    date = answer.server_time
    stated = None if date is None else ServerTime(date, time.monotonic())
    handshake.check_upgrade(answer, key)
    return Opened(sock, rest, stated)


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
