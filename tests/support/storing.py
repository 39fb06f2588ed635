"""Versions of bars for tests of the store, and the content of its file."""

import math
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

from shmfeed.bar import Bar, StreamKey, close_time
from shmfeed.feeder.row_events import Cause, RowVersion
from shmfeed.identity import FeedIdentity

IDENTITY = FeedIdentity("binance", "spot", ("stream.binance.com",))
OTHER = FeedIdentity("binance", "usdm", ("fstream.binance.com",))
KEY: StreamKey = ("BTCUSDT", "1m")
MINUTE = 60_000
START = 1_767_225_600_000  # 2026-01-01


def bar_at(
    number: int, close: float = 1.5, key: StreamKey = KEY, flags: int = 1
) -> Bar:
    """Return bar `number` of a stream, counted from START."""
    opened = START + number * (close_time(START, key[1]) - START)
    values = (1.0, max(2.0, close), min(0.5, close), close, 10.0 + number, math.nan)
    return Bar(opened, close_time(opened, key[1]), *values, flags)


def version_of(
    number: int,
    close: float = 1.5,
    *,
    key: StreamKey = KEY,
    flags: int = 1,
    cause: Cause = "closed",
    late: int = 50,
) -> RowVersion:
    """Return a version that was published `late` ms after the bar's close."""
    bar = bar_at(number, close, key, flags)
    published = (bar.close_time + late) * 1_000_000
    return RowVersion(key, bar, published - 1_000_000, published, cause)


def block_of(bars: list[Bar]) -> Any:
    """Return bars as a block, the form of `Rows.block`."""
    block = np.empty((9, len(bars)))
    for column, values in enumerate(zip(*bars, strict=True)):
        cells = block[column]
        (cells.view(np.int64) if column in (0, 1, 8) else cells)[:] = values
    return block


def stored(path: Path, columns: str = "open_time, version, close, cause") -> list[Any]:
    """Return these columns of each version, in the order of the table."""
    connection = sqlite3.connect(path)
    try:
        query = f"SELECT {columns} FROM bar_versions JOIN streams ON id = stream"
        query += " ORDER BY stream, open_time, version"
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def record(recorder: Any, versions: list[RowVersion]) -> None:
    """Hand versions to a recorder, as the feeder does."""
    for key, bar, received, published, cause in versions:
        now = 1000.0
        heard = now - (published - received) / 1e9
        recorder.record([(key, bar, heard, cause)], now, published)
