"""The relay by Redis: bars a second, the delay of a minute's close, joins, CPU time.

All run on this machine, over TCP on loopback. Rivals use the same server in the same
rounds, in an order that rotates:

- Bars a second: a flush is written, fenced, with the rings of history, then read into
  arrays. The rival of equal safety adds one entry a bar, each field by its name, by a
  script that checks the fence, many scripts a round trip; it keeps no rings. Another
  one checks no fence.
- A minute's close of all streams: from before the first append in the leader's ring
  until a strategy that waits on the follower's feed for all of them is awake. The rival
  has the same bytes ready, adds them as one entry, and its reader decodes every row.
- A join: all rings of the feed into arrays; the rival reads as many entries.
- The CPU time of publisher and follower, idle and with updates of all streams.
- The leader's feeder, with no publisher, and with one whose Redis is away or silent;
  and `get_price` of a strategy of such a feed beside one of a feed without a publisher.
"""

import json
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import bench_ingest
import harness
import numpy as np
import on_redis
import report
import traffic
from filled_feed import filled_feed
from harness import Spread, interval, ratios, spread
from machine import cpu_seconds
from relay_ways import Entries, Flushes, block_of
from relayed_feed import TIMEFRAME, RelayedFeed, start_command
from report import Goal

STREAMS, QUICK_STREAMS = 500, 20
HISTORY, QUICK_HISTORY = 1000, 50
BATCHES = (1, 20)  # bars of each stream in a flush
ROUNDS, QUICK_ROUNDS = 21, 2
FLUSHES, QUICK_FLUSHES = 5, 1  # a round
CLOSES, QUICK_CLOSES = 400, 4
JOINS, QUICK_JOINS = 5, 1
CPU_SECONDS, QUICK_CPU_SECONDS = 10.0, 0.5
PAIRS, QUICK_PAIRS = 15, 1
UPDATES = 4.0  # a second, of each stream
ASLEEP_SECONDS = 0.03
LEAST_RATE, MOST_DELAY, MOST_COST = 20.0, 5.0, 1.02
OURS, FENCED, PLAIN = "a flush", "an entry a bar, fenced", "an entry a bar"
ROW = struct.Struct("<2q6dq")
STREAM = "entries"
HERE, AWAY, SILENT = "Redis is here", "Redis is away", "Redis is silent"
WITHOUT = "no publisher"
Measured = tuple[list[report.Line], list[Goal], Any]


# Bars a second


def measure_rates(port: int, quick: bool) -> Measured:
    streams = QUICK_STREAMS if quick else STREAMS
    rounds, flushes = (QUICK_ROUNDS, QUICK_FLUSHES) if quick else (ROUNDS, FLUSHES)
    lines: list[report.Line] = []
    goals: list[Goal] = []
    results: dict[str, Any] = {}
    with ExitStack() as end:
        ways: dict[str, Flushes | Entries] = {
            OURS: Flushes(port, streams, 100, end),
            FENCED: Entries(port, streams, fenced=True, end=end),
            PLAIN: Entries(port, streams, fenced=False, end=end),
        }
        for bars in BATCHES:
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(-1, rounds):  # round -1 warms up
                for name in harness.in_turn([*ways], max(0, number)):
                    rate = rate_of(ways[name], streams, bars, flushes)
                    if number >= 0:
                        rates[name].append(rate)
            title = f"flushes of {streams} streams x {bars}, written and read"
            lines += ["", title]
            for name, found in rates.items():
                times = spread(ratios(rates[OURS], found)).text(".1f")
                lines.append((f"  {name}", spread(found).text(",.0f"), "bars/s", times))
            times = ratios(rates[OURS], rates[FENCED])
            what = (
                f"bars a second beside an entry a bar of equal safety, {bars} a stream"
            )
            goals.append(report.at_least(what, times, LEAST_RATE))
            results[title] = rates
    return lines, goals, results


def rate_of(way: Flushes | Entries, streams: int, bars: int, flushes: int) -> float:
    seconds = 0.0
    for _ in range(flushes):
        way.prepare(bars)
        began = time.perf_counter()
        way.write()
        count = way.read()
        seconds += time.perf_counter() - began
        if count != streams * bars:
            raise SystemExit(f"{count} of {streams * bars} bars were read")
    return flushes * streams * bars / seconds


# A minute's close, and joins


