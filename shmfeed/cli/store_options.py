"""The options of the commands that read a store: which stream, and which file."""

import argparse
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from shmfeed.bar import StreamKey, check_timeframe
from shmfeed.cli.options import add_feed_option, attach_feed, chosen_feed
from shmfeed.cli.output import format_time, print_error
from shmfeed.cli.suggestions import suggest
from shmfeed.errors import ShmfeedError, StreamNotFoundError
from shmfeed.settings import loading
from shmfeed.store.blocks import Block, differing
from shmfeed.store.reading import StoreReader
from shmfeed.text import counted
from shmfeed.validation import check_feed_name, check_symbol

_WRITTEN_SECONDS = 2.0  # after a bar's close a feeder has written it
_POLL_SECONDS = 0.1


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
    """Return the stream that the arguments name, or raise BadArgumentError.

    The name of the feed is checked too, which a store alone is read without.
    """
    check_feed_name(chosen_feed(args))
    return check_symbol(args.symbol), check_timeframe(args.timeframe)


def store_of(args: argparse.Namespace) -> str | None:
    """Return the path of the store, None where no store is set or it has no file yet.

    It is that of `--store`, else of the settings, else of the feed's last feeder, where
    a relative path of the settings is that of the feeder's directory. A file that
    `--store` names is returned whether it is there or not.

    Raises FeedNotFoundError if there is neither a store nor the feed of `--feed`.
    """
    if args.store is not None:
        return str(args.store)
    path = loading.load({loading.CONFIG_FILE: args.config}).store
    if path is None or not Path(path).exists():
        try:
            with attach_feed(args) as feed:
                path = feed.status()["store"]
        except ShmfeedError:
            if args.feed is not None:
                raise
    return path if path is not None and Path(path).exists() else None


def check_stored(reader: StoreReader, key: StreamKey) -> None:
    """Raise StreamNotFoundError, which names the nearest symbol, for no such stream."""
    try:
        reader.check_stream(key)
    except StreamNotFoundError as error:
        near = suggest(key[0], [symbol for symbol, _ in reader.streams()])
        raise StreamNotFoundError(f"{error}{near}") from None


def warn_of_lag(
    args: argparse.Namespace, reader: StoreReader, key: StreamKey, last: int
) -> int:
    """Warn on standard error if the feed's ring has bars that its store lacks.

    Return how many, of those that close at `last` or before. A bar that has just closed
    is waited for. A feed that cannot be read, or that keeps another store, is not
    compared.
    """
    try:
        with attach_feed(args) as feed:
            own, name = feed.status()["store"], feed.name
            if own is None or not Path(own).samefile(reader.path):
                return 0
            ring = feed.ring(*key)
            rows = ring.snapshot(ring.history).block
    except (ShmfeedError, OSError):
        return 0
    rows = rows[:, rows[1].view(np.int64) <= last]
    deadline = time.monotonic() + _WRITTEN_SECONDS
    while (lacking := _lacking(reader, key, rows)).shape[1]:
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    count: int = lacking.shape[1]
    if count:
        newest = format_time(int(lacking[1].view(np.int64)[-1]))
        print_error(
            f"the store lacks {counted(count, 'bar')} that the ring of feed {name} has,"
            f" the newest closes at {newest}; it may be behind: shmfeed status --feed"
            f" {name} says why"
        )
    return count


def _lacking(reader: StoreReader, key: StreamKey, rows: Block) -> Block:
    """Return the rows that the store lacks, or has in another version."""
    if not rows.shape[1]:
        return rows
    opens = rows[0].view(np.int64)
    stored = [rows[:, :0]]
    with suppress(StreamNotFoundError):
        stored += reader.rows(key, int(opens[0]), int(opens[-1]))
    known = np.concatenate(stored, axis=1)
    _, ours, theirs = np.intersect1d(
        opens, known[0].view(np.int64), assume_unique=True, return_indices=True
    )
    lacks = np.ones(len(opens), np.bool_)
    lacks[ours] = differing(rows[:, ours], known[:, theirs])
    return rows[:, lacks]
