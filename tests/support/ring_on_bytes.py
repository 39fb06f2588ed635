"""A ring on a plain bytearray: the memory protocol without any OS call."""

from typing import NamedTuple

from support.cores import Core, chosen

from shmfeed.bar import StreamKey, duration
from shmfeed.layout import Geometry
from shmfeed.memory.catalog import Catalog
from shmfeed.memory.right import Right
from shmfeed.memory.words import Words
from shmfeed.ringbuf import RingReader, RingWriter

STREAM: StreamKey = ("BTCUSDT", "1h")
HOUR = 3_600_000


class Bench(NamedTuple):
    """The two ends of one stream; `woken` has the index of each wake."""

    words: Words
    geometry: Geometry
    catalog: Catalog
    writer: RingWriter
    reader: RingReader
    woken: list[int]
    core: Core
    right: Right

    def close(self, *numbers: int, timeframe: str = "1h") -> None:
        """Close these bars, each with values that follow from its number."""
        for number in numbers:
            self.writer.append(number * duration(timeframe), *prices(number))


def prices(number: int) -> tuple[float, float, float, float, float]:
    """Return open, high, low, close, volume of a bar; no two bars share a value."""
    base = number * 10.0
    return base + 5, base + 9, base + 1, base + 7, base + 3


def blank(
    history: int, guard: int = 1, max_streams: int = 1
) -> tuple[Words, Geometry, Catalog]:
    geometry = Geometry(max_streams, history, guard)
    words = Words(bytearray(geometry.size))
    return words, geometry, Catalog(words, geometry, 1)


def right_to(words: Words) -> Right:
    """Return the right to write this buffer, taken from its last writer."""
    right = Right()
    right.take(words)
    return right


def bench(
    history: int,
    guard: int = 1,
    key: StreamKey = STREAM,
    base: int = 0,
    core: Core | None = None,
) -> Bench:
    """Return a stream whose first row is number `base`, on the chosen core."""
    words, geometry, catalog = blank(history, guard)
    index = catalog.add(key, now=1, base=base)
    woken: list[int] = []
    core = core or chosen()
    right = right_to(words)
    writer = core.RingWriter(words, geometry, index, key, woken.append, right)
    reader = core.RingReader(words, geometry, index)
    return Bench(words, geometry, catalog, writer, reader, woken, core, right)
