"""Calling back about changes of state, in a thread of its own.

What a callback does, and how long it takes, delays nothing but the next callback: it
may stop the manager, ask it anything, or hang.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

Callback = Callable[[str, str], None]
Call = tuple[Callback, str, str]


class Announcer:
    """Calls each of `callbacks` with (old, new), in the order in which it was said.

    What they raise is logged and stops nothing. One that is added later hears of later
    changes.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks
        self._queue: queue.SimpleQueue[list[Call]] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name="shmfeed-announcer", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def say(self, old: str, new: str) -> None:
        if self._callbacks:
            self._queue.put([(call, old, new) for call in self._callbacks])

    def close(self, patience: float) -> None:
        """Say what is left, then end; called by a callback, after its return."""
        self._queue.put([])
        if self._thread is threading.current_thread() or not self._thread.ident:
            return
        self._thread.join(patience)
        if self._thread.is_alive():
            log.warning("an on_state_change callback has not returned so far")

    def _run(self) -> None:
        while calls := self._queue.get():
            for callback, old, new in calls:
                try:
                    callback(old, new)
                except Exception:
                    log.exception("on_state_change callback failed: %s -> %s", old, new)