def measure_closes(port: int, quick: bool) -> Measured:
    streams, history = (QUICK_STREAMS, QUICK_HISTORY) if quick else (STREAMS, HISTORY)
    with ExitStack() as end:
        feed = RelayedFeed(end, port, streams, history)
        waiter, reader = (
            harness.Contender(__file__, name, json.dumps(given))
            for name, given in (
                ("waiter", [feed.followed, feed.symbols]),
                ("reader", [port, STREAM]),
            )
        )
        end.callback(waiter.close)
        end.callback(reader.close)
        feed.beat_during(lambda: (waiter.ask(call="begin"), reader.ask(call="begin")))
        delays = _delays(feed, waiter, reader, port, QUICK_CLOSES if quick else CLOSES)
        cpu = _cpu_times(feed, QUICK_CPU_SECONDS if quick else CPU_SECONDS)
    lines: list[report.Line] = ["", f"a minute's close of {streams} streams, ms"]
    for name, found in delays.items():
        p50, p99 = np.percentile(found, (50, 99))
        lines.append((f"  {name}", f"p50 {p50:.2f}", f"p99 {p99:.2f}", ""))
    ours, bare = delays.values()
    times = interval(ratios(ours, bare))
    p99 = np.percentile(ours, 99) / np.percentile(bare, 99)
    value = f"{times.text('.2f')} x; at p99 {p99:.2f} x"
    what = f"a minute's close of {streams} streams beside a bare XADD to XREAD, p50"
    met = times.median < MOST_DELAY
    goals = [Goal(what, f"under {MOST_DELAY:g} x", value, met)]
    joined = f"{feed.join_seconds:.2f} s"
    lines += ["", f"a follower of {streams} x {history}, from its start: {joined}"]
    lines += ["", f"CPU time, of a second, {streams} streams"]
    for (process, load), share in cpu.items():
        lines.append((f"  {process}, {load}", f"{share:.1%}", "", ""))
    named = {f"{process}, {load}": share for (process, load), share in cpu.items()}
    return lines, goals, {"delays": delays, "cpu": named, "joined": feed.join_seconds}


def _delays(
    feed: RelayedFeed,
    waiter: harness.Contender,
    reader: harness.Contender,
    port: int,
    closes: int,
) -> dict[str, list[float]]:
    """Return the milliseconds of each close, ours and the rival's in turn."""
    import redis

    rows = block_of(len(feed.symbols), 1, 0)
    blob = np.ascontiguousarray(rows.T).tobytes()
    with redis.Redis(port=port) as client:
        acts: dict[str, tuple[harness.Contender, Callable[[], object]]] = {
            "the leader's ring to a strategy of the follower": (
                waiter,
                feed.close_minute,
            ),
            "bare XADD to XREAD, each row decoded": (
                reader,
                lambda: client.xadd(STREAM, {"rows": blob}, maxlen=100),
            ),
        }
        took: dict[str, list[float]] = {name: [] for name in acts}
        for number in range(-3, closes):
            for name in harness.in_turn([*acts], max(0, number)):
                other, act = acts[name]
                other.send(call="wait")
                feed.pause(ASLEEP_SECONDS)
                began = time.monotonic_ns()
                act()
                ended = other.receive()["result"]
                if number >= 0:
                    took[name].append((ended - began) / 1e6)
    return took


def serve_waiter(feed: str, symbols: Sequence[str]) -> None:
    """Wait, as a strategy of the follower's feed, until all have closed a bar."""
    import wealthdata

    wealthdata.use(feed=feed, on_stale="ignore")
    wealthdata.get_price([*symbols], count=1, frequency=TIMEFRAME)

    def wait() -> int:
        ready, missing = wealthdata.wait_bar([*symbols], TIMEFRAME, timeout=20.0)
        now = time.monotonic_ns()
        if len(ready) != len(symbols):
            raise SystemExit(f"{len(missing)} streams closed no bar: {missing[:3]}")
        return now

    harness.serve({"begin": lambda: None, "wait": wait})


def serve_reader(port: int, key: str) -> None:
    """Wait for one entry, and decode each of its rows."""
    import redis

    client = redis.Redis(port=port)
    last: Any = "$"

    def wait() -> int:
        nonlocal last
        [(_, [(last, found)])] = client.xread({key: last}, count=1, block=4000)
        rows = list(ROW.iter_unpack(found[b"rows"]))
        assert rows
        return time.monotonic_ns()

    harness.serve({"begin": lambda: None, "wait": wait})


def _cpu_times(feed: RelayedFeed, seconds: float) -> dict[tuple[str, str], float]:
    """Return the CPU seconds of a second of each process, idle and with updates."""
    processes = {"publisher": feed.publisher, "follower": feed.follower}
    loads: dict[str, Callable[[], None]] = {
        "idle": lambda: feed.pause(seconds),
        f"{UPDATES:g} updates a second of each": lambda: feed.run_updates(
            seconds, UPDATES
        ),
    }
    found = {}
    for load, run in loads.items():
        before = {name: cpu_seconds(one.pid) for name, one in processes.items()}
        begun = time.monotonic()
        run()
        took = time.monotonic() - begun
        for name, one in processes.items():
            found[name, load] = (cpu_seconds(one.pid) - before[name]) / took
    return found


def measure_joins(port: int, quick: bool) -> Measured:
    streams, history, joins = (
        (QUICK_STREAMS, QUICK_HISTORY, QUICK_JOINS)
        if quick
        else (STREAMS, HISTORY, JOINS)
    )
    with ExitStack() as end:
        ours = Flushes(port, streams, history, end)
        theirs = Entries(port, streams, fenced=False, end=end)
        theirs.prepare(history)
        theirs.write()
        took = [_seconds(ours.join) for _ in range(joins)]
        rival = _seconds(theirs.read)
    title = f"a join of {streams} x {history}"
    times = [rival / one for one in took]
    lines: list[report.Line] = ["", f"{title}, s"]
    lines.append(("  all rings, in pieces", spread(took).text(".3f"), "", ""))
    lines.append(("  as many entries", f"{rival:.3f}", "", ""))
    goals = [report.at_least(f"{title} beside as many entries", times, 1.0)]
    return lines, goals, {"rings": took, "entries": rival}


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


