"""The errors that end a connection, and what a socket waits for when it would block."""

import select
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import websocket

from shmfeed.errors import WebSocketConnectionError
from shmfeed.text import one_line
from shmfeed.wire.asked_wait import DEFAULT_WAIT, wait_of_words

# A non-blocking socket, plain or TLS, raises one of these where it would have to wait.
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_TOO_BIG, _PROTOCOL, _NO_CODE = 1009, 1002, 1005
_POLICY, _LATER = 1008, 1013
_MEANINGS = {  # of a close frame without a reason
    1000: "normal closure",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1007: "invalid data",
    1008: "policy violation",
    1009: "message too big",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    1014: "bad gateway",
}
_OLD_TLS = ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION")


class ConnectionLostError(WebSocketConnectionError):
    """The end of a connection, or of the attempt to open one; the text says why.

    `close_code` is the code to close the WebSocket with, 0 for none. `retry_after` is
    the wait that the venue asks for, in seconds, 0 without one; it is kept, and counts
    as no failure.
    """

    close_code = 0
    retry_after = 0.0

    def behind(self, prefix: str) -> "ConnectionLostError":
        """Return the same end with `prefix` before its text."""
        error = ConnectionLostError(f"{prefix}{self}")
        error.close_code, error.retry_after = self.close_code, self.retry_after
        return error


class HandshakeError(ConnectionLostError):
    """An answer that does not accept the request; the text says why."""


class RefusedUpgradeError(HandshakeError):
    """An answer of the HTTP status `code` instead of a WebSocket."""

    def __init__(self, text: str, code: int, retry_after: float) -> None:
        super().__init__(text)
        self.code = code
        self.retry_after = retry_after


class RedirectedError(HandshakeError):
    """An answer of status `code` that names another place, `location` as it came."""

    def __init__(self, code: int, location: str) -> None:
        super().__init__(
            f"the server redirects ({code}), which max_redirects does not allow"
        )
        self.code = code
        self.location = location


class ClosedError(ConnectionLostError):
    """A close frame of the server, with `code` (1005 if it gave none) and `reason`.

    1013 asks to come back later. A 1008, of a policy that was violated, may also name
    a time, as a ban does.
    """

    def __init__(self, code: int, reason: str) -> None:
        given = f"{code} {reason or _MEANINGS.get(code, '')}".rstrip()
        super().__init__(f"the server closed the connection: {given}")
        self.code = code
        self.reason = reason
        if code in {_POLICY, _LATER}:
            default = DEFAULT_WAIT if code == _LATER else 0.0
            self.retry_after = wait_of_words(reason) or default


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
    except (OSError, websocket.WebSocketException) as error:
        raise _translated(error) from error


@contextmanager
def explained(prefix: str) -> Iterator[None]:
    """Raise errors as ConnectionLostError, with `prefix` before their text."""
    try:
        with as_connection_lost():
            yield
    except ConnectionLostError as error:
        if not prefix:
            raise
        raise error.behind(prefix) from error


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
