"""`shmfeed tail`: print the last closed bars of a stream, and follow it."""

import argparse
import time

from shmfeed.bar import Bar
from shmfeed.cli.bars import CsvFormatter, JsonFormatter, TextFormatter
from shmfeed.cli.options import add_feed_option, attach_feed
from shmfeed.cli.output import check_reader, print_error, print_output
from shmfeed.cli.suggestions import find_ring
from shmfeed.core import Rows
from shmfeed.errors import BadArgumentError, BusyRingError, StreamNotFoundError
from shmfeed.feed import Feed, Ring
from shmfeed.layout import MAX_HISTORY

_DESCRIPTION = """\
Print the last closed bars of a stream, oldest first; with -f also each new bar as it
closes, until Ctrl-C; it goes on when the feeder is restarted or the feed recreated, and
says so on standard error. With --forming the bar that has not closed yet follows, and
with -f each second in which it has changed. Times are UTC; `time` is the close of the
bar.
"""

_EPILOG = """\
examples:
  shmfeed tail BTCUSDT 1h
  shmfeed tail BTCUSDT 1m -n 500 --csv > bars.csv
  shmfeed tail BTCUSDT 1s -f --json | jq .close
  shmfeed tail BTCUSDT 1m -f --forming
"""

_MAX_DIGITS = 18  # a longer number exceeds what any ring holds
_POLL_SECONDS = 1.0  # how often -f checks that the feeder is alive

_Formatter = TextFormatter | CsvFormatter | JsonFormatter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("symbol", metavar="SYMBOL", help="symbol, as `shmfeed status` lists it")
    add("timeframe", metavar="TIMEFRAME", help="1s 1m 3m 5m 15m 30m 1h .. 1d 1w 1M")
    add("-n", type=_parse_number, default=10, metavar="N", help="bars, default: 10")
    add("-f", "--follow", action="store_true", help="print each new bar as it closes")
    add("--forming", action="store_true", help="print the bar that is forming, too")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print CSV with a header")
    form.add_argument("--json", action="store_true", help="print a JSON object a line")
    add_feed_option(parser)


def run(args: argparse.Namespace) -> int:
    if args.forming and args.csv:
        raise BadArgumentError(
            "--forming and --csv are both given; CSV has closed bars alone, and --json"
            " marks a bar that is forming"
        )
    form = CsvFormatter if args.csv else JsonFormatter if args.json else TextFormatter
    with attach_feed(args) as feed:
        ring = find_ring(feed, args.symbol, args.timeframe)
        tail = _Tail(feed, ring, form())
        tail.print_last(args.n)
        if args.forming:
            tail.print_forming()
        if args.follow:
            tail.follow(args.forming)
    return 0


class _Tail:
    def __init__(self, feed: Feed, ring: Ring, formatter: _Formatter) -> None:
        self._feed = feed
        self._ring = ring
        self._formatter = formatter
        self._epoch = ring.epoch
        self._next = ring.count  # number of the first bar that is not printed
        self._newest = -1  # open_time of the last bar printed
        self._forming: Bar | None = None  # the last one printed
        self._warning = ""
        self._segment = feed.current().identity
        self._feeder = feed.heartbeat().epoch

    def print_last(self, number: int) -> None:
        rows = self._ring.snapshot(max(1, number))
        self._next = rows.last
        bars = [rows.bar(row) for row in range(len(rows))]
        self._newest = bars[-1].open_time if bars else -1
        self._print(bars[len(bars) - min(number, len(bars)) :])

    def print_forming(self) -> None:
        """Print the forming bar if it has changed since it was printed last."""
        bar = self._ring.forming()
        if bar is not None and bar != self._forming and bar.open_time > self._newest:
            self._print([bar], is_forming=True)
        self._forming = bar

    def follow(self, with_forming: bool) -> None:
        """Print each new bar as it closes, until the process is interrupted."""
        while True:
            check_reader()
            try:
                self._print_new_bars()
                if with_forming:
                    self.print_forming()
            except StreamNotFoundError as error:
                # The feed was recreated and does not carry the stream, perhaps not yet.
                self._warn(str(error))
                time.sleep(_POLL_SECONDS)
            except BusyRingError:  # the writer outran the read: the bars are there yet
                continue

    def _print_new_bars(self) -> None:
        ring = self._ring
        count = ring.wait(self._next, _POLL_SECONDS)
        self._tell_changes()
        if ring.epoch != self._epoch:
            # The stream was repaired or the feed recreated: bar numbers start again,
            # open times continue.
            self._epoch, self._next, count = ring.epoch, 0, ring.count
        if not count:
            self._warn("" if self._feed.alive() else "the feeder is dead; waiting")
            return
        self._warning = ""
        rows = self._snapshot_from(self._next)
        bars = [rows.bar(row) for row in range(len(rows))]
        self._next = rows.last
        bars = [bar for bar in bars if bar.open_time > self._newest]
        if bars:
            self._newest = bars[-1].open_time
            self._print(bars)

    def _tell_changes(self) -> None:
        """Tell that the feeder or the segment is another one, or that rows changed."""
        segment, beat = self._feed.current().identity, self._feed.heartbeat()
        if segment != self._segment:
            print_error(f"the feed was recreated, by feeder pid {beat.pid}")
        elif beat.epoch != self._feeder:
            print_error(f"another feeder writes the feed, pid {beat.pid}")
        elif self._ring.epoch != self._epoch:
            print_error("rows were replaced; bars that are printed may have changed")
        self._segment, self._feeder = segment, beat.epoch

    def _snapshot_from(self, number: int) -> Rows:
        """Return the rows from a bar number on, as far back as the ring has them."""
        ring = self._ring
        while True:
            wanted = max(1, ring.count - number)
            rows = ring.snapshot(wanted)
            # A ring of a recreated feed may begin after `number`: then it has fewer
            # rows than wanted. Otherwise bars have closed meanwhile: ask for more.
            if rows.first <= number or len(rows) < wanted or len(rows) >= ring.history:
                return rows

    def _print(self, bars: list[Bar], is_forming: bool = False) -> None:
        lines = list(self._formatter.lines(bars, is_forming))
        if lines:
            print_output("\n".join(lines))

    def _warn(self, text: str) -> None:
        """Print a warning, once as long as it stays the same."""
        if text and text != self._warning:
            print_error(text)
        self._warning = text


def _parse_number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of bars; give one such as 500"
        )
    return MAX_HISTORY if len(text) > _MAX_DIGITS else int(text)
