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

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from shmfeed.layout import ENTRY_WORDS, H_WAKE, HEADER_WORDS, WORD
from shmfeed.memory.core import futex_bump, futex_load, futex_wait, futex_wake
from shmfeed.memory.extension import extension
from shmfeed.memory.futex import ALL, futex_wait_any
from shmfeed.memory.words import Words

AT = H_WAKE * WORD  # where the word is, in bytes
_BITS = 32

Heard = tuple[Words, int, int]  # a segment, its bell's count, the bits listened for


def bit(index: int) -> int:
    """The bit of stream `index`."""
    return 1 << index % _BITS


def bit_of_entry(entry: int) -> int:
    """The bit of the stream whose entry begins at this word."""
    return bit((entry - HEADER_WORDS) // ENTRY_WORDS)


class PureBell:
    """The writer's hand on it; one thread rings. Called with a stream's index it wakes
    who waits for that stream."""

    __slots__ = ("_raw",)

    def __init__(self, words: Words) -> None:
        self._raw = words.raw

    def __call__(self, index: int) -> None:
        self.ring(1 << index % _BITS)

    def ring(self, bits: int) -> None:
        """Wake who listens for one of these bits."""
        futex_bump(self._raw, AT)
        futex_wake(self._raw, AT, bits)

    def ring_for(self, indices: Iterable[int]) -> None:
        """Wake who waits for one of these streams, all by one call."""
        bits = 0
        for index in indices:
            bits |= 1 << index % _BITS
        self.ring(bits)

    def wake_all(self) -> None:
        """Wake everybody."""
        self.ring(ALL)


if TYPE_CHECKING or not hasattr(extension, "Clapper"):
    Bell = PureBell
else:

    class Bell(extension.Clapper):  # C's __call__ and ring
        """The same, its two short ways in C."""

        __slots__ = ()
        ring_for, wake_all = PureBell.ring_for, PureBell.wake_all


def heard(words: Words) -> int:
    """How often the bell was rung so far, modulo 2**32: before the counts are read."""
    return futex_load(words.raw, AT)


def sleep(listening: Sequence[Heard], timeout_ns: int) -> bool:
    """Sleep until one of these bells has been rung since it was heard.

    False at the timeout, else True; it may be True without a cause.
    """
    if not listening:
        time.sleep(timeout_ns / 10**9)
        return False
    if len(listening) == 1:
        words, count, bits = listening[0]
        return futex_wait(words.raw, AT, count, bits, timeout_ns)
    waited = [(words.raw, AT, count) for words, count, _ in listening]
    return futex_wait_any(waited, timeout_ns)
