"""An echo client on the feeder's own connection, as Autobahn's suite wants one."""

from typing import Any

import websocket

from shmfeed.wire import connection, frames
from shmfeed.wire.connection import Connection, ConnectionLostError
from shmfeed.wire.errors import as_connection_lost
from shmfeed.wire.frames import FrameReader, is_text

BYTES = 1 << 25  # the suite's largest message has 16 MiB
FRAGMENTS = 1 << 17  # of its smallest pieces, as many
CASE_SECONDS = 60.0
_NO_TEXT = 1007


class TypedFrames(FrameReader):
    """Frames as the feeder reads them; `types` has the opcodes of their messages.

    The feeder asks no message for its type: a codec reads text and binary alike.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.types: list[int] = []

    def _slice(self, out: list[bytes], limit: int) -> None:
        at = self._at
        super()._slice(out, limit)
        while at < self._at:  # the headers of what was sliced
            size, start = self._inbox[at + 1], at + 2
            if size == 126:
                size = int.from_bytes(self._inbox[start : start + 2], "big")
                start += 2
            self.types.append(self._inbox[at] & 15)
            at = start + size

    def recv_data_frame(self, *given: Any, **named: Any) -> Any:
        opcode, frame = super().recv_data_frame(*given, **named)
        if opcode in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY):
            self.types.append(opcode)
        return opcode, frame


def echo(url: str) -> str:
    """Return each message to its sender until the connection ends, and why it ended."""
    connection.FrameReader = TypedFrames  # type: ignore[misc]
    frames.MAX_FRAGMENTS = FRAGMENTS
    one = Connection(url, max_frame_bytes=BYTES)
    try:
        one.open(CASE_SECONDS)
        while one.wait(CASE_SECONDS) == "readable":
            for message in one.receive():
                _answer(one._open_frames(), message)
    except ConnectionLostError as error:
        return str(error)
    finally:
        one.close()
    return "silent"


def _answer(reader: Any, message: bytes) -> None:
    opcode = reader.types.pop(0)
    if opcode == websocket.ABNF.OPCODE_TEXT and not is_text(message):
        reader.send_close(_NO_TEXT)
        raise ConnectionLostError("not UTF-8")
    with as_connection_lost():
        reader.send(message, opcode)


def ask(url: str) -> str:
    """Return the first message of a server."""
    one = Connection(url, max_frame_bytes=BYTES)
    one.open(CASE_SECONDS)
    try:
        while not (messages := one.receive()):
            one.wait(CASE_SECONDS)
        return messages[0].decode()
    finally:
        one.close()
