"""The errors that end a connection, and what a socket waits for when it would block."""

import select
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import websocket

from shmfeed.errors import WebSocketConnectionError
from shmfeed.text import one_line
from shmfeed.wire.handshake import HandshakeError

# What a non-blocking socket, plain or TLS, raises where it would have to wait.
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_TOO_BIG, _PROTOCOL, _NO_CODE = 1009, 1002, 1005
_OLD_TLS = ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION")


class ConnectionLostError(WebSocketConnectionError):
    """The end of a connection, or of the attempt to open one; the text says why.

    `close_code` is the code to close the WebSocket with, 0 for none. `retry_after` is
    the wait that the venue asks for, in seconds, 0 without one; it is kept, and counts
    as no failure.
    """

    close_code = 0
    retry_after = 0.0


class ClosedError(ConnectionLostError):
    """A close frame of the server, with `code` (1005 if it gave none) and `reason`."""

    def __init__(self, code: int, reason: str) -> None:
        given = f"{code} {reason}".rstrip()
        super().__init__(f"the server closed the connection: {given}")
        self.code = code
        self.reason = reason


class OversizedError(ConnectionLostError):
    """A frame or a message whose declared size is over the limit."""

    close_code = _TOO_BIG


@contextmanager
def as_connection_lost() -> Iterator[None]:
    """Raise errors of socket, TLS, handshake and frames as ConnectionLostError."""
    try:
        yield
    except ConnectionLostError:
        raise
    except (HandshakeError, OSError, websocket.WebSocketException) as error:
        raise _translated(error) from error


def events_awaited(blocked: BaseException, usual: int) -> int:
    """Return the poll events that an operation waits for after one of WOULD_BLOCK.

    A TLS socket may have to read in order to write, and the other way round.
    """
    if isinstance(blocked, ssl.SSLWantReadError):
        return select.POLLIN
    if isinstance(blocked, ssl.SSLWantWriteError):
        return select.POLLOUT
    return usual


def parse_close(payload: bytes) -> ClosedError:
    """Return the error for the payload of a close frame."""
    if len(payload) < 2:
        return ClosedError(_NO_CODE, "")
    (code,) = struct.unpack_from("!H", payload)
    return ClosedError(code, one_line(payload[2:].decode("utf-8", "replace")))


def _translated(error: Exception) -> ConnectionLostError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionLostError(
            f"the server's certificate is refused: {error.verify_message}"
        )
    if isinstance(error, ssl.SSLError):
        if error.reason in _OLD_TLS:
            return ConnectionLostError("TLS: the server does not support TLS 1.2")
        reason = (error.reason or "failed").replace("_", " ").lower()
        return ConnectionLostError(f"TLS: {reason}")
    if isinstance(error, websocket.WebSocketConnectionClosedException):
        return ConnectionLostError(
            "the server closed the connection without a close frame"
        )
    if isinstance(error, websocket.WebSocketException):
        failure = ConnectionLostError(f"protocol error: {one_line(str(error))}")
        failure.close_code = _PROTOCOL
        return failure
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ConnectionLostError(one_line(text[:1].lower() + text[1:]))
