"""The log of a task: what it has read since its last decision.

A *tracked* process keeps the bars of each read. In another one the log has the latest
reads, of the ring's bars by their numbers alone, for the first decision.
"""

import threading
from collections import deque
from contextvars import ContextVar
from typing import Any, NamedTuple

from shmfeed.bar import Bar
from wealthdata.kept_bars import ORIGIN_KEYS, Noted, Origin

# The reasons for which the reads of this process are tracked. The C core serves no
# read while there are any.
tracked: set[str] = set()

# The strategy that acts in this thread or task; None outside of the runner.
acting: ContextVar[str | None] = ContextVar("wealthdata_strategy", default=None)


class Alone:
    """The one strategy that a process runs: its threads act for it, too."""

    strategy: str | None = None


_MIB = 1 << 20


class _Limit(NamedTuple):
    """The most that a log keeps: reads, bytes of their bars, bars that were handed."""

    reads: int
    bytes: int
    handed: int


TRACKED = _Limit(4096, 64 * _MIB, 1 << 16)
UNTRACKED = _Limit(64, 4 * _MIB, 256)


class Read(NamedTuple):
    """A read: the origin that its attrs say, and its record."""

    origin: Origin
    record: Noted


class Taken(NamedTuple):
    """The reads of a log, oldest first, the bars that were handed, by origin.

    `dropped` is the number of reads and bars that were too many.
    """

    reads: list[Read]
    handed: dict[Origin, list[Bar]]
    dropped: int


class ReadLog:
    """The reads of one task since its last decision, the same window once.

    A bar that `follow`, or the runner, has handed to the task counts as read. Where
    there are too many the oldest are dropped.

    Thread safety: any thread may call any method.
    """

    __slots__ = ("_bytes", "_dropped", "_handed", "_latest", "_lock", "_reads")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: deque[tuple[dict[str, Any], Noted]] = deque()
        self._reads: dict[tuple[Any, ...], Read] = {}
        self._handed: dict[tuple[Origin, int], Bar] = {}
        self._bytes = 0
        self._dropped = 0

    def hand(self, origin: Origin, bar: Bar) -> None:
        """Add a bar that was handed to the task, or a revision of it."""
        limit = TRACKED if tracked else UNTRACKED
        with self._lock:
            self._handed[origin, bar.open_time] = bar
            if len(self._handed) > limit.handed:
                del self._handed[next(iter(self._handed))]
                self._dropped += 1

    def add(self, attrs: dict[str, Any], record: Noted) -> None:
        """Add the read of a frame with these attrs.

        In a tracked process it replaces an earlier one of the same window. Another one
        keeps its latest reads, and looks at them when it decides.
        """
        if tracked:
            self._replace(Read(_origin_of(attrs), record))
            return
        nbytes = record.nbytes
        with self._lock:
            self._latest.append((attrs, record))
            self._bytes += nbytes
            while len(self._latest) > 1 and (
                len(self._latest) > UNTRACKED.reads or self._bytes > UNTRACKED.bytes
            ):
                self._bytes -= self._latest.popleft()[1].nbytes
                self._dropped += 1

    def _replace(self, read: Read) -> None:
        key = (*read.origin, *read.record.key)
        with self._lock:
            earlier = self._reads.pop(key, None)
            if earlier is not None:
                self._bytes -= earlier.record.nbytes
            self._reads[key] = read
            self._bytes += read.record.nbytes
            while len(self._reads) > 1 and (
                len(self._reads) > TRACKED.reads or self._bytes > TRACKED.bytes
            ):
                oldest = self._reads.pop(next(iter(self._reads)))
                self._bytes -= oldest.record.nbytes
                self._dropped += 1

    def take(self) -> Taken:
        """Return what the log has, and forget it."""
        with self._lock:
            latest = [Read(_origin_of(attrs), record) for attrs, record in self._latest]
            taken = Taken([*latest, *self._reads.values()], {}, self._dropped)
            self._latest.clear()
            for (origin, _), bar in self._handed.items():
                taken.handed.setdefault(origin, []).append(bar)
            self._reads.clear()
            self._handed.clear()
            self._bytes = self._dropped = 0
        return taken


def _origin_of(attrs: dict[str, Any]) -> Origin:
    return Origin(*(attrs[key] for key in ORIGIN_KEYS))
