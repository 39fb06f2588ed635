"""`shmfeed status`: show a feed and its streams, read from outside."""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from shmfeed.cli.colours import (
    StreamColours,
    has_colours,
    health_colour,
    make_painter,
    paint,
)
from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.options import add_feed_option, attach_feed
from shmfeed.cli.output import (
    Painter,
    can_clear_screen,
    format_duration,
    format_table,
    format_time,
    print_error,
    print_output,
)
from shmfeed.cli.requirement import (
    add_require_option,
    check_required,
    join_clauses,
    unmet_health,
)
from shmfeed.errors import BadArgumentError, ShmfeedError
from shmfeed.feed import Feed
from shmfeed.health import GOOD_HEALTHS
from shmfeed.relay_status import describe_relay
from shmfeed.status import FeedStatus, StreamStatus, Wanted
from shmfeed.text import counted, printable

_DESCRIPTION = """\
Show a feed: the state of its connection and since when, the health of its data, its
counters, which process wants which streams, and the streams. The status is read from
shared memory; the feeder is not involved. On a terminal a health and the age of an
update have colours, unless NO_COLOR is set. The exit code judges the data; with --alive
it tells only if a feeder lives, as a liveness probe must.
"""

_EPILOG = """\
examples:
  shmfeed status
  shmfeed status --watch
  shmfeed status --feed spot --json | jq .health
  shmfeed status --alive > /dev/null || echo "no feeder"
  shmfeed status --require BTCUSDT --require ETHUSDT
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
_HEALTH_COLUMN, _AGE_COLUMN, _GAPS_COLUMN = 2, 5, 6
_RIGHT = (3, _AGE_COLUMN, _GAPS_COLUMN)
_MOST_WANTS, _MOST_NAMES = 20, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_feed_option(parser)
    add = parser.add_argument
    add("--json", action="store_true", help="print every status key as JSON")
    add("--watch", action="store_true", help="print it each second, until Ctrl-C")
    add(
        "--alive",
        action="store_true",
        help="exit 0 while a feeder lives, whatever its data",
    )
    add_require_option(parser)


def run(args: argparse.Namespace) -> int:
    check_required(args.require)
    if args.alive and args.require:
        raise BadArgumentError(
            "--alive and --require are both given; --alive judges no stream, so leave"
            " one of them out"
        )
    with attach_feed(args) as feed:
        if args.watch:
            _watch(feed, args.json)
        status = _read_status(feed, args.alive)
        is_alive = feed.alive()
    if status is not None:
        text = json.dumps(status, indent=2) if args.json else format_status(status)
        print_output(text)
    if args.alive or status is None:
        return 0 if is_alive else FAILED
    unmet = unmet_health(status, args.require, GOOD_HEALTHS)
    if unmet and args.require:
        print_error(f"required of feed {feed.name}: {join_clauses(unmet)}")
    return FAILED if unmet else 0


def _read_status(feed: Feed, for_liveness: bool) -> FeedStatus | None:
    """Return the status; None for one that cannot be read where only life counts."""
    try:
        return feed.status()
    except ShmfeedError as error:
        # Damaged rows are no reason for a supervisor to kill a feeder that lives.
        if not for_liveness:
            raise
        print_error(str(error))
        return None


def _watch(feed: Feed, as_json: bool) -> None:
    clear = _HOME_AND_CLEAR if can_clear_screen() else ""
    while True:
        status = feed.status()
        text = json.dumps(status) if as_json else clear + format_status(status) + "\n"
        print_output(text)
        time.sleep(_WATCH_SECONDS)


def format_status(status: FeedStatus, coloured: bool | None = None) -> str:
    """Return a status as several lines of text.

    `coloured` is by default what the terminal and its user want.
    """
    coloured = has_colours() if coloured is None else coloured
    lines = [_feed_line(status, coloured), _feeder_line(status), _counter_line(status)]
    if status["last_error"]:
        lines.append(printable(f"last error: {status['last_error']}"))
    if status["state"] == "error":
        lines.append(_IN_ERROR)
    if status["relay"] is not None:
        lines.append(printable(f"relay: {describe_relay(status['relay'])}"))
    lines += _want_lines(status["wants"])
    if not status["streams"]:
        return "\n".join([*lines, "", "no streams"])
    rows = [_HEADER, *map(_stream_cells, status["streams"])]
    reasons = [printable(stream["why"]) for stream in status["streams"]]
    if any(reasons):
        rows = [(*row, why) for row, why in zip(rows, [_WHY, *reasons], strict=True)]
    painter = _make_painter(status["streams"]) if coloured else None
    return "\n".join([*lines, "", *format_table(rows, _RIGHT, painter)])


def _make_painter(streams: Sequence[StreamStatus]) -> Painter:
    facts = [
        StreamColours(one["health"], one["age"], one["timeframe"], one["gaps"])
        for one in streams
    ]
    return make_painter(facts, _HEALTH_COLUMN, _AGE_COLUMN, _GAPS_COLUMN)


def _feed_line(status: FeedStatus, coloured: bool) -> str:
    source = status["identity"] or status["protocol"]
    identity = printable(f" ({source})") if source else ""
    venue = f", {status['endpoint']}{identity}" if status["endpoint"] else identity
    health = status["health"]
    shown = paint(health, health_colour(health)) if coloured else health
    state = f"{status['state']}{_since(status['state_since'])}"
    return f"feed {status['feed']}: {shown}; {state}{venue}"


def _since(state_since: int | None) -> str:
    if state_since is None:
        return ""
    seconds = max(0.0, time.time() - state_since / 1000)
    moment = format_time(state_since // 1000 * 1000)
    return f" since {moment} ({format_duration(seconds)})"


def _want_lines(wants: Mapping[str, Wanted]) -> list[str]:
    """Return a line for each process that wants streams, the first of many."""
    lines = [_want_line(want) for want in list(wants.values())[:_MOST_WANTS]]
    if len(wants) > _MOST_WANTS:
        lines.append(f"and {len(wants) - _MOST_WANTS} more processes want streams")
    return [printable(line) for line in lines]


def _want_line(want: Wanted) -> str:
    ends = want["ends_in"]
    pid = f", pid {want['pid']}" if want["pid"] else ""  # 0: in another PID namespace
    end = "" if ends is None else f", has ended; kept for {format_duration(ends)}"
    lists = [want.get("symbols"), want.get("resolutions")]  # absent without room
    names = " ".join(_shorten_list(one) for one in lists if one)
    streams = counted(want["count"], "stream")
    return (
        f"wanted by {want['kind']} {want['name']}{pid}{end}: {streams} {names}".rstrip()
    )


def _shorten_list(names: Sequence[str]) -> str:
    more = f",.. ({len(names)})" if len(names) > _MOST_NAMES else ""
    return ",".join(map(str, names[:_MOST_NAMES])) + more


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
