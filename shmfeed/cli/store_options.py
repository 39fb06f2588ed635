"""The options of the commands that read a store: which stream, and which file."""

import argparse
from contextlib import suppress
from pathlib import Path

from shmfeed.bar import StreamKey, check_timeframe
from shmfeed.cli.options import add_feed_option, attach_feed
from shmfeed.cli.suggestions import suggest
from shmfeed.errors import ShmfeedError, StreamNotFoundError
from shmfeed.settings import loading
from shmfeed.store.reading import StoreReader
from shmfeed.validation import check_symbol


def add_stream_arguments(parser: argparse.ArgumentParser) -> None:
    """Add SYMBOL, TIMEFRAME, and the options that name a store and a feed."""
    add = parser.add_argument
    add("symbol", metavar="SYMBOL", help="symbol, as `shmfeed status` lists it")
    add("timeframe", metavar="TIMEFRAME", help="1s 1m 3m 5m 15m 30m 1h .. 1d 1w 1M")
    add(
        "--store",
        metavar="PATH",
        help="file of the store, default: the setting `store` of the environment, of"
        " --config, or of the feed's feeder",
    )
    add(
        "--config",
        metavar="FILE",
        help="file of the feeder's settings: .yaml, .yml, .toml or .json",
    )
    add_feed_option(parser)


def stream_of(args: argparse.Namespace) -> StreamKey:
    """Return the stream that the arguments name, or raise BadArgumentError."""
    return check_symbol(args.symbol), check_timeframe(args.timeframe)


def store_of(args: argparse.Namespace) -> str | None:
    """Return the path of the store, None where no store is set or it has no file yet.

    It is that of `--store`, else of the settings, else of the feed's last feeder, where
    a relative path of the settings is that of the feeder's directory. A file that
    `--store` names is returned whether it is there or not.
    """
    if args.store is not None:
        return str(args.store)
    path = loading.load({loading.CONFIG_FILE: args.config}).store
    if path is None or not Path(path).exists():
        with suppress(ShmfeedError), attach_feed(args) as feed:
            path = feed.status()["store"]
    return path if path is not None and Path(path).exists() else None


def check_stored(reader: StoreReader, key: StreamKey) -> None:
    """Raise StreamNotFoundError, which names the nearest symbol, for no such stream."""
    try:
        reader.check_stream(key)
    except StreamNotFoundError as error:
        near = suggest(key[0], [symbol for symbol, _ in reader.streams()])
        raise StreamNotFoundError(f"{error}{near}") from None
