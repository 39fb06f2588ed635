"""From an address to an open WebSocket: TCP, TLS, handshake, all under one deadline.

Nothing here waits: `dial` yields what its socket has to be ready for, and its caller
waits for that in its own way. A proxy and redirects are as the rules say: by default
there are none, whatever the environment or the server wants.
"""

import select
import socket
import ssl
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache

from shmfeed.wire import handshake
from shmfeed.wire.handshake import RedirectedError, Target
from shmfeed.wire.lost import (
    WOULD_BLOCK,
    ConnectionLostError,
    in_plain_words,
    wanted_by,
)
from shmfeed.wire.reach import Limit, Wanted, reach
from shmfeed.wire.route import Rules, follow, proxy_address

MAX_ANSWER_BYTES = 16 << 10

_HEADER_END = b"\r\n\r\n"
_Opened = tuple[socket.socket, bytes]


def dial(
    target: Target, rules: Rules, timeout: float, clock: Callable[[], float]
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
    target: Target, rules: Rules, limit: Limit
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
    target: Target, rules: Rules, limit: Limit
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
