"""A thread that stores the feeder's heartbeat in the segment every half second."""

import threading
from collections.abc import Callable
from typing import Self

from shmfeed.errors import FeedLostError
from shmfeed.layout import BEAT_SECONDS
from shmfeed.writer import FeedWriter


class HeartbeatThread:
    """A context manager whose thread stores heartbeats.

    If the segment or its lock was removed, replaced or truncated, the thread calls
    `on_lost(error)` and ends.
    """

    def __init__(
        self, writer: FeedWriter, on_lost: Callable[[FeedLostError], None]
    ) -> None:
        self._writer = writer
        self._on_lost = on_lost
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shmfeed-heartbeat")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            try:
                self._writer.beat_alive()
            except FeedLostError as error:
                self._on_lost(error)
                return
