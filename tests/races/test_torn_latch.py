"""The pure latch, which the feed's note uses too, beside a busy writer.

It is slowed down at the places where a value could tear: the same protocol, and two
that leave a step out. `test_torn_forming.py` races the latch at full speed.
"""

import mmap
import os
import time
from collections import Counter

import pytest
from support import forks

from shmfeed.layout import WORD
from shmfeed.memory.words import Latch, Words

STOP, READY = 0, 1
CELL_WORDS = 9


class SlowLatch(Latch):
    """The same protocol, slowed down: a tear that can happen happens often."""

    copies = 0

    def write(self, value: bytes) -> None:
        counter = self._words.ints[self._counter] + 1
        self._fill(self._first + (counter & 1) * self._bytes, value)
        self._words.ints[self._counter] = counter

    def _fill(self, start: int, value: bytes) -> None:
        for at in range(0, self._bytes, WORD):
            self._words.raw[start + at : start + at + WORD] = value[at : at + WORD]

    def _copy(self, start: int) -> bytes:
        raw = self._words.raw
        value = b""
        self.copies += 1
        for at in range(start, start + self._bytes, WORD):
            value += bytes(raw[at : at + WORD])
            if len(value) == 2 * WORD and self.copies % 8 == 0:
                os.sched_yield()  # let the writer run, on one CPU too
        return value

    def read(self) -> bytes:
        while True:
            counter = self._words.ints[self._counter]
            value = self._copy(self._first + (counter & 1) * self._bytes)
            if self._words.ints[self._counter] == counter:
                return value


class NoReload(SlowLatch):
    """A reader without F3 and F4: it accepts each copy."""

    def read(self) -> bytes:
        counter = self._words.ints[self._counter]
        return self._copy(self._first + (counter & 1) * self._bytes)


class SingleCell(SlowLatch):
    """A writer that fills the cell that readers read."""

    def write(self, value: bytes) -> None:
        counter = self._words.ints[self._counter]
        self._fill(self._first + (counter & 1) * self._bytes, value)
        self._words.ints[self._counter] = counter + 2


def write_values(kind, words, board):
    latch = kind(words, 0, CELL_WORDS)
    number = 0
    while not board[STOP]:
        number += 1
        latch.write(number.to_bytes(WORD, "little") * CELL_WORDS)
        board[READY] = 1
    return number


def torn_values(writes: type[Latch], reads: type[Latch], seconds: float) -> int:
    """Return the number of accepted values that were torn; stop early after ten."""
    words = Words(mmap.mmap(-1, 4096))
    board = forks.board()
    latch = reads(words, 0, CELL_WORDS)
    tally: Counter = Counter()
    with forks.Fork(write_values, writes, words, board) as writer:
        forks.wait_until(lambda: board[READY], 10, "the first value")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and tally["torn"] < 10:
            value = latch.read()
            tally["reads"] += 1
            tally["torn"] += value != value[:WORD] * CELL_WORDS
        board[STOP] = 1
        tally["writes"] = writer.result()
    print(writes.__name__, reads.__name__, dict(tally))
    assert tally["reads"]
    return tally["torn"]


@pytest.mark.parametrize(
    ("writes", "reads", "torn"),
    [
        (Latch, Latch, False),
        (SlowLatch, Latch, False),
        (SlowLatch, SlowLatch, False),
        (SlowLatch, NoReload, True),
        (SingleCell, Latch, True),
    ],
)
def test_values_are_whole(writes, reads, torn):
    seconds = 10.0 if torn else 0.7 * forks.SCALE
    assert (torn_values(writes, reads, seconds) > 0) == torn
