"""WebSocket frames out of a non-blocking socket, on top of websocket-client.

One system call reads up to 64 KiB, and the frames are cut out of it in memory. Final,
unmasked data frames that have arrived whole, nearly all of a feed's, are sliced out
directly. Everything else (partial frames, fragments, control frames, long lengths) goes
through websocket-client's frame machine, which keeps the part of a frame that it has
until the rest comes. A frame is refused by its declared length, before its payload is
stored.
"""

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import websocket

from shmfeed.wire.errors import (
    WOULD_BLOCK,
    ConnectionLostError,
    OversizedError,
    events_awaited,
    parse_close,
)
from shmfeed.wire.tcp import WireSocket

if not hasattr(websocket, "WebSocket"):
    raise ImportError(
        f"the module 'websocket' at {websocket.__file__} is not websocket-client's but "
        "that of another package, named 'websocket': uninstall that one, "
        "then install websocket-client again"
    )

READ_BYTES = 1 << 16
MAX_FRAGMENTS = 1024  # of one message
SEND_SECONDS = 2.0  # a peer that takes no data for so long is gone

ABNF = websocket.ABNF
_TEXT, _BINARY, _CLOSE = ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY, ABNF.OPCODE_CLOSE
_FINAL_DATA = (0x80 | _TEXT, 0x80 | _BINARY)  # first bytes of the frames sliced here
_NORMAL, _NO_TEXT = 1000, 1007
_OPCODE = 4  # its index in websocket-client's header of a frame
FIRST_CONTROL = 8  # the first opcode of control frames
_CONTROL_BYTES = 125


