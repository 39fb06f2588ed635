"""`shmfeed status`: how a feed and its streams are, read from outside."""

import argparse
import json
import time
from collections.abc import Mapping

from shmfeed.cli.options import add_feed_option, attach_chosen
from shmfeed.cli.output import aligned, can_clear, iso, show, span
from shmfeed.feed import Feed
from shmfeed.status import FeedStatus, StreamStatus
from shmfeed.text import printable

_DESCRIPTION = """\
How a feed is: its connection's state, its data's health, counters, and its streams.
Exits 0 if it is live or quiet, 1 if it is recovering, stale or dead, 2 if there is
no such feed.
"""

_EPILOG = """\
examples:
  shmfeed status
  shmfeed status --watch
  shmfeed status --feed spot --json | jq .health
"""

_GOOD = ("live", "quiet")
_GIVEN_UP = (
    "it gave up, and tries no more: end it and start it again, or call a manager's"
    " start(); --max-reconnect-attempts none tries for ever"
)
_WATCH_SECONDS = 1.0
_HOME_AND_CLEAR = "\x1b[H\x1b[J"
_COUNTERS = ("messages", "bars", "reconnects", "gaps", "late", "malformed", "ignored")
_HEAD = ("SYMBOL", "TIMEFRAME", "HEALTH", "BARS", "LAST CLOSE", "UPDATED", "GAPS")
_RIGHT = (3, 5, 6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_feed_option(parser)
    parser.add_argument(
        "--json", action="store_true", help="all that is known, as JSON"
    )
    parser.add_argument(
        "--watch", action="store_true", help="show it each second, until Ctrl-C"
    )


def run(args: argparse.Namespace) -> int:
    with attach_chosen(args) as feed:
        if args.watch:
            _watch(feed, args.json)
        status = feed.status()
    show(json.dumps(status, indent=2) if args.json else in_words(status))
    return 0 if status["health"] in _GOOD else 1


def _watch(feed: Feed, as_json: bool) -> None:
    clear = _HOME_AND_CLEAR if can_clear() else ""
    while True:
        status = feed.status()
        text = json.dumps(status) if as_json else clear + in_words(status) + "\n"
        show(text)
        time.sleep(_WATCH_SECONDS)


def in_words(status: FeedStatus) -> str:
    """A status as text of several lines."""
    lines = [_feed_line(status), _feeder_line(status), _counter_line(status)]
    if status["last_error"]:
        lines.append(printable(f"last error: {status['last_error']}"))
    if status["state"] == "error":
        lines.append(_GIVEN_UP)
    if not status["streams"]:
        return "\n".join([*lines, "", "no streams"])
    rows = [_HEAD, *map(_stream_cells, status["streams"])]
    return "\n".join([*lines, "", *aligned(rows, _RIGHT)])


def _feed_line(status: FeedStatus) -> str:
    protocol = f" ({status['protocol']})" if status["protocol"] else ""
    where = f", {status['endpoint']}{protocol}" if status["endpoint"] else ""
    return f"feed {status['feed']}: {status['health']}; {status['state']}{where}"


def _feeder_line(status: FeedStatus) -> str:
    heard = f"last message {span(status['last_message_age'])} ago"
    if status["last_message_age"] is None:
        heard = "no message yet"
    if status["pid"] is None:
        last = f", the last one was pid {status['writer']}" if status["writer"] else ""
        return f"no feeder gives a sign of life{last}; {heard}"
    return f"feeder pid {status['pid']}, up {span(status['uptime'])}, {heard}"


def _counter_line(status: FeedStatus) -> str:
    counts: Mapping[str, object] = status
    return ", ".join(f"{counts[name]:,} {name}" for name in _COUNTERS)


def _stream_cells(stream: StreamStatus) -> tuple[str, ...]:
    age = stream["age"]
    return (
        stream["symbol"],
        stream["timeframe"],
        stream["health"],
        f"{stream['count']:,}",
        iso(stream["last_close_time"]),
        "never" if age is None else f"{span(age)} ago",
        f"{stream['gaps']:,}",
    )
