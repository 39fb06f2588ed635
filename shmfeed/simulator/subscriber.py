"""The server's end of one client: its subscription and its queue of frames.

The venue writes its frames straight to the transport, many at once, since a call of the
WebSocket library for each frame would limit it. Each write consists of whole frames, so
the library's own (pongs, the close frame) may come between them.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence

from websockets.protocol import State

from shmfeed.bar import Bar, StreamKey
from shmfeed.simulator.connection import ConnectionConditions, FaultyConnection
from shmfeed.simulator.dialect import Dialect
from shmfeed.simulator.faults import ConnectionFaults, Ending
from shmfeed.simulator.frames import text_frame
from shmfeed.simulator.log import VenueLog
from shmfeed.simulator.market import BarState
from shmfeed.simulator.recorder import FrameRecorder
from shmfeed.simulator.schedule import FrameBatches

LateFrames = Callable[[], list[bytes]]  # encoded when their turn comes
MAX_QUEUED = 256 << 20  # bytes; a client that falls further behind is cut off
CLOSE_REASONS = {
    1001: "going away",
    1008: "policy violation",
    1012: "service restart",
    1013: "try again later",
}
_LATE_SIZE = 256  # bytes, about, of frames that are not encoded yet
_CLOSE_SECONDS = 1.0  # for a close and the frames queued before it


class Subscriber:
    """One connected client; used in the event loop only."""

    def __init__(
        self,
        connection: FaultyConnection,
        dialect: Dialect,
        log: VenueLog,
        recorder: FrameRecorder | None = None,
    ) -> None:
        self.dialect = dialect
        self.state = ConnectionConditions(connection)
        self.number = log.connections  # of this connection, counted from 1
        self.keys: dict[StreamKey, None] = {}  # the subscription
        self._connection = connection
        self._writer = connection.writer
        self._log = log
        self._recorder = recorder
        self._queue: deque[bytes | LateFrames | FrameBatches] = deque()
        self._queued = 0  # bytes, about
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def faults(self) -> ConnectionFaults | None:
        return self.state.faults

    def set_faults(self, faults: ConnectionFaults | None) -> None:
        """Replace the faults in force; their times count from now."""
        self.state.set_faults(faults)
        for ending in faults.endings() if faults is not None else ():
            self.end_later(ending)

    def end_later(self, ending: Ending) -> None:
        """Announce and close the connection, each at its time."""
        closes = ending.after
        if ending.notice is not None:
            closes += ending.notice
            message = self.dialect.going_away()
            if message is not None:
                self.state.call_later(
                    ending.after, lambda: self.put(text_frame(message.encode()))
                )
        self.state.call_later(closes, lambda: self._close_soon(ending.code))

    def _close_soon(self, code: int) -> None:
        task = asyncio.create_task(self.close(code, CLOSE_REASONS.get(code, "")))
        self._closing.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._closing.discard)

    @property
    def encodes_late(self) -> bool:
        """True if frames must be encoded in the order in which they are sent."""
        return self.state.faults is not None or self.dialect.numbers_messages

    def encode(self, key: StreamKey, states: Sequence[BarState]) -> list[bytes]:
        """Return the frames of these states, with this client's faults applied."""
        faults = self.faults
        if faults is None:
            return self.dialect.encode(key, states)
        frames = faults.frames(key, states)
        for seconds, frame in faults.delayed:
            self._put_later(seconds, frame)
        faults.delayed.clear()
        return frames

    def put(self, frame: bytes, *, even_muted: bool = False) -> None:
        """Queue one frame; a muted client gets it only with `even_muted`."""
        if not self.state.muted or even_muted:
            self._enqueue(frame, len(frame))

    def put_state(
        self, key: StreamKey, state: BarState, *, even_muted: bool = False
    ) -> None:
        """Queue a state of a bar; a message that is muted still takes a number."""
        is_lost = self.state.muted and not even_muted
        if is_lost and not self.dialect.numbers_messages:
            return

        def frames() -> list[bytes]:
            made = self.encode(key, [state])
            return [] if is_lost else made

        lag = self.faults.lag if self.faults is not None else 0.0
        if lag:
            loop = asyncio.get_running_loop()
            loop.call_later(lag, self._enqueue, frames, _LATE_SIZE)
        else:
            self._enqueue(frames, _LATE_SIZE)

    def put_bar(
        self, key: StreamKey, bar: Bar, closed: bool | None, event_time: int | None
    ) -> None:
        """Queue a hand-made bar, unchanged by faults, even for a muted client."""

        def frames() -> list[bytes]:
            return [self.dialect.encode_bar(key, bar, closed, event_time)]

        self._enqueue(frames, _LATE_SIZE)

    def _enqueue(self, frames: bytes | LateFrames, size: int) -> None:
        self._emptied.clear()
        self._queue.append(frames)
        self._queued += size
        self._filled.set()
        if self._queued > MAX_QUEUED:
            self.abort()

    def put_batches(self, batches: FrameBatches) -> None:
        """Queue batches of frames, made only as fast as the socket takes them."""
        if self.state.muted:
            return
        self._emptied.clear()
        self._queue.append(batches)
        self._filled.set()

    def put_recorded(self, payload: bytes) -> None:
        """Queue a recorded message, with this client's faults applied."""
        for frame in self.edit_recorded(text_frame(payload)):
            self.put(frame)

    def edit_recorded(self, frame: bytes) -> list[bytes]:
        """Return the frames that replace a recorded one under this client's faults."""
        return [frame] if self.faults is None else self.faults.recorded(frame)

    def reply(self, text: str, *, to_subscription: bool) -> None:
        """Queue a reply; a fault may delay, change or drop that to a subscription."""
        replies = [(0.0, text)]
        if to_subscription and self.faults is not None:
            replies = self.faults.replies(text)
        for seconds, message in replies:
            self._put_later(seconds, text_frame(message.encode()))

    def discard_queue(self) -> None:
        """Drop all queued frames, and mute the client."""
        self.state.muted = True
        self._queue.clear()

    def abort(self) -> None:
        """Cut the TCP connection without a close frame."""
        self._connection.transport.abort()

    async def close(self, code: int, reason: str = "") -> None:
        """Write all queued frames and a close frame, then close the connection.

        A client that does not read is cut off: its close frame would wait for ever.
        """
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._emptied.wait()
                await self._connection.close(code, reason)
        except TimeoutError:
            self.abort()

    def write(self, data: bytes) -> None:
        """Write bytes at once, bypassing the queue and the WebSocket framing."""
        if self._is_open:
            self._writer.write(data)

    async def send_forever(self) -> None:
        """Write queued frames until cancelled or until the connection is gone."""
        with contextlib.suppress(OSError):  # the client is gone
            while self._is_open:
                if not self._queue:
                    self._emptied.set()
                    self._filled.clear()
                    await self._filled.wait()
                    continue
                frames, taken = self._take_frames()
                if taken:
                    self._queued -= taken
                    await self._write(b"".join(frames), len(frames))
                else:
                    await self._write_batches(self._queue.popleft())

    @property
    def _is_open(self) -> bool:
        transport = self._connection.transport
        return self._connection.state is State.OPEN and not transport.is_closing()

    def _take_frames(self) -> tuple[list[bytes], int]:
        """Dequeue single frames up to the next batches; return them and their size."""
        frames: list[bytes] = []
        taken = 0
        while self._queue:
            item = self._queue[0]
            if isinstance(item, bytes):
                frames.append(item)
                taken += len(item)
            elif callable(item):
                frames += item()
                taken += _LATE_SIZE
            else:
                break
            self._queue.popleft()
        return frames, taken

    async def _write_batches(self, batches: bytes | LateFrames | FrameBatches) -> None:
        if isinstance(batches, bytes) or callable(batches):
            return
        for data, count in batches:
            if self.state.muted or not self._is_open:
                return
            await self._write(data, count)
            await asyncio.sleep(0)  # drain does not yield while the buffer has space

    async def _write(self, data: bytes, count: int) -> None:
        if not self._is_open:  # nothing may follow the close frame
            return
        if self._recorder is not None and not self._writer.blocked:
            self._recorder.sent(self.number, data)
        self._writer.write(data)
        self._log.add_frames(count)
        if self.faults and self.faults.ended:
            self._writer.close()
        await self._writer.drain()
        await self._connection.drain()

    def _put_later(self, seconds: float, frame: bytes) -> None:
        if not seconds:
            self.put(frame)
            return
        asyncio.get_running_loop().call_later(seconds, self.put, frame)
