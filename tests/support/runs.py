"""Runs of `python -m wealthdata` in this process, with strategies of a test's own."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from shmfeed.bar import FLOAT_FIELDS, Bar, close_time
from wealthdata.runner.main import main

START = 1_767_225_600_000  # 2026-01-01 UTC, a Thursday
MINUTE, HOUR = 60_000, 3_600_000
HEADER = "symbol,timeframe,open_time,close_time,open,high,low,close,volume,money,flags"


class Outcome(NamedTuple):
    """The end of a run: its exit code, and the lines that it printed."""

    code: int
    output: list[str]
    errors: str


class Runs:
    """Strategies and files of bars in a folder, and runs of them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def write(self, name: str, source: str) -> str:
        """Write a file; return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return str(path)

    def write_bars(self, bars: Iterable[tuple[str, str, Bar]]) -> str:
        """Write a file of bars, each with its symbol and timeframe."""
        lines = [HEADER]
        lines += [",".join(map(str, (*key, *bar))) for *key, bar in bars]
        return self.write("bars.csv", "\n".join(lines) + "\n")

    def __call__(self, arguments: Sequence[str]) -> Outcome:
        """Run with these arguments."""
        self._capsys.readouterr()
        code = main(arguments)
        output, errors = self._capsys.readouterr()
        return Outcome(code, output.splitlines(), errors)

    def backtest(
        self,
        source: str,
        *more: str,
        symbols: str = "AAA",
        frequency: str = "1m",
        bars: Iterable[tuple[str, str, Bar]] | None = None,
    ) -> Outcome:
        """Run a strategy on bars, by default three minutes of AAA."""
        listed = minutes(3) if bars is None else bars
        path = self.write("strategy.py", source)
        file = self.write_bars(listed)
        options = ["--symbols", symbols, "--frequency", frequency, "--backtest", file]
        return self(["run", path, *options, *more])


def bar(number: int, timeframe: str = "1m", start: int = START) -> Bar:
    """Return the bar with this number of a timeframe."""
    length = close_time(start, timeframe) - start
    opened = start + number * length
    prices = dict(zip(FLOAT_FIELDS, (10, 12, 9, 11, 1, 11), strict=True))
    values = {name: float(value + number) for name, value in prices.items()}
    return Bar(opened, opened + length, **values)


def minutes(
    count: int, symbols: Sequence[str] = ("AAA",), first: int = 0
) -> list[tuple[str, str, Bar]]:
    """Return minutes of these symbols, one symbol after the other."""
    numbers = range(first, first + count)
    return [(symbol, "1m", bar(number)) for symbol in symbols for number in numbers]
