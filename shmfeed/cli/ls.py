"""`shmfeed ls`: the feeds of this user on this host, one a line."""

import argparse
import json

from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.output import aligned, show, span
from shmfeed.listing import UNREADABLE, FeedRow, feed_row, list_feeds
from shmfeed.segment.mapping import feed_not_found, place
from shmfeed.text import mebibytes, printable

_DESCRIPTION = """\
Every feed of this user on this host: its health, its connection's state, its feeder's
pid, how many streams and closed bars it has had, its size in /dev/shm in MiB, and when
its venue was last heard. One that cannot be read is listed with the reason.
"""

_EPILOG = """\
examples:
  shmfeed ls
  shmfeed ls --feed spot
  shmfeed ls --json | jq -r '.[] | select(.health == "dead") | .feed'
"""

_HEAD = ("FEED", "HEALTH", "STATE", "PID", "STREAMS", "BARS", "MIB", "LAST MESSAGE")
_RIGHT = (3, 4, 5, 6)
_NONE = (
    "no feeds; start one with `shmfeed run --symbols BTCUSDT --resolutions 1m`,"
    " or see `shmfeed demo`"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("--feed", metavar="NAME", help="this one; default: all")
    parser.add_argument("--json", action="store_true", help="a list of JSON objects")


def run(args: argparse.Namespace) -> int:
    rows = list_feeds() if args.feed is None else [_one(args.feed)]
    show(json.dumps(rows, indent=2) if args.json else in_words(rows))
    chosen_fails = args.feed is not None and rows[0]["health"] == UNREADABLE
    return FAILED if chosen_fails else 0


def _one(feed: str) -> FeedRow:
    where = place(feed)
    row = feed_row(where)
    if row is None:
        raise feed_not_found(where)
    return row


def in_words(rows: list[FeedRow]) -> str:
    """The rows as a table, and a line for each that cannot be read."""
    if not rows:
        return _NONE
    reasons = [f"{row['feed']}: {row['reason']}" for row in rows if row["reason"]]
    table = aligned([_HEAD, *map(_cells, rows)], _RIGHT)
    return "\n".join([*table, *([""] if reasons else []), *map(printable, reasons)])


def _cells(row: FeedRow) -> tuple[str, ...]:
    age, health = row["last_message_age"], row["health"]
    nothing = "-" if health == UNREADABLE else "never"
    return (
        row["feed"],
        health,
        row["state"] or "-",
        _number(row["pid"], ""),
        _number(row["streams"], ","),
        _number(row["bars"], ","),
        mebibytes(row["bytes"]),
        nothing if age is None else f"{span(age)} ago",
    )


def _number(value: int | None, form: str) -> str:
    return "-" if value is None else format(value, form)
