"""`shmfeed status`: show a feed and its streams, read from outside."""

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.options import add_feed_option, attach_feed
from shmfeed.cli.output import (
    can_clear_screen,
    format_duration,
    format_table,
    format_time,
    print_output,
)
from shmfeed.feed import Feed
from shmfeed.health import GOOD_HEALTHS
from shmfeed.status import FeedStatus, StreamStatus
from shmfeed.text import printable

_DESCRIPTION = """\
Show a feed: the state of its connection, the health of its data, its counters and its
streams. The status is read from shared memory; the feeder is not involved.
"""

_EPILOG = """\
examples:
  shmfeed status
  shmfeed status --watch
  shmfeed status --feed spot --json | jq .health
"""

_IN_ERROR = (
    "the feeder goes on trying, unless give_up is set; manager.start() makes it try at"
    " once"
)
_WATCH_SECONDS = 1.0
_HOME_AND_CLEAR = "\x1b[H\x1b[J"
_COUNTERS = ("messages", "bars", "reconnects", "gaps", "late", "malformed", "ignored")
_SELDOM = ("unsubscribed", "missed", "disagreements")  # shown where they are not 0
_HEADER = ("SYMBOL", "TIMEFRAME", "HEALTH", "BARS", "LAST CLOSE", "UPDATED", "GAPS")
_WHY = "WHY"
_RIGHT = (3, 5, 6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_feed_option(parser)
    add = parser.add_argument
    add("--json", action="store_true", help="print every status key as JSON")
    add("--watch", action="store_true", help="print it each second, until Ctrl-C")


def run(args: argparse.Namespace) -> int:
    with attach_feed(args) as feed:
        if args.watch:
            _watch(feed, args.json)
        status = feed.status()
    print_output(json.dumps(status, indent=2) if args.json else format_status(status))
    return 0 if status["health"] in GOOD_HEALTHS else FAILED


def _watch(feed: Feed, as_json: bool) -> None:
    clear = _HOME_AND_CLEAR if can_clear_screen() else ""
    while True:
        status = feed.status()
        text = json.dumps(status) if as_json else clear + format_status(status) + "\n"
        print_output(text)
        time.sleep(_WATCH_SECONDS)


def format_status(status: FeedStatus) -> str:
    """Return a status as several lines of text."""
    lines = [_feed_line(status), _feeder_line(status), _counter_line(status)]
    if status["last_error"]:
        lines.append(printable(f"last error: {status['last_error']}"))
    if status["state"] == "error":
        lines.append(_IN_ERROR)
    if not status["streams"]:
        return "\n".join([*lines, "", "no streams"])
    rows = [_HEADER, *map(_stream_cells, status["streams"])]
    reasons = [printable(stream["why"]) for stream in status["streams"]]
    if any(reasons):
        rows = [(*row, why) for row, why in zip(rows, [_WHY, *reasons], strict=True)]
    return "\n".join([*lines, "", *format_table(rows, _RIGHT)])


def _feed_line(status: FeedStatus) -> str:
    source = status["identity"] or status["protocol"]
    identity = printable(f" ({source})") if source else ""
    venue = f", {status['endpoint']}{identity}" if status["endpoint"] else identity
    return f"feed {status['feed']}: {status['health']}; {status['state']}{venue}"


def _feeder_line(status: FeedStatus) -> str:
    message = f"last message {format_duration(status['last_message_age'])} ago"
    if status["last_message_age"] is None:
        message = "no message yet"
    if status["pid"] is None:
        last = f"; the last one was pid {status['writer']}" if status["writer"] else ""
        return f"no feeder sends a heartbeat{last}; {message}"
    uptime = format_duration(status["uptime"])
    parts = [f"feeder pid {status['pid']}", f"up {uptime}", message]
    if status["next_attempt_in"] is not None:
        parts.append(f"next attempt in {format_duration(status['next_attempt_in'])}")
    if status["clock_offset"] is not None:
        offset = round(status["clock_offset"], 3) + 0.0  # no "-0.000"
        parts.append(f"clock offset {offset:+.3f} s")
    return ", ".join(parts)


def _counter_line(status: FeedStatus) -> str:
    counts: Mapping[str, Any] = status
    shown = [
        name for name in (*_COUNTERS, *_SELDOM) if name in _COUNTERS or counts[name]
    ]
    return ", ".join(f"{counts[name]:,} {name}" for name in shown)


def _stream_cells(stream: StreamStatus) -> tuple[str, ...]:
    age = stream["age"]
    return (
        stream["symbol"],
        stream["timeframe"],
        stream["health"],
        f"{stream['count']:,}",
        format_time(stream["last_close_time"]),
        "never" if age is None else f"{format_duration(age)} ago",
        f"{stream['gaps']:,}",
    )
