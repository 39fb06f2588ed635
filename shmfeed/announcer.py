"""Calling back about changes of state, in a thread of its own.

What a callback does, and how long it takes, delays nothing but the next callback: it
may stop the manager, ask it anything, or hang.
"""

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

Tell = Callable[[str, str], None]


class Announcer:
    """Calls `tell(old, new)` for each change, in the order in which they were said."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._queue: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name="shmfeed-announcer", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def say(self, old: str, new: str) -> None:
        self._queue.put((old, new))

    def close(self, patience: float) -> None:
        """Say what is left, then end; called by a callback, after its return."""
        self._queue.put(None)
        if self._thread is threading.current_thread() or not self._thread.ident:
            return
        self._thread.join(patience)
        if self._thread.is_alive():
            log.warning("an on_state_change callback has not returned so far")

    def _run(self) -> None:
        while (change := self._queue.get()) is not None:
            self._tell(*change)
