"""The time of a start with history, and how near it comes to the venue's rate limit.

A process serves the local venue's bars by REST, out of memory; the venue's own socket
is another process. The feeder is the whole `shmfeed run`, from its launch until every
ring has its bars; every value is checked.

Burst: 100 streams of 1,000 bars, which fit in the feeders' share of the venue's limit.
Beside it a bare client: urllib3 in four threads, which asks for the same pages, checks
nothing and writes nothing.

Limited: more pages than a small share of the limit permits in a minute. The best time
possible is that at which the next minute's pages may begin.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import report
import urllib3
from canned_rest import AHEAD, INFO_WEIGHT, LIMIT, PAGE_WEIGHT, CannedRest
from harness import Contender, ratios, serve, spread
from report import Goal

import shmfeed
from shmfeed.simulator import verify
from shmfeed.wire.host_file import WINDOW

SEED, TIMEFRAME, BARS = 7, "1m", 1000
STREAMS, QUICK_STREAMS = 100, 4
ROUNDS, QUICK_ROUNDS = 5, 1
SHARE = 0.02  # of the limited start
THREADS = 4
GOAL_SECONDS, GOAL_LATE = 4.0, 3.0
TIMEOUT_SECONDS, POLL_SECONDS = 180.0, 0.01
HEADER = ("", "seconds (quartiles)")


class Venue(NamedTuple):
    """A venue's socket, and its REST service."""

    url: str
    rest_url: str


@contextmanager
def venue(symbols: list[str]) -> Iterator[Venue]:
    """Run a venue for a `with` block."""
    command = [sys.executable, "-m", "shmfeed", "simulate", "--protocol", "binance"]
    command += ["--symbols", ",".join(symbols), "--seed", str(SEED), "--json"]
    rest = Contender(__file__, "rest", json.dumps(symbols))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = json.loads(process.stdout.readline())
            port = rest.ask(call="port")["result"]
            yield Venue(found["url"], f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            rest.close()


def names(count: int) -> list[str]:
    return [f"S{number:03}USDT" for number in range(count)]


def feeder(there: Venue, symbols: list[str], share: float) -> float:
    """Return the seconds from a feeder's launch to its last bar; check each value."""
    name = f"bench-{os.getpid()}"
    command = [sys.executable, "-m", "shmfeed", "run", "--unlink", "--feed", name]
    command += ["--protocol", "binance", "--market-type", "spot"]
    command += ["--endpoint", there.url, "--rest-endpoint", there.rest_url]
    command += ["--symbols", ",".join(symbols), "--resolutions", TIMEFRAME]
    command += ["--history", str(BARS), "--rest-share", str(share)]
    with tempfile.TemporaryFile("w+") as output:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        begun = time.monotonic()
        with subprocess.Popen(command, **quiet) as process:
            try:
                feed = _attach(name, process)
                end = _until_full(feed, symbols)
                _check(feed, symbols)
                feed.close()
            except BaseException:
                output.seek(0)
                print(output.read(), file=sys.stderr)
                raise
            finally:
                process.terminate()
    return end - begun


def _attach(name: str, process: "subprocess.Popen[bytes]") -> Any:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(shmfeed.FeedNotFoundError):
            return shmfeed.attach(name, timeout=0.1)
    raise SystemExit(f"the feeder created no feed; its exit code is {process.poll()}")


def _until_full(feed: Any, symbols: list[str]) -> float:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    left = list(symbols)
    while left:
        left = [one for one in left if not _is_full(feed, one)]
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(left)} streams have no history: {feed.status()}")
        time.sleep(POLL_SECONDS)
    return time.monotonic()


def _is_full(feed: Any, symbol: str) -> bool:
    with suppress(shmfeed.StreamNotFoundError):
        return len(feed.ring(symbol, TIMEFRAME).view(BARS)) == BARS
    return False


def _check(feed: Any, symbols: list[str]) -> None:
    for symbol in symbols:
        rows = feed.ring(symbol, TIMEFRAME).snapshot(BARS)
        if verify(SEED, symbol, TIMEFRAME, rows):
            raise SystemExit(f"{symbol}: rows differ from the venue's")


def bare(there: Venue, symbols: list[str]) -> float:
    """Return the seconds in which plain threads fetch the same pages."""
    with urllib3.PoolManager(maxsize=THREADS) as pool:

        def ask(symbol: str) -> int:
            fields = {"symbol": symbol, "interval": TIMEFRAME, "limit": str(BARS)}
            url = f"{there.rest_url}/api/v3/klines"
            return len(json.loads(pool.request("GET", url, fields=fields).data))

        begun = time.monotonic()
        with ThreadPoolExecutor(THREADS) as threads:
            counts = list(threads.map(ask, symbols))
    if set(counts) != {BARS}:
        raise SystemExit(f"the venue's pages have {set(counts)} rows")
    return time.monotonic() - begun


def burst(count: int, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of the feeder's starts, and of the bare client's fetches."""
    symbols = names(count)
    ours, theirs = [], []
    for _ in range(rounds):
        with venue(symbols) as there:  # a new one has counted no weight yet
            ours.append(feeder(there, symbols, 0.25))
            theirs.append(bare(there, symbols))
    return ours, theirs


def limited() -> tuple[float, float, int]:
    """Return the seconds of a limited start, the best possible, and the streams."""
    # More than one minute's share, and less than two, with a few pages to spare.
    count = int(1.6 * LIMIT * SHARE / PAGE_WEIGHT)
    symbols = names(count)
    with venue(symbols) as there:
        took = feeder(there, symbols, SHARE)
    return took, WINDOW, count


def _weight_line(weight: int, rounds: int) -> str:
    return (
        f"  weight {weight} of the {LIMIT * 0.25:.0f} that the share permits at once;"
        f" {rounds} starts, each value right"
    )


def main() -> None:
    """Measure the starts, or serve as the REST of one of them."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        rest = CannedRest(json.loads(options.argument), BARS + AHEAD, SEED)
        serve({"port": lambda: rest.port})
        return
    count, rounds = (
        (QUICK_STREAMS, QUICK_ROUNDS) if options.quick else (STREAMS, ROUNDS)
    )
    ours, theirs = burst(count, rounds)
    weight = PAGE_WEIGHT * count + INFO_WEIGHT
    lines: list[report.Line] = [
        HEADER,
        (
            f"  feeder: launch to the last of {count} x {BARS} bars",
            spread(ours).text(),
        ),
        ("  bare client: the same pages, nothing else", spread(theirs).text()),
        ("  times the bare client", spread(ratios(ours, theirs)).text()),
        _weight_line(weight, rounds),
    ]
    goals = [
        report.under(
            f"a start with {count} streams of {BARS} bars",
            spread(ours),
            GOAL_SECONDS,
            "s",
            ".2f",
        )
    ]
    results: dict[str, Any] = {
        "burst": {"feeder": ours, "bare": theirs, "ratio": ratios(ours, theirs)}
    }
    if not options.quick:
        took, best, many = limited()
        lines.append(
            f"  limited to {LIMIT * SHARE:.0f} of weight a minute, {many} streams:"
            f" {took:.1f} s, the limit alone permits {best:.1f} s"
        )
        value = f"{took - best:.1f} s"
        goals.append(
            Goal(
                f"how much later than the rate limit permits, {many} streams",
                f"under {GOAL_LATE:g} s",
                value,
                took - best < GOAL_LATE,
            )
        )
        results["limited"] = {"seconds": took, "best": best, "streams": many}
    report.print_report(__file__, lines, results, options.json, goals)


if __name__ == "__main__":
    main()
