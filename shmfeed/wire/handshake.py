"""What is asked of a WebSocket server and how its answer is judged. No I/O.

websocket-client's own handshake waits for each byte, reads a header line of any length,
follows redirects and keeps cookies; the few lines of RFC 6455, section 4, that a feed
needs stand here instead, so that the caller decides when and how much to read.
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
from shmfeed.text import one_line

_PORTS = {"ws": 80, "wss": 443}
_VISIBLE = re.compile(r"[!-~]*")
_STATUS = re.compile(r"HTTP/1\.[01] (\d{3})(?: (.*))?")
_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Target(NamedTuple):
    """What one connection goes to. `shown` may be shown: it has no query."""

    secure: bool
    host: str
    port: int
    resource: str
    shown: str

    def __repr__(self) -> str:
        # A query may hold a key, and a repr ends up in logs.
        return f"Target({self.shown!r})"


class HandshakeError(Exception):
    """The answer is no acceptance; the text says what it is, in a few words."""


class RedirectedError(HandshakeError):
    """The answer, of status `code`, names another place: `location`, as it came."""

    def __init__(self, code: str, location: str) -> None:
        super().__init__(
            f"the server redirects ({code}), which is followed only as often as "
            "max_redirects says"
        )
        self.code = code
        self.location = location


def parse(url: str) -> Target:
    """Take a URL apart; BadArgumentError where it is none of a WebSocket.

    Only its query may be of any length.
    """
    address, _, query = url.partition("?")
    parts = urlsplit(endpoint.check(address))
    shown = endpoint.redact(url)
    if not _VISIBLE.fullmatch(query) or "#" in query:
        raise BadArgumentError(f"the query of {shown} holds what no query does")
    resource = (parts.path or "/") + (f"?{query}" if query else "")
    port = parts.port or _PORTS[parts.scheme]
    return Target(parts.scheme == "wss", parts.hostname or "", port, resource, shown)


def new_key() -> str:
    return base64.b64encode(os.urandom(16)).decode()


def request(target: Target, key: str) -> bytes:
    """The bytes that ask for a WebSocket; no origin, no extension, no cookie."""
    host = _bracketed(target)
    if target.port != _PORTS["wss" if target.secure else "ws"]:
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


def check_answer(head: bytes, key: str) -> None:
    """Raise HandshakeError unless `head`, the answer's header, accepts our request."""
    code, reason, lines = _split(head)
    fields = dict(_field(line) for line in lines if line)
    if code.startswith("3"):
        raise RedirectedError(code, fields.get("location", ""))
    if code != "101":
        raise HandshakeError(f"the server answered {code} {reason}".rstrip())
    if fields.get("upgrade", "").lower() != "websocket":
        raise HandshakeError("the answer does not upgrade to websocket")
    if "upgrade" not in fields.get("connection", "").lower():
        raise HandshakeError("the answer does not upgrade the connection")
    digest = hashlib.sha1(key.encode() + _ACCEPT_GUID, usedforsecurity=False).digest()
    if fields.get("sec-websocket-accept") != base64.b64encode(digest).decode():
        raise HandshakeError("the answer does not prove that it is to our request")
    for unasked in ("sec-websocket-extensions", "sec-websocket-protocol"):
        if fields.get(unasked):
            raise HandshakeError(f"the answer has a {unasked} that was not asked for")


def tunnel_request(target: Target) -> bytes:
    """The bytes that ask a proxy for a way through to `target`; no credentials."""
    place = f"{_bracketed(target)}:{target.port}"
    lines = (
        f"CONNECT {place} HTTP/1.1",
        f"Host: {place}",
        f"User-Agent: shmfeed/{__version__}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def check_tunnel(head: bytes) -> None:
    """Raise HandshakeError unless `head`, a proxy's answer, opens the way."""
    code, reason, _ = _split(head)
    if code == "407":
        raise HandshakeError(
            "it asks for a user and a password, which is not supported"
        )
    if not code.startswith("2"):
        raise HandshakeError(f"it answered {code} {reason}".rstrip())


def _bracketed(target: Target) -> str:
    return f"[{target.host}]" if ":" in target.host else target.host


def _split(head: bytes) -> tuple[str, str, list[str]]:
    status, *lines = head.decode("latin-1").split("\r\n")
    match = _STATUS.fullmatch(status)
    if match is None:
        raise HandshakeError("the answer is not HTTP")
    return match[1], one_line(match[2] or "", 80), lines


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise HandshakeError("the answer has a header line without a colon")
    return name.strip().lower(), value.strip()
