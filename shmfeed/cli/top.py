"""`shmfeed top`: the streams of feeds on a whole screen, kept up to date."""

import argparse
import json
import threading
import time
from collections.abc import Sequence

from shmfeed.cli.colours import (
    StreamColours,
    has_colours,
    health_colour,
    make_painter,
    paint,
)
from shmfeed.cli.options import parse_number, parse_seconds
from shmfeed.cli.output import (
    Painter,
    can_clear_screen,
    format_duration,
    format_table,
    format_time,
    print_output,
)
from shmfeed.cli.screen import Screen
from shmfeed.observe.sample import FeedSample, Sampler
from shmfeed.observe.top import (
    SORTS,
    BarWatch,
    FeedRow,
    Quantiles,
    StreamRow,
    Top,
    TopKey,
    compare,
    sort_streams,
    stream_keys,
)
from shmfeed.relay_status import describe_relay
from shmfeed.segment.mapping import feed_not_found, identity_at, place_to_read
from shmfeed.text import counted, printable

_DESCRIPTION = """\
Show the streams of all feeds, those with the most messages first, on the whole screen.
Of each feed: how late messages come from the venue to the feeder and from there into
the ring (half of them, and 99 %, within the time shown). Of each stream: messages a
second, closed bars, the age of its last update, missing bars, and LATE, the time from
the publishing of its last bar until this command had it. The feeder is not involved.
Without a terminal, and with --once or --json, one sample is printed.

keys: r a g l h n sort by rate, age, gaps, lateness, health, name (again: reversed)
      up down j k and the page keys move, q ends
"""

_EPILOG = """\
examples:
  shmfeed top
  shmfeed top --feed spot --sort age
  shmfeed top --json | jq '.streams[] | select(.age > 60)'
"""

_HEADER = (
    *("FEED", "SYMBOL", "TIMEFRAME", "HEALTH", "RATE/S", "BARS", "AGE", "GAPS"),
    *("LATE", "WHY"),
)
_RIGHT = (4, 5, 6, 7, 8)
_HEALTH_COLUMN, _AGE_COLUMN, _GAPS_COLUMN = 3, 6, 7
_KEYS = {name[0]: name for name in SORTS}
_MOST_FEEDS = 8  # that have a line of their own
_MOST_WATCHED = 64  # streams whose lateness is measured: those on the screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add(
        "--feed",
        action="append",
        metavar="NAME",
        help="show this feed; may be repeated; default: all of this user",
    )
    add("--sort", choices=SORTS, default="rate", help="order of the streams")
    add("-n", metavar="N", help="streams at most, default: as many as fit, or all")
    add("--interval", metavar="SECONDS", default="1", help="between samples")
    add("--once", action="store_true", help="print one sample")
    add("--json", action="store_true", help="print one sample as JSON")


def run(args: argparse.Namespace) -> int:
    interval = min(3600.0, max(0.1, parse_seconds("--interval", args.interval)))
    number = None if args.n is None else parse_number("-n", args.n)
    for name in args.feed or ():
        where = place_to_read(name)  # the sampler's owner
        if identity_at(where.segment) is None:
            raise feed_not_found(where)
    with Sampler(args.feed) as sampler:
        if args.once or args.json or not can_clear_screen():
            top = _sample_once(sampler, interval, args.sort)
            streams = sort_streams(top.streams, args.sort)[:number]
            top = top._replace(streams=streams)
            print_output(_format_json(top) if args.json else format_top(top))
        else:
            _Live(sampler, interval, args.sort, number).run()
    return 0


def _sample_once(sampler: Sampler, interval: float, sort: str) -> Top:
    earlier, began = sampler.sample(), time.monotonic()
    watch = BarWatch()
    rows = sort_streams(compare([], earlier, 0, {}).streams, sort)
    watch.watch(stream_keys(rows[:_MOST_WATCHED]), interval)
    watch.close()
    newer = sampler.sample()
    return compare(earlier, newer, time.monotonic() - began, watch.late)


