"""One WebSocket connection: bytes in, bytes out, one thread, no callback.

The socket never blocks. `opening` is a generator that yields whenever it has waited, so
that its caller can do something else in between; `wait` is the only other place that
waits. Both listen to a pipe as well, by which other threads wake them.
"""

import os
import select
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from typing import Literal

import websocket

from shmfeed.wire.connect import (
    ConnectPolicy,
    check_target,
)
from shmfeed.wire.deflate import DeflatedFrames
from shmfeed.wire.errors import (
    ClosedError,
    ConnectionLostError,
    OversizedError,
    as_connection_lost,
)
from shmfeed.wire.frames import FrameReader
from shmfeed.wire.nested_tls import NestedTls
from shmfeed.wire.opening import Opened, ServerTime, open_websocket
from shmfeed.wire.tcp import PollRequest, WireSocket

__all__ = ["ClosedError", "Connection", "ConnectionLostError", "OversizedError"]

DEFAULT_POLICY = ConnectPolicy()
TICK = 0.25


class Connection:
    """One connection, from its opening to its end. It cannot be reopened.

    All methods belong to one thread. Failures of the network are raised as
    ConnectionLostError.

    Attributes:
        last_data_at: When the last message was received, by `clock`; at first, when
            the connection was opened.
        server_time: The `Date` of the server's handshake; None without a valid one.
    """

    server_time: ServerTime | None = None

    def __init__(
        self,
        url: str,
        *,
        max_frame_bytes: int,
        policy: ConnectPolicy = DEFAULT_POLICY,
        wake_fd: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check `url`, without touching the network.

        `wake_fd` is the read end of a non-blocking pipe. The connection drains it and
        never closes it.

        Raises:
            BadArgumentError: `policy` does not allow to connect to `url`.
        """
        self._target = check_target(url, policy)
        self._policy = policy
        self._max_frame_bytes = max_frame_bytes
        self._wake_fd = wake_fd
        self._clock = clock
        self._sock: WireSocket | None = None
        self._tls: ssl.SSLSocket | NestedTls | None = None  # the same, where it is one
        self._frames: FrameReader | None = None
        self._more = False  # messages are left in memory
        self._failure: ConnectionLostError | None = None
        self.last_data_at = clock()

    @property
    def label(self) -> str:
        """The endpoint without its query, fit for logs."""
        return self._target.label

    @property
    def last_frame_at(self) -> float:
        """The time of the last frame of any kind, by `clock`."""
        return self._open_frames().last_frame_at

    @property
    def part_since(self) -> float | None:
        """The time at which an incomplete message began; None without one."""
        return self._open_frames().part_since

    def open(self, timeout: float) -> None:
        """Run `opening` from beginning to end, without other work in between."""
        for _ in self.opening(timeout):
            pass

    def opening(self, timeout: float, tick: float = TICK) -> Iterator[None]:
        """Open TCP, TLS and WebSocket within `timeout` s; yield after each wait.

        A wait lasts at most `tick` s and ends at a wake-up. The connection is open
        once the generator is exhausted. After a failure nothing stays open.
        """
        with closing(self.opening_steps(timeout)) as steps:
            for _, events in steps:
                self._poll(events, tick)
                yield

    def opening_steps(self, timeout: float) -> Generator[PollRequest, None, None]:
        """Open as `opening` does, but leave the waiting to the caller.

        Yield a socket and the poll events to wait for; it may be resumed before they
        occur. Close the generator to give the opening up.
        """
        steps = open_websocket(self._target, self._policy, timeout, self._clock)
        with closing(steps):
            opened = yield from self._track(steps)
        sock, inbox, self.server_time, inflater = opened
        self._sock = sock
        if isinstance(sock, ssl.SSLSocket | NestedTls):
            self._tls = sock
        kind = FrameReader if inflater is None else DeflatedFrames
        self._frames = kind(sock, self._max_frame_bytes, inbox, self._clock)
        if isinstance(self._frames, DeflatedFrames) and inflater is not None:
            self._frames.inflate_with(inflater)
        self._more = bool(inbox)
        self.last_data_at = self._clock()

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 without one."""
        return -1 if self._sock is None else self._sock.fileno()

    def has_pending(self) -> bool:
        """Return True if `receive` has something to do without waiting."""
        return self._more or self._failure is not None or self._decrypted()

    def wait(self, timeout: float) -> Literal["readable", "woken", "idle"]:
        """Sleep until there is something to receive, a wake-up, or `timeout` s."""
        ready = self.has_pending()
        readable, woken = self._poll(select.POLLIN, 0.0 if ready else timeout)
        if woken:
            return "woken"
        return "readable" if ready or readable else "idle"

    def receive(self, limit: int = 256) -> list[bytes]:
        """Return the messages that have arrived, oldest first, at most `limit`.

        It never waits, and answers pings. A ConnectionLostError, which includes
        ClosedError and OversizedError, is raised once all messages before it have been
        returned.
        """
        if self._failure is not None:
            raise self._ended(self._failure)
        frames = self._open_frames()
        messages: list[bytes] = []
        try:
            with as_connection_lost():
                frames.fill()
                self._more = not frames.take(messages, limit)
        except ConnectionLostError as failure:
            self._failure = failure
            if not messages:
                raise self._ended(failure) from failure.__cause__
        if messages:
            self.last_data_at = frames.last_frame_at
        return messages

    def send(self, text: str) -> None:
        """Send a text message."""
        self._send(text, websocket.ABNF.OPCODE_TEXT)

    def ping(self) -> None:
        """Send a ping."""
        self._send("", websocket.ABNF.OPCODE_PING)

    def close(self, timeout: float = 0.5, code: int = 1000) -> None:
        """Send a close frame, wait up to `timeout` s for the answer, and disconnect.

        It may be called again.
        """
        if self._frames is not None and self._failure is not None:
            self._ended(self._failure)
        elif self._frames is not None:
            self._frames.send_close(code)
            with suppress(ConnectionLostError):
                self._drain(time.monotonic() + timeout)
        self._frames = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _track(
        self, steps: Generator[PollRequest, None, Opened]
    ) -> Generator[PollRequest, None, Opened]:
        while True:
            try:
                self._sock, events = next(steps)
            except StopIteration as end:
                opened: Opened = end.value
                return opened
            yield self._sock, events

    def _open_frames(self) -> FrameReader:
        if self._frames is None:
            raise ConnectionLostError("the connection is not open")
        return self._frames

    def _ended(self, failure: ConnectionLostError) -> ConnectionLostError:
        if self._frames is not None and failure.close_code:
            self._frames.send_close(failure.close_code)
        return failure

    def _send(self, payload: str, opcode: int) -> None:
        if self._failure is not None:
            raise self._failure
        frames = self._open_frames()
        with as_connection_lost():
            frames.send(payload.encode(), opcode)

    def _decrypted(self) -> bool:
        tls = self._tls
        return tls is not None and self._sock is tls and tls.pending() > 0

    def _poll(self, events: int, timeout: float) -> tuple[bool, bool]:
        if self._sock is None:
            raise ConnectionLostError("the connection is not open")
        return poll(self._sock.fileno(), events, self._wake_fd, timeout)

    def _drain(self, deadline: float) -> None:
        self._wake_fd = None  # wake-ups are left to the owner's next wait
        while (left := deadline - time.monotonic()) > 0:
            if self.wait(left) == "readable":
                self.receive()


def poll(
    fd: int | None, events: int, wake_fd: int | None, timeout: float
) -> tuple[bool, bool]:
    """Wait up to `timeout` s until `fd` is ready for `events`, or for a wake-up.

    Return which of the two happened. The pipe of `wake_fd` is drained. Both may be
    None.
    """
    waiting = select.poll()
    if fd is not None:
        waiting.register(fd, events)
    if wake_fd is not None:
        waiting.register(wake_fd, select.POLLIN)
    seen = {ready for ready, _ in waiting.poll(max(0.0, timeout) * 1000)}
    woken = wake_fd is not None and wake_fd in seen
    if wake_fd is not None and woken:
        with suppress(BlockingIOError):
            os.read(wake_fd, 4096)
    return fd in seen, woken
