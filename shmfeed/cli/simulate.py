"""`shmfeed simulate`: run a local venue in the foreground."""

import argparse

from shmfeed.simulator import command

_DESCRIPTION = """\
Run a local venue until Ctrl-C: it generates bars, or replays recorded frames, and
serves them on loopback as a real venue would. Prices depend on --seed, symbol and time
alone. It needs the package websockets: pip install websockets.
"""

_EPILOG = f"""\
{command.FAULTS_HELP}
examples:
  shmfeed simulate --port 18000 --symbols BTCUSDT,ETHUSDT --resolutions 1s,1m
  shmfeed simulate --protocol binance --speed 60 --history 500
  shmfeed simulate --faults duplicate:0.1,mute@30+10,cut@60
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    command.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    return command.run(args)