class FrameReader(websocket.WebSocket):
    """The frames of one open connection.

    Pings are answered while frames are taken. Errors are not translated here; wrap
    calls in `as_connection_lost`.

    Attributes:
        last_frame_at: When the last frame of any kind was taken, by `clock`.
        part_since: When the incomplete message began; None without one. A message in
            fragments stays the same one, whatever control frames come between them.
    """

    def __init__(
        self,
        sock: WireSocket,
        max_bytes: int,
        inbox: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`inbox` is what has been read from `sock` already."""
        super().__init__(skip_utf8_validation=True, enable_multithread=False)
        self.sock = cast("socket.socket", sock)  # it has the methods that are used
        self.connected = True
        self.last_frame_at = clock()
        self.part_since: float | None = None
        self.frame_buffer = self._machine = _SizedFrames(self._recv, max_bytes)
        self.cont_frame = _SizedMessage(max_bytes)
        self._max_bytes = max_bytes
        self._clock = clock
        self._inbox = inbox
        self._at = 0
        self._is_midway = False  # websocket-client holds a part of a frame
        self._send_error: Exception | None = None  # after it nothing more is sent
        self._has_closed = False  # after a close frame neither

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
        """Move whole messages into `out`, up to `limit` of them.

        Return True when nothing more can be taken without reading again. A close frame
        is answered and raises ClosedError; `out` has what came before it.
        """
        try:
            while len(out) < limit:
                if not self._is_partial():
                    self._slice(out, limit)
                if self._at == len(self._inbox):
                    break
                if len(out) < limit:
                    self._take_frame(out)
        except websocket.WebSocketTimeoutException:  # the rest has not come yet
            pass
        if self.part_since is None and self._is_partial():
            self.part_since = self._clock()
        return self._at == len(self._inbox)

    def send_close(self, status: int = _NORMAL, reason: str | bytes = b"") -> None:
        """Send a close frame, once, if the peer still accepts data."""
        if self._has_closed:
            return
        self._has_closed = True
        with suppress(OSError, websocket.WebSocketException):
            super().send_close(status, reason)

    def pong(self, payload: str | bytes = "") -> None:
        """Answer a ping if the peer still accepts data.

        A failure to send does not lose the frames behind the ping.
        """
        if self._send_error is None:
            with suppress(OSError, websocket.WebSocketException):
                super().pong(payload)

    def recv_frame(self) -> websocket.ABNF:
        frame = self.frame_buffer.recv_frame()
        self.last_frame_at = self._clock()
        if frame.opcode == _CLOSE and not is_text(cast("bytes", frame.data)[2:]):
            self.send_close(_NO_TEXT)
        return frame

    def _is_partial(self) -> bool:
        return self._is_midway or self.cont_frame.recving_frames is not None

    def _slice(self, out: list[bytes], limit: int) -> None:
        inbox, at, end = self._inbox, self._at, len(self._inbox)
        left = limit - len(out)
        while left and end - at >= 4 and inbox[at] in _FINAL_DATA:
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
            left -= 1
        if at != self._at:
            self._at = at
            self.last_frame_at = self._clock()

    def _take_frame(self, out: list[bytes]) -> None:
        self._is_midway = True
        opcode, frame = self.recv_data_frame(control_frame=True)
        self._is_midway = False
        if not self._is_partial():
            self.part_since = None
        if opcode == _CLOSE:
            raise parse_close(frame.data)
        if opcode in (_TEXT, _BINARY):
            out.append(frame.data)

    def _recv(self, bufsize: int) -> bytes:
        piece = self._inbox[self._at : self._at + bufsize]
        if not piece:  # websocket-client keeps its part and is asked again later
            raise websocket.WebSocketTimeoutException
        self._at += len(piece)
        return piece

    def _send(self, data: str | bytes) -> int:
        if self._send_error is not None:
            # Without the traceback, to which each raise would add.
            raise self._send_error.with_traceback(None)
        try:
            return self._push(data.encode() if isinstance(data, str) else data)
        except (OSError, websocket.WebSocketException) as error:
            self._send_error = error
            raise

    def _push(self, payload: bytes) -> int:
        deadline = time.monotonic() + SEND_SECONDS
        sent = 0
        while sent < len(payload):
            if self.sock is None:
                raise websocket.WebSocketConnectionClosedException
            try:
                sent += self.sock.send(payload[sent:])
            except WOULD_BLOCK as blocked:
                left = deadline - time.monotonic()
                events = events_awaited(blocked, select.POLLOUT)
                if left <= 0 or not _ready(self.sock, events, left):
                    raise ConnectionLostError(
                        f"the server has taken no data for {SEND_SECONDS:g} s"
                    ) from None
        return sent


class _SizedFrames(websocket.frame_buffer):
    """websocket-client's frame machine, which refuses a frame by its header alone."""

    permits_compression = False

    def __init__(self, recv: Callable[[int], bytes], max_bytes: int) -> None:
        super().__init__(recv, skip_utf8_validation=True)
        self.is_compressed = False  # the frame whose header came last
        self._max_bytes = max_bytes

    def recv_header(self) -> None:
        super().recv_header()
        assert self.header is not None  # noqa: S101 # or it would have raised
        final, rsv1, rsv2, rsv3, opcode, masked, length = self.header
        self.is_compressed = bool(
            rsv1 and self.permits_compression and opcode in (_TEXT, _BINARY)
        )
        if self.is_compressed:  # the machine knows no extension
            rsv1, self.header = 0, (final, 0, rsv2, rsv3, opcode, masked, length)
        if rsv1 or rsv2 or rsv3:
            raise websocket.WebSocketProtocolException(
                "the server set reserved bits in a frame that no extension permits"
            )
        ABNF(final, 0, 0, 0, opcode, masked, b"").validate()
        if masked:
            raise websocket.WebSocketProtocolException("the server sent a masked frame")
        if opcode >= FIRST_CONTROL and not final:
            raise websocket.WebSocketProtocolException(
                "the server fragmented a control frame"
            )

    def recv_length(self) -> None:
        super().recv_length()
        assert self.header is not None and self.length is not None  # noqa: S101, PT018 # as above
        if self.length > self._max_bytes:
            raise OversizedError(
                f"the server sent a frame of {self.length} bytes; max_frame_bytes is"
                f" {self._max_bytes}"
            )
        if self.header[_OPCODE] >= FIRST_CONTROL and self.length > _CONTROL_BYTES:
            raise websocket.WebSocketProtocolException(
                f"the server sent a control frame of {self.length} bytes"
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
                f"the server sent a message of {size} bytes in {self._fragments}"
                f" fragments; the limits are {self._max_bytes} bytes, max_frame_bytes,"
                f" and {MAX_FRAGMENTS} fragments"
            )
        super().add(frame)
        if frame.fin:
            self._fragments = 0


def is_text(payload: bytes) -> bool:
    """Return True if bytes are UTF-8."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ready(sock: WireSocket, events: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(sock, events)
    return bool(poll.poll(seconds * 1000))
