"""The form of a file of bars, CSV or Parquet, as `shmfeed export` writes it.

A source of history, a backtest and a replay read it. Columns stand in any order and are
found by their names; columns of other names are ignored.
"""

from collections.abc import Iterator, Sequence
from math import nan
from typing import TextIO

ENDINGS = (".csv", ".parquet")
NAMES = ("symbol", "timeframe")
NEEDED = (*NAMES, "open_time", "open", "high", "low", "close", "volume")
DEFAULTS: dict[str, float] = {"close_time": 0, "money": nan, "flags": 0}  # else needed
LONGEST_LINE = 1 << 16  # characters of a CSV file


def is_parquet(path: str) -> bool:
    """Return True if the name of a file says Parquet."""
    return path.lower().endswith(".parquet")


def column_names(header: Sequence[str]) -> list[str]:
    """Return the names of a header as they are compared."""
    return [name.strip().lower() for name in header]


def lacking(names: Sequence[str]) -> list[str]:
    """Return the columns that a file must have and these names lack."""
    return [name for name in NEEDED if name not in names]


def short_lines(file: TextIO, too_long: Exception) -> Iterator[str]:
    """Yield the lines of a file. Raise `too_long` at one above LONGEST_LINE."""
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise too_long
        yield line
