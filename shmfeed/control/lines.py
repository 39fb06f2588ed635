"""Lines over a Unix socket: their limits and deadlines, and who the peer is."""

import os
import socket
import struct
import time

from shmfeed.errors import BadArgumentError

_PIECE = 1 << 16
_MAX_PATH = 107  # bytes of sun_path, without the closing zero
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class TooLongError(Exception):
    """A line that passed the limit before it ended."""


class LineReader:
    """Takes lines from a socket, none longer than `limit` bytes."""

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        self._buffer = bytearray()

    def read(self, deadline: float) -> bytes | None:
        """The next line without its end; None where the peer has nothing more to say.

        `deadline`, of time.monotonic, is the whole line's: a peer that trickles gains
        nothing. TimeoutError past it, TooLongError, OSError.
        """
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > self._limit:
                raise TooLongError
            self._connection.settimeout(remaining(deadline))
            piece = self._connection.recv(_PIECE)
            if not piece:
                return None
            self._buffer += piece
        if end > self._limit:
            raise TooLongError
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


def remaining(deadline: float) -> float:
    """Seconds until `deadline`; TimeoutError past it."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def send(connection: socket.socket, line: bytes, timeout: float) -> bool:
    """Sends a whole line within `timeout` seconds; False where the peer took less."""
    try:
        connection.settimeout(timeout)
        connection.sendall(line)
    except OSError:
        return False
    return True


def peer_uid(connection: socket.socket) -> int:
    """The user of the process at the other end, as the kernel saw it connect."""
    data = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    uid: int = _CREDENTIALS.unpack(data)[1]
    return uid


def address(path: str | os.PathLike[str]) -> str:
    """The path of a socket as text; BadArgumentError where no socket can have it."""
    text = os.fspath(path)
    size = len(os.fsencode(text))
    if not 0 < size <= _MAX_PATH or "\0" in text:
        raise BadArgumentError(
            f"control socket path {text!r} has {size} bytes; 1 to {_MAX_PATH} are"
            " accepted, none of them zero"
        )
    return text
