"""The verbs of a ring, of whichever segment serves now.

A segment that was given up, or whose feeder died, may have a successor: it is looked
for by the next verb. A live read pays for this with a few loads and one clock.
"""

from shmfeed.bar import Bar
from shmfeed.memory.rows import Rows, Slice
from shmfeed.ringbuf import RingReader


class ReattachingReader:
    """Reads through `reader()`: the last one, as long as its segment serves.

    A subclass says in `_find` where another is.
    """

    __slots__ = ("_reader",)

    def __init__(self) -> None:
        self._reader: RingReader | None = None

    @property
    def last_reader(self) -> RingReader | None:
        """The reader that was used last, None if there is none."""
        return self._reader

    def detach(self) -> None:
        """Let go of the reader: the next verb looks for one."""
        self._reader = None

    def _find(self) -> RingReader:
        """The reader of the segment that serves now, or the last one that did."""
        raise NotImplementedError

    def reader(self) -> RingReader:
        """The reader of the segment that serves now."""
        reader = self._reader
        if reader is None or not reader.is_current:
            # One assignment: another thread finds the old one or the new one.
            reader = self._reader = self._find()
        return reader

    @property
    def count(self) -> int:
        """Number of the next closed bar; only ever grows within `epoch`."""
        return self.reader().count

    @property
    def epoch(self) -> int:
        """Raised by a repair or a re-created feed; bar numbers hold within one."""
        return self.reader().epoch

    def view(self, n: int) -> Slice:
        """The last n closed bars, at most `history`, fewer if there are fewer.

        Zero-copy and read-only; ask `valid` after use. Raises BadArgumentError for
        n < 1, BusyRingError when a writer outruns the read for 10 ms.
        """
        return self.reader().view(n)

    def snapshot(self, n: int, include_now: bool = False) -> Rows:
        """The last n bars, private and consistent; the same shape as `view`.

        With `include_now` the forming bar, if there is one, is the last of the n.
        Raises BadArgumentError for n < 1, BusyRingError.
        """
        return self.reader().snapshot(n, include_now)

    def latest(self, field: str) -> float | int:
        """The newest value of a field, the forming bar's if there is one.

        NaN if there is no bar at all. Raises BadArgumentError, BusyRingError.
        """
        return self.reader().latest(field)

    def forming(self) -> Bar | None:
        """The unfinished bar, or None; never one that has closed already."""
        return self.reader().forming()
