"""`shmfeed wait`: wait until a feed is ready."""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from shmfeed.bar import check_timeframe
from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.options import (
    add_feed_option,
    chosen_feed,
    owner_of,
    parse_number,
    parse_seconds,
)
from shmfeed.cli.output import format_duration, print_error, print_output
from shmfeed.cli.requirement import (
    add_require_option,
    check_required,
    describe_absent,
    find_required,
    join_clauses,
    unmet_health,
)
from shmfeed.errors import BadArgumentError, FeedNotFoundError, StreamNotFoundError
from shmfeed.feed import Feed, Ring, attach, wait
from shmfeed.health import GOOD_HEALTHS, HEALTHS
from shmfeed.status import FeedStatus

_DESCRIPTION = """\
Wait until a feed has a health, or until each of its streams has a number of closed
bars. A feed that is not there yet is waited for. `--health live` accepts quiet too.
With --require only the named symbols are waited for. At the deadline the command says
what is missing.
"""

_EPILOG = """\
examples:
  shmfeed wait --health live --timeout 60 && python strategy.py
  shmfeed wait --bars 200 --require BTCUSDT --timeout 30
"""

_POLL_SECONDS = 0.1  # a change of health wakes no waiter; a closed bar does
_REST = 5  # of the time that a look takes, so that many streams cost no whole core


class _Wish(NamedTuple):
    """The health, or the number of bars, that a feed is waited for."""

    feed: str
    owner: int | None
    health: str | None
    bars: int
    symbols: Sequence[str]

    @property
    def healths(self) -> Sequence[str]:
        return GOOD_HEALTHS if self.health == "live" else (self.health or "",)


class _Look(NamedTuple):
    """One look at the feed: what it lacks, and the rings to sleep on."""

    health: str
    missing: list[str]
    rings: list[tuple[Ring, int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    wish = parser.add_mutually_exclusive_group(required=True)
    wish.add_argument(
        "--health",
        choices=HEALTHS,
        metavar="HEALTH",
        help=f"one of: {' '.join(HEALTHS)}",
    )
    wish.add_argument(
        "--bars", metavar="N", help="closed bars that each stream must have"
    )
    add = parser.add_argument
    add(
        "--timeout",
        metavar="SECONDS",
        default="inf",
        help="give up then, default: never",
    )
    add("--json", action="store_true", help="print the outcome as JSON")
    add_require_option(parser)
    add_feed_option(parser)


def run(args: argparse.Namespace) -> int:
    timeout = parse_seconds("--timeout", args.timeout)
    bars = 0 if args.bars is None else parse_number("--bars", args.bars)
    check_required(args.require)
    wish = _Wish(chosen_feed(args), owner_of(args), args.health, bars, args.require)
    began = time.monotonic()
    look = _wait(wish, began + timeout)
    waited = time.monotonic() - began
    if args.json:
        outcome = {
            "feed": wish.feed,
            "health": look.health,
            "missing": look.missing,
            "waited": round(waited, 3),
        }
        print_output(json.dumps(outcome))
    elif not look.missing:
        print_output(_describe_success(wish, look, waited))
    if look.missing:
        print_error(
            f"feed {wish.feed}: not ready after {format_duration(waited)}:"
            f" {join_clauses(look.missing)}"
        )
    return FAILED if look.missing else 0


def _describe_success(wish: _Wish, look: _Look, waited: float) -> str:
    names = " ".join(wish.symbols) or f"feed {wish.feed}"
    if wish.health is None:
        return f"{names}: {wish.bars:,} bars, after {format_duration(waited)}"
    health = wish.health if wish.symbols else look.health
    return f"{names}: {health}, after {format_duration(waited)}"


def _wait(wish: _Wish, deadline: float) -> _Look:
    """Look at the feed again and again. Return the last look."""
    feed: Feed | None = None
    try:
        while True:
            if feed is None:
                with suppress(FeedNotFoundError):
                    feed = attach(wish.feed, owner=wish.owner)
            began = time.monotonic()
            look = _look(feed, wish)
            now = time.monotonic()
            if not look.missing or now >= deadline:
                return look
            pause = max(_POLL_SECONDS, _REST * (now - began))
            _sleep(look, min(deadline - now, pause))
    finally:
        if feed is not None:
            feed.close()


def _sleep(look: _Look, seconds: float) -> None:
    if not look.rings:
        time.sleep(seconds)
        return
    with suppress(StreamNotFoundError):  # gone since: the next look says so
        wait(look.rings, seconds)


def _look(feed: Feed | None, wish: _Wish) -> _Look:
    if feed is None:
        if wish.health == "dead":
            return _Look("dead", [], [])
        return _Look("dead", [f"there is no feed {wish.feed!r} on this host"], [])
    status = feed.status()
    if wish.health is not None:
        missing = unmet_health(status, wish.symbols, wish.healths)
        return _Look(status["health"], missing, _rings_of(feed, status, wish))
    return _look_at_bars(feed, status, wish)


def _rings_of(feed: Feed, status: FeedStatus, wish: _Wish) -> list[tuple[Ring, int]]:
    """Return the rings whose next bar may change the health that is waited for."""
    pairs = []
    for stream in find_required(status, wish.symbols).streams:
        if stream["health"] not in wish.healths:
            with suppress(StreamNotFoundError):
                ring = feed.ring(stream["symbol"], check_timeframe(stream["timeframe"]))
                pairs.append((ring, stream["count"]))
    return pairs


def _look_at_bars(feed: Feed, status: FeedStatus, wish: _Wish) -> _Look:
    streams, absent = find_required(status, wish.symbols)
    missing = describe_absent(status, absent)
    if not streams and not absent:
        missing.append("the feed has no streams")
    short = []
    for stream in streams:
        symbol, timeframe = stream["symbol"], check_timeframe(stream["timeframe"])
        with suppress(StreamNotFoundError):
            ring = feed.ring(symbol, timeframe)
            _check_history(ring, wish)
            number = len(ring.view(wish.bars))
            if number < wish.bars:
                short.append((ring, stream["count"]))
                missing.append(f"{symbol} {timeframe} has {number} of {wish.bars} bars")
    return _Look(status["health"], missing, short)


def _check_history(ring: Ring, wish: _Wish) -> None:
    if wish.bars > ring.history:
        raise BadArgumentError(
            f"--bars is {wish.bars}; feed {wish.feed!r} keeps {ring.history} bars of a"
            " stream, so give no more, or raise the feeder's history"
        )
