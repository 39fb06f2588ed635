"""Waiting for closed bars: sleep in the kernel until a stream closes one.

A waiter follows the eventcount's protocol of `memory.wakeup`:
 (1) load the keys of its segments
 (2) check the counts of its rings, and return if one has passed its bar number
 (3) sleep while the keys are unchanged

The death of a feeder or the recreation of a segment may go unannounced. Therefore each
sleep lasts at most RECHECK_NS, after which the waiter checks again that its feeders
live and that its readers' segments are current.
"""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from shmfeed.core import (
    ReattachingReader,
    RingReader,
    futex_load,
    futex_wait,
    sleep_past,
)
from shmfeed.layout import H_RETIRED
from shmfeed.memory.futex import futex_wait_any
from shmfeed.memory.liveness import is_alive
from shmfeed.memory.wakeup import WAKE_OFFSET, wake_bits
from shmfeed.memory.words import Words, boot_ns

RECHECK_NS = 500_000_000  # also the interval of heartbeats
RECHECK_DEAD_NS = 100_000_000  # without a feeder: the next one may start soon

WaitEntry = tuple[Words, int, int]  # a segment, its key, the wake bits waited for


def load_key(words: Words) -> int:
    """Return the key of a segment's eventcount. Load it before reading counts."""
    return futex_load(words.raw, WAKE_OFFSET)


def wait_any(entries: Sequence[WaitEntry], timeout_ns: int) -> bool:
    """Sleep until one of these eventcounts is notified. Return False at the timeout.

    May return True without a notification.
    """
    if not entries:
        time.sleep(timeout_ns / 10**9)
        return False
    if len(entries) == 1:
        words, key, bits = entries[0]
        return futex_wait(words.raw, WAKE_OFFSET, key, bits, timeout_ns)
    return futex_wait_any(
        [(words.raw, WAKE_OFFSET, key) for words, key, _ in entries], timeout_ns
    )


def has_live_writer(words: Words) -> bool:
    """Return True if a live feeder writes this segment."""
    return not words.ints[H_RETIRED] and is_alive(words.ints, boot_ns())


class WaitDeadline:
    """The end of a wait: a time or, without a timeout, the death of all feeders."""

    __slots__ = ("_moment",)

    def __init__(self, timeout: float | None) -> None:
        self._moment = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float:
        """Return the seconds left: infinite for None, below 0 past the deadline."""
        return math.inf if self._moment is None else self._moment - time.monotonic()

    def sleep_ns(self, alive: bool) -> int:
        """Return how long to sleep before the next check; 0 ends the wait.

        `alive` is True if a feeder lives.
        """
        longest = RECHECK_NS if alive else RECHECK_DEAD_NS
        if self._moment is None:
            return longest if alive else 0
        return max(0, int(min(self.left() * 1e9, longest)))


def wait_past(ring: ReattachingReader, after: int, timeout: float | None) -> int | None:
    """Sleep until the ring's count is past `after`. Return the count.

    Return None at the deadline or, without one, when the feeder is dead. If bars are
    numbered from 0 again in another segment, wait for its first bar.
    """
    deadline = WaitDeadline(timeout)
    last, reader = ring._last_reader, ring._current_reader()
    after = _number_in(reader, last, after)
    while True:
        sleep_ns = deadline.sleep_ns(has_live_writer(reader.words))
        # `sleep_past` also returns the new count, which saves a call after the wake-up.
        count = sleep_past(reader, after, sleep_ns)
        if count > after:
            return count
        last, reader = reader, ring._current_reader()
        if reader is not last:
            after = _number_in(reader, last, after)
        elif not sleep_ns:
            return None


def _number_in(reader: RingReader, last: RingReader | None, after: int) -> int:
    # `after` is a bar number of the segment that the ring was attached to last. In
    # another segment the numbers may have started again.
    return 0 if reader is not last and reader.count < after else after


R = TypeVar("R", bound=ReattachingReader)


class _Waited(NamedTuple, Generic[R]):
    """A ring, its reader in one segment, and the bar number to wait past."""

    ring: R
    reader: RingReader
    after: int


class WaitSet(Generic[R]):
    """Rings that one caller waits for, until the first of them passes its bar number.

    `segments` are the segments of these rings, each with the wake bits to wait for.
    The constructor, `reattach` and `wait` raise the errors of a ring's methods.
    """

    def __init__(self, wanted: Iterable[tuple[R, int]], timeout: float | None) -> None:
        self.deadline = WaitDeadline(timeout)
        self._set([self._attach(ring, ring._last_reader, n) for ring, n in wanted])

    @staticmethod
    def _attach(ring: R, last: RingReader | None, after: int) -> _Waited[R]:
        reader = ring._current_reader()
        return _Waited(ring, reader, _number_in(reader, last, after))

    def _set(self, waited: Sequence[_Waited[R]]) -> None:
        bits: dict[int, int] = {}
        segments: dict[int, Words] = {}
        for _, reader, _ in waited:
            words = reader.words
            segments[id(words)] = words
            bits[id(words)] = bits.get(id(words), 0) | wake_bits([reader.index])
        self._waited = waited
        self.segments = [(segments[key], bits[key]) for key in segments]

    def ready(self) -> list[R]:
        """Return the rings that have passed their bar numbers, in the order given."""
        return [ring for ring, reader, after in self._waited if reader.count > after]

    def reattach(self) -> bool:
        """Move to the segments that are current now. Return True if any has changed.

        Bar numbers are carried over as `wait_past` does.
        """
        moved = [self._attach(ring, old, after) for ring, old, after in self._waited]
        pairs = zip(moved, self._waited, strict=True)
        if all(new.reader is old.reader for new, old in pairs):
            return False
        self._set(moved)
        return True

    def has_moved(self) -> bool:
        """Return True if `reattach` would find another segment."""
        return any(
            ring._current_reader() is not reader for ring, reader, _ in self._waited
        )

    def sleep_ns(self) -> int:
        """Return how long to sleep before the next check; 0 ends the wait."""
        alive = any(has_live_writer(words) for words, _ in self.segments)
        return self.deadline.sleep_ns(alive)

    def wait(self) -> list[R]:
        """Sleep until rings are `ready`. Return them, or [] at the end of the wait."""
        while True:
            # Step 1 of the protocol: the keys, before the counts are checked.
            entries = [(words, load_key(words), bits) for words, bits in self.segments]
            if ready := self.ready():
                return ready
            if self.reattach():
                continue
            sleep_ns = self.sleep_ns()
            if not sleep_ns:
                return self.ready()
            if wait_any(entries, sleep_ns) and (ready := self.ready()):
                return ready
