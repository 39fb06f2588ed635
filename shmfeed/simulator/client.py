"""One connected client: what it subscribed to, and what is still to be sent to it.

Frames are written to the connection's transport as they are, many at once: they were
built once for all clients, and a call of the library a frame would be the limit. What
is written is whole frames, so the library's own (pongs, the close) may come between.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator, Sequence

from websockets.protocol import State

from shmfeed.bar import StreamKey
from shmfeed.simulator.connection import Condition, Connection
from shmfeed.simulator.dialect import Dialect
from shmfeed.simulator.faults import ConnectionFaults
from shmfeed.simulator.frames import Row, text_frame
from shmfeed.simulator.log import Record

Blobs = Iterator[tuple[bytes, int]]  # frames ready to be written, and how many
Told = tuple[StreamKey, Row]  # becomes frames when its turn has come
MAX_WAITING = 256 << 20  # bytes: a client that is further behind is cut off
_LAST_WORDS = 1.0  # seconds that a close, and what was put before it, may take


class Peer:
    """The server's end of one connection; used in the event loop only."""

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        record: Record,
    ) -> None:
        self.dialect = dialect
        self.condition = Condition(connection)
        self.number = record.total  # among all connections ever
        self.streams: dict[StreamKey, None] = {}
        self._connection = connection
        self._line = connection.line
        self._record = record
        self._queue: deque[bytes | Told | Blobs] = deque()
        self._waiting = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def faults(self) -> ConnectionFaults | None:
        return self.condition.faults

    def encode(self, stream: StreamKey, rows: Sequence[Row]) -> list[bytes]:
        """The market's bars as this client gets them, faults and all."""
        faults = self.faults
        if faults is None:
            return self.dialect.encode(stream, rows)
        frames = faults.frames(stream, rows)
        for seconds, frame in faults.delayed:
            self._put_later(seconds, frame)
        faults.delayed.clear()
        return frames

    def put(self, frame: bytes | Told, *, said: bool = False) -> None:
        """Send this frame after everything before; muted, only what is `said`."""
        if self.condition.muted and not said:
            return
        self._drained.clear()
        self._queue.append(frame)
        self._waiting += len(frame)
        self._filled.set()
        if self._waiting > MAX_WAITING:
            self.abort()

    def put_all(self, blobs: Blobs) -> None:
        """Send these after everything before, made as fast as the socket takes them."""
        if self.condition.muted:
            return
        self._drained.clear()
        self._queue.append(blobs)
        self._filled.set()

    def put_recorded(self, payload: bytes) -> None:
        """Send a recorded message, faults and all."""
        for frame in self.recorded(text_frame(payload)):
            self.put(frame)

    def recorded(self, frame: bytes) -> list[bytes]:
        return [frame] if self.faults is None else self.faults.recorded(frame)

    def answer(self, reply: str, *, subscribed: bool) -> None:
        """Send a reply; that to a subscription may be late, wrong or never come."""
        told = [(0.0, reply)]
        if subscribed and self.faults is not None:
            told = self.faults.answers(reply)
        for seconds, text in told:
            self._put_later(seconds, text_frame(text.encode()))

    def forget(self) -> None:
        """Send nothing more of what was put."""
        self.condition.muted = True
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
            self._line.write(data)

    async def send_forever(self) -> None:
        """Write what is put, until cancelled or until the connection is gone."""
        with contextlib.suppress(OSError):  # the client is gone
            while self._is_open:
                if not self._queue:
                    self._drained.set()
                    self._filled.clear()
                    await self._filled.wait()
                    continue
                frames, taken = self._gather()
                if taken:
                    self._waiting -= taken
                    await self._write(b"".join(frames), len(frames))
                else:
                    await self._run(self._queue.popleft())

    @property
    def _is_open(self) -> bool:
        transport = self._connection.transport
        return self._connection.state is State.OPEN and not transport.is_closing()

    def _gather(self) -> tuple[list[bytes], int]:
        """The frames that are next, and the weight of what they were made of."""
        frames: list[bytes] = []
        taken = 0
        while self._queue and isinstance(item := self._queue[0], bytes | tuple):
            frames += (
                [item] if isinstance(item, bytes) else self.encode(item[0], [item[1]])
            )
            taken += len(item)
            self._queue.popleft()
        return frames, taken

    async def _run(self, blobs: bytes | Told | Blobs) -> None:
        if isinstance(blobs, bytes | tuple):
            return
        for blob, count in blobs:
            if self.condition.muted or not self._is_open:
                return
            await self._write(blob, count)
            await asyncio.sleep(0)  # drain does not yield while there is room

    async def _write(self, blob: bytes, count: int) -> None:
        if not self._is_open:  # nothing may be written after its close frame
            return
        self._line.write(blob)
        self._record.sent(count)
        if self.faults and self.faults.ended:
            self._line.end()
        await self._line.drained()
        await self._connection.drain()

    def _put_later(self, seconds: float, frame: bytes) -> None:
        if not seconds:
            self.put(frame)
            return
        asyncio.get_running_loop().call_later(seconds, self.put, frame)
