"""The streams that a command requires of a feed, and what they lack."""

import argparse
from collections.abc import Collection, Sequence
from typing import NamedTuple

from shmfeed.cli.suggestions import suggest
from shmfeed.status import FeedStatus, StreamStatus
from shmfeed.text import printable
from shmfeed.validation import check_symbol

_MOST_NAMED = 5  # streams in one line


class Required(NamedTuple):
    """The listed streams of the required symbols, and the symbols without one."""

    streams: list[StreamStatus]
    absent: list[str]


def add_require_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="SYMBOL",
        help="judge the streams of this symbol alone; may be repeated",
    )


def check_required(symbols: Sequence[str]) -> None:
    """Raise BadArgumentError for a text that cannot be a symbol."""
    for symbol in symbols:
        check_symbol(symbol)


def find_required(status: FeedStatus, symbols: Sequence[str]) -> Required:
    """Return the required streams; without symbols, each listed one."""
    listed = status["streams"]
    if not symbols:
        return Required(listed, [])
    carried = {stream["symbol"] for stream in listed}
    absent = [symbol for symbol in dict.fromkeys(symbols) if symbol not in carried]
    return Required([one for one in listed if one["symbol"] in symbols], absent)


def unmet_health(
    status: FeedStatus, symbols: Sequence[str], accepted: Collection[str]
) -> list[str]:
    """Return a clause for each thing that keeps a feed from an accepted health.

    With symbols, their streams are judged; without, the feed as a whole.
    """
    if not symbols and status["health"] in accepted:
        return []
    streams, absent = find_required(status, symbols)
    clauses = describe_absent(status, absent)
    clauses += [
        _describe_stream(stream)
        for stream in streams
        if stream["health"] not in accepted
    ]
    if symbols:
        return clauses
    return [f"the feed is {status['health']}, its state {status['state']}", *clauses]


def describe_absent(status: FeedStatus, absent: Sequence[str]) -> list[str]:
    """Return a clause for each required symbol that the feed does not carry."""
    carried = dict.fromkeys(stream["symbol"] for stream in status["streams"])
    return [
        f"{symbol} is not subscribed{suggest(symbol, carried)}" for symbol in absent
    ]


def join_clauses(clauses: Sequence[str]) -> str:
    """Return the clauses as one line, the first few of many."""
    more = len(clauses) - _MOST_NAMED
    line = "; ".join(clauses[:_MOST_NAMED])
    return printable(f"{line}; and {more:,} more" if more > 0 else line)


def _describe_stream(stream: StreamStatus) -> str:
    why = f" ({stream['why']})" if stream["why"] else ""
    return f"{stream['symbol']} {stream['timeframe']} is {stream['health']}{why}"
