"""The bars and holes of one stream, as a chart draws them."""

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from shmfeed.bar import Bar, StreamKey, Timeframe, close_time
from shmfeed.feed import Feed
from shmfeed.holes import Hole
from shmfeed.text import counted, format_ms

# Of a longer hole only so many missing bars take room in a chart.
MOST_MISSING = 1000
_DIGITS = 12  # of a price that are its own


class ChartData(NamedTuple):
    """Closed bars of a stream, oldest first, and the holes between them."""

    feed: str
    key: StreamKey
    identity: str | None
    bars: list[Bar]
    holes: list[Hole]

    @property
    def title(self) -> str:
        return f"{self.key[0]} {self.key[1]}"

    @property
    def subtitle(self) -> str:
        source = f" ({self.identity})" if self.identity else ""
        count = counted(len(self.bars), "closed bar")
        if not self.bars:
            return f"feed {self.feed}{source}, {count}"
        first, last = format_ms(self.bars[0].open_time), self.bars[-1]
        span = f"{first} to {format_ms(last.close_time)}, last close {last.close:g}"
        return f"feed {self.feed}{source}, {count}, {span}"


def read_chart(feed: Feed, symbol: str, timeframe: Timeframe, number: int) -> ChartData:
    """Return the last closed bars of a stream, at most `number` and its history.

    Raises as `Feed.ring` does.
    """
    ring = feed.ring(symbol, timeframe)
    rows = ring.snapshot(min(number, ring.history))
    bars = [rows.bar(row) for row in range(len(rows))]
    oldest = bars[0].open_time if bars else 0
    holes = [one for one in feed.gaps(symbol, timeframe) if one.first > oldest]
    identity = feed.status()["identity"]
    return ChartData(feed.name, (symbol, timeframe), identity, bars, holes)


def missing_opens(hole: Hole) -> list[int]:
    """Return the open times of a hole's bars, ms UTC; of a long hole the first ones."""
    opens: list[int] = []
    opened = hole.first
    while opened <= hole.last and len(opens) < MOST_MISSING:
        opens.append(opened)
        opened = close_time(opened, hole.timeframe)
    return opens


def count_decimals(bars: Iterable[Bar]) -> int:
    """Return the decimals of the prices, as a venue has sent them; 2 without a bar."""
    prices = {price for bar in bars for price in bar[2:6] if math.isfinite(price)}
    texts = (f"{price:.{_DIGITS}g}" for price in prices)  # no digits of rounding
    exponents = (Decimal(text).normalize().as_tuple().exponent for text in texts)
    return max((max(0, -int(exponent)) for exponent in exponents), default=2)


def describe_hole(hole: Hole) -> str:
    """Return a line about a hole: its bars, its times, its state."""
    bars = counted(hole.missing, "bar")
    state = hole.state.replace("_", " ")
    reason = f": {hole.reason}" if hole.reason else ""
    first, last = format_ms(hole.first), format_ms(hole.last)
    return f"{bars} missing, {first} to {last}, {state}{reason}"
