"""Run the benchmarks, and write results/: a table of the goals, plots, and JSON."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import plots
import results

HERE = Path(__file__).parent
BENCHMARKS = (
    "bench_read",
    "bench_write",
    "bench_get_price",
    "bench_cold",
    "bench_many",
    "bench_strategy_reads",
    "bench_wakeup",
    "bench_spin",
    "bench_follow",
    "bench_scaling",
    "bench_waiters",
    "bench_footprint",
    "bench_ingest",
    "bench_recovery",
    "bench_store",
    "bench_metrics",
    "bench_history",
    "bench_relay",
)


def run(benchmark: str, quick: bool) -> tuple[dict[str, Any], str]:
    """Run one benchmark; return its JSON and its printed table."""
    command = [sys.executable, str(HERE / f"{benchmark}.py"), "--json"]
    command += ["--quick"] if quick else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stderr, flush=True)
    if done.returncode:
        raise SystemExit(f"{benchmark} exited with {done.returncode}")
    return json.loads(done.stdout), done.stderr


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only check that they run",
    )
    parser.add_argument(
        "--into", type=Path, default=HERE / "results", help="the folder to write into"
    )
    parser.add_argument(
        "--show",
        type=Path,
        metavar="PAGE",
        help="write the goals in short here too",
    )
    parser.add_argument(
        "benchmarks", nargs="*", help=f"only these of: {' '.join(BENCHMARKS)}"
    )
    options = parser.parse_args()
    unknown = [name for name in options.benchmarks if name not in BENCHMARKS]
    if unknown:
        parser.error(
            f"unknown benchmark {unknown[0]!r}; one of: {' '.join(BENCHMARKS)}"
        )
    return options


def main() -> None:
    """Run them one after the other: two at once would disturb each other."""
    options = parse_arguments()
    into: Path = options.into
    into.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    for benchmark in options.benchmarks or BENCHMARKS:
        print(f"== {benchmark}", flush=True)
        found, table = run(benchmark, options.quick)
        results.save(into, found, table)
    saved = results.load(into, BENCHMARKS)
    drawn = plots.draw(into, saved)
    results.write_table(into, saved, drawn)
    if options.show:
        results.update_page(options.show, saved)
    print(f"{into}: {len(saved)} benchmarks, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
