"""`shmfeed run`: a feeder in the foreground, until a signal ends it."""

import argparse
import os
from contextlib import suppress

from shmfeed import config
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

_WORDS = {int: "N", float: "SECONDS", tuple: "LIST"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = "shmfeed run [--config FILE] [--unlink] [--SETTING VALUE ..]"
    parser.add_argument(
        "--config", metavar="FILE", help="settings in YAML, TOML or JSON, by its ending"
    )
    parser.add_argument(
        "--unlink", action="store_true", help="remove the segment at the end"
    )
    settings = parser.add_argument_group("settings")
    for option in config.OPTIONS:
        _add_setting(settings, option)


def _add_setting(group: "argparse._ArgumentGroup", option: config.Option) -> None:
    name = "--" + option.setting.replace("_", "-")
    default = getattr(Settings(), option.setting)
    text = option.help.replace("%", "%%")
    if option.type is bool:
        group.add_argument(
            name, action=argparse.BooleanOptionalAction, default=None, help=text
        )
        return
    if default not in (None, ()):
        text = f"{text}; default: {default}"
    word = _WORDS.get(option.type, "TEXT")
    group.add_argument(name, metavar=word, help=text)


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
    with suppress(BrokenPipeError):  # nobody may be reading
        print(_beginning(settings), flush=True)
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
