"""`shmfeed ls`: list the feeds of this user on this host."""

import argparse
import json

from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.options import add_owner_option, owner_of
from shmfeed.cli.output import format_duration, format_table, print_output
from shmfeed.listing import (
    UNREADABLE,
    FeedRow,
    describe_other_feeds,
    feed_row,
    list_feeds,
)
from shmfeed.segment.mapping import feed_not_found, place
from shmfeed.text import mebibytes, printable

_DESCRIPTION = """\
List the feeds of this user, or of --owner, on this host: health, state of the
connection, pid of the feeder, number of streams and of closed bars, size in /dev/shm in
MiB, the age of the venue's last message, and the identity of the rows
(protocol/market_type/venue). A feed that cannot be read is listed with the reason.
"""

_EPILOG = """\
examples:
  shmfeed ls
  shmfeed ls --feed spot
  shmfeed ls --json | jq -r '.[] | select(.health == "dead") | .feed'
"""

_HEADER = (
    *("FEED", "HEALTH", "STATE", "PID", "STREAMS", "BARS", "MIB", "LAST MESSAGE"),
    "IDENTITY",
)
_RIGHT = (3, 4, 5, 6)
_NO_FEEDS = (
    "no feeds; start one with `shmfeed run --symbols BTCUSDT --resolutions 1m`,"
    " or see `shmfeed demo`"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("--feed", metavar="NAME", help="list this feed only, default: all feeds")
    add_owner_option(parser)
    add("--json", action="store_true", help="print a JSON list of objects")


def run(args: argparse.Namespace) -> int:
    owner = owner_of(args)
    rows = list_feeds(owner) if args.feed is None else [_find_row(args.feed, owner)]
    if args.json:
        print_output(json.dumps(rows, indent=2))
    else:
        others = describe_other_feeds() if not rows and owner is None else ""
        print_output(format_feeds(rows) + others)
    unreadable = args.feed is not None and rows[0]["health"] == UNREADABLE
    return FAILED if unreadable else 0


def _find_row(feed: str, owner: int | None) -> FeedRow:
    where = place(feed, owner)
    row = feed_row(where)
    if row is None:
        raise feed_not_found(where)
    return row


def format_feeds(rows: list[FeedRow]) -> str:
    """Return the feeds as a table, and a line for each that cannot be read."""
    if not rows:
        return _NO_FEEDS
    reasons = [f"{row['feed']}: {row['reason']}" for row in rows if row["reason"]]
    table = format_table([_HEADER, *map(_cells, rows)], _RIGHT)
    return "\n".join([*table, *([""] if reasons else []), *map(printable, reasons)])


def _cells(row: FeedRow) -> tuple[str, ...]:
    age, health = row["last_message_age"], row["health"]
    no_message = "-" if health == UNREADABLE else "never"
    return (
        row["feed"],
        health,
        row["state"] or "-",
        _format_number(row["pid"], ""),
        _format_number(row["streams"], ","),
        _format_number(row["bars"], ","),
        mebibytes(row["bytes"]),
        no_message if age is None else f"{format_duration(age)} ago",
        printable(row["identity"] or "-"),
    )


def _format_number(value: int | None, form: str) -> str:
    return "-" if value is None else format(value, form)
