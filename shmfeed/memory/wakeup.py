"""The eventcount of a segment: readers sleep until it is notified of a closed bar.

It is one 32-bit word of the header, the key, with a futex on it. The writer changes
the key after each change that readers wait for. Each stream has one of 32 wake bits; a
notification names the bits of the streams that closed, and wakes the readers that wait
for one of them.

Notify (the writer):                 Wait (a reader):
 (N1) publish the rows                (W1) load the key
 (N2) release-store the key + 1       (W2) check again: return if a row came
 (N3) wake the sleepers               (W3) sleep while the key is still as loaded

No wake-up is lost. A reader that saw an old count in W2 loaded the key before N2, and
the kernel compares the key once more before the reader sleeps. In the other order
(check, then load the key) a row published between the two would go unnoticed, and the
reader would sleep although a row is there.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from shmfeed.layout import H_WAKE, WORD
from shmfeed.memory.futex import futex_bump, futex_load, futex_wait, futex_wake
from shmfeed.memory.words import Words

WAKE_OFFSET = H_WAKE * WORD  # of the key, in bytes
_BITS = 32


def wake_bits(indices: Iterable[int]) -> int:
    """Return the wake bits of these streams, by their entry numbers."""
    bits = 0
    for index in indices:
        bits |= 1 << index % _BITS
    return bits


class Eventcount:
    """The writer's side of the eventcount. One thread uses it.

    Called with an entry number, it notifies the readers of that one stream.
    """

    __slots__ = ("_raw",)

    def __init__(self, words: Words) -> None:
        self._raw = words.raw

    def __call__(self, index: int) -> None:
        self.notify(1 << index % _BITS)

    def notify(self, bits: int, /) -> None:
        """Wake the readers that wait for one of these wake bits, steps N2 and N3."""
        futex_bump(self._raw, WAKE_OFFSET)
        futex_wake(self._raw, WAKE_OFFSET, bits)


class CountedReader(Protocol):
    """The part of a RingReader that `sleep_past` and `spin_past` use."""

    words: Words
    index: int

    @property
    def count(self) -> int: ...

    @property
    def epoch(self) -> int: ...


def sleep_past(reader: CountedReader, after: int, timeout_ns: int, /) -> int:
    """Sleep until the reader's count is above `after`; return the count.

    It may return early with an unchanged count. With a timeout of 0 or less it does not
    sleep.
    """
    key = futex_load(reader.words.raw, WAKE_OFFSET)  # W1
    count = reader.count
    if count > after or timeout_ns <= 0:
        return count
    bits = wake_bits([reader.index])
    futex_wait(reader.words.raw, WAKE_OFFSET, key, bits, timeout_ns)
    return reader.count


def sleep_past_any(
    readers: Sequence[CountedReader], afters: list[int], timeout_ns: int, /
) -> int:
    """Sleep until one of these readers of one segment has passed its number.

    It may return early, and does not sleep with a timeout of 0 or less.

    Returns:
        The index of the reader whose count is above its item of `afters`; -1 if that is
        true of none of them, or of several.
    """
    words = readers[0].words
    key = futex_load(words.raw, WAKE_OFFSET)  # W1
    past = _all_past(readers, afters)
    if not past and timeout_ns > 0:
        bits = wake_bits(reader.index for reader in readers)
        futex_wait(words.raw, WAKE_OFFSET, key, bits, timeout_ns)
        past = _all_past(readers, afters)
    return past[0] if len(past) == 1 else -1


def _all_past(readers: Sequence[CountedReader], afters: list[int]) -> list[int]:
    pairs = enumerate(zip(readers, afters, strict=True))
    return [n for n, (reader, after) in pairs if reader.count > after]


def spin_past(reader: CountedReader, after: int, timeout_ns: int, /) -> int:
    """Look, without sleeping, until the reader's count is above `after`; return it.

    It also returns at the timeout, and if the reader's epoch changes. It uses a whole
    core meanwhile; other threads run.
    """
    deadline, epoch = time.monotonic_ns() + timeout_ns, reader.epoch
    while (count := reader.count) <= after and reader.epoch == epoch:
        if time.monotonic_ns() >= deadline:
            break
    return count
