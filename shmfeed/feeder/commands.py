"""What managers ask of a feeder, on its way from control threads to the main loop."""

import os
import queue
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from shmfeed.control.messages import Request
from shmfeed.errors import ShmfeedError, WebSocketConnectionError


class Command:
    """One request; the main loop ends it with `finish` or `fail`, once."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.answer: Future[dict[str, Any]] = Future()

    def finish(self, **fields: Any) -> None:
        self.answer.set_result(fields)

    def fail(self, error: ShmfeedError) -> None:
        self.answer.set_exception(error)


class Commands:
    """The queue of commands, and the pipe that wakes the main loop for them."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self.wake_fd, self._wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._open = True

    def ask(self, request: Request) -> dict[str, Any]:
        """From a control thread: wait for the main loop's answer.

        Raises what the main loop answers; every command is answered in the end.
        """
        command = Command(request)
        self._queue.put(command)
        if self._open:
            self.wake()
        else:  # looked at after putting: `end` has drained, or will
            self._fail_all()
        return command.answer.result()

    def wake(self) -> None:
        """Any thread, or a signal's handler; after `close` it does nothing."""
        if self._wake_in >= 0:
            with suppress(BlockingIOError):  # full: it will wake anyway
                os.write(self._wake_in, b"w")

    def drain(self) -> Iterator[Command]:
        """The commands that are there now; those that come meanwhile are for the next
        time, or who asks on and on would keep the main loop from its work."""
        with suppress(queue.Empty):
            for _ in range(self._queue.qsize()):
                yield self._queue.get_nowait()

    def end(self) -> None:
        """Nobody obeys any more: fail what is there and what still comes."""
        self._open = False
        self._fail_all()

    def _fail_all(self) -> None:
        for command in self.drain():
            command.fail(WebSocketConnectionError("the feeder is stopping"))

    def close(self) -> None:
        """Let go of the pipe; `wake` of a signal that comes later does nothing."""
        fds, self._wake_in = (self.wake_fd, self._wake_in), -1
        for fd in fds:
            os.close(fd)
