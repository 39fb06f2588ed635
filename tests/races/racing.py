"""One ring in memory that two processes share: a writer in a child, a reader here.

Each may be of either core. The writer never pauses; the reader's mapping is read-only.
"""

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support import forks, payload
from support.cores import Core

from shmfeed.layout import E_WORD, SLOT_MASK, Geometry
from shmfeed.memory.catalog import Catalog
from shmfeed.memory.right import Right
from shmfeed.memory.words import Words

# The part of a long race that each change runs; `make races` runs all of it.
SHARE = forks.SCALE / 10
STOP, READY, WRITTEN = range(3)
KEY = payload.SYMBOL, payload.TIMEFRAME

Write = Callable[["Track", Any], None]


class Track:
    """The memory of one ring, and a board of words for messages between the racers."""

    def __init__(self, history: int, guard: int) -> None:
        self.geometry = Geometry(1, history, guard)
        fd = os.memfd_create("track")
        try:
            os.truncate(fd, self.geometry.size)
            writable = mmap.mmap(fd, self.geometry.size)
            readable = mmap.mmap(fd, self.geometry.size, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        self.words = Words(writable)
        self.read_only = Words(readable)
        self.index = Catalog(self.words, self.geometry, 1).add(KEY, now=1)
        self.board = forks.board()

    @property
    def slot(self) -> int:
        """The word at which the ring's slot begins."""
        word = self.words.ints[self.geometry.entry_word(self.index) + E_WORD]
        return self.geometry.slot_word(word & SLOT_MASK)

    def reader(self, core: Core) -> Any:
        return core.RingReader(self.read_only, self.geometry, self.index)

    def writer(self, core: Core) -> Any:
        right = Right()
        right.take(self.words)
        return core.RingWriter(
            self.words, self.geometry, self.index, KEY, lambda index: None, right
        )

    @contextmanager
    def race(self, core: Core, write: Write, adapt: Any = None) -> Iterator[None]:
        """Run `write` in a child, with a writer of this core, until the block ends."""
        with forks.Fork(self._live, core, write, adapt) as child:
            forks.wait_until(lambda: self.board[READY], 20, "the writer is ready")
            yield
            self.board[STOP] = 1
            child.result()

    def _live(self, core: Core, write: Write, adapt: Any) -> None:
        ring = self.writer(core)
        if adapt is not None:
            adapt(ring)
        write(self, ring)


def write_bars(track: Track, ring: Any) -> None:
    """Close bar after bar, each after 0 to 2 forming updates."""
    board, number = track.board, 0
    full = 2 * track.geometry.capacity
    while not board[STOP]:
        number += 1
        for revision in range(number % 3):
            payload.update_forming(ring, number, revision)
        payload.append(ring, number, wake=False)
        board[WRITTEN] = number
        board[READY] = number > full
