"""`shmfeed demo`: run a venue, a feeder, and strategies that check what they read."""

import argparse

from shmfeed.demo.options import SYMBOLS, DemoOptions
from shmfeed.demo.runner import choose_screen, run_demo
from shmfeed.errors import BadArgumentError
from shmfeed.validation import check_symbol

_DESCRIPTION = """\
Run everything on this machine: a local venue, a feeder, and strategy processes that
call get_price in a loop and compare each value with what the venue sent. Halfway
through a demo of 10 s or more the venue drops the connection once. With --relay the
strategies' feeder follows a leader through a Redis of the demo's own; halfway the
leader is killed, and a standby takes its place. The demo leaves nothing behind.
"""

_EPILOG = """\
examples:
  shmfeed demo --seconds 20
  shmfeed demo --seconds 5 --strategies 2 --symbols BTCUSDT --json
  shmfeed demo --relay --strategies 4
"""

_MAX_SECONDS, _MAX_STRATEGIES, _MAX_SYMBOLS = 86_400.0, 64, 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("--seconds", type=float, default=20.0, metavar="S", help="length, default: 20")
    add("--strategies", type=int, default=8, metavar="N", help="processes, default: 8")
    add("--symbols", metavar="A,B", help=f"default: {len(SYMBOLS)} well-known ones")
    add("--seed", type=int, default=7, metavar="N", help="seed of prices, default: 7")
    add("--relay", action="store_true", help="with Redis, a leader and a standby")
    add("--json", action="store_true", help="print JSON: a line a second, a summary")


def run(args: argparse.Namespace) -> int:
    options = _options(args)
    return run_demo(options, choose_screen(options, args.json))


def _options(args: argparse.Namespace) -> DemoOptions:
    names = SYMBOLS if args.symbols is None else args.symbols.split(",")
    symbols = tuple(dict.fromkeys(check_symbol(name.strip()) for name in names))
    seconds, strategies, count = args.seconds, args.strategies, len(symbols)
    if not 0 < seconds <= _MAX_SECONDS:  # also where it is NaN
        raise _not_accepted("--seconds", seconds, f"above 0, up to {_MAX_SECONDS:g}")
    if not 1 <= strategies <= _MAX_STRATEGIES:
        raise _not_accepted("--strategies", strategies, f"1 to {_MAX_STRATEGIES}")
    if count > _MAX_SYMBOLS:
        raise _not_accepted("--symbols", count, f"up to {_MAX_SYMBOLS} of them")
    return DemoOptions(seconds, strategies, symbols, args.seed, args.relay)


def _not_accepted(option: str, value: float, accepted: str) -> BadArgumentError:
    return BadArgumentError(f"{option} {value} is not accepted; {accepted}")
