"""`shmfeed tail`: the last closed bars of a stream, and those that follow."""

import argparse
import time

from shmfeed.bar import Bar
from shmfeed.cli.bars import CsvLines, JsonLines, TextLines
from shmfeed.cli.options import add_feed_option, attach_chosen
from shmfeed.cli.output import complain, show
from shmfeed.cli.suggestions import meant
from shmfeed.core import Rows
from shmfeed.errors import StreamNotFoundError
from shmfeed.feed import Feed, Ring
from shmfeed.layout import MAX_HISTORY
from shmfeed.text import printable, shorten

_DESCRIPTION = """\
The last closed bars of a stream, oldest first; with -f also each new one as it closes,
until Ctrl-C. Times are UTC; `time` is the bar's close.
"""

_EPILOG = """\
examples:
  shmfeed tail BTCUSDT 1h
  shmfeed tail BTCUSDT 1m -n 500 --csv > bars.csv
  shmfeed tail BTCUSDT 1s -f --json | jq .close
"""

_DIGITS = 18  # more are more bars than any ring has
_LOOK_SECONDS = 1.0  # how often -f looks whether the feeder is still there


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("symbol", metavar="SYMBOL", help="as `shmfeed status` lists it")
    add("timeframe", metavar="TIMEFRAME", help="1s 1m 3m 5m 15m 30m 1h .. 1d 1w 1M")
    add("-n", type=_number, default=10, metavar="N", help="how many bars, default: 10")
    add("-f", "--follow", action="store_true", help="go on with each bar that closes")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="CSV with a header")
    form.add_argument("--json", action="store_true", help="a JSON object a line")
    add_feed_option(parser)


def run(args: argparse.Namespace) -> int:
    form = CsvLines if args.csv else JsonLines if args.json else TextLines
    with attach_chosen(args) as feed:
        tail = _Tail(feed, _ring(feed, args.symbol, args.timeframe), form())
        tail.last(args.n)
        if args.follow:
            tail.follow()
    return 0


def _ring(feed: Feed, symbol: str, timeframe: str) -> Ring:
    try:
        return feed.ring(symbol, timeframe)
    except StreamNotFoundError as error:
        near = meant(symbol, [names[0] for names in feed.streams()])
        raise StreamNotFoundError(f"{shorten(str(error))}{near}") from None


class _Tail:
    def __init__(
        self, feed: Feed, ring: Ring, form: TextLines | CsvLines | JsonLines
    ) -> None:
        self._feed = feed
        self._ring = ring
        self._form = form
        self._epoch = ring.epoch
        self._after = ring.count
        self._newest = -1  # open_time of the last bar shown
        self._said = ""

    def last(self, number: int) -> None:
        """Show so many bars."""
        rows = self._ring.snapshot(max(1, number))
        self._after = rows.last
        bars = [rows.bar(row) for row in range(len(rows))]
        if bars:
            self._newest = bars[-1].open_time
        self._show(bars[-number:] if number else [])

    def follow(self) -> None:
        """Show each bar that closes, for ever."""
        while True:
            try:
                self._await_bars()
            except StreamNotFoundError as error:  # the feed is being made anew
                self._say(str(error))
                time.sleep(_LOOK_SECONDS)

    def _await_bars(self) -> None:
        ring = self._ring
        count = ring.wait(self._after, _LOOK_SECONDS)
        if ring.epoch != self._epoch:
            # Repaired, or made anew: numbers begin again, times go on.
            self._epoch, self._after, count = ring.epoch, 0, ring.count
        if not count:
            self._say("" if self._feed.alive() else "the feeder is dead; waiting")
            return
        self._said = ""
        rows = self._since(self._after)
        bars = [rows.bar(row) for row in range(len(rows))]
        self._after = rows.last
        bars = [bar for bar in bars if bar.open_time > self._newest]
        if bars:
            self._newest = bars[-1].open_time
            self._show(bars)

    def _since(self, number: int) -> Rows:
        """All rows from this number on that the ring still has."""
        ring = self._ring
        while True:
            asked = max(1, ring.count - number)
            rows = ring.snapshot(asked)
            # Fewer than asked: the ring began later, as one that was made anew does.
            if rows.first <= number or len(rows) < asked or len(rows) >= ring.history:
                return rows

    def _show(self, bars: list[Bar]) -> None:
        lines = list(self._form.lines(bars))
        if lines:
            show("\n".join(lines))

    def _say(self, words: str) -> None:
        """Once as long as it lasts."""
        if words and words != self._said:
            complain(printable(words))
        self._said = words


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of bars, such as 500"
        )
    return MAX_HISTORY if len(text) > _DIGITS else int(text)
