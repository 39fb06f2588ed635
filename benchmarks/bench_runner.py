"""The runner: bars a second with an empty handler, and what one read a bar adds.

A strategy is run on a file of minutes, in a backtest and on a replay, each run in a
process of its own. Its handler does nothing for a block of bars and reads 20 rows with
`get_price` at each bar of the next block, in turn; at the end of the run it makes the
same read alone, in a loop. So the three are compared within one run, by CPU time, and
no start of a process counts. A result is the median over the runs with its 95 %
interval.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import NamedTuple

import report
from harness import interval, spread
from report import Goal
from sample_bars import SYMBOLS

ROOT = Path(__file__).parents[1]
SYMBOL = SYMBOLS[0]
START, MINUTE = 1_767_225_600_000, 60_000
BLOCK, BLOCKS, QUICK_BLOCKS = 1000, 20, 4
ROUNDS, QUICK_ROUNDS = 15, 1
MOST = 2.0  # times the call alone
MODES = {"backtest": "--backtest", "replay": "--replay"}
HEADER = (
    "",
    "bars a second",
    "us a bar",
    "a read adds",
    "that read alone",
    "ratio (95 %)",
)

STRATEGY = '''
"""A strategy that does nothing, and one read a bar, in turn."""

import gc
import json
import os
from time import process_time_ns

BLOCK = {block}
ALONE = 5


def initialize(context):
    g.count, g.reads, g.marks = 0, True, []


def handle_bar(context, bar):
    if g.count % BLOCK == 0:
        g.marks.append(process_time_ns())
        g.reads = not g.reads
    g.count += 1
    if g.reads:
        get_price({symbol!r}, count=20, frequency="1m")


def on_strategy_end(context):
    g.marks.append(process_time_ns())
    alone = []
    for _ in range(ALONE):
        begun = process_time_ns()
        for _ in range(BLOCK):
            get_price({symbol!r}, count=20, frequency="1m")
        alone.append(process_time_ns() - begun)
    with open(os.environ["BENCH_RESULT"], "w") as file:
        json.dump({{"marks": g.marks, "alone": alone}}, file)
'''


class Run(NamedTuple):
    """The CPU time of one run, in us: of a bar, of a bar with a read, of a read."""

    empty: float
    reading: float
    alone: float

    @property
    def adds(self) -> float:
        return self.reading - self.empty


def write_bars(path: Path, count: int) -> None:
    names = "symbol,timeframe,open_time,open,high,low,close,volume"
    with path.open("w") as file:
        print(names, file=file)
        for number in range(count):
            price = 100 + number % 97
            values = f"{price},{price + 2},{price - 1},{price + 1},{number % 7}"
            print(f"{SYMBOL},1m,{START + number * MINUTE},{values}", file=file)


def run_once(folder: Path, mode: str) -> Run:
    """Run the strategy in a process of its own. Exit if the run fails."""
    result = folder / "result.json"
    command = [sys.executable, "-m", "wealthdata", "run", str(folder / "bench.py")]
    command += ["--symbols", SYMBOL, "--frequency", "1m"]
    command += [MODES[mode], str(folder / "bars.csv")]
    told = {"BENCH_RESULT": str(result), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        env=os.environ | told,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{mode}: {done.stderr}")
    found = json.loads(result.read_text())
    marks = found["marks"]
    blocks = [(b - a) / BLOCK / 1000 for a, b in itertools.pairwise(marks)]
    # The handler of the first block does nothing. The first of each kind warms up.
    empty, reading = median(blocks[2::2]), median(blocks[3::2])
    return Run(empty, reading, median(found["alone"]) / BLOCK / 1000)


def lines_of(mode: str, runs: list[Run]) -> list[report.Line]:
    rates = spread([1e6 / run.empty for run in runs]).text(",.0f")
    ratio = interval([run.adds / run.alone for run in runs]).text(".2f")
    cells = (
        f"{median(values):.2f} us"
        for values in zip(*((r.empty, r.adds, r.alone) for r in runs), strict=True)
    )
    return [(f"  {mode}", rates, *cells, ratio)]


def goal(mode: str, runs: list[Run]) -> Goal:
    ratio = interval([run.adds / run.alone for run in runs])
    what = f"{mode}: one get_price(20) a bar, beside that call alone"
    text = f"{ratio.text('.2f')} x"
    return Goal(what, f"at most {MOST:g} x", text, ratio.median <= MOST)


def main() -> None:
    """Run each mode in turn."""
    options = report.argument_parser(__doc__).parse_args()
    blocks, rounds = (QUICK_BLOCKS, QUICK_ROUNDS) if options.quick else (BLOCKS, ROUNDS)
    modes = [mode for mode in MODES if find_spec(f"wealthdata.runner.{mode}")]
    runs: dict[str, list[Run]] = {mode: [] for mode in modes}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_bars(folder / "bars.csv", blocks * BLOCK)
        source = STRATEGY.format(block=BLOCK, symbol=SYMBOL)
        (folder / "bench.py").write_text(source)
        for _ in range(rounds):
            for mode in modes:
                runs[mode].append(run_once(folder, mode))
    lines: list[report.Line] = [HEADER]
    for mode in modes:
        lines += lines_of(mode, runs[mode])
    goals = [goal(mode, found) for mode, found in runs.items()]
    results = {mode: [run._asdict() for run in found] for mode, found in runs.items()}
    report.print_report(__file__, lines, results, options.json, goals)


if __name__ == "__main__":
    main()
