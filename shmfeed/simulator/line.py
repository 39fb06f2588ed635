"""What leaves a connection: at once, a few bytes at a time, or not at all."""

import asyncio
from typing import cast

from websockets.asyncio.server import ServerConnection

_PIECE_SECONDS = 0.05  # a trickle's pace


class Line:
    """The way out of one connection; used in the event loop only.

    `dead`: nothing leaves. `gagged`: nothing that the library says by itself does, no
    pong, no ping, no close.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.dead = self.gagged = False
        self._transport = transport
        self._pace = 0.0  # bytes a second; 0: no limit
        self._waiting = bytearray()
        self._flowing: asyncio.TimerHandle | None = None
        self._ending = False
        self._empty = asyncio.Event()
        self._empty.set()

    def write(self, data: bytes) -> None:
        """Send this behind everything before."""
        if self.dead or self._ending:
            return
        if not self._pace:
            self._transport.write(data)
            return
        self._waiting += data
        self._empty.clear()
        if self._flowing is None:
            self._flow()

    def answer(self, data: bytes) -> None:
        """Send what the library says by itself; empty: its end of the stream."""
        if self.gagged or self.dead:
            return
        if data:
            self.write(data)
        elif self._transport.can_write_eof():
            self._flush()
            self._transport.write_eof()

    def trickle(self, pace: float) -> None:
        """Let out so many bytes a second from now on; 0: as many as there are."""
        self._pace = pace
        if not pace:
            self._flush()

    def end(self) -> None:
        """Close the connection without a word, once all before has been sent."""
        self._flush()
        self._ending = True
        self._transport.close()

    async def drained(self) -> None:
        """Wait until no byte waits for its turn."""
        await self._empty.wait()

    def _flow(self) -> None:
        self._flowing = None
        if self.dead or not self._waiting or self._transport.is_closing():
            self._flush()
            return
        size = max(1, int(self._pace * _PIECE_SECONDS))
        self._transport.write(bytes(self._waiting[:size]))
        del self._waiting[:size]
        loop = asyncio.get_running_loop()
        self._flowing = loop.call_later(size / self._pace, self._flow)

    def _flush(self) -> None:
        if self._flowing is not None:
            self._flowing.cancel()
            self._flowing = None
        if self._waiting and not self.dead and not self._transport.is_closing():
            self._transport.write(bytes(self._waiting))
        self._waiting.clear()
        self._empty.set()


class Connection(ServerConnection):
    """A connection whose way out is a Line; it can be cut before the handshake.

    `refusal`: True cuts it at once; a number is the HTTP status that answers it.
    """

    refusal: bool | int = False
    line: Line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.line = Line(cast("asyncio.Transport", transport))
        if self.refusal is True:
            self.transport.abort()

    def send_data(self) -> None:
        for data in self.protocol.data_to_send():
            self.line.answer(data)

    def gag(self, on: bool) -> None:
        """Stop, or go on with, what the library says by itself."""
        if on == self.line.gagged:
            return
        self.line.gagged = on
        if not on:
            self.start_keepalive()
        elif self.keepalive_task is not None:
            self.keepalive_task.cancel()  # it would hang up when no pong comes
