"""Tunnels through proxies: HTTP's CONNECT, and SOCKS version 5 (RFC 1928, RFC 1929).

The proxy looks up the target's name. Each tunnel is a generator like all steps of
opening a connection. No error holds the password, whatever the proxy says.
"""

import base64
import ipaddress
import struct
from typing import NamedTuple
from urllib.parse import urlsplit

from shmfeed._version import __version__
from shmfeed.settings.endpoint import mask_secrets, proxy_label, proxy_user
from shmfeed.wire.answers import Answer, read_answer, read_body, words_of
from shmfeed.wire.errors import (
    ConnectionLostError,
    HandshakeError,
    RefusedUpgradeError,
)
from shmfeed.wire.handshake import Target, bracketed
from shmfeed.wire.tcp import ConnectDeadline, Steps, WireSocket, receive_some, send_all

_PORTS = {"http": 80, "https": 443, "socks5h": 1080}
_UNAUTHORIZED = 407
_LONGEST_PASSWORD = 255  # bytes, of SOCKS
_VERSION, _CONNECT, _SUBNEGOTIATION = 5, 1, 1
_NO_METHOD, _NO_LOGIN, _LOGIN = 0xFF, 0, 2
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}
_SOCKS_ERRORS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "kind of address not supported",
}


class Proxy(NamedTuple):
    """A proxy and the credentials for it; `label` is its address without the user."""

    scheme: str
    host: str
    port: int
    user: str | None
    password: str
    label: str

    def __repr__(self) -> str:
        return f"Proxy({self.label!r})"


def parse_proxy(url: str, password: str) -> Proxy:
    """Return the proxy of a checked address."""
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    host = parts.hostname or ""
    return Proxy(parts.scheme, host, port, proxy_user(url), password, proxy_label(url))


def tunnel(
    sock: WireSocket, proxy: Proxy, target: Target, deadline: ConnectDeadline
) -> Steps[None]:
    """Turn a socket that is connected to `proxy` into one to `target`.

    Raises:
        ConnectionLostError, OSError: The proxy refuses, or does not answer as one.
    """
    steps = _socks if proxy.scheme == "socks5h" else _http
    try:
        yield from steps(sock, proxy, target, deadline)
    except ConnectionLostError as error:
        raise _masked(error, proxy) from None


def _masked(error: ConnectionLostError, proxy: Proxy) -> ConnectionLostError:
    text = str(error)
    if len(proxy.password) >= 4:
        text = mask_secrets(text, (_basic(proxy), proxy.password))
    masked = ConnectionLostError(text)
    masked.retry_after = error.retry_after
    return masked


# HTTP


def _http(
    sock: WireSocket, proxy: Proxy, target: Target, deadline: ConnectDeadline
) -> Steps[None]:
    yield from send_all(sock, tunnel_request(target, proxy), deadline)
    answer, rest = yield from read_answer(sock, deadline)
    if answer.code // 100 != 2:
        body = yield from read_body(sock, answer, rest, deadline)
        raise tunnel_refusal(answer, words_of(answer, body), proxy.user is not None)
    if rest:  # a server speaks second, so these bytes are the proxy's own
        raise ConnectionLostError("the proxy sent more than its answer")


def tunnel_request(target: Target, proxy: Proxy) -> bytes:
    """Return the request for a tunnel to `target`."""
    place = f"{bracketed(target)}:{target.port}"
    lines = [
        f"CONNECT {place} HTTP/1.1",
        f"Host: {place}",
        f"User-Agent: shmfeed/{__version__}",
    ]
    if proxy.user is not None:
        lines.append(f"Proxy-Authorization: Basic {_basic(proxy)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def tunnel_refusal(answer: Answer, words: str, had_user: bool) -> HandshakeError:
    """Return the error for an answer that opens no tunnel, with these words."""
    if answer.code == _UNAUTHORIZED:
        if had_user:
            return HandshakeError("the proxy refuses the user or the password")
        return HandshakeError(
            "the proxy asks for a user and a password; name the user in proxy, and a"
            " file with the password in proxy_password_file"
        )
    text = f"the proxy answered {answer.status_with(words)}"
    return RefusedUpgradeError(text, answer.code, answer.wait(words))


def _basic(proxy: Proxy) -> str:
    pair = f"{proxy.user}:{proxy.password}"
    return base64.b64encode(pair.encode()).decode()


# SOCKS


def _socks(
    sock: WireSocket, proxy: Proxy, target: Target, deadline: ConnectDeadline
) -> Steps[None]:
    methods = [_NO_LOGIN] if proxy.user is None else [_NO_LOGIN, _LOGIN]
    hello = bytes([_VERSION, len(methods), *methods])
    yield from send_all(sock, hello, deadline)
    version, method = yield from _exactly(sock, 2, deadline)
    if version != _VERSION:
        raise HandshakeError("the proxy does not speak SOCKS version 5")
    if method == _NO_METHOD and proxy.user is None:
        raise HandshakeError(
            "the proxy asks for a user and a password; name the user in proxy, and a"
            " file with the password in proxy_password_file"
        )
    if method not in methods:
        raise HandshakeError("the proxy asks for a kind of login that is not supported")
    if method == _LOGIN:
        yield from _log_in(sock, proxy, deadline)
    yield from send_all(sock, _socks_request(target), deadline)
    yield from _read_reply(sock, deadline)


def _log_in(sock: WireSocket, proxy: Proxy, deadline: ConnectDeadline) -> Steps[None]:
    user, password = (proxy.user or "").encode(), proxy.password.encode()
    if len(password) > _LONGEST_PASSWORD:
        raise HandshakeError(
            f"the password for the proxy is longer than {_LONGEST_PASSWORD} bytes,"
            " which SOCKS has no place for"
        )
    login = bytes([_SUBNEGOTIATION, len(user)]) + user
    login += bytes([len(password)]) + password
    yield from send_all(sock, login, deadline)
    _, status = yield from _exactly(sock, 2, deadline)
    if status:
        raise HandshakeError("the proxy refuses the user or the password")


def _socks_request(target: Target) -> bytes:
    try:
        address = ipaddress.ip_address(target.host)
        kind = _IPV4 if address.version == 4 else _IPV6
        place = bytes([kind]) + address.packed
    except ValueError:
        name = target.host.encode("ascii")
        place = bytes([_NAME, len(name)]) + name
    return bytes([_VERSION, _CONNECT, 0]) + place + struct.pack("!H", target.port)


def _read_reply(sock: WireSocket, deadline: ConnectDeadline) -> Steps[None]:
    version, code, _, kind = yield from _exactly(sock, 4, deadline)
    if version != _VERSION:
        raise HandshakeError("the proxy does not speak SOCKS version 5")
    if code:
        reason = _SOCKS_ERRORS.get(code, f"error {code}")
        raise HandshakeError(f"the proxy cannot connect: {reason}")
    size = _ADDRESS_BYTES.get(kind)
    if size is None:
        if kind != _NAME:
            raise HandshakeError("the proxy does not speak SOCKS version 5")
        (size,) = yield from _exactly(sock, 1, deadline)
    yield from _exactly(sock, size + 2, deadline)  # the proxy's own end of the tunnel


def _exactly(sock: WireSocket, size: int, deadline: ConnectDeadline) -> Steps[bytes]:
    data = b""
    while len(data) < size:
        piece = yield from receive_some(sock, size - len(data), deadline)
        if not piece:
            raise ConnectionLostError(
                "the server closed the connection during the handshake"
            )
        data += piece
    return data
