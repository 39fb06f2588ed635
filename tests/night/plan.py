"""The troubles of a night: the kind, begin, length and feed of each."""

import itertools
import math
import random
from collections.abc import Iterator
from typing import NamedTuple

SHORTEST, LONGEST = 0.1, 60.0  # seconds of an outage
LONG_NIGHT = 120.0  # s
LONG_ALONE = frozenset({"close 1013"})  # the feeder waits 30 s after it
BINANCE_ALONE = frozenset({"going away"})
# Kinds whose length is drawn from a range of their own; others have no length.
_OUTAGES = ("away", "dead", "503", "mute", "half-open")
_RANGES = {
    "ban": (2.0, 25.0),
    "429": (1.0, 10.0),
    "mute stream": (5.0, 30.0),
    "slow handshake": (1.0, 4.0),
    "going away": (1.0, 3.0),
    "feeder hangs": (0.5, 25.0),
}
_MOMENTS = ("cut", "close 1001", "close 1012", "close 1013", "feeder killed")
KINDS = (*_OUTAGES, *_RANGES, *_MOMENTS)
# Pauses between two troubles, in seconds. Long ones reset the backoff.
_SHORT_PAUSE, _LONG_PAUSE = (3.0, 10.0), (62.0, 66.0)
_LONG_SHARE = 0.6


class Trouble(NamedTuple):
    """One trouble.

    Attributes:
        kind: One of KINDS.
        begin: Seconds since the night began.
        seconds: Its length.
    """

    kind: str
    begin: float
    seconds: float

    @property
    def end(self) -> float:
        return self.begin + self.seconds


def kinds(seed: int, first: float) -> Iterator[str]:
    """Yield kinds without end, each once before one comes twice.

    Args:
        seed: Of their order.
        first: Where in the order they begin, 0 to 1.
    """
    order = list(KINDS)
    random.Random(seed).shuffle(order)
    start = int(first * len(order))
    return itertools.cycle(order[start:] + order[:start])


def troubles(
    rng: random.Random, order: Iterator[str], protocol: str, seconds: float
) -> list[Trouble]:
    """Return the troubles of one feed, one after the other, none after `seconds`.

    A short night has short troubles.
    """
    longest = min(LONGEST, seconds / 8)
    made: list[Trouble] = []
    begin = min(4.0, seconds / 8)
    while True:
        kind = next(order)
        if protocol != "binance" and kind in BINANCE_ALONE:
            continue
        if seconds < LONG_NIGHT and kind in LONG_ALONE:
            continue
        length = _length(rng, kind, longest)
        if begin + length > seconds:
            return made
        made.append(Trouble(kind, begin, length))
        is_long = rng.random() < _LONG_SHARE
        pause = rng.uniform(*(_LONG_PAUSE if is_long else _SHORT_PAUSE))
        begin += length + min(pause, seconds / 8)


def _length(rng: random.Random, kind: str, longest: float) -> float:
    if kind in _OUTAGES:
        low, high = math.log(SHORTEST), math.log(max(longest, SHORTEST))
        return math.exp(rng.uniform(low, high))
    low, high = _RANGES.get(kind, (0.0, 0.0))
    return rng.uniform(min(low, longest), min(high, longest))
