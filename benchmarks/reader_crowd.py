"""A crowd of processes attached to one feed that read, or sleep until a bar closes.

One process imports what all need and forks them; each attaches for itself. A reader
reads now and then; a sleeper counts how often it woke up.
"""

import os
import select
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import harness
import report
from sample_bars import SYMBOLS, TIMEFRAME

import shmfeed
from shmfeed.feed import Ring

READ, WAIT = "read", "wait"
READ_SECONDS = 0.05  # between two reads
WAIT_SECONDS = 0.25  # the longest sleep; then a process sees that it is to end
_COUNT_BYTES = 8


class Crowd:
    """Forked processes. They end when their pipe closes, and report their counts."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._pids: list[int] = []
        self._end = self._counts = -1

    def replace(self, size: int, activity: str) -> list[int]:
        """End all processes, start `size` new ones; return the counts of the old."""
        counts = self._stop()
        self._counts, report_to = os.pipe()
        end, self._end = os.pipe()
        self._pids = [self._fork(activity, report_to, end) for _ in range(size)]
        os.close(end)
        for _ in range(size):
            self._read_count()  # a process sends 0 once it has attached
        os.close(report_to)
        return counts

    def _stop(self) -> list[int]:
        if self._end < 0:
            return []
        os.close(self._end)
        counts = [self._read_count() for _ in self._pids]
        for pid in self._pids:
            os.waitpid(pid, 0)
        os.close(self._counts)
        self._end = -1
        return counts

    def _read_count(self) -> int:
        data = os.read(self._counts, _COUNT_BYTES)
        if len(data) < _COUNT_BYTES:
            raise SystemExit("a process of the crowd ended; see its output above")
        return int.from_bytes(data, "little")

    def _fork(self, activity: str, report_to: int, end: int) -> int:
        with warnings.catch_warnings():
            # numpy's threads sleep and hold no lock that a child needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            return pid
        try:
            os.close(self._end)  # the parent's end alone keeps the pipe open
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            ring = shmfeed.attach(self._feed, timeout=10).ring(SYMBOLS[0], TIMEFRAME)
            os.write(report_to, bytes(_COUNT_BYTES))
            count = _ACTIVITIES[activity](ring, end)
            os.write(report_to, count.to_bytes(_COUNT_BYTES, "little"))
        finally:
            os._exit(0)


def _read(ring: Ring, end: int) -> int:
    count = 0
    while not select.select([end], [], [], READ_SECONDS)[0]:
        ring.view(min(20, ring.history)).values.sum()
        count += 1
    return count


def _wait(ring: Ring, end: int) -> int:
    count, seen = 0, ring.count
    while not select.select([end], [], [], 0)[0]:
        new = ring.wait(seen, timeout=WAIT_SECONDS)
        if new is not None:
            count, seen = count + 1, new
    return count


_ACTIVITIES: dict[str, Callable[[Ring, int], int]] = {READ: _read, WAIT: _wait}


@contextmanager
def reader_crowd(feed: str) -> Iterator[harness.Contender]:
    """Run a crowd for a `with` block; its one call is `replace`."""
    with ExitStack() as end:
        contender = harness.Contender(__file__, "crowd", feed)
        end.callback(contender.close)
        yield contender


def main() -> None:
    """Serve as the process that forks."""
    options = report.argument_parser(__doc__).parse_args()
    crowd = Crowd(options.argument)
    harness.serve({"replace": crowd.replace})
    crowd.replace(0, READ)


if __name__ == "__main__":
    main()
