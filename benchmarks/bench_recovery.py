"""The time until a feed is whole again, and the cost of many connections.

Killed: a manager's feeder is ended by SIGKILL; the time until its successor is
connected. Beside it a bare client: a new Python process that imports websocket-client,
connects, subscribes and receives a bar.

Whole: a feeder of fifty streams is ended by SIGKILL, beside a venue with REST; the time
from the launch of its successor until each stream is live and has each closed bar, and
the requests that this took.

Back: a venue refuses every connection for a while and then admits them; the time until
the feed is connected, less the time that the feeder's backoff still had to wait.

Many: bars of one second of 2,000 streams; the time from their end until the last of
them is in its ring, on one connection and on ten.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import harness
import numpy as np
import report
from harness import Spread, spread

import shmfeed
from shmfeed import get_websocket_manager
from shmfeed.manager.process import FeederProcess
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import remove_unheld
from shmfeed.settings import loading
from shmfeed.simulator import Venue

KILLS, QUICK_KILLS = 15, 1
SUCCESSIONS, QUICK_SUCCESSIONS = 60, 1
WHOLE_STREAMS, QUICK_WHOLE_STREAMS = 50, 4
WARMUP = 1000
OUTAGES, QUICK_OUTAGES = (0.5, 1.5, 3.0, 5.0, 8.0), (0.3,)
STREAMS, QUICK_STREAMS = 2000, 20
CONNECTIONS = 10
SECONDS, QUICK_SECONDS = 30, 2
KILL_GOAL, BACK_GOAL, MANY_GOAL = 0.6, 0.5, 1.3
WHOLE_GOAL = 2.0
POLL_SECONDS = 0.002
SETTLED_SECONDS = 1.5  # a feeder that dies sooner is not replaced at once
# A restart of 50 streams costs a weight of 122, and feeders leave half of the venue's
# 6,000 a minute to other programs of the user. More kills would wait for the limit.
BETWEEN_KILLS_SECONDS = 3.0
TIMEOUT_SECONDS = 60.0
HEADER = ("", "seconds (quartiles)")

BARE = """
import sys, websocket
from shmfeed.codecs import get_codec
url, codec = sys.argv[1], get_codec("wealthai")
ws = websocket.WebSocket(skip_utf8_validation=True)
ws.connect(url, timeout=60, http_no_proxy=["127.0.0.1"])
ws.send(codec.subscribe([("BTCUSDT", "1s")])[0].frame)
ws.recv_data(); ws.recv_data()
"""


def until(reached: Callable[[], bool]) -> float:
    """Poll until `reached`, and return the moment; exit after TIMEOUT_SECONDS."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise SystemExit("the feed has not recovered in time")
        time.sleep(POLL_SECONDS)
    return time.monotonic()


@contextmanager
def running(name: str, url: str, **settings: Any) -> Iterator[Any]:
    """Run a manager's feeder for a `with` block; give the feed."""
    manager = get_websocket_manager(name)
    given = {"symbols": ["BTCUSDT"], "resolutions": ["1s"], "history": 100}
    manager.configure(endpoint=url, log_level="ERROR", **{**given, **settings})
    manager.start()
    try:
        with shmfeed.attach(name) as feed:
            yield feed
    finally:
        manager.stop()


