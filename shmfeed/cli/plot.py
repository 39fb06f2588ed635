"""`shmfeed plot`: write a chart of a stream's last closed bars to a file."""

import argparse
import json
from pathlib import Path

from shmfeed.bar import check_timeframe
from shmfeed.cli.options import add_feed_option, attach_feed, parse_number
from shmfeed.cli.output import print_output
from shmfeed.cli.suggestions import find_ring
from shmfeed.observe.chart_data import ChartData, read_chart
from shmfeed.observe.chart_image import write_chart_image
from shmfeed.observe.chart_page import make_chart_page
from shmfeed.text import counted
from shmfeed.validation import check_symbol
from shmfeed.whole_file import check_output, whole_file

_DESCRIPTION = """\
Write a chart of the last closed bars of a stream to a file: candles and volume, with
room where bars are missing. An .html file is complete in itself and opens in a browser
without a network; a .png needs matplotlib. Times are UTC.
"""

_EPILOG = """\
examples:
  shmfeed plot BTCUSDT 1h -o btc.html
  shmfeed plot BTCUSDT 1m -n 200 -o btc.png --feed spot
"""

_ENDINGS = (".html", ".png")
_BARS = "500"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("symbol", metavar="SYMBOL", help="symbol, as `shmfeed status` lists it")
    add("timeframe", metavar="TIMEFRAME", help="1s 1m 3m 5m 15m 30m 1h .. 1d 1w 1M")
    add("-o", "--output", required=True, metavar="FILE", help="an .html or .png file")
    add("-n", metavar="N", default=_BARS, help=f"bars, default: {_BARS}")
    add("--json", action="store_true", help="print the result as a JSON object")
    add_feed_option(parser)


def run(args: argparse.Namespace) -> int:
    key = check_symbol(args.symbol), check_timeframe(args.timeframe)
    path, number = check_output(args.output, _ENDINGS), parse_number("-n", args.n)
    with attach_feed(args) as feed:
        find_ring(feed, *key)
        chart = read_chart(feed, *key, number)
    _write(chart, path)
    if args.json:
        found = {"file": path, "symbol": key[0], "timeframe": key[1]}
        missing = sum(hole.missing for hole in chart.holes)
        print_output(json.dumps({**found, "bars": len(chart.bars), "missing": missing}))
    else:
        bars = counted(len(chart.bars), "bar")
        holes = counted(len(chart.holes), "hole")
        print_output(f"wrote {bars} of {chart.title}, with {holes}, to {path}")
    return 0


def _write(chart: ChartData, path: str) -> None:
    try:
        with whole_file(path) as stream:
            if Path(path).suffix.lower() == ".png":
                write_chart_image(chart, stream)
            else:
                stream.write(make_chart_page(chart).encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"output {path!r} cannot be written: {reason}") from error
