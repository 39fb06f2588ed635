"""A segment's bell: rung when a bar has closed or the feed changes hands.

It is one 32-bit word, which counts how often the bell was rung, and a futex on it. A
ring names the streams that closed by their bits, one of 32 each, and wakes who listens
for one of these.

Ring:                                Sleep until a row comes:
 (1) publish the rows                 (1) load the word
 (2) release-bump the word            (2) look at the counts: go, if a row has come
 (3) wake who sleeps on it            (3) sleep while the word is still as loaded

No wake-up is lost: who saw an old count loaded the word before it was bumped, and the
kernel compares it again as it puts him to sleep. Looking first and loading then would
sleep over a row that came in between.
"""

from collections.abc import Iterable
from typing import Protocol

from shmfeed.layout import ENTRY_WORDS, H_WAKE, HEADER_WORDS, WORD
from shmfeed.memory.futex import futex_bump, futex_load, futex_wait, futex_wake
from shmfeed.memory.words import Words

WAKE_OFFSET = H_WAKE * WORD  # where the word is, in bytes
_BITS = 32


def wake_bits(indices: Iterable[int]) -> int:
    """The bits of these streams."""
    bits = 0
    for index in indices:
        bits |= 1 << index % _BITS
    return bits


def wake_bit(entry: int) -> int:
    """The bit of the stream whose entry begins at this word."""
    return wake_bits([(entry - HEADER_WORDS) // ENTRY_WORDS])


class Eventcount:
    """The writer's hand on it; one thread rings. Called with a stream's index it wakes
    who waits for that stream."""

    __slots__ = ("_raw",)

    def __init__(self, words: Words) -> None:
        self._raw = words.raw

    def __call__(self, index: int) -> None:
        self.notify(1 << index % _BITS)

    def notify(self, bits: int) -> None:
        """Wake who listens for one of these bits, by one call."""
        futex_bump(self._raw, WAKE_OFFSET)
        futex_wake(self._raw, WAKE_OFFSET, bits)


class Counted(Protocol):
    """A reader: where its stream's entry begins, and how many rows there are."""

    words: Words
    entry: int

    @property
    def count(self) -> int: ...


def sleep_past(reader: Counted, after: int, timeout_ns: int, /) -> int:
    """Sleep until a reader's count is past `after`, at most so long: the count.

    It may come back early, without a cause. A timeout of 0 or less does not sleep.
    """
    rung = futex_load(reader.words.raw, WAKE_OFFSET)  # before the count
    count = reader.count
    if count > after or timeout_ns <= 0:
        return count
    bits = wake_bit(reader.entry)
    futex_wait(reader.words.raw, WAKE_OFFSET, rung, bits, timeout_ns)
    return reader.count
