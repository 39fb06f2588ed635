"""`shmfeed run`: a feeder in the foreground, until a signal ends it."""

import argparse
import os

from shmfeed import config
from shmfeed.cli.settings import add_settings
from shmfeed.cli.streams import say
from shmfeed.cli.watch import Watch
from shmfeed.codecs import get_codec
from shmfeed.config import Settings
from shmfeed.errors import BadArgumentError
from shmfeed.feeder import managed
from shmfeed.feeder.feeder import Feeder
from shmfeed.settings.endpoint import shown

_DESCRIPTION = """\
Feed one feed: connect to a venue, subscribe, and write its bars into shared memory,
where any number of strategies read them. SIGTERM or Ctrl-C ends it; the segment stays
readable, and the next feeder goes on with it, unless --unlink removes it.

A setting is taken from the options, else the environment (WEBSOCKET_ENDPOINT,
WEBSOCKET_SYMBOLS, .., SHMFEED_<SETTING>), else --config, else its default. The token
comes from WEBSOCKET_CSRF_TOKEN or the file only: other users can read arguments.
"""

_EPILOG = """\
examples:
  shmfeed run --endpoint ws://127.0.0.1:18000 --symbols BTCUSDT --resolutions 1s,1m
  shmfeed run --protocol binance --symbols BTCUSDT,ETHUSDT --resolutions 1m,1h
  shmfeed run --config feed.yaml --feed spot
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = "shmfeed run [--config FILE] [--unlink] [--SETTING VALUE ..]"
    parser.add_argument(
        "--unlink", action="store_true", help="remove the segment at the end"
    )
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    arguments = config.from_options(vars(args))
    settings = config.load(arguments | {config.CONFIG_FILE: args.config})
    if not settings.streams:
        raise BadArgumentError(
            "there is nothing to subscribe: give --symbols and --resolutions"
        )
    managed.set_up_logging(settings)
    feeder = Feeder(settings)
    managed.stop_on_signals(feeder, args.unlink)
    say(_beginning(settings))
    with Watch(settings.feed):
        return managed.run(feeder)


def _beginning(settings: Settings) -> str:
    codec = get_codec(settings.protocol, settings.market_type)
    places = codec.endpoints(settings.endpoint, settings.port)
    where = ", ".join(map(shown, places))
    symbols, resolutions = " ".join(settings.symbols), " ".join(settings.resolutions)
    count = len(settings.streams)
    return (
        f"feed {settings.feed}: pid {os.getpid()}, from {where}, {count}"
        f" stream{'' if count == 1 else 's'}: {symbols} x {resolutions}"
    )
