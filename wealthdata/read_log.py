"""The log of a task: what it has read since its last decision.

A *tracked* process keeps the bars of each read. In another one the log has the latest
reads, of the ring's bars by their numbers alone, for the first decision.
"""

import threading
from contextvars import ContextVar
from typing import Any, NamedTuple

from wealthdata.kept_bars import Noted, Origin

# The reasons for which the reads of this process are tracked. The C core serves no
# read while there are any.
tracked: set[str] = set()

# The strategy that acts in this thread or task; None outside of the runner.
acting: ContextVar[str | None] = ContextVar("wealthdata_strategy", default=None)

_MIB = 1 << 20


class _Limit(NamedTuple):
    """The most that a log keeps: reads, and bytes of their bars."""

    reads: int
    bytes: int


TRACKED = _Limit(4096, 64 * _MIB)
UNTRACKED = _Limit(64, 4 * _MIB)


class Read(NamedTuple):
    """A read: the origin that its attrs say, and its record."""

    origin: Origin
    record: Noted


class ReadLog:
    """The reads of one task since its last decision, the same window once.

    Where there are too many the oldest are dropped, and counted in `dropped`.

    Thread safety: any thread may call any method.
    """

    __slots__ = ("_bytes", "_lock", "_reads", "dropped")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reads: dict[tuple[Any, ...], Read] = {}
        self._bytes = 0
        self.dropped = 0

    def add(self, read: Read) -> None:
        """Add a read. It replaces an earlier one of the same window."""
        key = (*read.origin, *read.record.key)
        limit = TRACKED if tracked else UNTRACKED
        with self._lock:
            earlier = self._reads.pop(key, None)
            if earlier is not None:
                self._bytes -= earlier.record.nbytes
            self._reads[key] = read
            self._bytes += read.record.nbytes
            while len(self._reads) > 1 and (
                len(self._reads) > limit.reads or self._bytes > limit.bytes
            ):
                oldest = self._reads.pop(next(iter(self._reads)))
                self._bytes -= oldest.record.nbytes
                self.dropped += 1

    def take(self) -> tuple[list[Read], int]:
        """Return the reads, oldest first, and the number of dropped ones; forget."""
        with self._lock:
            reads, dropped = list(self._reads.values()), self.dropped
            self._reads.clear()
            self._bytes = self.dropped = 0
        return reads, dropped
