"""From a URL to an open WebSocket: connect, handshake, redirects; one deadline.

Nothing here waits: each step is a generator that yields a socket and the poll events to
wait for, and the caller waits in its own way.
"""

import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urljoin

from shmfeed.errors import BadArgumentError
from shmfeed.text import one_line
from shmfeed.wire import handshake
from shmfeed.wire.answers import read_answer, read_body, words_of
from shmfeed.wire.connect import ConnectPolicy, check_target, connect
from shmfeed.wire.deflate import Inflater, negotiated
from shmfeed.wire.errors import HandshakeError, RedirectedError, explained
from shmfeed.wire.handshake import Request, Target
from shmfeed.wire.tcp import ConnectDeadline, Steps, WireSocket, send_all

_SCHEMES = {"http": "ws", "https": "wss"}  # as servers also write them in a Location


class ServerTime(NamedTuple):
    """The time that a server states, ms UTC; `read_at` by time.monotonic."""

    time: int
    read_at: float


class Opened(NamedTuple):
    """An open WebSocket: its socket, and what came with the handshake.

    `inbox` are the bytes behind the answer.
    """

    sock: WireSocket
    inbox: bytes
    server_time: ServerTime | None
    inflater: Inflater | None


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
        with explained(prefix):
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
    sock = yield from connect(target, policy, deadline)
    try:
        return (yield from _upgrade(sock, target, policy.request, deadline))
    except BaseException:
        sock.close()
        raise


def _upgrade(
    sock: WireSocket, target: Target, request: Request, deadline: ConnectDeadline
) -> Steps[Opened]:
    key = handshake.new_key()
    head = handshake.upgrade_request(target, key, request)
    yield from send_all(sock, head, deadline)
    answer, rest = yield from read_answer(sock, deadline)
    if answer.code != handshake.SWITCHING:
        body = b""
        if answer.code // 100 != 3:  # of a redirect, only the place counts
            body = yield from read_body(sock, answer, rest, deadline)
        raise handshake.refusal(answer, words_of(answer, body))
    date = answer.server_time
    stated = None if date is None else ServerTime(date, time.monotonic())
    handshake.check_upgrade(answer, key, request)
    inflater = negotiated(answer) if request.extensions else None
    return Opened(sock, rest, stated, inflater)


# Redirects


def follow_redirect(
    redirect: RedirectedError, target: Target, policy: ConnectPolicy
) -> Target:
    """Return the target of a redirect from `target`.

    A redirect from wss:// to ws:// is refused, and so is one to another host or port if
    there is a token, a header or a query, which may be secret.

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
    if is_elsewhere and (policy.has_secrets or "?" in target.resource):
        raise _not_followed(
            redirect,
            f"to {following.label}, which must not get the feeder's token, headers"
            " or query; if it is the venue's, give it as endpoint",
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
