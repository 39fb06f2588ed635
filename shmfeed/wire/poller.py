"""One wait for all sockets of a thread, and for the pipe that wakes it."""

import os
import select
from collections.abc import Mapping, Sequence
from contextlib import suppress

Ready = Mapping[int, int]  # descriptors that are ready, and for which events


class Poller:
    """Waits for sockets, and for a byte in a pipe.

    The kernel's list is rebuilt only when a socket or its events have changed.
    """

    def __init__(self, wake_fd: int | None) -> None:
        self._wake_fd = wake_fd
        self._interests: list[tuple[int, int]] | None = None
        self._poll = select.poll()

    def wait(self, interests: Sequence[tuple[int, int]], seconds: float) -> Ready:
        """Return the descriptors that are ready within `seconds`; drain the pipe.

        Args:
            interests: Descriptors and the poll events to wait for.
            seconds: The longest wait.
        """
        if self._interests != interests:
            self._rebuild(interests)
        ready = dict(self._poll.poll(max(0.0, seconds) * 1000))
        if self._wake_fd is not None and self._wake_fd in ready:
            with suppress(BlockingIOError):
                os.read(self._wake_fd, 4096)
        return ready

    def _rebuild(self, interests: Sequence[tuple[int, int]]) -> None:
        self._interests = list(interests)
        self._poll = select.poll()
        for fd, events in interests:
            if fd >= 0:
                self._poll.register(fd, events)
        if self._wake_fd is not None:
            self._poll.register(self._wake_fd, select.POLLIN)
