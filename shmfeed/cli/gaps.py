"""`shmfeed gaps`: list the bars that are missing, have them asked for, or accept it."""

import argparse
import json
import time
from collections.abc import Sequence

from shmfeed.bar import check_timeframe
from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.options import add_feed_option, attach_feed
from shmfeed.cli.output import format_table, format_time, print_output
from shmfeed.cli.suggestions import suggest
from shmfeed.control.client import ask
from shmfeed.errors import FeedNotFoundError, StreamNotFoundError
from shmfeed.feed import Feed
from shmfeed.holes import Hole
from shmfeed.segment.mapping import place
from shmfeed.text import counted, printable, shorten

_DESCRIPTION = """\
List the bars that are missing between the closed bars of a feed, of all of its streams
or of those of a symbol and a timeframe. Times are UTC, those at which the first and the
last missing bar open. A hole is `open` while the feeder asks history for it, `given_up`
once history lacked the bars or there is no source of history, and `none_at_venue` once
the venue is known to lack them. The exit code does not count the last ones.
"""

_EPILOG = """\
examples:
  shmfeed gaps
  shmfeed gaps BTCUSDT 1m --json | jq '.[] | select(.state == "given_up")'
  shmfeed gaps --retry
"""

_HEADER = ("SYMBOL", "TIMEFRAME", "FIRST OPENS", "LAST OPENS", "MISSING", "STATE")
_REASON = "REASON"
_RIGHT = (4,)
_ANSWER_SECONDS = 10.0
_FILLED_SECONDS = 2.0  # that --retry waits for the bars
_POLL_SECONDS = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("symbol", metavar="SYMBOL", nargs="?", help="default: all symbols")
    add("timeframe", metavar="TIMEFRAME", nargs="?", help="default: all timeframes")
    add_feed_option(parser)
    add("--json", action="store_true", help="print a JSON list of objects")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--retry",
        action="store_true",
        help="have the feeder ask history again, also for holes that it gave up",
    )
    what.add_argument(
        "--accept",
        action="store_true",
        help="accept the holes that are given up: the venue has no such bars",
    )


def run(args: argparse.Namespace) -> int:
    with attach_feed(args) as feed:
        holes = _find(feed, args)
        if args.retry or args.accept:
            holes = _settle(feed, args, holes)
    if args.json:
        print_output(json.dumps([hole._asdict() for hole in holes], indent=2))
    else:
        print_output(format_holes(feed.name, holes))
    return FAILED if any(hole.state != "none_at_venue" for hole in holes) else 0


def _find(feed: Feed, args: argparse.Namespace) -> list[Hole]:
    try:
        return feed.gaps(args.symbol, args.timeframe)
    except StreamNotFoundError as error:
        near = suggest(args.symbol or "", [key[0] for key in feed.streams()])
        raise StreamNotFoundError(f"{shorten(str(error))}{near}") from None


def _settle(feed: Feed, args: argparse.Namespace, holes: list[Hole]) -> list[Hole]:
    """Have the feeder retry or accept the holes, and return those that are left."""
    op = "retry" if args.retry else "accept"
    if not holes:
        return holes
    wanted = {
        "symbols": args.symbol and [args.symbol],
        "resolutions": args.timeframe and [check_timeframe(args.timeframe)],
    }
    try:
        ask(place(feed.name, feed.owner).socket, op, _ANSWER_SECONDS, **wanted)
    except FeedNotFoundError:
        raise FeedNotFoundError(
            f"no feeder of feed {feed.name!r} runs, and only a feeder can {op} holes;"
            " `shmfeed run` starts one"
        ) from None
    deadline = time.monotonic() + (_FILLED_SECONDS if args.retry else 0.0)
    while (holes := _find(feed, args)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return holes


def format_holes(feed: str, holes: Sequence[Hole]) -> str:
    """Return the holes as a table, or one line if no bars are missing."""
    if not holes:
        return f"feed {feed}: no bars are missing"
    rows = [(*_HEADER, _REASON), *map(_cells, holes)]
    missing = counted(sum(hole.missing for hole in holes), "bar")
    last = f"feed {feed}: {missing} missing in {counted(len(holes), 'hole')}"
    return "\n".join([*format_table(rows, _RIGHT), "", last])


def _cells(hole: Hole) -> tuple[str, ...]:
    return (
        hole.symbol,
        hole.timeframe,
        format_time(hole.first),
        format_time(hole.last),
        f"{hole.missing:,}",
        hole.state,
        printable(hole.reason),
    )
