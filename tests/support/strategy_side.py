"""Numbered bars, in a ring and in a context, for tests of wealthdata.

Bar number i of a stream opens i hours after START; its prices say its number. The
volumes tell who has supplied it: a whole number the ring, a fraction the context.
"""

import numpy as np
import pandas as pd

from shmfeed.memory.rows import Slice
from shmfeed.ringbuf import RingWriter
from wealthdata import attachment

HOUR = 3_600_000
START = 1_704_067_200_000  # 2024-01-01, a Monday
SYMBOL = "BTCUSDT"
FROM_CONTEXT = 0.5


def opens(number: int) -> int:
    return START + number * HOUR


def append(ring: RingWriter, *numbers: int) -> None:
    for number in numbers:
        ring.append(opens(number), *prices(number), money=100.0 * number, flags=2)


def prices(number: int) -> tuple[float, ...]:
    return number + 1.0, number + 1.75, number + 0.75, number + 1.5, float(number)


def listed(*numbers: int, symbol: str = SYMBOL) -> dict:
    """An entry of a market_data_context, prices as strings."""
    return {"symbol": symbol, "timeframe": "1h", "bars": [*map(raw, numbers)]}


def raw(number: int) -> dict:
    open_, high, low, close, volume = prices(number)
    return {
        "open_time": opens(number),
        "close_time": opens(number + 1) - 1,
        "open": str(open_),
        "high": str(high),
        "low": low,
        "close": str(close),
        "volume": volume + FROM_CONTEXT,
    }


def numbers(frame: pd.DataFrame) -> list[int]:
    """Which bars a frame has; its index and its opens must agree."""
    closes = frame.index.astype("M8[ms]").astype("int64").to_numpy()
    found = (closes - START) // HOUR - 1
    assert (found + 1.0 == frame["open"].to_numpy()).all()
    return found.tolist()


def from_context(frame: pd.DataFrame) -> list[int]:
    """Which of a frame's bars the context has supplied."""
    whole = (frame["volume"] % 1 == 0).to_numpy()
    return [
        n for n, live_one in zip(numbers(frame), whole, strict=True) if not live_one
    ]


def when(number: int) -> pd.Timestamp:
    """When bar `number` closes."""
    return pd.Timestamp(opens(number + 1), unit="ms")


def view(symbol: str = SYMBOL, n: int = 1000) -> Slice:
    """The ring's own memory, in the mapping that wealthdata reads."""
    feed = attachment.current()
    assert feed is not None
    return feed.ring(symbol, "1h").view(n)


def shares(frame: pd.DataFrame, symbol: str = SYMBOL) -> bool:
    """Whether every column lies in the ring's memory."""
    memory = view(symbol).floats
    return all(np.shares_memory(frame[name], memory) for name in frame.columns)
