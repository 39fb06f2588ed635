"""One WebSocket connection: bytes in, bytes out, one thread, no callback.

The socket never blocks. `opening` is a generator that yields while it has to wait, so
that its caller can do something else in between; `wait` is the only other place that
waits. Both also listen to a pipe by which other threads wake them.
"""

import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from typing import Literal

import websocket

from shmfeed.wire.connect import ConnectPolicy, dial, start
from shmfeed.wire.errors import (
    ClosedError,
    ConnectionLostError,
    OversizedError,
    in_plain_words,
)
from shmfeed.wire.frames import Frames

__all__ = ["ClosedError", "Connection", "ConnectionLostError", "OversizedError"]

NO_RULES = ConnectPolicy()
TICK = 0.25

_Opened = tuple[socket.socket, bytes]


class Connection:
    """One connection, from its opening to its end; never opened a second time.

    `last_frame_at` and `last_data_at` are readings of `clock`: when the last frame of
    any kind was received, and the last one of data. `part_since`: when the message or
    frame began that is here in part, None where there is none. Every method belongs to
    one thread, except `abort`. What the network does raises ConnectionLostError and
    nothing else.
    """

    def __init__(
        self,
        url: str,
        *,
        max_frame_bytes: int,
        rules: ConnectPolicy = NO_RULES,
        wake_fd: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check `url`, without touching the network; BadArgumentError.

        `wake_fd` is the read end of a non-blocking pipe; it is drained, never closed.
        """
        self._target = start(url, rules)
        self._rules = rules
        self._max_frame_bytes = max_frame_bytes
        self._wake_fd = wake_fd
        self._clock = clock
        self._sock: socket.socket | None = None
        self._frames: Frames | None = None
        self._more = False  # messages are left in memory
        self._failure: ConnectionLostError | None = None
        self._aborted = False
        self.last_frame_at = self.last_data_at = clock()
        self.part_since: float | None = None
        self._part: int | None = None

    @property
    def shown(self) -> str:
        """The endpoint as it may be shown: no query, no credentials."""
        return self._target.shown

    def open(self, timeout: float) -> None:
        """`opening` from beginning to end, for callers with nothing else to do."""
        for _ in self.opening(timeout):
            pass

    def opening(self, timeout: float, tick: float = TICK) -> Iterator[None]:
        """TCP, TLS and handshake within `timeout` s; yields after each wait.

        A wait lasts at most `tick` s and ends at a wake-up. Exhausted: the connection
        is open. A failure lets go of everything.
        """
        steps = dial(self._target, self._rules, timeout, self._clock)
        with closing(steps):
            sock, inbox = yield from self._follow(steps, tick)
        self._sock = sock
        if self._aborted:  # by somebody who found no socket to shut down yet
            self.close()
            raise ConnectionLostError("aborted")
        self._frames = Frames(sock, self._max_frame_bytes, inbox)
        self._more = bool(inbox)
        self.last_frame_at = self.last_data_at = self._clock()

    def wait(self, timeout: float) -> Literal["readable", "woken", "idle"]:
        """Sleep until there is something to receive, a wake-up, or `timeout` s."""
        ready = self._more or self._failure is not None or self._decrypted()
        readable, woken = self._poll(select.POLLIN, 0.0 if ready else timeout)
        if woken:
            return "woken"
        return "readable" if ready or readable else "idle"

    def receive(self, limit: int = 256) -> list[bytes]:
        """The messages that are here now, oldest first, at most `limit`; never waits.

        Pings among them are answered. A ConnectionLostError, among them ClosedError
        and OversizedError, comes once all that came before it has been given out.
        """
        frames = self._open_frames()
        messages: list[bytes] = []
        seen = frames.count
        try:
            with in_plain_words():
                frames.fill()
                self._more = not frames.take(messages, limit)
        except ConnectionLostError as failure:
            self._failure = self._ended(failure)
            if not messages:
                raise self._failure from failure.__cause__
        if frames.count != seen:
            self.last_frame_at = self._clock()
            if messages:
                self.last_data_at = self.last_frame_at
        if frames.unfinished != self._part:
            self._part = frames.unfinished
            self.part_since = None if self._part is None else self._clock()
        return messages

    def send(self, text: str) -> None:
        self._send(text, websocket.ABNF.OPCODE_TEXT)

    def ping(self) -> None:
        self._send("", websocket.ABNF.OPCODE_PING)

    def close(self, timeout: float = 0.5, code: int = 1000) -> None:
        """Say goodbye, wait up to `timeout` s for the answer, let go. Idempotent."""
        if self._frames is not None and self._failure is None:
            self._frames.send_close(code)
            with suppress(ConnectionLostError):
                self._drain(time.monotonic() + timeout)
        self._frames = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def abort(self) -> None:
        """End the connection without a word; any thread may call it.

        Who waits on it or opens it gets ConnectionLostError; `close` is still due.
        """
        self._aborted = True
        sock = self._sock
        if sock is not None:
            with suppress(OSError):  # not SSLSocket's method, which drops its TLS state
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _follow(
        self, steps: Generator[tuple[socket.socket, int], None, _Opened], tick: float
    ) -> Generator[None, None, _Opened]:
        while True:
            try:
                self._sock, events = next(steps)
            except StopIteration as end:
                opened: _Opened = end.value
                return opened
            self._poll(events, tick)
            if self._aborted:
                raise ConnectionLostError("aborted")
            yield

    def _open_frames(self) -> Frames:
        if self._failure is not None:
            raise self._failure
        if self._frames is None:
            raise ConnectionLostError("not open")
        return self._frames

    def _ended(self, failure: ConnectionLostError) -> ConnectionLostError:
        if self._aborted:
            return ConnectionLostError("aborted")
        if self._frames is not None and failure.close_code:
            self._frames.send_close(failure.close_code)
        return failure

    def _send(self, payload: str, opcode: int) -> None:
        frames = self._open_frames()
        with in_plain_words():
            frames.send(payload.encode(), opcode)

    def _decrypted(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def _poll(self, events: int, timeout: float) -> tuple[bool, bool]:
        if self._sock is None:
            raise ConnectionLostError("not open")
        return poll(self._sock.fileno(), events, self._wake_fd, timeout)

    def _drain(self, deadline: float) -> None:
        self._wake_fd = None  # whoever wakes us now is not to be answered here
        while (left := deadline - time.monotonic()) > 0:
            if self.wait(left) == "readable":
                self.receive()


def poll(
    fd: int | None, events: int, wake_fd: int | None, timeout: float
) -> tuple[bool, bool]:
    """Wait up to `timeout` s: is `fd` ready for `events`, and was there a wake-up.

    What is in the pipe of `wake_fd` is read. Both may be None.
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
