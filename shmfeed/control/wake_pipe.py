"""A pipe that wakes a thread which polls it beside its sockets."""

import os
import threading
from contextlib import suppress

_PIECE = 1 << 16


class WakePipe:
    """A pipe that becomes readable at each `wake`, until it is drained.

    Attributes:
        fd: The descriptor to poll. It does not block.

    Thread safety: any thread or signal handler may call `wake`, also after `close`.
    """

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Guards the pipe: once it is closed its number may be another file's. A signal
        # handler, or the garbage collector, may interrupt the thread that holds it.
        self._lock = threading.RLock()

    def wake(self) -> None:
        """Wake the thread that polls. After `close` it does nothing."""
        with self._lock:
            if self._write_fd >= 0:
                with suppress(BlockingIOError):  # a full pipe wakes as well
                    os.write(self._write_fd, b"w")

    def drain(self) -> None:
        """Take the wake-ups that are there."""
        with suppress(BlockingIOError):
            os.read(self.fd, _PIECE)

    def close(self) -> None:
        """Close the pipe, which no thread may poll any more."""
        with self._lock:
            fds, self._write_fd = (self.fd, self._write_fd), -1
            for fd in fds:
                os.close(fd)

    def disown(self) -> None:
        """Close the copy of a forked child: another thread may have held the lock."""
        self._lock = threading.RLock()
        self.close()
