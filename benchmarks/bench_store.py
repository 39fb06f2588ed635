"""The cost of a store: the CPU time of a message, with and without one.

A local venue sends a recording as fast as the feeder reads, far faster than any market:
each fifth message closes a bar, and so is a version for the store. The feeder is the
whole `shmfeed run`, alternately without a store and with one on this host's disk. Each
run checks every row of the rings, and each run with a store every row of the file.

CPU time is that of the feeder's process; the store's process, which writes the file,
is another. The pairs are told by the 95 % interval of their median ratio.
"""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import bench_ingest
import harness
import report
import traffic
from bench_ingest import Run, to_json
from harness import interval, spread
from report import Goal
from traffic import SEED, SYMBOLS, TIMEFRAME, Traffic

from shmfeed.memory.rows import Rows
from shmfeed.simulator import STEPS, verify
from shmfeed.store.reading import StoreReader

PROTOCOLS = ("wealthai", "binance")
BARS, QUICK_BARS = 400, 200
ROUNDS, QUICK_ROUNDS = 30, 1
LEAST = 0.95  # of the messages of a CPU second without a store
HEADER = (
    "",
    "messages a second",
    "of a CPU second",
    "CPU us each",
    "of those without (95 %)",
)
WITHOUT, WITH = "without a store", "with a store"
ALL = (0, 1 << 60)


def run_pair(url: str, sent: Traffic, number: int) -> dict[str, Run]:
    """Run both, in an order that alternates."""
    runs = {}
    for name in harness.in_turn([WITHOUT, WITH], number):
        if name == WITHOUT:
            runs[name] = bench_ingest.feeder(url, sent)
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "bars.sqlite")
            runs[name] = bench_ingest.feeder(url, sent, "--store", str(path))
            check(path, sent)
    return runs


def check(path: Path, sent: Traffic) -> None:
    """Exit if the store lacks a bar, or has another one than the venue sent."""
    with StoreReader(str(path)) as reader:
        for symbol in SYMBOLS:
            count = 0
            for block in reader.rows((symbol, TIMEFRAME), *ALL):
                count += block.shape[1]
                if verify(SEED, symbol, TIMEFRAME, Rows(block, 0)):
                    raise SystemExit(f"{symbol}: stored rows differ from the venue's")
            if count != sent.bars:
                raise SystemExit(f"{symbol}: {count} of {sent.bars} bars are stored")


def table(sent: Traffic, runs: list[dict[str, Run]]) -> list[report.Line]:
    bars = len(SYMBOLS) * sent.bars
    lines: list[report.Line] = [
        "",
        f"{sent.protocol}: {len(sent.payloads)} messages, one in {STEPS} closes a bar",
    ]
    for name in (WITHOUT, WITH):
        by_clock = spread([pair[name].rate for pair in runs]).text(",.0f")
        of_cpu = [of_cpu_second(pair[name]) for pair in runs]
        each = f"{1e6 / median(of_cpu):.2f}"
        share = interval(shares(runs, name)).text(".3f")
        told = spread(of_cpu).text(",.0f")
        lines.append((f"  {name}", by_clock, told, each, share))
    lines.append(f"  {len(runs)} pairs: {bars} bars each, every one stored as it was")
    return lines


def of_cpu_second(run: Run) -> float:
    """Return the messages that a CPU second ingests."""
    return run.messages / run.cpu


def shares(runs: list[dict[str, Run]], name: str) -> list[float]:
    """Return each pair's messages of a CPU second, as a share of those without."""
    return [of_cpu_second(pair[name]) / of_cpu_second(pair[WITHOUT]) for pair in runs]


def goal(protocol: str, runs: list[dict[str, Run]]) -> Goal:
    found = interval(shares(runs, WITH))
    what = f"ingest with a store beside ingest without, by CPU time, {protocol}"
    text = f"{found.text('.3f')} x"
    return Goal(what, f"at least {LEAST:g} x", text, found.median >= LEAST)


def main() -> None:
    """Run the pairs of each protocol."""
    options = report.argument_parser(__doc__).parse_args()
    bars, rounds = (QUICK_BARS, QUICK_ROUNDS) if options.quick else (BARS, ROUNDS)
    lines: list[report.Line] = [HEADER]
    goals: list[Goal] = []
    results: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        sent = traffic.make(protocol, bars)
        with traffic.venue(sent) as url:
            runs = [run_pair(url, sent, number) for number in range(rounds)]
        lines += table(sent, runs)
        goals.append(goal(protocol, runs))
        results[protocol] = [
            {name: to_json(run) for name, run in pair.items()} for pair in runs
        ]
    report.print_report(__file__, lines, results, options.json, goals)


if __name__ == "__main__":
    main()
