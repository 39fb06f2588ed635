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
from itertools import compress
from operator import is_, ne, or_
from typing import Generic, TypeVar

from shmfeed.core import (
    ReattachingReader,
    RingReader,
    futex_load,
    futex_spin,
    futex_wait,
    futex_wait_any,
    sleep_past,
    sleep_past_any,
    spin_past,
)
from shmfeed.layout import H_RETIRED
from shmfeed.memory.liveness import alive_until, is_alive
from shmfeed.memory.wakeup import WAKE_OFFSET, wake_bits
from shmfeed.memory.words import Words, boot_ns
from shmfeed.spinning import Spinner

RECHECK_NS = 500_000_000  # also the interval of heartbeats
RECHECK_DEAD_NS = 100_000_000  # without a feeder: the next one may start soon
CONFIRM_SECONDS = 0.7  # for the first heartbeat after a suspend of the host
SUSPEND_NS = 1_000_000_000  # a shorter suspend makes no feeder look dead

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
    return futex_wait_any(_keys(entries), timeout_ns)


def _keys(entries: Sequence[WaitEntry]) -> list[tuple[object, int, int]]:
    return [(words.raw, WAKE_OFFSET, key) for words, key, _ in entries]


def has_live_writer(words: Words) -> bool:
    """Return True if a live feeder writes this segment."""
    return not words.ints[H_RETIRED] and is_alive(words.ints, boot_ns())


class WaitDeadline:
    """The end of a wait: a time or, without a timeout, the death of all feeders.

    After a suspend of the host a feeder is given the time of a heartbeat: it lives, and
    has not beaten yet.
    """

    __slots__ = ("_lives_until", "_moment", "_suspended")

    def __init__(self, timeout: float | None) -> None:
        self._moment = None if timeout is None else time.monotonic() + timeout
        self._suspended = 0 if timeout is not None else _suspended_ns()
        self._lives_until = 0.0  # a feeder that has not beaten since a suspend

    def left(self) -> float:
        """Return the seconds left: infinite for None, below 0 past the deadline."""
        return math.inf if self._moment is None else self._moment - time.monotonic()

    def sleep_ns(self, alive: bool) -> int:
        """Return how long to sleep before the next check; 0 ends the wait.

        `alive` is True if a feeder lives.
        """
        longest = RECHECK_NS if alive else RECHECK_DEAD_NS
        if self._moment is not None:
            return max(0, int(min(self.left() * 1e9, longest)))
        if alive:
            return longest
        now, suspended = time.monotonic(), _suspended_ns()
        if suspended > self._suspended + SUSPEND_NS:
            self._suspended, self._lives_until = suspended, now + CONFIRM_SECONDS
        return max(0, int(min((self._lives_until - now) * 1e9, longest)))


def _suspended_ns() -> int:
    """Return for how long the host has been suspended since its boot."""
    return boot_ns() - time.monotonic_ns()


def wait_past(
    ring: ReattachingReader,
    after: int,
    timeout: float | None,
    spinner: Spinner | None = None,
) -> int | None:
    """Sleep until the ring's count is past `after`, or its epoch has changed.

    Return the count; None at the deadline or, without one, when the feeder is dead.
    """
    deadline = WaitDeadline(timeout)
    last, reader = ring._last_reader, ring._current_reader()
    epoch = _epoch_of(reader, last, after)
    while reader.epoch == epoch:
        alive = has_live_writer(reader.words)
        sleep_ns = deadline.sleep_ns(alive)
        # Both return the new count too, which saves a call after the wake-up.
        if spinner is not None and alive and sleep_ns:
            count = _spin_or_sleep_past(reader, after, sleep_ns, spinner)
        else:
            count = sleep_past(reader, after, sleep_ns)
        if count > after:
            return count
        last, reader = reader, ring._current_reader()
        if reader is last and not sleep_ns:
            break
    return reader.count if reader.epoch != epoch else None


def _spin_or_sleep_past(
    reader: RingReader, after: int, rest_ns: int, spinner: Spinner
) -> int:
    """Look or sleep once, as the spinner plans. Return the count."""
    count = reader.count
    if count <= after:
        looks, rest_ns = spinner.plan(rest_ns)
        count = (spin_past if looks else sleep_past)(reader, after, rest_ns)
    if count > after and spinner.has_planned:
        spinner.arrivals[0].newest = reader.updated
    return count


def _epoch_of(reader: RingReader, last: RingReader | None, after: int) -> int:
    # The epoch that `after` was counted in, -1 for an unknown one. A ring that was
    # detached has lost its last reader.
    if last is not None:
        return last.epoch
    return reader.epoch if reader.count >= after else -1


def _number_in(reader: RingReader, last: RingReader | None, after: int) -> int:
    # `after` is a bar number of the segment that the ring was attached to last. In
    # another segment the numbers may have started again.
    return 0 if reader is not last and reader.count < after else after


R = TypeVar("R", bound=ReattachingReader)