def kills(rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds from SIGKILL to a connected successor, and a client's."""
    ours, bare = [], []
    with (
        Venue(speed=50) as venue,
        running(f"bench-{os.getpid()}", venue.url, dials_per_minute=0) as feed,
    ):

        def is_replaced(pid: int) -> bool:
            found = feed.connection()
            return found["state"] == "connected" and found["pid"] not in (None, pid)

        for _ in range(rounds):
            until(lambda: feed.connection()["state"] == "connected")
            time.sleep(SETTLED_SECONDS)
            pid = feed.connection()["pid"]
            start = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            ours.append(until(partial(is_replaced, pid)) - start)
            start = time.monotonic()
            subprocess.run([sys.executable, "-c", BARE, venue.url], check=True)
            bare.append(time.monotonic() - start)
    return ours, bare


class Succession:
    """A feed whose feeders are launched and killed, and its venue's process."""

    def __init__(self, streams: int) -> None:
        self._name = f"bench-{os.getpid()}"
        self._symbols = [f"S{number:02}USDT" for number in range(streams)]
        self._venue = harness.Contender(__file__, "rest-venue", str(streams))
        url, rest = self._venue.ask(call="urls")["result"]
        given = {
            "feed": self._name, "symbols": self._symbols, "resolutions": ["1s"],
            "protocol": "binance", "market_type": "spot", "endpoint": url,
            "rest_endpoint": rest, "rest_share": 1.0, "dials_per_minute": 0,
            "history": WARMUP, "warmup": WARMUP, "log_level": "ERROR",
        }  # fmt: skip
        self._settings = loading.load(given, {})
        self._process: FeederProcess | None = None

    @property
    def requests(self) -> int:
        """The requests that the venue's REST has had."""
        return self._venue.ask(call="requests")["result"]

    def launch(self) -> float:
        """Launch a feeder, and return the seconds until the feed is whole."""
        start = time.monotonic()
        self._process = FeederProcess(self._settings, "bench")
        with shmfeed.attach(self._name, timeout=TIMEOUT_SECONDS) as feed:
            return until(partial(self._is_whole, feed)) - start

    def kill(self) -> None:
        """End the feeder by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(TIMEOUT_SECONDS)
            self._process.close()

    def close(self) -> None:
        """End feeder and venue, and remove the segment."""
        self.kill()
        self._venue.close()
        where = place(self._name)
        until(lambda: remove_unheld(where) or not where.segment.exists())

    def _is_whole(self, feed: Any) -> bool:
        connection = feed.connection()
        if connection["state"] != "connected" or connection["pid"] != self._process.pid:
            return False
        due = int(time.time() * 1000) - 2000  # a bar that closed before is to be there
        for symbol in self._symbols:
            ring = feed.ring(symbol, "1s")
            rows = ring.view(WARMUP)
            if not len(rows.close_time) or rows.close_time[-1] < due:
                return False
            if ring.status().health != "live" or (np.diff(rows.open_time) > 1000).any():
                return False
        return True


def successions(count: int, streams: int) -> tuple[list[float], list[int]]:
    """Return the seconds until a feed is whole again, and the requests, by kill."""
    took, requests = [], []
    feed = Succession(streams)
    try:
        feed.launch()
        for _ in range(count):
            time.sleep(BETWEEN_KILLS_SECONDS)
            before = feed.requests
            feed.kill()
            took.append(feed.launch())
            requests.append(feed.requests - before)
    finally:
        feed.close()
    return took, requests


def tail(samples: list[float]) -> Spread:
    """Return the 99th percentile between the median and the longest."""
    middle, high = np.percentile(samples, [50, 99])
    return Spread(float(high), float(middle), max(samples))


def outages(lengths: tuple[float, ...]) -> list[tuple[float, float]]:
    """Return the seconds from each outage's end to the connection, and the wait left.

    The wait left is what the feeder's backoff had still to wait when the outage ended.
    """
    found = []
    with (
        Venue(speed=50) as venue,
        running(f"bench-{os.getpid()}", venue.url, dials_per_minute=0) as feed,
    ):
        for length in lengths:
            until(lambda: feed.connection()["state"] == "connected")
            venue.refuse(True)
            venue.drop_connections()
            time.sleep(length)
            venue.refuse(False)
            start = time.monotonic()
            left = feed.status()["next_attempt_in"] or 0.0
            end = until(lambda: feed.connection()["state"] == "connected")
            found.append((end - start, left))
    return found


def many(streams: int, seconds: int) -> dict[int, list[float]]:
    """Return the seconds from a bar's end to the last ring, by connections."""
    found: dict[int, list[float]] = {1: [], CONNECTIONS: []}
    symbols = [f"S{number:04}USDT" for number in range(streams)]
    for turn in range(2):
        for connections in harness.in_turn(list(found), turn):
            venue = harness.Contender(__file__, "venue", str(streams))
            settings = {
                "symbols": symbols,
                "max_streams_per_connection": streams // connections,
                "dials_per_minute": 0,
            }
            try:
                url = venue.ask(call="url")["result"]
                with running(f"bench-{os.getpid()}", url, **settings) as feed:
                    found[connections] += delays(feed, symbols, seconds // 2)
            finally:
                venue.close()
    return found


def delays(feed: Any, symbols: list[str], seconds: int) -> list[float]:
    rings = [feed.ring(symbol, "1s") for symbol in symbols]
    for ring in rings:  # the first bars come with the subscription
        ring.wait(0, TIMEOUT_SECONDS)
    found = []
    for _ in range(seconds):
        end = (int(time.time()) + 1) * 1000
        for ring in rings:
            while ring.view(1).close_time[-1] < end:
                if ring.wait(ring.count, TIMEOUT_SECONDS) is None:
                    raise SystemExit(f"no bar of {ring.symbol}")
        found.append(time.time() - end / 1000)
    return found


def serve_venue(streams: int) -> None:
    with Venue(speed=1, update_interval=1.0, max_streams=streams) as venue:
        harness.serve({"url": lambda: venue.url})


def serve_rest_venue(streams: int) -> None:
    with Venue(protocol="binance", update_interval=1.0, max_streams=streams) as venue:
        calls = {
            "urls": lambda: (venue.url, venue.rest_url),
            "requests": lambda: venue.log.rest_requests,
        }
        harness.serve(calls)


def main() -> None:
    """Measure, or serve as a venue."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        serve = serve_venue if options.contender == "venue" else serve_rest_venue
        serve(int(options.argument))
        return
    quick = options.quick
    ours, bare = kills(QUICK_KILLS if quick else KILLS)
    whole_streams = QUICK_WHOLE_STREAMS if quick else WHOLE_STREAMS
    whole, asked = successions(
        QUICK_SUCCESSIONS if quick else SUCCESSIONS, whole_streams
    )
    back = outages(QUICK_OUTAGES if quick else OUTAGES)
    streams = QUICK_STREAMS if quick else STREAMS
    by_connections = many(streams, QUICK_SECONDS if quick else SECONDS)
    beyond = [seconds - left for seconds, left in back]
    one, ten = by_connections[1], by_connections[CONNECTIONS]
    lines: list[report.Line] = [
        HEADER,
        ("killed: a successor is connected", spread(ours).text(".3f")),
        ("a bare client: process, import, connect, bar", spread(bare).text(".3f")),
        (f"killed: {whole_streams} streams are whole", spread(whole).text(".3f")),
        ("  99th percentile (median..longest)", tail(whole).text(".3f")),
        ("  requests to REST", spread(asked).text(".0f")),
        "",
        *(
            (
                f"away {length:g} s: connected",
                f"{seconds:.2f}, of it backoff {left:.2f}",
            )
            for length, (seconds, left) in zip(
                QUICK_OUTAGES if quick else OUTAGES, back, strict=True
            )
        ),
        "",
        (f"{streams} streams, 1 connection", spread(one).text(".3f")),
        (f"{streams} streams, {CONNECTIONS} connections", spread(ten).text(".3f")),
    ]
    times = spread(harness.ratios(ten, one))
    goals = [
        report.under("after kill -9: connected again", spread(ours), KILL_GOAL, "s"),
        report.under(
            f"after kill -9: {whole_streams} streams whole, p99 (p50..longest)",
            tail(whole),
            WHOLE_GOAL,
            "s",
        ),
        report.under(
            "after an outage: connected, beyond the backoff",
            spread(beyond),
            BACK_GOAL,
            "s",
        ),
        report.under(
            f"{streams} streams on {CONNECTIONS} connections beside one: the last ring",
            times,
            MANY_GOAL,
            "x",
            ".2f",
        ),
    ]
    results = {
        "killed": ours,
        "bare": bare,
        "whole": whole,
        "requests": asked,
        "outages": back,
        "many": {str(count): found for count, found in by_connections.items()},
    }
    report.print_report(__file__, lines, results, options.json, goals)


if __name__ == "__main__":
    main()
