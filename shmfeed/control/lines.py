"""Lines over a Unix socket, with a limit of bytes and a deadline for each."""

import os
import socket
import time

from shmfeed.errors import BadArgumentError

_PIECE = 1 << 16
_MAX_PATH = 107  # bytes of sun_path, without the closing zero


class TooLongError(Exception):
    """A line longer than the limit."""


class LineReader:
    """A reader of lines from a socket, none longer than `limit` bytes."""

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        self._buffer = bytearray()

    def read(self, deadline: float) -> bytes | None:
        """Return the next line without its end, or None at the end of the stream.

        `deadline`, of time.monotonic, bounds the whole line: a peer that sends it
        byte by byte gains no time.

        Raises:
            TimeoutError: The line is not complete at `deadline`.
            TooLongError: The line is longer than the limit.
            OSError: The connection has failed.
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
    """Return the seconds until `deadline`; raise TimeoutError past it."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def send(connection: socket.socket, line: bytes, timeout: float) -> bool:
    """Send a whole line; return False if the peer did not take it in `timeout` s."""
    try:
        connection.settimeout(timeout)
        connection.sendall(line)
    except OSError:
        return False
    return True


def address(path: str | os.PathLike[str]) -> str:
    """Return a socket's path as text; raise BadArgumentError if it is too long."""
    text = os.fspath(path)
    size = len(os.fsencode(text))
    if not 0 < size <= _MAX_PATH or "\0" in text:
        raise BadArgumentError(
            f"control socket path {text!r} has {size} bytes; it must have 1 to"
            f" {_MAX_PATH}, none of them zero"
        )
    return text