class _Live:
    """The screen, kept up to date until q or Ctrl-C."""

    def __init__(
        self, sampler: Sampler, interval: float, sort: str, number: int | None
    ) -> None:
        self._sampler = sampler
        self._interval = interval
        self._sort, self._is_reversed = sort, False
        self._number = number
        self._first = 0  # the first row on the screen
        self._watched: list[TopKey] = []
        self._late: dict[TopKey, float] = {}
        self._has_ended = threading.Event()

    def run(self) -> None:
        watcher = threading.Thread(target=self._watch, name="top-watch", daemon=True)
        watcher.start()
        try:
            with Screen() as screen:
                self._show(screen)
        finally:
            self._has_ended.set()
            watcher.join()

    def _watch(self) -> None:
        watch = BarWatch()
        self._late = watch.late
        while not self._has_ended.is_set():
            watch.watch(self._watched, 0.2)
        watch.close()

    def _show(self, screen: Screen) -> None:
        earlier: Sequence[FeedSample] = []
        began = time.monotonic()
        while True:
            newer, now = self._sampler.sample(), time.monotonic()
            top = compare(earlier, newer, now - began, dict(self._late))
            earlier, began = newer, now
            while (left := now + self._interval - time.monotonic()) > 0:
                self._draw(screen, top)
                key = screen.read_key(left)
                if key == "q":
                    return
                self._press(key, screen.lines)

    def _press(self, key: str, lines: int) -> None:
        if key in _KEYS:
            is_same = _KEYS[key] == self._sort
            self._is_reversed = is_same and not self._is_reversed
            self._sort, self._first = _KEYS[key], 0
        steps = {"up": -1, "k": -1, "down": 1, "j": 1}
        steps |= {"page up": 5 - lines, "page down": lines - 5}
        self._first = max(0, self._first + steps.get(key, 0))

    def _draw(self, screen: Screen, top: Top) -> None:
        rows = sort_streams(top.streams, self._sort, self._is_reversed)[: self._number]
        head = _head_lines(top, has_colours())
        arrow = " reversed" if self._is_reversed else ""
        head[0] += f"; by {self._sort}{arrow}; q ends"
        room = max(1, screen.lines - len(head) - 3)
        self._first = min(self._first, max(0, len(rows) - room))
        shown = rows[self._first : self._first + room]
        self._watched = stream_keys(shown[:_MOST_WATCHED])
        screen.draw([*head, "", *_stream_lines(shown, has_colours())])


def format_top(top: Top) -> str:
    """Return feeds and streams as lines."""
    if not top.feeds:
        return "no feeds"
    coloured = has_colours()
    lines = _head_lines(top, coloured)
    return "\n".join([*lines, "", *_stream_lines(top.streams, coloured)])


def _head_lines(top: Top, coloured: bool) -> list[str]:
    rates = [row.rate for row in top.feeds if row.rate is not None]
    streams = sum(row.streams for row in top.feeds)
    line = (
        f"{format_time(top.time // 1000 * 1000)} {counted(len(top.feeds), 'feed')},"
        f" {counted(streams, 'stream')}, {sum(rates):,.1f} messages/s"
    )
    lines = [_feed_line(row, coloured) for row in top.feeds[:_MOST_FEEDS]]
    more = len(top.feeds) - _MOST_FEEDS
    return [line, *lines, *([f"and {more} more feeds"] if more > 0 else [])]


def _feed_line(row: FeedRow, coloured: bool) -> str:
    health = paint(row.health, health_colour(row.health)) if coloured else row.health
    if row.error:
        return f"{row.feed}: {printable(row.error)}"
    parts = [f"{row.feed}: {health}, {row.state}, {_format_rate(row.rate)} messages/s"]
    parts.append(f"venue to feeder {_format_quantiles(row.venue)}")
    parts.append(f"feeder to ring {_format_quantiles(row.publish)}")
    if row.relay is not None:
        parts.append(printable(f"relay {describe_relay(row.relay)}"))
    return ", ".join(parts)


def _stream_lines(rows: Sequence[StreamRow], coloured: bool) -> list[str]:
    if not rows:
        return ["no streams"]
    painter = _make_painter(rows) if coloured else None
    return format_table([_HEADER, *map(_cells, rows)], _RIGHT, painter)


def _make_painter(rows: Sequence[StreamRow]) -> Painter:
    facts = [
        StreamColours(row.health, row.age, row.timeframe, row.gaps) for row in rows
    ]
    return make_painter(facts, _HEALTH_COLUMN, _AGE_COLUMN, _GAPS_COLUMN)


def _cells(row: StreamRow) -> tuple[str, ...]:
    return (
        row.feed,
        row.symbol,
        row.timeframe,
        row.health,
        _format_rate(row.rate),
        f"{row.bars:,}",
        "never" if row.age is None else format_duration(row.age),
        f"{row.gaps:,}",
        _format_latency(row.late),
        printable(row.why),
    )


def _format_rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f}"


def _format_latency(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _format_quantiles(found: Quantiles | None) -> str:
    if found is None:
        return "-"
    return f"{_format_latency(found.half)} / {_format_latency(found.most)}"


def _format_json(top: Top) -> str:
    document = {
        "time": top.time,
        "feeds": [_feed_json(row) for row in top.feeds],
        "streams": [row._asdict() for row in top.streams],
    }
    return json.dumps(document, indent=2)


def _feed_json(row: FeedRow) -> dict[str, object]:
    latencies = {"venue": row.venue, "publish": row.publish}
    shown = {name: one and one._asdict() for name, one in latencies.items()}
    return row._asdict() | shown