# The leader


def measure_leader(port: int, quick: bool) -> Measured:
    """Compare ingest and reads with publishers in trouble, and without one."""
    pairs = QUICK_PAIRS if quick else PAIRS
    sent = traffic.make("binance", 20 if quick else 400)
    costs: dict[str, list[float]] = {}
    with ExitStack() as end:
        silent = end.enter_context(socket.create_server(("127.0.0.1", 0)))
        with socket.create_server(("127.0.0.1", 0)) as gone:
            away = gone.getsockname()[1]
        ports = {HERE: port, AWAY: away, SILENT: silent.getsockname()[1]}
        with traffic.venue(sent) as url:
            for number in range(pairs):
                for name in harness.in_turn([WITHOUT, *ports], number):
                    cost = _ingest_cost(url, sent, ports.get(name))
                    costs.setdefault(name, []).append(cost)
        reads = _reads(end, ports[SILENT], quick)
    lines: list[report.Line] = ["", f"ingest, CPU us a message, {pairs} rounds"]
    goals = []
    for name, found in costs.items():
        share = interval([a / b for a, b in zip(found, costs[WITHOUT], strict=True)])
        text = (spread(found).text(".2f"), "", f"{share.text('.3f')} x")
        lines.append((f"  {name}", *text))
        if name != WITHOUT:
            goals.append(_cost(f"CPU time of the leader's ingest, {name}", share))
    lines += ["", "get_price(count=20) on the leader's host, CPU us"]
    for name, found in reads.items():
        lines.append((f"  {name}", spread(found).text(".3f"), "", ""))
    share = interval(ratios(reads[SILENT], reads[WITHOUT]))
    goals.append(_cost(f"CPU time of get_price, {SILENT}", share))
    return lines, goals, {"ingest": costs, "reads": reads}


def _cost(what: str, share: Spread) -> Goal:
    met = share.median <= MOST_COST
    return Goal(what, f"at most {MOST_COST:g} x", f"{share.text('.3f')} x", met)


def _ingest_cost(url: str, sent: traffic.Traffic, port: int | None) -> float:
    """Return the CPU microseconds of a message, with a publisher if there is a port."""
    with ExitStack() as end:
        if port is not None:
            name, to = f"bench-{os.getpid()}", f"redis://127.0.0.1:{port}/0"
            start_command(end, "publish", "--feed", name, "--to", to)
        run = bench_ingest.feeder(url, sent)
    return run.cpu / run.messages * 1e6


def _reads(end: ExitStack, port: int, quick: bool) -> dict[str, list[float]]:
    streams = {SILENT: 10, WITHOUT: 11}  # so that the feeds have two names
    feeds = {n: end.enter_context(filled_feed(count)) for n, count in streams.items()}
    to = f"redis://127.0.0.1:{port}/0"
    start_command(end, "publish", "--feed", feeds[SILENT], "--to", to)
    reader = harness.Contender(__file__, "prices", json.dumps([*feeds.values()]))
    end.callback(reader.close)
    seconds = harness.QUICK_SECONDS if quick else harness.SECONDS
    took: dict[str, list[float]] = {name: [] for name in feeds}
    for number in range(-1, harness.QUICK_ROUNDS if quick else harness.ROUNDS):
        for name in harness.in_turn([*feeds], max(0, number)):
            answer = reader.ask(call=feeds[name], seconds=seconds)
            if number >= 0:
                took[name].append(answer["cpu"] / 1000)
    return took


def serve_prices(*feeds: str) -> None:
    import wealthdata

    def call(feed: str) -> Callable[[], object]:
        return lambda: wealthdata.get_price(
            "SYM0USDT", count=20, frequency="1h", feed=feed
        )

    harness.serve({feed: call(feed) for feed in feeds})


SERVED: dict[str, Callable[..., None]] = {
    "waiter": serve_waiter,
    "reader": serve_reader,
    "prices": serve_prices,
}


def main() -> None:
    """Measure all, or serve as a contender."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        SERVED[options.contender](*json.loads(options.argument))
        return
    lines: list[report.Line] = [("", "median (quartiles)", "", "ours beside it")]
    goals: list[Goal] = []
    results: dict[str, Any] = {}
    missing = report.missing({on_redis.REDIS: on_redis})
    for measure in (measure_rates, measure_closes, measure_joins, measure_leader):
        if missing:
            what, why = "the relay by Redis", missing[on_redis.REDIS]
            goals = [report.not_measured(what, "as above", why)]
            break
        with ExitStack() as end:
            port = on_redis.start_tcp_server(end)
            more_lines, more_goals, found = measure(port, options.quick)
        lines += more_lines
        goals += more_goals
        results[measure.__name__] = found
    report.print_report(__file__, lines, results, options.json, goals, missing)


if __name__ == "__main__":
    main()
