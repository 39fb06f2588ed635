"""The options of `python -m wealthdata run`, and which of them go together."""

import argparse
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from shmfeed.bar import Timeframe, check_timeframe, duration
from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from wealthdata.runner.steps import RunRequest
from wealthdata.securities import check_security

DESCRIPTION = """\
Run the file of a strategy: live on a feed, on a replay of recorded bars or frames, or
in a backtest. The runner calls the handlers that the file defines: initialize(context),
before_trading_start(context), handle_bar(context, bar), handle_data(context, data),
on_health(context, event), on_strategy_end(context).
"""

EPILOG = """\
examples:
  python -m wealthdata run ma.py --symbols BTCUSDT --frequency 1m
  python -m wealthdata run ma.py --symbols BTCUSDT --frequency 1m --replay btc.csv
  python -m wealthdata run ma.py --symbols BTCUSDT --frequency 1m --backtest btc.csv
exit codes:
  0    done: the file has ended, or SIGTERM ended a live run
  1    a strategy failed, or the run did
  2    an option, a value or a file is not accepted
  130  Ctrl-C
  143  SIGTERM ended a replay or a backtest before the end of its file
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("strategies", nargs="+", metavar="STRATEGY.py", help="the files to run")
    add("--symbols", required=True, metavar="A,B", help="SYMBOL or SYMBOL@FEED, ..")
    add(
        "--frequency",
        required=True,
        metavar="1m",
        help="a timeframe, or several: 1m,1h",
    )
    add("--feed", metavar="NAME", help="the feed of a live run")
    add(
        "--replay",
        action="append",
        metavar="FILE",
        help="play bars or recorded frames through a feed; FEED=FILE, once for each"
        " feed that the symbols name",
    )
    add(
        "--speed",
        metavar="N",
        help="of a replay: times real time, or max (the default)",
    )
    add(
        "--backtest",
        action="append",
        metavar="FILE",
        help="run on the bars of a .csv or .parquet file; FEED=FILE as above",
    )
    add("--record", metavar="FILE", help="write each decision to a .jsonl file")
    add("--keep-going", action="store_true", help="go on after a strategy's exception")


class RunOptions(NamedTuple):
    """The checked options of `run`."""

    strategies: tuple[str, ...]
    request: RunRequest
    replay: tuple[str, ...]
    speed: float
    backtest: tuple[str, ...]
    record: str | None
    keep_going: bool

    @property
    def source(self) -> str | None:
        """The files of bars or frames, None live."""
        return " ".join(self.replay or self.backtest) or None

    @property
    def kind(self) -> str:
        """`live`, `replay` or `backtest`."""
        if self.replay:
            return "replay"
        return "backtest" if self.backtest else "live"


def check_options(args: argparse.Namespace) -> RunOptions:
    """Return the options. Raise BadArgumentError for those that do not go together."""
    if args.replay is not None and args.backtest is not None:
        raise BadArgumentError("--replay and --backtest are two ways to run; give one")
    source = "--replay" if args.replay is not None else "--backtest"
    if args.feed is not None and (args.replay or args.backtest) is not None:
        raise BadArgumentError(
            f"--feed is for a live run; with {source} no other feed is read"
        )
    if args.speed is not None and args.replay is None:
        raise BadArgumentError("--speed is for a replay; give --replay FILE, too")
    paths = [str(path) for path in args.strategies]
    for path in paths:
        if paths.count(path) > 1:
            raise BadArgumentError(f"strategy {path!r} is given twice")
    return RunOptions(
        tuple(paths),
        RunRequest(_symbols(args.symbols), _timeframes(args.frequency), args.feed),
        tuple(args.replay or ()),
        _speed(args.speed),
        tuple(args.backtest or ()),
        args.record,
        args.keep_going,
    )


def _symbols(text: str) -> tuple[str, ...]:
    symbols = [check_security(word.strip()).written for word in text.split(",")]
    return tuple(_once("--symbols", symbols))


def _timeframes(text: str) -> tuple[Timeframe, ...]:
    words = [check_timeframe(word.strip(), "--frequency") for word in text.split(",")]
    found: list[Any] = _once("--frequency", words)
    return tuple(sorted(found, key=duration))


def _once(option: str, words: Sequence[str]) -> list[str]:
    for word in words:
        if words.count(word) > 1:
            raise BadArgumentError(f"{option} has {word} twice")
    return list(words)


def _speed(text: str | None) -> float:
    if text is None or text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise BadArgumentError(
            f"--speed is {repr_short(text)}; it must be a number above 0, or max"
        )
    return speed
