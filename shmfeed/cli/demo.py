"""`shmfeed demo`: a venue, a feeder, and strategies that check what they read."""

import argparse
import math

from shmfeed.demo.options import SYMBOLS, DemoOptions
from shmfeed.demo.runner import choose_screen, run_demo
from shmfeed.errors import BadArgumentError
from shmfeed.validation import check_symbol

_DESCRIPTION = """\
Everything at once, on this machine alone: a local venue, a feeder, and strategy
processes that call get_price in a loop and compare each value with what the venue
made. Halfway through a demo of 10 s or more the venue drops the connection once.
Leaves nothing behind; exits 1 if a value was wrong or nothing was read.
"""

_EPILOG = """\
examples:
  shmfeed demo --seconds 20
  shmfeed demo --seconds 5 --strategies 2 --symbols BTCUSDT --json
"""

_DAY, _MOST_STRATEGIES, _MOST_SYMBOLS = 86_400.0, 64, 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("--seconds", type=float, default=20.0, metavar="S", help="default: 20")
    add("--strategies", type=int, default=8, metavar="N", help="default: 8")
    add("--symbols", metavar="A,B", help=f"default: {len(SYMBOLS)} well-known ones")
    add("--seed", type=int, default=7, metavar="N", help="of the prices, default: 7")
    add("--json", action="store_true", help="a JSON object a second, then a summary")


def run(args: argparse.Namespace) -> int:
    options = _options(args)
    return run_demo(options, choose_screen(options, args.json))


def _options(args: argparse.Namespace) -> DemoOptions:
    named = SYMBOLS if args.symbols is None else args.symbols.split(",")
    symbols = tuple(dict.fromkeys(check_symbol(name.strip()) for name in named))
    limits = (
        (
            "--seconds",
            args.seconds,
            0 < args.seconds <= _DAY,
            f"above 0, up to {_DAY:g}",
        ),
        (
            "--strategies",
            args.strategies,
            1 <= args.strategies <= _MOST_STRATEGIES,
            f"1 to {_MOST_STRATEGIES}",
        ),
        (
            "--symbols",
            len(symbols),
            len(symbols) <= _MOST_SYMBOLS,
            f"up to {_MOST_SYMBOLS} of them",
        ),
    )
    for name, value, good, accepted in limits:
        if not good or math.isnan(value):
            raise BadArgumentError(f"{name} {value} is not accepted; {accepted}")
    return DemoOptions(args.seconds, args.strategies, symbols, args.seed)
