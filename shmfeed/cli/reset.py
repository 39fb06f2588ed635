"""`shmfeed reset`: drop a stream's bars in ring and store, so that it begins again."""

import argparse
import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from shmfeed.bar import StreamKey, check_timeframe
from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.options import add_feed_option, attach_feed, chosen_feed, owner_of
from shmfeed.cli.output import print_error, print_output
from shmfeed.cli.store_options import store_of
from shmfeed.cli.suggestions import suggest
from shmfeed.cli.times import Moment, parse_moment
from shmfeed.control.client import ask
from shmfeed.control.messages import ControlError
from shmfeed.errors import (
    BadArgumentError,
    FeedNotFoundError,
    StreamNotFoundError,
)
from shmfeed.segment.mapping import Place, open_segment, place
from shmfeed.settings.kinds import split_commas
from shmfeed.store.file import StoreFile
from shmfeed.store.reading import StoreReader
from shmfeed.store.schema import StoreError
from shmfeed.text import counted
from shmfeed.validation import check_symbol
from shmfeed.writer import FeedWriter, create

_DESCRIPTION = """\
Drop the closed bars of a symbol's streams, in the ring and in the store. They begin
again: where the feed has a source of history, it fills them again as at a start. The
command asks nothing. A running feeder does it, and where none runs the command itself.
Frames that strategies hold stay valid; the next read has the stream under a new epoch.
"""

_EPILOG = """\
examples:
  shmfeed reset BTCUSDT
  shmfeed reset BTCUSDT --resolutions 1m,1h
  shmfeed reset BTCUSDT --before '2026-01-31 14:00'
"""

_ANSWER_SECONDS = 60.0
_NO_ANSWER = -1  # of a store


class Dropped(NamedTuple):
    """The bars that a stream has lost.

    `stored` is None where there is no store, -1 where it cannot be used.
    """

    symbol: str
    timeframe: str
    rows: int
    stored: int | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("symbol", metavar="SYMBOL", help="symbol, as `shmfeed status` lists it")
    add(
        "--resolutions",
        "--resolution",
        metavar="LIST",
        help="comma-separated timeframes, default: all that the feed carries",
    )
    add(
        "--before",
        metavar="TIME",
        type=parse_moment,
        help="drop the bars that close by then, UTC; default: all",
    )
    add(
        "--store",
        metavar="PATH",
        help="file of the store, if no feeder runs; default: that of the last feeder",
    )
    add(
        "--config",
        metavar="FILE",
        help="file of the feeder's settings, if no feeder runs",
    )
    add_feed_option(parser)
    add("--json", action="store_true", help="print a JSON list of objects")


def run(args: argparse.Namespace) -> int:
    where = place(chosen_feed(args), owner_of(args))
    if where.owner != os.geteuid():
        raise BadArgumentError(
            f"feed {where.name} belongs to user {where.owner}; only that user can reset"
            " its streams"
        )
    keys = _streams(args)
    before: Moment | None = args.before
    until = 0 if before is None else before.ms
    wanted: dict[str, Any] = {
        "symbols": [args.symbol],
        "resolutions": [timeframe for _, timeframe in keys],
        "before": until,
    }
    try:
        answer: Any = ask(where.socket, "reset", _ANSWER_SECONDS, **wanted)
        dropped = [Dropped(*stream) for stream in answer["streams"]]
    except (FeedNotFoundError, ControlError):
        # A feeder that was killed has left its socket; one that lives has the locks.
        dropped = _reset_alone(args, where, keys, until)
    if args.json:
        print_output(json.dumps([one._asdict() for one in dropped], indent=2))
    else:
        print_output(format_dropped(where.name, dropped))
    if any(one.stored == _NO_ANSWER for one in dropped):
        print_error("the store cannot be used now, and keeps its bars; try it again")
        return FAILED
    return 0


def _streams(args: argparse.Namespace) -> list[StreamKey]:
    """Return the streams of the arguments, or raise the error that names near ones."""
    symbol = check_symbol(args.symbol)
    named = None
    if args.resolutions is not None:
        named = [check_timeframe(one) for one in split_commas(args.resolutions)]
    with attach_feed(args) as feed:
        carried = feed.streams()
    keys = [key for key in carried if key[0] == symbol]
    if not keys:
        near = suggest(symbol, [key[0] for key in carried])
        raise StreamNotFoundError(f"feed {feed.name} does not carry {symbol}{near}")
    if named is None:
        return keys
    chosen = [(symbol, timeframe) for timeframe in dict.fromkeys(named)]
    for key in chosen:
        if key not in keys:
            known = " ".join(timeframe for _, timeframe in keys)
            raise StreamNotFoundError(
                f"feed {feed.name} does not carry {' '.join(key)}; of {symbol} it"
                f" carries: {known}"
            )
    return [key for key in keys if key in chosen]


def _reset_alone(
    args: argparse.Namespace, where: Place, keys: Sequence[StreamKey], before: int
) -> list[Dropped]:
    """Drop the bars in this process, as the feed's writer for that long.

    Raises:
        FeedBusyError: A feeder has the feed, and gives no answer.
    """
    from shmfeed.feeder.stream_reset import first_kept  # noqa: PLC0415 loads a feeder

    path = store_of(args)
    geometry, group = open_segment(where).geometry, _group_of(where)
    sizes = geometry.history, geometry.guard, geometry.max_streams
    with create(where.name, *sizes, state="disconnected", group=group) as writer:
        firsts = {key: first_kept(before, key, writer.reader(key)) for key in keys}
        rows = [_drop_rows(writer, key, first) for key, first in firsts.items()]
    stored: list[int | None] = [None] * len(keys)
    if path is not None:
        stored = [*_drop_stored(path, firsts)]
    return [Dropped(*k, n, m) for k, n, m in zip(keys, rows, stored, strict=True)]


def _group_of(where: Place) -> str | None:
    """Return the number of the group that may read the segment, None for no group."""
    status = where.segment.stat()
    return str(status.st_gid) if status.st_mode & stat.S_IRGRP else None


def _drop_rows(writer: FeedWriter, key: StreamKey, first: int | None) -> int:
    writer.add_stream(*key)
    dropped = writer.drop_rows(*key, first)
    if first is None:
        writer.mark_stream(key, gaps=-writer.stream_gaps(key), recovering=False)
        writer.set_holes(key, [])
    return dropped


def _drop_stored(path: str, firsts: dict[StreamKey, int | None]) -> list[int]:
    counts = dict.fromkeys(firsts, _NO_ANSWER)
    with suppress(StoreError):
        with StoreReader(path) as reader:
            identity = reader.identity()
        if identity is None:  # it has had no bar
            return [0] * len(firsts)
        with StoreFile(path, identity, replace=False) as file:
            for key, first in firsts.items():
                counts[key] = file.drop_rows(key, first)
    return list(counts.values())


def format_dropped(feed: str, dropped: Sequence[Dropped]) -> str:
    """Return a line for each stream: the bars that it has lost."""
    lines = []
    for one in dropped:
        line = f"feed {feed}: {one.symbol} {one.timeframe}: {_bars(one.rows)} dropped"
        if one.stored is not None and one.stored >= 0:
            line += f", {_bars(one.stored)} from the store"
        lines.append(line)
    return "\n".join(lines)


def _bars(count: int) -> str:
    return counted(count, "bar")
