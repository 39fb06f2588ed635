"""The given bars: CSV files with the columns of an export of bars."""

import csv
import math
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

BARS = Path(__file__).parent / "bars"
FIELDS = ("open", "high", "low", "close", "volume", "money")


class GivenBar(NamedTuple):
    """A closed bar. Times are in ms UTC, `money` is nan if not known."""

    symbol: str
    timeframe: str
    open_time: int
    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    money: float
    flags: int


class FormingBar(NamedTuple):
    """An unfinished bar, as it is at the moment `at` (ms UTC) and until it closes."""

    at: int
    bar: GivenBar


class Market(NamedTuple):
    """The bars of one file.

    Attributes:
        name: The name of the file.
        path: The file of the closed bars.
        bars: Them, in the order of their close times.
        forming: The unfinished bars, in the order of their moments.
        rolled: The bars of longer timeframes that a reader makes of `bars`.
    """

    name: str
    path: Path
    bars: list[GivenBar]
    forming: list[FormingBar]
    rolled: list[GivenBar]

    def of(self, symbol: str, timeframe: str) -> list[GivenBar]:
        """Return the bars of one stream, rolled-up and unfinished ones too."""
        key = (symbol, timeframe)
        bars = [*self.bars, *self.rolled, *(one.bar for one in self.forming)]
        return [bar for bar in bars if (bar.symbol, bar.timeframe) == key]


@cache
def load(name: str) -> Market:
    """Read the files of the given bars `name`."""
    path = BARS / f"{name}.csv"
    forming = [
        FormingBar(int(row["at"]), _bar(row)) for row in _rows(f"{name}.forming.csv")
    ]
    rolled = [_bar(row) for row in _rows(f"{name}.rolled.csv")]
    return Market(name, path, [_bar(row) for row in _rows(path.name)], forming, rolled)


def _rows(name: str) -> list[dict[str, str]]:
    path = BARS / name
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _bar(row: dict[str, str]) -> GivenBar:
    floats = [float(row[name]) if row[name] else math.nan for name in FIELDS]
    times = int(row["open_time"]), int(row["close_time"])
    return GivenBar(row["symbol"], row["timeframe"], *times, *floats, int(row["flags"]))


def to_ms(text: str) -> int:
    """Return a time such as "2026-01-30 08:00", which is UTC, in milliseconds."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def to_text(moment: int) -> str:
    """Return milliseconds UTC as such a time."""
    return f"{datetime.fromtimestamp(moment / 1000, UTC):%Y-%m-%d %H:%M}"
