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
from shmfeed.settings.headers import SecretHeaders
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


class Request(NamedTuple):
    """The part of a handshake's request that the settings decide."""

    headers: SecretHeaders = SecretHeaders()
    origin: str | None = None
    subprotocols: tuple[str, ...] = ()
    extensions: str = ""


PLAIN_REQUEST = Request()


def new_key() -> str:
    return base64.b64encode(os.urandom(16)).decode()


def upgrade_request(
    target: Target, key: str, request: Request = PLAIN_REQUEST
) -> bytes:
    """Return the request for a WebSocket; it has no cookies of its own."""
    host = bracketed(target)
    if target.port != _PORTS["wss" if target.is_secure else "ws"]:
        host += f":{target.port}"
    lines = [
        f"GET {target.resource} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    if request.subprotocols:
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(request.subprotocols)}")
    if request.extensions:
        lines.append(f"Sec-WebSocket-Extensions: {request.extensions}")
    if request.origin is not None:
        lines.append(f"Origin: {request.origin}")
    lines += [f"{name}: {value}" for name, value in request.headers]
    if "user-agent" not in {name.lower() for name, _ in request.headers}:
        lines.append(f"User-Agent: shmfeed/{__version__}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def check_upgrade(answer: Answer, key: str, request: Request = PLAIN_REQUEST) -> None:
    """Raise HandshakeError unless an answer of status 101 accepts the request."""
    if set(answer.tokens("upgrade")) != {"websocket"}:
        raise HandshakeError("the answer does not upgrade to websocket")
    if "upgrade" not in answer.tokens("connection"):
        raise HandshakeError("the answer does not upgrade the connection")
    digest = hashlib.sha1(key.encode() + _ACCEPT_GUID, usedforsecurity=False).digest()
    if answer.one("sec-websocket-accept") != base64.b64encode(digest).decode():
        raise HandshakeError("the answer has a wrong Sec-WebSocket-Accept")
    if answer.tokens("sec-websocket-extensions") and not request.extensions:
        raise HandshakeError(
            "the server chose a sec-websocket-extensions that was not offered"
        )
    chosen = answer.one("sec-websocket-protocol")
    if chosen and chosen not in request.subprotocols:
        raise HandshakeError(
            "the server chose a sec-websocket-protocol that was not offered"
        )


def refusal(answer: Answer, words: str) -> HandshakeError:
    """Return the error for an answer of another status than 101, with these words."""
    if answer.code // 100 == 3:
        return RedirectedError(answer.code, answer.one("location"))
    text = f"the server answered {answer.status_with(words)}"
    return RefusedUpgradeError(text, answer.code, answer.wait(words))


def bracketed(target: Target) -> str:
    """Return the target's host, an IPv6 address in brackets."""
    return f"[{target.host}]" if ":" in target.host else target.host
