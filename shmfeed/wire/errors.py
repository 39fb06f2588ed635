"""How a connection ends, in words, and what it may have to wait for instead."""

import select
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import websocket

from shmfeed.errors import WebSocketConnectionError
from shmfeed.text import one_line
from shmfeed.wire.handshake import HandshakeError

# What a non-blocking socket raises, plain or TLS, when it would have to wait.
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_TOO_BIG, _PROTOCOL, _NO_CODE = 1009, 1002, 1005
_OLD_TLS = ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION")


class ConnectionLostError(WebSocketConnectionError):
    """The connection is gone, or never was; the text says why, in a few words."""

    close_code = 0  # what to tell the peer, 0: nothing


class ClosedError(ConnectionLostError):
    """The server closed, with `code` (1005: none given) and `reason`."""

    def __init__(self, code: int, reason: str) -> None:
        said = f"{code} {reason}".rstrip()
        super().__init__(f"closed by the server: {said}")
        self.code = code
        self.reason = reason


class OversizedError(ConnectionLostError):
    """The server declared a frame or a message over the limit."""

    close_code = _TOO_BIG


@contextmanager
def in_plain_words() -> Iterator[None]:
    """Any error of socket, TLS, handshake or frame leaves as ConnectionLostError."""
    try:
        yield
    except ConnectionLostError:
        raise
    except (HandshakeError, OSError, websocket.WebSocketException) as error:
        raise _lost(error) from error


def wanted_by(blocked: BaseException, usual: int) -> int:
    """The poll events that what raised one of WOULD_BLOCK waits for."""
    # A TLS socket may have to read in order to write, and the other way round.
    if isinstance(blocked, ssl.SSLWantReadError):
        return select.POLLIN
    if isinstance(blocked, ssl.SSLWantWriteError):
        return select.POLLOUT
    return usual


def closed_by(payload: bytes) -> ClosedError:
    """What the payload of a close frame says."""
    if len(payload) < 2:
        return ClosedError(_NO_CODE, "")
    (code,) = struct.unpack_from("!H", payload)
    return ClosedError(code, one_line(payload[2:].decode("utf-8", "replace")))


def _lost(error: Exception) -> ConnectionLostError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionLostError(f"certificate refused: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        if error.reason in _OLD_TLS:
            return ConnectionLostError("TLS: the server has no version from 1.2 on")
        reason = (error.reason or "failed").replace("_", " ").lower()
        return ConnectionLostError(f"TLS: {reason}")
    if isinstance(error, websocket.WebSocketConnectionClosedException):
        return ConnectionLostError("closed by the server without a close frame")
    if isinstance(error, websocket.WebSocketException):
        failure = ConnectionLostError(f"protocol error: {one_line(str(error))}")
        failure.close_code = _PROTOCOL
        return failure
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ConnectionLostError(one_line(text[:1].lower() + text[1:]))
