"""Runs all programs here, and writes what they found into results/: a table of the
goals, plots, and the figures of each program as JSON."""

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
PROGRAMS = (
    "bench_read",
    "bench_write",
    "bench_get_price",
    "bench_wakeup",
    "bench_scaling",
    "bench_waiters",
    "bench_footprint",
    "bench_ingest",
)


def ask(program: str, quick: bool) -> tuple[dict[str, Any], str]:
    """What a program found, and the table that it prints."""
    command = [sys.executable, str(HERE / f"{program}.py"), "--json"]
    command += ["--quick"] if quick else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stderr, flush=True)
    if done.returncode:
        raise SystemExit(f"{program} ended with {done.returncode}")
    return json.loads(done.stdout), done.stderr


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument(
        "--into", type=Path, default=HERE / "results", help="the folder to write into"
    )
    parser.add_argument(
        "--show", type=Path, metavar="PAGE", help="put the goals into this page, too"
    )
    parser.add_argument(
        "programs", nargs="*", help=f"only these, of: {' '.join(PROGRAMS)}"
    )
    options = parser.parse_args()
    unknown = [name for name in options.programs if name not in PROGRAMS]
    if unknown:
        parser.error(f"{unknown[0]} is none of: {' '.join(PROGRAMS)}")
    return options


def main() -> None:
    """Ask them one after the other: two at once would measure each other."""
    options = arguments()
    into: Path = options.into
    into.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    for program in options.programs or PROGRAMS:
        print(f"== {program}", flush=True)
        found, table = ask(program, options.quick)
        results.keep(into, found, table)
    kept = results.kept(into, PROGRAMS)
    drawn = plots.draw(into, kept)
    results.write_table(into, kept, drawn)
    if options.show:
        results.show(options.show, kept)
    print(f"{into}: {len(kept)} programs, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
