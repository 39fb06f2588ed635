"""The WebSocket handshake of RFC 6455, section 4: requests and checks. No I/O.

websocket-client's own handshake waits for each byte, reads header lines of any length,
follows redirects and keeps cookies. The few lines that a feed needs are here instead,
so that the caller decides when and how much to read.
"""

import base64
import hashlib
import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from shmfeed._version import __version__
from shmfeed.errors import BadArgumentError
from shmfeed.settings import endpoint
from shmfeed.wire.answers import Answer
from shmfeed.wire.errors import (
    HandshakeError,
    RedirectedError,
    RefusedUpgradeError,
)

SWITCHING = 101  # the status that accepts

_PORTS = {"ws": 80, "wss": 443}
_VISIBLE = re.compile(r"[!-~]*")
_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Target(NamedTuple):
    """The server and the resource of a connection; `label` is the URL without query."""

    is_secure: bool
    host: str
    port: int
    resource: str
    label: str

    def __repr__(self) -> str:
        # A query may hold a key, and a repr ends up in logs.
        return f"Target({self.label!r})"


def parse_target(url: str) -> Target:
    """Return the parts of a WebSocket's URL. Its query may be of any length.

    Raises:
        BadArgumentError: It is not the URL of a WebSocket.
    """
    address, _, query = url.partition("?")
    parts = urlsplit(endpoint.check_endpoint(address))
    label = endpoint.redact(url)
    if not _VISIBLE.fullmatch(query) or "#" in query:
        raise BadArgumentError(
            f"the query of {label} contains a character that has to be percent-encoded"
        )
    resource = (parts.path or "/") + (f"?{query}" if query else "")
    port = parts.port or _PORTS[parts.scheme]
    return Target(parts.scheme == "wss", parts.hostname or "", port, resource, label)


def new_key() -> str:
    return base64.b64encode(os.urandom(16)).decode()


def upgrade_request(target: Target, key: str) -> bytes:
    """Return the request for a WebSocket, without origin, extensions and cookies."""
    host = _bracketed(target)
    if target.port != _PORTS["wss" if target.is_secure else "ws"]:
        host += f":{target.port}"
    lines = (
        f"GET {target.resource} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        f"User-Agent: shmfeed/{__version__}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def check_upgrade(answer: Answer, key: str) -> None:
    """Raise HandshakeError unless an answer of status 101 accepts the request."""
    if set(answer.tokens("upgrade")) != {"websocket"}:
        raise HandshakeError("the answer does not upgrade to websocket")
    if "upgrade" not in answer.tokens("connection"):
        raise HandshakeError("the answer does not upgrade the connection")
    digest = hashlib.sha1(key.encode() + _ACCEPT_GUID, usedforsecurity=False).digest()
    if answer.one("sec-websocket-accept") != base64.b64encode(digest).decode():
        raise HandshakeError("the answer has a wrong Sec-WebSocket-Accept")
    for unoffered in ("sec-websocket-extensions", "sec-websocket-protocol"):
        if answer.tokens(unoffered):
            raise HandshakeError(f"the server chose a {unoffered} that was not offered")


def refusal(answer: Answer, words: str) -> HandshakeError:
    """Return the error for an answer of another status than 101, with these words."""
    if answer.code // 100 == 3:
        return RedirectedError(answer.code, answer.one("location"))
    text = f"the server answered {answer.status_with(words)}"
    return RefusedUpgradeError(text, answer.code, answer.wait(words))


def tunnel_request(target: Target) -> bytes:
    """Return the request for a proxy's tunnel to `target`, without credentials."""
    place = f"{_bracketed(target)}:{target.port}"
    lines = (
        f"CONNECT {place} HTTP/1.1",
        f"Host: {place}",
        f"User-Agent: shmfeed/{__version__}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def tunnel_refusal(answer: Answer, words: str) -> HandshakeError:
    """Return the error for a proxy's answer that opens no tunnel, with these words."""
    if answer.code == 407:
        return HandshakeError(
            "the proxy asks for a user and a password, which are not supported"
        )
    text = f"the proxy answered {answer.status_with(words)}"
    return RefusedUpgradeError(text, answer.code, answer.wait(words))


def _bracketed(target: Target) -> str:
    return f"[{target.host}]" if ":" in target.host else target.host
