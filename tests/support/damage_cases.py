"""A small segment, and thousands of ways to damage it, each known by its number.

The segment holds two streams of a few bars, lapped, with a forming bar each; TRUTH has
every bar that may come out of it. A case changes one to three of its words, by a seeded
generator, so a failing case can be generated again.
"""

import random
import struct
from pathlib import Path
from typing import NamedTuple

from shmfeed.bar import Bar, close_time
from shmfeed.layout import (
    COLUMNS,
    E_FORMING,
    ENTRY_WORDS,
    FORMING_WORDS,
    H_ALIVE,
    H_CLOCK_OFFSET,
    H_ENTRY_START,
    H_IDENTITY,
    H_NOTE,
    H_STATE,
    H_TAKEN,
    H_TEXT,
    H_TICK,
    HEADER_WORDS,
    NOTE_WORDS,
    SLOT_HEADER_WORDS,
    STATES,
    V1_ENTRY_WORDS,
    WORD,
    Geometry,
)
from shmfeed.memory.words import Latch, boot_ns
from shmfeed.segment.mapping import place
from shmfeed.writer import FeedWriter, create

GEOMETRY = Geometry(max_streams=3, history=5, guard=2)
STREAMS = (("BTCUSDT", "1h"), ("ETHUSDT", "1M"))
ROWS = 12
START = 1_704_067_200_000  # 2024-01-01
BITS = 64
EXTREMES = (0, 1, -1, 2, 7, 1 << 16, 1 << 31, 1 << 32, 1 << 47, 1 << 62)
EXTREMES += ((1 << 63) - 1, -1 << 63, -1 << 31)


class Case(NamedTuple):
    """Words to change, and their regions: header, note, entry, forming, slot, rows."""

    words: dict[int, int]
    regions: frozenset[tuple[str, int]]  # with the number of the stream


def opens(timeframe: str, number: int) -> int:
    time = START
    for _ in range(number):
        time = close_time(time, timeframe)
    return time


def prices(stream: int, number: int) -> tuple[float, ...]:
    base = 1000.0 * (stream + 1) + number
    return base, base + 0.75, base - 0.25, base + 0.5, float(number), base * number


def truth(stream: int, number: int, flags: int = 0) -> Bar:
    timeframe = STREAMS[stream][1]
    time = opens(timeframe, number)
    end = close_time(time, timeframe)
    return Bar(time, end, *prices(stream, number), flags)


TRUTH = [
    {truth(stream, number) for number in range(ROWS + 2)}
    for stream in range(len(STREAMS))
]


def make(name: str) -> bytes:
    """Return the sound segment, as a feeder that was killed leaves it."""
    with create(name, GEOMETRY.history, GEOMETRY.guard, GEOMETRY.max_streams) as writer:
        writer.note({"endpoint": "ws://127.0.0.1:1", "last_error": None})
        fill(writer)
    return place(name).segment.read_bytes()


def fill(writer: FeedWriter) -> None:
    """Write both streams with their bars into a new feed."""
    for stream, (symbol, timeframe) in enumerate(STREAMS):
        ring = writer.add_stream(symbol, timeframe)
        for number in range(ROWS):
            ring.append(opens(timeframe, number), *prices(stream, number))
        ring.update_forming(opens(timeframe, ROWS), *prices(stream, ROWS))


def write(path: Path, sound: bytes, case: Case | None = None) -> bytes:
    """Write the content with fresh heartbeats and the case's words; return it."""
    content = bytearray(sound)
    for word in (H_ALIVE, H_TICK):
        struct.pack_into("=q", content, word * WORD, boot_ns())
    struct.pack_into("=q", content, H_STATE * WORD, STATES.index("connected"))
    for word, value in (case.words if case else {}).items():
        struct.pack_into("=q", content, word * WORD, value)
    with path.open("r+b") as file:
        file.write(content)
    return bytes(content)


def generate(seed: int, number: int, sound: bytes) -> Case:
    """Return case `number`."""
    rng = random.Random(seed * 1_000_003 + number)
    words: dict[int, int] = {}
    regions = set()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        region, stream = rng.choice(_PLACES)
        word = _word(rng, region, stream)
        words[word] = _value(rng, sound, word)
        if region == "entry" and word - GEOMETRY.entry_word(stream) in _FORMING:
            region = "forming"
        regions.add((region, stream))
    return Case(words, frozenset(regions))


_LATER_WORDS = (
    *range(H_ENTRY_START, H_CLOCK_OFFSET + 1),
    H_IDENTITY,
    H_TAKEN,
    H_TEXT,
)
_FORMING = range(E_FORMING, E_FORMING + Latch.size(FORMING_WORDS))
_PLACES = (
    *[("header", -1)] * 3,
    ("note", -1),
    *[(region, n) for region in ("entry", "slot", "rows") for n in range(2)] * 2,
)


def _word(rng: random.Random, region: str, stream: int) -> int:
    if region == "header":
        # Most of a header is reserved.
        if rng.random() < 0.2:
            return rng.choice(_LATER_WORDS)
        return rng.randrange(32) if rng.random() < 0.8 else rng.randrange(HEADER_WORDS)
    if region == "note":
        return H_NOTE + rng.randrange(Latch.size(NOTE_WORDS))
    if region == "entry":
        words = V1_ENTRY_WORDS if rng.random() < 0.8 else ENTRY_WORDS
        return GEOMETRY.entry_word(stream) + rng.randrange(words)
    slot = GEOMETRY.slot_word(stream)
    if region == "slot":
        return slot + rng.randrange(5)
    return slot + SLOT_HEADER_WORDS + rng.randrange(len(COLUMNS) * 2 * 7)


def _value(rng: random.Random, sound: bytes, word: int) -> int:
    (old,) = struct.unpack_from("=q", sound, word * WORD)
    kind = rng.randrange(6)
    if kind == 0:
        return _signed(rng.getrandbits(BITS))
    if kind == 1:
        return rng.choice(EXTREMES)
    if kind == 2:
        return _signed((old ^ (1 << rng.randrange(BITS))) % (1 << BITS))
    if kind == 3:
        return _signed(int.from_bytes(old.to_bytes(8, "little", signed=True), "big"))
    if kind == 4:
        return max(-1 << 63, min((1 << 63) - 1, old + rng.choice((-7, -1, 1, 2, 64))))
    other = rng.randrange(len(sound) // WORD)
    return struct.unpack_from("=q", sound, other * WORD)[0]


def _signed(bits: int) -> int:
    return bits - (1 << BITS) if bits >> (BITS - 1) else bits
