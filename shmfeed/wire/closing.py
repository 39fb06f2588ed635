"""A descriptor that ends the waits of all threads at once."""

import os
import weakref


class ClosingPipe:
    """A pipe whose end for reading becomes readable once it is closed, for ever.

    Attributes:
        fd: The descriptor to poll beside others. It stays open as long as this object.
        is_set: True once `close` was called.

    Thread safety: any thread may use it.
    """

    def __init__(self) -> None:
        self.fd, other = os.pipe2(os.O_CLOEXEC)
        self.is_set = False
        self._close_other = weakref.finalize(self, os.close, other)
        weakref.finalize(self, os.close, self.fd)

    def close(self) -> None:
        """End all waits, those to come too."""
        self.is_set = True
        self._close_other()
