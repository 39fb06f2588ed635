"""WebSocket frames out of a non-blocking socket, by way of websocket-client.

What has come is read by one system call of up to 64 KiB and cut up in memory. Final,
unmasked data frames that are here whole, nearly all of a feed's, are sliced out
directly; everything else (halves, fragments, control frames, long lengths) goes through
websocket-client's frame machine, which keeps what it has of a frame until the rest
comes. Sizes are judged by the declared length, before a byte of payload is kept.
"""

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import websocket

from shmfeed.errors import WebSocketConnectionError
from shmfeed.wire.handshake import HandshakeError, words

if not hasattr(websocket, "WebSocket"):
    raise ImportError(
        f"the module 'websocket' at {websocket.__file__} is not websocket-client's but "
        "that of another package, named 'websocket': uninstall that one, "
        "then install websocket-client again"
    )

READ_BYTES = 1 << 16
MAX_FRAGMENTS = 1024  # of one message
SEND_SECONDS = 2.0  # a peer that takes nothing for so long is gone

# What a non-blocking socket raises, plain or TLS, when it would have to wait.
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_TEXT, _BINARY, _CLOSE = (
    websocket.ABNF.OPCODE_TEXT,
    websocket.ABNF.OPCODE_BINARY,
    websocket.ABNF.OPCODE_CLOSE,
)
_FINAL_DATA = (0x80 | _TEXT, 0x80 | _BINARY)  # first bytes of the frames sliced here
_TOO_BIG, _PROTOCOL, _NORMAL, _NO_CODE = 1009, 1002, 1000, 1005


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


class Frames(websocket.WebSocket):
    """The frames of one open connection; `inbox` is what has been read already.

    Pings are answered while frames are taken. Errors leave as they are: wrap calls in
    `in_plain_words`.
    """

    def __init__(self, sock: socket.socket, max_bytes: int, inbox: bytes = b"") -> None:
        super().__init__(skip_utf8_validation=True, enable_multithread=False)
        self.sock = sock
        self.connected = True
        self.count = 0  # frames of any kind so far
        self.frame_buffer = _SizedFrames(self._recv, max_bytes)
        self.cont_frame = _SizedMessage(max_bytes)
        self._max_bytes = max_bytes
        self._inbox = inbox
        self._at = 0
        self._midway = False  # websocket-client holds a part of a frame

    def fill(self) -> None:
        """Read once, if everything read before has been taken."""
        if self._at < len(self._inbox) or self.sock is None:
            return
        try:
            self._inbox = self.sock.recv(READ_BYTES)
        except WOULD_BLOCK:
            return
        self._at = 0
        if not self._inbox:
            raise websocket.WebSocketConnectionClosedException

    def take(self, out: list[bytes], limit: int) -> bool:
        """Move the messages that are here whole into `out`, up to `limit` of them.

        True when nothing is left that could be taken without reading again. A close
        frame is answered and raises ClosedError; `out` has what came before it.
        """
        try:
            while len(out) < limit:
                if not self._midway and self.cont_frame.recving_frames is None:
                    self._slice(out, limit)
                if self._at == len(self._inbox):
                    return True
                if len(out) < limit:
                    self._step(out)
        except websocket.WebSocketTimeoutException:
            return True
        return self._at == len(self._inbox)

    def send_close(self, status: int = _NORMAL, reason: str | bytes = b"") -> None:
        """As far as the peer still takes it."""
        with suppress(OSError, websocket.WebSocketException):
            super().send_close(status, reason)

    def recv_frame(self) -> websocket.ABNF:
        frame = self.frame_buffer.recv_frame()
        self.count += 1
        return frame

    def _slice(self, out: list[bytes], limit: int) -> None:
        inbox, at, end = self._inbox, self._at, len(self._inbox)
        room = limit - len(out)
        before = len(out)
        while room and end - at >= 4 and inbox[at] in _FINAL_DATA:
            size = inbox[at + 1]
            start = at + 2
            if size == 126:
                size = inbox[at + 2] << 8 | inbox[at + 3]
                start = at + 4
            elif size > 126:  # a length of 8 bytes, or a mask
                break
            stop = start + size
            if stop > end or size > self._max_bytes:
                break
            out.append(inbox[start:stop])
            at = stop
            room -= 1
        self._at = at
        self.count += len(out) - before

    def _step(self, out: list[bytes]) -> None:
        self._midway = True
        opcode, frame = self.recv_data_frame(control_frame=True)
        self._midway = False
        if opcode == _CLOSE:
            raise _closed(frame.data)
        if opcode in (_TEXT, _BINARY):
            out.append(frame.data)

    def _recv(self, bufsize: int) -> bytes:
        piece = self._inbox[self._at : self._at + bufsize]
        if not piece:  # websocket-client keeps its half and is asked again later
            raise websocket.WebSocketTimeoutException
        self._at += len(piece)
        return piece

    def _send(self, data: str | bytes) -> int:
        payload = data.encode() if isinstance(data, str) else data
        deadline = time.monotonic() + SEND_SECONDS
        sent = 0
        while sent < len(payload):
            if self.sock is None:
                raise websocket.WebSocketConnectionClosedException
            try:
                sent += self.sock.send(payload[sent:])
            except WOULD_BLOCK:
                if not _writable(self.sock, deadline - time.monotonic()):
                    raise ConnectionLostError("the server takes no data") from None
        return sent


class _SizedFrames(websocket.frame_buffer):
    """websocket-client's frame machine with a limit on the declared length."""

    def __init__(self, recv: Callable[[int], bytes], max_bytes: int) -> None:
        super().__init__(recv, skip_utf8_validation=True)
        self._max_bytes = max_bytes

    def recv_length(self) -> None:
        super().recv_length()
        if self.length is not None and self.length > self._max_bytes:
            raise OversizedError(
                f"a frame of {self.length} bytes, over the limit of {self._max_bytes}"
            )


class _SizedMessage(websocket.continuous_frame):
    """websocket-client's joiner of fragments with limits on size and number."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(fire_cont_frame=False, skip_utf8_validation=True)
        self._max_bytes = max_bytes
        self._fragments = 0

    def add(self, frame: websocket.ABNF) -> None:
        self._fragments += 1
        size = len(frame.data) + (len(self.cont_data[1]) if self.cont_data else 0)
        if size > self._max_bytes or self._fragments > MAX_FRAGMENTS:
            raise OversizedError(
                f"a message of {size} bytes in {self._fragments} fragments, over the "
                f"limit of {self._max_bytes} bytes or {MAX_FRAGMENTS} fragments"
            )
        super().add(frame)
        if frame.fin:
            self._fragments = 0


def _lost(error: Exception) -> ConnectionLostError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionLostError(f"certificate refused: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "failed").replace("_", " ").lower()
        return ConnectionLostError(f"TLS: {reason}")
    if isinstance(error, websocket.WebSocketConnectionClosedException):
        return ConnectionLostError("closed by the server without a close frame")
    if isinstance(error, websocket.WebSocketException):
        failure = ConnectionLostError(f"protocol error: {words(str(error))}")
        failure.close_code = _PROTOCOL
        return failure
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ConnectionLostError(words(text[:1].lower() + text[1:]))


def _closed(payload: bytes) -> ClosedError:
    if len(payload) < 2:
        return ClosedError(_NO_CODE, "")
    (code,) = struct.unpack_from("!H", payload)
    return ClosedError(code, words(payload[2:].decode("utf-8", "replace")))


def _writable(sock: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(max(0.0, seconds) * 1000))
