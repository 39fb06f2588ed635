"""A ring in a mapping, as its readers' slots can be mapped by themselves."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from support import payload
from support.cores import Core
from support.ring_on_bytes import right_to

from shmfeed import core
from shmfeed.layout import H_TAKEN, Geometry
from shmfeed.memory import keeping
from shmfeed.memory.catalog import Catalog
from shmfeed.memory.right import Right
from shmfeed.memory.words import Words

KEY = payload.SYMBOL, payload.TIMEFRAME


class MappedRing(NamedTuple):
    """A writer of one core and the segment; readers of a core are made by `reader`."""

    words: Words
    geometry: Geometry
    writer: Any
    right: Right

    def continued(self) -> "MappedRing":
        """Return the ring with a writer of the slot that the catalog names now."""
        make = type(self.writer)
        ends = self.words, self.geometry, 0, KEY, lambda index: None, self.right
        return self._replace(writer=make(*ends))

    def close(self, count: int) -> None:
        """Close that many bars."""
        row = self.writer.reader.count
        for number in range(row + 1, row + count + 1):
            payload.append(self.writer, number, wake=False)

    def reader(self, core: Core) -> Any:
        return core.RingReader(self.words, self.geometry, 0)


def mapped_ring(history: int, guard: int, core: Core, **sizes: int) -> MappedRing:
    geometry = Geometry(sizes.get("streams", 1), history, guard)
    words = Words(mmap.mmap(-1, geometry.size))
    index = Catalog(words, geometry, 1).add(KEY, now=1)
    words.ints[H_TAKEN] = geometry.slots  # each has its pages
    right = right_to(words)
    writer = core.RingWriter(words, geometry, index, KEY, lambda index: None, right)
    return MappedRing(words, geometry, writer, right)


def kept_bytes() -> int:
    """Return what both cores have set aside."""
    extra = keeping.kept_bytes() if core.build == "C" else 0
    return core.kept_bytes() + extra


@contextmanager
def limited(limit: int) -> Iterator[None]:
    """Limit what each core sets aside."""
    for limit_kept in {core.limit_kept, keeping.limit_kept}:
        limit_kept(limit)
    try:
        yield
    finally:
        for limit_kept in {core.limit_kept, keeping.limit_kept}:
            limit_kept(keeping.DEFAULT_KEEP_MB << 20)
