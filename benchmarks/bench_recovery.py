"""The time until a feed is whole again, and the cost of many connections.

Killed: a manager's feeder is ended by SIGKILL; the time until its successor is
connected. Beside it a bare client: a new Python process that imports websocket-client,
connects, subscribes and receives a bar.

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
import report
from harness import spread

import shmfeed
from shmfeed import get_websocket_manager
from shmfeed.simulator import Venue

KILLS, QUICK_KILLS = 15, 1
OUTAGES, QUICK_OUTAGES = (0.5, 1.5, 3.0, 5.0, 8.0), (0.3,)
STREAMS, QUICK_STREAMS = 2000, 20
CONNECTIONS = 10
SECONDS, QUICK_SECONDS = 30, 2
KILL_GOAL, BACK_GOAL, MANY_GOAL = 0.6, 0.5, 1.3
POLL_SECONDS = 0.002
SETTLED_SECONDS = 1.5  # a feeder that dies sooner is not replaced at once
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


def main() -> None:
    """Measure, or serve as the venue of many streams."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        serve_venue(int(options.argument))
        return
    quick = options.quick
    ours, bare = kills(QUICK_KILLS if quick else KILLS)
    back = outages(QUICK_OUTAGES if quick else OUTAGES)
    streams = QUICK_STREAMS if quick else STREAMS
    by_connections = many(streams, QUICK_SECONDS if quick else SECONDS)
    beyond = [seconds - left for seconds, left in back]
    one, ten = by_connections[1], by_connections[CONNECTIONS]
    lines: list[report.Line] = [
        HEADER,
        ("killed: a successor is connected", spread(ours).text(".3f")),
        ("a bare client: process, import, connect, bar", spread(bare).text(".3f")),
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
        "outages": back,
        "many": {str(count): found for count, found in by_connections.items()},
    }
    report.print_report(__file__, lines, results, options.json, goals)


if __name__ == "__main__":
    main()
