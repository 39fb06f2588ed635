"""A reader that survives its segment: the segments that it leaves are released."""

import weakref
from collections.abc import Callable
from typing import Any

from support.cores import Core
from support.ring_on_bytes import STREAM

from shmfeed import core, follower
from shmfeed.layout import Geometry
from shmfeed.memory.catalog import Catalog
from shmfeed.memory.words import Words

GEOMETRY = Geometry(1, 8, 1)


class Segment(Words):
    """The words of a segment; `at_end` is called as the last reference goes."""

    __slots__ = ("__weakref__", "at_end")

    def __init__(self, at_end: Callable[[], object]) -> None:
        super().__init__(bytearray(GEOMETRY.size))
        self.at_end = at_end
        Catalog(self, GEOMETRY, 1).add(STREAM, now=1)

    def __del__(self) -> None:
        self.at_end()


def test_a_reader_that_comes_while_the_old_one_ends_is_released(
    each_core: Core,
) -> None:
    """A segment is unmapped without the GIL: another thread may then use the ring."""
    base: Any = (follower if each_core.name == "pure" else core).ReattachingReader
    segments: list[weakref.ref[Segment]] = []

    class Ring(base):
        found: Any

        def _find(self) -> Any:
            return self.found

        def find(self, at_end: Callable[[], object] = lambda: None) -> None:
            """Read from a new segment, which has no feeder: each verb looks for it."""
            words = Segment(at_end)
            segments.append(weakref.ref(words))
            self.found = each_core.RingReader(words, GEOMETRY, 0)
            del words
            assert self.count == 0

    ring = Ring()
    ring.find(ring.find)
    ring.find()
    assert len(segments) == 3
    assert [segment() is None for segment in segments] == [True, True, False]
    del ring
    assert [segment() for segment in segments] == [None] * 3
