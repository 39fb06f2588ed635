"""TLS inside TLS: a venue's connection through a proxy that is spoken to by TLS.

A TLS socket works on a descriptor, and the inner connection has none of its own. So its
records go through memory, and from there through the outer connection.
"""

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from shmfeed.wire.errors import WOULD_BLOCK

_READ_BYTES = 1 << 16
_Result = TypeVar("_Result")


class NestedTls:
    """The inner connection, with the methods of a socket that never blocks.

    It belongs to one thread. Where it would have to wait, it raises one of WOULD_BLOCK,
    as the outer connection does.
    """

    def __init__(
        self, outer: ssl.SSLSocket, host: str, context: ssl.SSLContext
    ) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._inner = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=host
        )
        self._unsent = b""

    def do_handshake(self) -> None:
        """Take the steps of the handshake that are possible now."""
        self._run(self._inner.do_handshake)

    def recv(self, bufsize: int, /) -> bytes:
        """Return what has come, at most `bufsize` bytes; nothing at the end."""
        try:
            return self._run(lambda: self._inner.read(bufsize))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # as a TLS socket does
            return b""

    def send(self, data: bytes, /) -> int:
        """Send bytes, and return how many were taken."""
        self._flush()
        taken = self._inner.write(data)
        with suppress(*WOULD_BLOCK):  # they were taken; the next call sends the rest
            self._flush()
        return taken

    def pending(self) -> int:
        """Return the bytes that can be read without the descriptor being readable."""
        inner, outer = self._inner.pending(), self._outer.pending()
        return inner + outer + self._incoming.pending

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._outer.fileno()

    def close(self) -> None:
        """Close the outer connection."""
        self._outer.close()

    def _run(self, operation: Callable[[], _Result]) -> _Result:
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            else:
                self._flush()
                return result

    def _fill(self) -> None:
        data = self._outer.recv(_READ_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._outer.send(self._unsent) :]
