"""The cost of metrics: of a scrape, and of the latencies that a feeder counts.

A scrape is measured in this process, of a feed with many streams: the sample alone, and
with its text in both formats.

A feeder counts one observation for each batch that it reads at once. So its cost is
highest where each message is a batch of its own: a local venue sends a recording at
such a pace. A second venue sends as fast as the feeder reads. The feeder is the whole
`shmfeed run`, alternately as it is and with a program that replaces the counting by
nothing. CPU time is that of the feeder's process. The pairs are told by the 95 %
interval of their median ratio.
"""

import gzip
import os
import time
from collections.abc import Callable
from typing import Any

import bench_ingest
import harness
import report
import traffic
from bench_ingest import Run, to_json
from harness import Spread, interval, spread
from report import Goal
from traffic import Traffic

from shmfeed import create
from shmfeed.observe.exposition import OPENMETRICS, PLAIN, Exposition
from shmfeed.observe.sample import Sampler

STREAMS, QUICK_STREAMS = 2000, 50
SCRAPES, QUICK_SCRAPES = 21, 2
ROUNDS, QUICK_ROUNDS = 30, 1
PROTOCOL = "binance"  # its messages have event times: both delays are counted
PACE = 0.0005  # seconds between two messages
QUICK_BARS = 10
TRAFFIC = {"each message a batch": (100, PACE), "full batches": (1250, 0.0)}
MOST_COST = 1.02  # of the CPU time of a message without the counting
MOST_SCRAPE_MS = 500.0
MINUTE = 60_000
COUNTED, NOT_COUNTED = "counted", "not counted"
WITHOUT = (
    "from shmfeed.feeder.latency import LatencyMeter as meter\n"
    "meter.observe = meter.tick = lambda *_: None\n"
    "from shmfeed.cli.main import main\n"
    "raise SystemExit(main())"
)


def measure_scrapes(streams: int, scrapes: int) -> dict[str, Any]:
    """Return CPU milliseconds of each step, lines and bytes."""
    name = f"bench-metrics-{os.getpid()}"
    keys = [(f"SYM{number}USDT", "1m") for number in range(streams)]
    with create(name, history=100, max_streams=streams, streams=keys) as writer:
        opened = time.time_ns() // 1_000_000 // MINUTE * MINUTE - MINUTE
        for key in keys:
            writer.add_stream(*key).append(opened, 1.0, 2.0, 0.5, 1.5, 10.0)
        with Sampler([name]) as sampler:
            shown = Exposition(sampler)
            steps: dict[str, Callable[[], object]] = {
                "the sample alone": sampler.sample,
                "OpenMetrics": shown.text,
                "OpenMetrics, compressed": lambda: shown.text(OPENMETRICS, True),
                "the older format": lambda: shown.text(PLAIN),
            }
            times = {step: _cpu_ms(run, scrapes) for step, run in steps.items()}
            text = shown.text()
        writer.close(unlink=True)
    sizes = {"bytes": len(text), "compressed": len(gzip.compress(text, 1))}
    return {"ms": times, "lines": text.count(b"\n"), **sizes}


def _cpu_ms(run: Callable[[], object], times: int) -> list[float]:
    run()
    found = []
    for _ in range(times):
        before = time.process_time()
        run()
        found.append((time.process_time() - before) * 1000)
    return found


def measure_pairs(sent: Traffic, pace: float, rounds: int) -> list[dict[str, Run]]:
    """Run both feeders in each round, in an order that alternates."""
    programs = {NOT_COUNTED: ("-c", WITHOUT), COUNTED: ("-m", "shmfeed")}
    with traffic.venue(sent, pace) as url:
        return [
            {
                name: bench_ingest.feeder(url, sent, program=programs[name])
                for name in harness.in_turn([*programs], number)
            }
            for number in range(rounds)
        ]


def cost(pairs: list[dict[str, Run]]) -> Spread:
    """Return the CPU time of a message with the counting, as a multiple of without."""
    each = [{n: run.cpu / run.messages for n, run in pair.items()} for pair in pairs]
    return interval([one[COUNTED] / one[NOT_COUNTED] for one in each])


def pair_lines(label: str, pairs: list[dict[str, Run]]) -> list[report.Line]:
    lines: list[report.Line] = ["", f"{label}, {len(pairs)} pairs"]
    for name in (NOT_COUNTED, COUNTED):
        us = [pair[name].cpu / pair[name].messages * 1e6 for pair in pairs]
        lines.append(
            (f"  latencies {name}", spread(us).text(".2f"), "CPU us a message")
        )
    lines.append(
        (f"  {COUNTED} beside {NOT_COUNTED}", cost(pairs).text(".4f"), "x (95 %)")
    )
    return lines


def main() -> None:
    """Measure scrapes, then the pairs."""
    options = report.argument_parser(__doc__).parse_args()
    quick = options.quick
    streams = QUICK_STREAMS if quick else STREAMS
    scrape = measure_scrapes(streams, QUICK_SCRAPES if quick else SCRAPES)
    size = f"{scrape['bytes']} bytes, {scrape['compressed']} compressed"
    lines: list[report.Line] = [
        f"a scrape of {streams} streams: {scrape['lines']} lines, {size}"
    ]
    for step, ms in scrape["ms"].items():
        lines.append((f"  {step}", spread(ms).text(".1f"), "CPU ms"))
    whole = spread(scrape["ms"]["OpenMetrics"])
    what = f"a scrape of {streams} streams"
    goals = [report.under(what, whole, MOST_SCRAPE_MS, "CPU ms", ".0f")]
    results: dict[str, Any] = {"scrape": scrape}
    for label, (bars, pace) in [*TRAFFIC.items()][: 1 if quick else None]:
        sent = traffic.make(PROTOCOL, QUICK_BARS if quick else bars)
        pairs = measure_pairs(sent, pace, QUICK_ROUNDS if quick else ROUNDS)
        lines += pair_lines(label, pairs)
        found = cost(pairs)
        text = f"{found.text('.4f')} x"
        what = f"CPU time of ingest with latencies beside without, {label}"
        met = found.median <= MOST_COST
        goals.append(Goal(what, f"at most {MOST_COST:g} x", text, met))
        results[label] = [
            {name: to_json(run) for name, run in pair.items()} for pair in pairs
        ]
    report.print_report(__file__, lines, results, options.json, goals)


if __name__ == "__main__":
    main()
