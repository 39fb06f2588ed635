"""Numbered bars, in a ring and in a context, for tests of wealthdata.

Bar i of a stream opens i hours after START, and its prices follow from i. Volumes
are whole in the ring and have a fraction in the context.
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
    """Return an entry of a market_data_context, with prices as strings."""
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
    """Return the numbers of a frame's bars; its index and its opens must agree."""
    closes = frame.index.astype("M8[ms]").astype("int64").to_numpy()
    found = (closes - START) // HOUR - 1
    assert (found + 1.0 == frame["open"].to_numpy()).all()
    return found.tolist()


def from_context(frame: pd.DataFrame) -> list[int]:
    """Return the numbers of the bars that the context supplied."""
    live = (frame["volume"] % 1 == 0).to_numpy()
    return [n for n, of_ring in zip(numbers(frame), live, strict=True) if not of_ring]


def when(number: int) -> pd.Timestamp:
    """Return the close time of bar `number`."""
    return pd.Timestamp(opens(number + 1), unit="ms")


def view(symbol: str = SYMBOL, n: int = 1000) -> Slice:
    """Return the ring's memory, in the mapping that wealthdata reads."""
    feed = attachment.attached_feed()
    assert feed is not None
    return feed.ring((symbol, "1h")).view(n)


def shares(frame: pd.DataFrame, symbol: str = SYMBOL) -> bool:
    """Return True if every column lies in the ring's memory."""
    memory = view(symbol).floats
    return all(np.shares_memory(frame[name], memory) for name in frame.columns)
