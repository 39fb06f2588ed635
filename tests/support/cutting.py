"""Many rings in one plain buffer, for tests of the cut."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from support.cores import Core
from support.ring_on_bytes import HOUR, prices, right_to

from shmfeed import core as serving
from shmfeed import cutting, follower
from shmfeed.bar import StreamKey
from shmfeed.layout import (
    C_FLOATS,
    E_WORD,
    H_STREAMS,
    H_TAKEN,
    S_BASE,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    SLOT_BITS,
    SLOT_HEADER_WORDS,
    Geometry,
)
from shmfeed.memory.catalog import Catalog
from shmfeed.memory.words import Words

FIELDS = ("open", "high", "low", "close", "volume")


class Rings:
    """Rings of one core. Bar `number` of ring k has prices that follow from both."""

    def __init__(
        self,
        core: Core,
        count: int,
        history: int,
        guard: int = 2,
        words: Words | None = None,
        extension: Any = serving,
    ) -> None:
        """Make the streams, or read those that these words have already."""
        pure = core.name == "pure"
        self.read_cut = cutting.read_cut if pure else extension.read_cut
        self.read_list = cutting.read_list if pure else extension.read_list
        self.geometry = Geometry(count, history, guard)
        self.words = words or Words(bytearray(self.geometry.size))
        if not self.words.ints[H_STREAMS]:
            catalog = Catalog(self.words, self.geometry, 1)
            for k in range(count):
                catalog.add(_key(k), now=1)
        self._core = core
        self._base = (follower if pure else extension).ReattachingReader
        self._count = count
        self._writers: list[Any] = []
        self.rings = self.over(self.words)

    @property
    def writers(self) -> list[Any]:
        """The writers, made when they are first used: after a fork, in the child."""
        if not self._writers:
            right = right_to(self.words)
            for k in range(self._count):
                given = self.words, self.geometry, k, _key(k), lambda _: None, right
                self._writers.append(self._core.RingWriter(*given))
        return self._writers

    def over(self, words: Words) -> tuple[Any, ...]:
        """Return a ring for each stream, over these words."""

        class Ring(self._base):
            def __init__(self, reader: Any) -> None:
                super().__init__()
                self.reader = reader

            def _find(self) -> Any:
                return self.reader

        return tuple(
            Ring(self._core.RingReader(words, self.geometry, k))
            for k in range(self._count)
        )

    def close(self, k: int, *numbers: int) -> None:
        for number in numbers:
            self.writers[k].append(number * HOUR, *values_of(k, number))

    def cut(self, n: int, align: bool, fields: tuple[str, ...] = FIELDS) -> Any:
        return self.read_cut(self.rings, n, fields, align)

    def listed(
        self, n: int, bounds: tuple[int, int] | None, quiet: int = 0
    ) -> cutting.ListArrays:
        """Return the rows of a list; `bounds` are close times."""
        found = self.read_list(self.rings, n, FIELDS, bounds, quiet)
        return cutting.ListArrays(*found)

    def swap(
        self, k: int, numbers: Iterable[int], slot: int, shift: float = 0.0
    ) -> None:
        """Give ring k these rows in another slot, S1 to S4. Its writer is unusable."""
        ints, entry = self.words.ints, self.geometry.entry_word(k)
        at, capacity = self.geometry.slot_word(slot), self.geometry.capacity
        epoch = max(
            ints[self.geometry.slot_word(number) + S_EPOCH]
            for number in range(self.geometry.slots)
        )
        rows = [[n * HOUR, (n + 1) * HOUR, *values_of(k, n), 0.0, 0] for n in numbers]
        for cells in rows:
            cells[C_FLOATS] += shift
        ints[at + S_EPOCH] = epoch + 1
        columns = self.words.columns(at + SLOT_HEADER_WORDS, (9, 2 * capacity))
        for row, cells in enumerate(rows):
            times = np.array(cells[:C_FLOATS]).view(np.float64)
            column = np.concatenate((times, cells[C_FLOATS:]))
            columns[:, row] = columns[:, row + capacity] = column
        ints[at + S_BASE] = 0
        ints[at + S_INTENT] = ints[at + S_PUBLISHED] = len(rows)
        ints[H_TAKEN] = max(ints[H_TAKEN], slot + 1)
        ints[entry + E_WORD] = epoch + 1 << SLOT_BITS | slot


def _key(k: int) -> StreamKey:
    return f"S{k}", "1h"


def values_of(k: int, number: int) -> tuple[float, ...]:
    return tuple(value + k / 16 for value in prices(number))


def expected(
    held: list[list[int]], history: int, n: int, align: bool
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return the cut of rings that hold the bars of these numbers, made of sets."""
    seen = [numbers[-history:] for numbers in held]
    missing = [k for k, numbers in enumerate(seen) if not numbers]
    if align:
        sets = [set(numbers) for numbers in seen if numbers]
        common = sorted(set.intersection(*sets))[-n:] if sets else []
        chosen = [common if numbers else [] for numbers in seen]
        rows, times = len(common), np.array([(i + 1) * HOUR for i in common], np.int64)
    else:
        chosen = [numbers[-n:] for numbers in seen]
        rows = max(map(len, chosen))
        times = np.zeros((len(held), rows), np.int64)
    values = np.full((len(FIELDS), len(held), rows), np.nan)
    for k, numbers in enumerate(chosen):
        for column, number in enumerate(numbers, rows - len(numbers)):
            values[:, k, column] = values_of(k, number)
            if not align:
                times[k, column] = (number + 1) * HOUR
    return values, times, missing
