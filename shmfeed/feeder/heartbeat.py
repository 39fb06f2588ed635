"""The feeder's beat: a thread that says every half second that the process lives."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from shmfeed.errors import FeedLostError
from shmfeed.layout import BEAT_SECONDS
from shmfeed.writer import FeedWriter


class Beat:
    """Beats while the context lasts.

    `lost(error)` is called, once and from the beat's thread, when somebody took the
    segment or the lock away; the beat ends with it.
    """

    def __init__(
        self, writer: FeedWriter, lost: Callable[[FeedLostError], None]
    ) -> None:
        self._writer = writer
        self._lost = lost
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shmfeed-beat")

    def _run(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            try:
                self._writer.beat_alive()
            except FeedLostError as error:
                self._lost(error)
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()
