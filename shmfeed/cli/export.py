"""`shmfeed export`: write the bars of a stream to a CSV or Parquet file."""

import argparse
import json
from collections.abc import Callable, Iterator

from shmfeed.bar import StreamKey, duration
from shmfeed.bar_files import ENDINGS
from shmfeed.cli.options import attach_feed
from shmfeed.cli.output import print_output
from shmfeed.cli.progress import ProgressLine
from shmfeed.cli.store_options import (
    add_stream_arguments,
    check_stored,
    store_of,
    stream_of,
    warn_of_lag,
)
from shmfeed.cli.times import parse_moment
from shmfeed.errors import BadArgumentError
from shmfeed.layout import TIME_LIMIT
from shmfeed.store.blocks import Block
from shmfeed.store.export import export
from shmfeed.store.reading import StoreReader
from shmfeed.text import counted
from shmfeed.whole_file import check_output

_DESCRIPTION = """\
Write the closed bars of a stream to a file: from the store where one is kept, else from
the feed's ring. The file appears when it is whole. Columns: symbol, timeframe,
open_time, close_time, open, high, low, close, volume, money, flags; times are ms UTC.
Of each bar its newest version is written. A store that lacks bars of the ring is named.
"""

_EPILOG = """\
examples:
  shmfeed export BTCUSDT 1h -o btc.csv
  shmfeed export BTCUSDT 1m --store bars.sqlite --start 2026-01-01 -o btc.parquet
"""


_Range = tuple[int, int]  # close times in ms UTC, both included


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_stream_arguments(parser)
    add = parser.add_argument
    add("-o", "--output", required=True, metavar="FILE", help="a .csv or .parquet file")
    for name, word in ("--start", "first"), ("--end", "last"):
        add(
            name,
            type=parse_moment,
            metavar="TIME",
            help=f"{word} close time, UTC; default: of the {word} bar",
        )
    add("--json", action="store_true", help="print the result as a JSON object")


def run(args: argparse.Namespace) -> int:
    key, path = stream_of(args), check_output(args.output, ENDINGS)
    span = _range_of(args, key[1])
    store, lacking = store_of(args), 0
    if store is None:
        with attach_feed(args) as feed:
            ring = feed.ring(*key)
            origin = f"the ring of feed {feed.name}"
            blocks = iter([_within(ring.snapshot(ring.history).block, span)])
            count = export(path, key, blocks)
    else:
        with StoreReader(store) as reader:
            check_stored(reader, key)
            origin = f"the store {store}"
            lacking = warn_of_lag(args, reader, key, span[1])
            progress = _Progress(lambda: reader.count(key, *_opens(span, key[1])))
            count = export(path, key, _stored(reader, key, span), progress.show)
            progress.clear()
    if args.json:
        found: dict[str, object] = {"file": path, "bars": count}
        found |= {"symbol": key[0], "timeframe": key[1]}
        found |= {"source": store or "ring", "lacking": lacking}
        print_output(json.dumps(found))
    else:
        name = " ".join(key)
        print_output(
            f"wrote {counted(count, 'bar')} of {name} to {path}, from {origin}"
        )
    return 0


def _range_of(args: argparse.Namespace, timeframe: str) -> _Range:
    first = 0 if args.start is None else args.start.first_close(timeframe)
    last = TIME_LIMIT if args.end is None else args.end.last_close(timeframe)
    if first > last:
        raise BadArgumentError("--start is after --end; give an earlier one")
    return first, last


def _opens(span: _Range, timeframe: str) -> _Range:
    """Return open times that hold all bars which close in the range, perhaps more."""
    return span[0] - duration(timeframe) - duration("1d"), span[1]


def _stored(reader: StoreReader, key: StreamKey, span: _Range) -> Iterator[Block]:
    for block in reader.rows(key, *_opens(span, key[1])):
        yield _within(block, span)


def _within(block: Block, span: _Range) -> Block:
    closes = block[1].view("int64")
    return block[:, (closes >= span[0]) & (closes <= span[1])]


class _Progress:
    """The progress of an export: a line on standard error, on a terminal."""

    def __init__(self, total: Callable[[], int]) -> None:
        self._line = ProgressLine()
        self._total = total() if self._line.is_shown else 0

    def show(self, count: int) -> None:
        part = min(1.0, count / max(1, self._total))
        self._line.show(lambda: f"{count:,} of {self._total:,} bars, {part:.0%}")

    def clear(self) -> None:
        self._line.clear()
