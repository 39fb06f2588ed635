"""Segments of other layouts: layout 1 with a live feeder, and one that is too new."""

import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from shmfeed.core import RingWriter
from shmfeed.layout import (
    CONNECTED,
    H_ALIVE,
    H_GUARD,
    H_HISTORY,
    H_MAX_STREAMS,
    H_READY,
    H_SIZE,
    H_SLOTS,
    H_STARTED,
    H_STATE,
    H_TICK,
    H_WRITER_PID,
    MAGIC,
    MAGIC_SHIFT,
    VERSION,
    WORD,
    Geometry,
)
from shmfeed.memory.catalog import Catalog
from shmfeed.memory.right import Right
from shmfeed.memory.words import Words, boot_ns
from shmfeed.segment.locking import (
    acquire_lock_file,
    lock_segment,
    make_directory,
    write_pid,
)
from shmfeed.segment.mapping import place

NEWER = VERSION + 1


class OldFeed(NamedTuple):
    """A segment of layout 1 and its writer."""

    words: Words
    geometry: Geometry
    catalog: Catalog
    right: Right

    def add(self, symbol: str, timeframe: str) -> RingWriter:
        key = symbol, timeframe
        index = self.catalog.add(key, boot_ns())  # type: ignore[arg-type] # a test's own
        where = self.words, self.geometry, index, key
        return RingWriter(*where, lambda _: None, self.right)

    def beat(self) -> None:
        self.words.ints[H_ALIVE] = self.words.ints[H_TICK] = boot_ns()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beat in a thread. A feeder is dead after 2 s; a machine may be so slow."""
        end = threading.Event()

        def beat() -> None:
            while not end.wait(0.2):
                self.beat()

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()


@contextmanager
def old_feed(
    name: str, history: int = 100, guard: int = 16, max_streams: int = 4
) -> Iterator[OldFeed]:
    """Write a feed as a feeder of layout 1 does, until the end of the block.

    The locks are held so long, and the segment stays.
    """
    where = place(name)
    geometry = Geometry(max_streams, history, guard, version=1)
    make_directory(where.directory)
    lock = acquire_lock_file(where)
    write_pid(lock)
    fd = os.open(where.segment, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.posix_fallocate(fd, 0, geometry.size)
    words = Words(mmap.mmap(fd, geometry.size), str(where.segment))
    os.close(fd)
    locked = lock_segment(where, where.segment)
    ints = words.ints
    ints[H_SIZE], ints[H_SLOTS] = geometry.size, geometry.slots
    ints[H_MAX_STREAMS], ints[H_HISTORY], ints[H_GUARD] = geometry[:3]
    ints[H_WRITER_PID], ints[H_STARTED] = os.getpid(), boot_ns()
    ints[H_STATE] = CONNECTED
    right = Right()
    right.take(words)
    feed = OldFeed(words, geometry, Catalog(words, geometry, 1), right)
    feed.beat()
    ints[H_READY] = MAGIC << MAGIC_SHIFT | 1
    try:
        yield feed
    finally:
        right.end("closed")
        locked.release()
        lock.release()


def make_newer(name: str) -> None:
    """Turn a feed's segment into one of a newer layout."""
    ready = struct.pack("=q", MAGIC << MAGIC_SHIFT | NEWER)
    with place(name).segment.open("r+b") as segment:
        segment.seek(H_READY * WORD)
        segment.write(ready)


def replace_by_newer(name: str) -> None:
    """Put a segment of a newer layout in the place of a feed's, under its name."""
    segment = place(name).segment
    content = segment.read_bytes()
    segment.unlink()
    segment.write_bytes(content)
    segment.chmod(0o600)
    make_newer(name)