class WaitSet(Generic[R]):
    """Rings that one caller waits for, until the first of them passes its bar number.

    `readers` are those of these rings, and `segments` the readers' segments, each with
    the wake bits to wait for. The constructor, `reattach` and the waits raise the
    errors of a ring's methods.

    Args:
        wanted: The rings, each with the bar number to wait past.
        timeout: Seconds, or None.
        spinner: Of these rings, in this order, if `wait` shall spin.
        epochs: If True, a change of a ring's epoch ends the wait too.
    """

    def __init__(
        self,
        wanted: Iterable[tuple[R, int]],
        timeout: float | None,
        *,
        spinner: Spinner | None = None,
        epochs: bool = False,
    ) -> None:
        self.deadline = WaitDeadline(timeout)
        self._spinner = spinner
        # Lists side by side, an item for each ring: `ready` runs after each wake-up.
        self._rings: list[R] = []
        self._afters: list[int] = []
        self._epochs: list[int] = []  # empty unless a change of the epoch counts
        readers = []
        for ring, after in wanted:
            last, reader = ring._last_reader, ring._current_reader()
            self._rings.append(ring)
            readers.append(reader)
            self._afters.append(_number_in(reader, last, after))
            if epochs:
                self._epochs.append(_epoch_of(reader, last, after))
        self._set_readers(readers)

    def _set_readers(self, readers: list[RingReader]) -> None:
        bits: dict[int, int] = {}
        segments: dict[int, Words] = {}
        for reader in readers:
            words = reader.words
            segments[id(words)] = words
            bits[id(words)] = bits.get(id(words), 0) | wake_bits([reader.index])
        self.readers = readers
        self.segments = [(segments[key], bits[key]) for key in segments]

    def renew(
        self, afters: list[int], epochs: list[int], timeout: float | None
    ) -> None:
        """Wait for the same rings again, past these bar numbers of these epochs."""
        self.deadline = WaitDeadline(timeout)
        self._afters, self._epochs = afters, epochs

    def seconds_alive(self) -> float:
        """Return for how long all live feeders count as alive without a heartbeat."""
        now = boot_ns()
        ends = [alive_until(words.ints) - now for words, _ in self.segments]
        return min((end for end in ends if end > 0), default=math.inf) / 1e9

    def ready(self) -> list[R]:
        """Return the rings that have passed their bar numbers, in the order given."""
        counts = [reader.count for reader in self.readers]
        known = self._epochs
        epochs = [reader.epoch for reader in self.readers] if known else known
        if counts == self._afters and epochs == known:
            return []  # the usual case, for many rings
        passed = [
            count > after for count, after in zip(counts, self._afters, strict=True)
        ]
        if known:
            changed = map(ne, epochs, known)
            passed = list(map(or_, passed, changed))
        return list(compress(self._rings, passed))

    def reattach(self) -> bool:
        """Move to the segments that are current now. Return True if any has changed.

        Bar numbers are carried over: if a segment's began again, the first bar counts.
        """
        readers = [ring._current_reader() for ring in self._rings]
        if all(map(is_, readers, self.readers)):
            return False
        moved = zip(readers, self.readers, self._afters, strict=True)
        self._afters = [_number_in(*each) for each in moved]
        self._set_readers(readers)
        return True

    def has_moved(self) -> bool:
        """Return True if `reattach` would find another segment."""
        readers = [ring._current_reader() for ring in self._rings]
        return not all(map(is_, readers, self.readers))

    def sleep_ns(self) -> int:
        """Return how long to sleep before the next check; 0 ends the wait."""
        return self.deadline.sleep_ns(self._is_alive())

    def _is_alive(self) -> bool:
        return any(has_live_writer(words) for words, _ in self.segments)

    def sleep_once(self) -> int:
        """Sleep until a ring has passed its number, or until the next check is due.

        Return the index of the ring that has; -1 if none or several have, or it is not
        known. `ready` tells then.
        """
        moved = self.reattach()
        if moved or [reader.epoch for reader in self.readers] != self._epochs:
            return -1
        sleep_ns = self.sleep_ns()
        if len(self.segments) == 1:
            return sleep_past_any(self.readers, self._afters, sleep_ns)
        entries = [(words, load_key(words), bits) for words, bits in self.segments]
        if sleep_ns and not self.ready():
            wait_any(entries, sleep_ns)
        return -1

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
            if self._spin_or_sleep(entries, sleep_ns) and (ready := self.ready()):
                self._note_arrivals()
                return ready

    def _spin_or_sleep(self, entries: Sequence[WaitEntry], rest_ns: int) -> bool:
        """Look or sleep once, as the spinner plans. Return False at the timeout."""
        if self._spinner is not None and self._is_alive():
            looks, rest_ns = self._spinner.plan(rest_ns)
            if looks:
                return futex_spin(_keys(entries), rest_ns)
        return wait_any(entries, rest_ns)

    def _note_arrivals(self) -> None:
        if self._spinner is not None:
            seen = zip(self.readers, self._afters, strict=True)
            for number, (reader, after) in enumerate(seen):
                if reader.count > after:
                    self._spinner.arrivals[number].newest = reader.updated
