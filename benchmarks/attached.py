"""Many processes attached to one feed, doing what strategies do between two bars.

One process imports what all need, then forks them; each attaches for itself. Some read
now and then, others sleep until a bar closes and count how often they were awake.
"""

import os
import select
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import measure
import report
from filled_feed import SYMBOLS, TIMEFRAME

import shmfeed
from shmfeed.feed import Ring

READ, WAIT = "read", "wait"
READ_SECONDS = 0.05  # between two reads
WAIT_SECONDS = 0.25  # the longest sleep; who is to end sees it then
_COUNT_BYTES = 8


class Crowd:
    """Forked processes; they end when their pipe does, each telling its count."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._pids: list[int] = []
        self._end = self._told = -1

    def become(self, size: int, how: str) -> list[int]:
        """So many, doing this; the counts of those that there were before."""
        counts = self._leave()
        self._told, tell = os.pipe()
        end, self._end = os.pipe()
        self._pids = [self._fork(how, tell, end) for _ in range(size)]
        os.close(end)
        for _ in range(size):
            self._hear()  # that it has attached
        os.close(tell)
        return counts

    def _leave(self) -> list[int]:
        if self._end < 0:
            return []
        os.close(self._end)
        counts = [self._hear() for _ in self._pids]
        for pid in self._pids:
            os.waitpid(pid, 0)
        os.close(self._told)
        self._end = -1
        return counts

    def _hear(self) -> int:
        told = os.read(self._told, _COUNT_BYTES)
        if len(told) < _COUNT_BYTES:
            raise SystemExit("an attached process ended: its words are above")
        return int.from_bytes(told, "little")

    def _fork(self, how: str, tell: int, end: int) -> int:
        with warnings.catch_warnings():
            # numpy's threads sleep, and hold nothing that a child needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            return pid
        try:
            os.close(self._end)  # else it would never see its end
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            ring = shmfeed.attach(self._feed, timeout=10).ring(SYMBOLS[0], TIMEFRAME)
            os.write(tell, bytes(_COUNT_BYTES))
            count = _ACTS[how](ring, end)
            os.write(tell, count.to_bytes(_COUNT_BYTES, "little"))
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


_ACTS: dict[str, Callable[[Ring, int], int]] = {READ: _read, WAIT: _wait}


@contextmanager
def crowd(feed: str) -> Iterator[measure.Party]:
    """Asked to `become` (size, how) it answers with the former ones' counts."""
    with ExitStack() as end:
        party = measure.Party(__file__, "crowd", feed)
        end.callback(party.close)
        yield party


def main() -> None:
    """The process that forks."""
    options = report.arguments(__doc__).parse_args()
    found = Crowd(options.argument)
    measure.serve({"become": found.become})
    found.become(0, READ)


if __name__ == "__main__":
    main()
