"""A reader that survives its segment: it reads from whichever segment is current.

If a segment was retired, or its feeder died, another segment may have the feed's name
by now. The next call looks for it; while it finds none, later calls look again after
LOOKUP_NS or a notification. A live read pays a few loads and one clock read for this,
and makes no system call.

The module is not in `segment/`, because `core` chooses between this class and its C
twin, and `segment/` takes both from `core`.
"""

from shmfeed.bar import Bar, Field
from shmfeed.memory.liveness import is_lookup_due
from shmfeed.memory.rows import Rows, Slice
from shmfeed.memory.words import boot_ns
from shmfeed.ringbuf import RingReader


class ReattachingReader:
    """The read methods of RingReader, on the current segment.

    A subclass implements `_find`. The methods raise its errors too.

    Thread safety: any thread may read.
    """

    __slots__ = ("_lapped", "_lost_before", "_reader")

    def __init__(self) -> None:
        self._reader: RingReader | None = None
        self._lapped = 0  # counted by earlier readers
        self._lost_before = 0

    @property
    def _last_reader(self) -> RingReader | None:
        """The reader of the last verb, None before the first and after `_detach`."""
        return self._reader

    def _detach(self) -> None:
        """Drop the reader; the next verb finds one."""
        self._use(None)

    def _use(self, reader: RingReader | None) -> None:
        # Keep what the old reader counted for this object, and subtract what the new
        # reader counted before it. One assignment: another thread sees the old reader
        # or the new one.
        old, self._reader = self._reader, reader
        if reader is not None:
            self._lapped -= reader.lapped
            self._lost_before -= reader.lost
        if old is not None:
            self._lapped += old.lapped
            self._lost_before += old.lost

    def _find(self) -> RingReader:
        """Return the reader of the current segment, or of the last one there was."""
        raise NotImplementedError

    def _current_reader(self) -> RingReader:
        """Return the reader of the current segment."""
        reader = self._reader
        if reader is None or not (
            reader.is_carried
            and (reader.is_current or not is_lookup_due(reader.words, boot_ns()))
        ):
            if reader is not None and not reader.is_carried:
                reader._binding.leave()  # _find may not find another reader
            found = self._find()
            if found is not reader:
                self._use(found)
            return found
        return reader

    @property
    def count(self) -> int:
        """The number of the next closed bar; it only grows within `epoch`."""
        return self._current_reader().count

    @property
    def epoch(self) -> int:
        """The epoch of the bar numbers: a repair or a recreated feed raises it."""
        return self._current_reader().epoch

    @property
    def lapped(self) -> int:
        """The number of this ring's slices that were overwritten while they lived.

        A slice is counted when a verb or a wake-up finds it, or when it dies.
        """
        reader = self._reader
        return self._lapped + (0 if reader is None else reader.lapped)

    @property
    def _lost(self) -> int:
        """The number of those that were alive when a verb or the limit found them."""
        reader = self._reader
        return self._lost_before + (0 if reader is None else reader.lost)

    def view(self, n: int) -> Slice:
        """Return the last n closed bars without copying; ask `valid` after use.

        Args:
            n: At least 1. More than `history` counts as `history`.

        Returns:
            Read-only columns over shared memory, oldest first: n rows, or as many as
            there are.

        Raises:
            BadArgumentError: n is not an integer of at least 1.
            BusyRingError: The writer outran this read for 10 ms.
        """
        return self._current_reader().view(n)

    def snapshot(self, n: int, include_now: bool = False) -> Rows:
        """Return a private copy of the last n bars, of the same shape as `view`.

        Args:
            n: At least 1. More than `history` counts as `history`.
            include_now: Count the forming bar, if there is one, as the last of the n.

        Raises:
            BadArgumentError: n is not an integer of at least 1, or include_now is not
                a bool.
            BusyRingError: The writer outran this read for 10 ms.
        """
        return self._current_reader().snapshot(n, include_now)

    def latest(self, field: "Field") -> float | int:
        """Return the newest value of a field: the forming bar's, else the last bar's.

        Args:
            field: A name of `layout.COLUMNS`.

        Returns:
            An int for the times (ms UTC) and flags, else a float; NaN without a bar.

        Raises:
            BadArgumentError: There is no such field.
            BusyRingError: The writer outran this read for 10 ms.
        """
        return self._current_reader().latest(field)

    def forming(self) -> Bar | None:
        """Return the forming bar; None before the first, and once it has closed."""
        return self._current_reader().forming()
