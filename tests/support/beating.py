"""A feed of a test's own, whose writer's heart beats as a feeder's does."""

import threading
from typing import Any, Self

import numpy as np

import shmfeed
from shmfeed.bar import StreamKey
from shmfeed.identity import FeedIdentity
from shmfeed.ringbuf import RingWriter

MINUTE = 60_000
A = ("A", "1m")
HERE = FeedIdentity("binance", "spot", ("stream.binance.com",))


def append(
    ring: RingWriter, *numbers: int, minutes: int = 1, wake: bool = True
) -> None:
    """Close the bars that open at these minutes."""
    for number in numbers:
        opened, last = number * MINUTE, number + 0.5
        assert number % minutes == 0
        ring.append(opened, number, number + 1, number, last, number, wake=wake)


class Beating:
    """A writer whose heart beats in a thread, as a feeder's does."""

    def __init__(self, name: str, **more: Any) -> None:
        more = {"history": 50, "streams": [A], "identity": HERE} | more
        self.writer = shmfeed.create(name, **more)
        self.ring = self.writer.add_stream(*A)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self.writer.beat_alive()
            self.writer.tick()  # else its main loop would seem to stand still

    def rows(self, key: StreamKey, most: int = 50) -> list[tuple[int, ...]]:
        """Return the newest rows of a stream, as the bits of their columns."""
        block = self.writer.reader(key).snapshot(most).block
        return [tuple(row) for row in block.view(np.int64).T.tolist()]

    def stop_beating(self) -> None:
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.stop_beating()
        self.writer.close()
