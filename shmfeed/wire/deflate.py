"""Compressed messages: permessage-deflate (RFC 7692), by the package websockets.

Compressed messages are inflated within the limit of a message. The feeder itself
sends a few short requests, and compresses none.
"""

from typing import Any, Protocol, cast

import websocket

from shmfeed.text import one_line
from shmfeed.wire.answers import Answer
from shmfeed.wire.errors import ConnectionLostError, HandshakeError, OversizedError
from shmfeed.wire.frames import FIRST_CONTROL, FrameReader

OFFER = "permessage-deflate; client_max_window_bits"

_FIELD = "sec-websocket-extensions"
_NAME = "permessage-deflate"
_CLIENT_BITS = "client_max_window_bits"
_WINDOW_BITS = {str(bits) for bits in range(8, 16)}


class Inflater(Protocol):
    """The state of a connection's compression."""

    def decode(self, frame: Any, *, max_size: int | None = None) -> Any: ...


def negotiated(answer: Answer) -> Inflater | None:
    """Return the compression that an answer to OFFER chooses, None without one.

    Raises:
        HandshakeError: The answer chooses parameters that OFFER does not permit.
        ConnectionLostError: The package websockets is not installed.
    """
    if not answer.tokens(_FIELD):
        return None
    try:
        from websockets.exceptions import (  # noqa: PLC0415  optional
            InvalidHandshake,
        )
        from websockets.extensions.permessage_deflate import (  # noqa: PLC0415
            ClientPerMessageDeflateFactory,
        )
        from websockets.headers import parse_extension  # noqa: PLC0415
    except ImportError:
        raise ConnectionLostError(
            "compression needs the package websockets: pip install websockets,"
            " or compression off"
        ) from None
    factory = ClientPerMessageDeflateFactory(client_max_window_bits=True)
    try:
        extensions = parse_extension(", ".join(answer.fields[_FIELD]))
        if len(extensions) != 1 or extensions[0][0] != _NAME:
            raise HandshakeError(
                "the server chose a sec-websocket-extensions that was not offered"
            )
        # The feeder compresses nothing, so the size of its window has no effect.
        parameters = [
            (name, value)
            for name, value in extensions[0][1]
            if name != _CLIENT_BITS or value not in _WINDOW_BITS
        ]
        inflater: Inflater = factory.process_response_params(parameters, [])
    except InvalidHandshake as error:
        raise HandshakeError(
            f"the server's compression is refused: {one_line(str(error))}"
        ) from None
    return inflater


class DeflatedFrames(FrameReader):
    """Frames of a connection whose server may compress messages.

    websocket-client's frame machine reads the compressed frames; the others are sliced
    out as on a connection without compression.
    """

    def inflate_with(self, inflater: Inflater) -> None:
        """Inflate messages by `inflater`. Call it once, before anything is taken."""
        from websockets.exceptions import (  # noqa: PLC0415  optional
            PayloadTooBig,
            ProtocolError,
        )
        from websockets.frames import Frame, Opcode  # noqa: PLC0415

        self._machine.permits_compression = True
        self._inflater = inflater
        self._frame, self._opcode = Frame, Opcode
        self._too_big, self._broken = PayloadTooBig, ProtocolError

    def recv_frame(self) -> websocket.ABNF:
        frame = super().recv_frame()
        if frame.opcode < FIRST_CONTROL:
            frame.data = self._inflated(frame)
        return frame

    def _inflated(self, frame: websocket.ABNF) -> bytes:
        whole = self._frame(
            self._opcode(frame.opcode),
            cast("bytes", frame.data),
            bool(frame.fin),
            self._machine.is_compressed,
        )
        try:
            data = self._inflater.decode(whole, max_size=self._max_bytes).data
        except self._too_big:
            raise OversizedError(
                "the server sent a message that inflates to more than"
                f" {self._max_bytes} bytes, max_frame_bytes"
            ) from None
        except self._broken:
            raise websocket.WebSocketProtocolException(
                "the server sent a message that cannot be inflated"
            ) from None
        return bytes(data)
