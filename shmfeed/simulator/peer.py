"""One connected client: what it subscribed to, and what is still to be sent to it.

Frames are written to the connection's transport as they are, many at once: they were
built once for all clients, and a call of the library a frame would be the limit. What
is written is whole frames, so the library's own (pongs, the close) may come between.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator, Sequence

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from shmfeed.simulator.dialect import Dialect
from shmfeed.simulator.faults import Faults
from shmfeed.simulator.frames import Row, Stream
from shmfeed.simulator.record import Record

Blobs = Iterator[tuple[bytes, int]]  # frames ready to be written, and how many
MAX_WAITING = 256 << 20  # bytes: a client that is further behind is cut off
_LAST_WORDS = 1.0  # seconds that a close, and what was put before it, may take


class Peer:
    """The server's end of one connection; used in the event loop only."""

    def __init__(
        self,
        connection: ServerConnection,
        dialect: Dialect,
        record: Record,
        faults: Faults | None = None,
    ) -> None:
        self.dialect = dialect
        self.faults = faults
        self.streams: dict[Stream, None] = {}
        self._connection = connection
        self._record = record
        self._queue: deque[bytes | Blobs] = deque()
        self._waiting = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self.muted = False  # what would be put is lost

    def encode(self, stream: Stream, rows: Sequence[Row]) -> list[bytes]:
        """The market's bars as this client gets them, faults and all."""
        frames = self.dialect.encode(stream, rows)
        return self.faults.spoil(frames, rows) if self.faults else frames

    def put(self, frame: bytes, *, said: bool = False) -> None:
        """Send this frame after everything before; muted, only what is `said`."""
        if self.muted and not said:
            return
        self._drained.clear()
        self._queue.append(frame)
        self._waiting += len(frame)
        self._filled.set()
        if self._waiting > MAX_WAITING:
            self.abort()

    def put_all(self, blobs: Blobs) -> None:
        """Send these after everything before, made as fast as the socket takes them."""
        if self.muted:
            return
        self._drained.clear()
        self._queue.append(blobs)
        self._filled.set()

    def forget(self) -> None:
        """Send nothing more of what was put."""
        self.muted = True
        self._queue.clear()

    def abort(self) -> None:
        """Cut the connection without a word."""
        self._connection.transport.abort()

    async def close(self, code: int) -> None:
        """Close the connection properly once all that was put has been written.

        A client that does not read is cut off: its close frame would wait for ever.
        """
        try:
            async with asyncio.timeout(_LAST_WORDS):
                await self._drained.wait()
                await self._connection.close(code)
        except TimeoutError:
            self.abort()

    def write(self, data: bytes) -> None:
        """Write bytes at once, past the queue, whether they are frames or not."""
        if self._is_open:
            self._connection.transport.write(data)

    def hold(self, on: bool) -> None:
        """Stop, or go on, reading: while held, pings are not answered either."""
        transport = self._connection.transport
        if on and transport.is_reading():
            transport.pause_reading()
        elif not on and not transport.is_reading() and not transport.is_closing():
            transport.resume_reading()

    async def send_forever(self) -> None:
        """Write what is put, until cancelled or until the connection is gone."""
        with contextlib.suppress(OSError):  # the client is gone
            while self._is_open:
                if not self._queue:
                    self._drained.set()
                    self._filled.clear()
                    await self._filled.wait()
                    continue
                frames = self._gather()
                if frames:
                    self._waiting -= sum(map(len, frames))
                    await self._write(b"".join(frames), len(frames))
                else:
                    await self._run(self._queue.popleft())

    @property
    def _is_open(self) -> bool:
        return self._connection.state is State.OPEN

    def _gather(self) -> list[bytes]:
        frames: list[bytes] = []
        while self._queue and isinstance(frame := self._queue[0], bytes):
            frames.append(frame)
            self._queue.popleft()
        return frames

    async def _run(self, blobs: bytes | Blobs) -> None:
        if isinstance(blobs, bytes):
            return
        for blob, count in blobs:
            if self.muted or not self._is_open:
                return
            await self._write(blob, count)
            await asyncio.sleep(0)  # drain does not yield while there is room

    async def _write(self, blob: bytes, count: int) -> None:
        if not self._is_open:  # nothing may be written after its close frame
            return
        self._connection.transport.write(blob)
        self._record.sent(count)
        if self.faults and self.faults.cuts(count):
            self.abort()
        await self._connection.drain()
