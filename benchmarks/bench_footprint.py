"""The footprint of a reader: import time, attach time, private memory, bytes a stream.

Each value is measured in many fresh processes. Private memory is what the kernel counts
as the process's alone; the feed's own pages are shared.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import report
from filled_feed import filled_feed
from harness import Spread, spread
from report import Goal
from sample_bars import HISTORY, SYMBOLS, TIMEFRAME

from shmfeed.layout import COLUMNS, WORD
from shmfeed.writer import create

RUNS, QUICK_RUNS = 25, 2
MAX_IMPORT_MS, MAX_ATTACH_MS, MAX_PRIVATE_MB, MAX_STREAM_BYTES = 20, 1, 1, 1024
HEADER = ("", "median (quartiles)")
PANDAS = "pandas is loaded"

IMPORTS = """
import json, sys, time
import numpy
clock = time.perf_counter
start = clock(); import shmfeed; names_ms = (clock() - start) * 1e3
shmfeed.attach; shmfeed_ms = (clock() - start) * 1e3
start = clock(); import wealthdata; wealthdata_ms = (clock() - start) * 1e3
print(json.dumps({
    "import shmfeed, ms beyond numpy": names_ms,
    "import shmfeed and all that attach needs, ms": shmfeed_ms,
    "import wealthdata, ms beyond that": wealthdata_ms,
    "pandas is loaded": "pandas" in sys.modules,
}))
"""
NUMPY = """
import json, time
start = time.perf_counter(); import numpy; took = (time.perf_counter() - start) * 1e3
print(json.dumps({"import numpy, ms": took}))
"""
ATTACH = """
import gc, json, sys, time
import numpy, shmfeed
shmfeed.attach  # loads what it needs
name, symbol, timeframe = sys.argv[1:]

def private():
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))

clock = time.perf_counter
private(); gc.collect()
before = private()
start = clock(); feed = shmfeed.attach(name); attach = clock() - start
ring = feed.ring(symbol, timeframe); bound = clock() - start
ring.view(20).values; read = clock() - start
attached = private()
for one in feed.streams():
    ring = feed.ring(*one)
    ring.view(ring.history).values.sum(); ring.snapshot(20); ring.forming()
print(json.dumps({
    "attach, ms": attach * 1e3,
    "attach and bind a ring, ms": bound * 1e3,
    "attach, bind, read 20 bars, ms": read * 1e3,
    "private memory of attach and a read, KiB": attached - before,
    "private memory after all bars of all streams, KiB": private() - before,
}))
"""


def run_fresh(code: str, *arguments: str) -> dict[str, Any]:
    """Run code in a new process that may cache bytecode, as after an installation."""
    command = [sys.executable, "-c", code, *arguments]
    environ = os.environ.copy()
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        command, env=environ, capture_output=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


def stream_bytes() -> dict[str, int]:
    """Measure a stream's bytes, by the sizes of segments of 8 and of 16 streams.

    Both have the same eight spare slots. Each column is stored twice, so that every
    window is contiguous.
    """
    sizes = {}
    for streams in (8, 16):
        name = f"bench-{os.getpid()}-{streams}"
        with create(name, history=HISTORY, max_streams=streams) as writer:
            sizes[streams] = (
                Path(f"/dev/shm/shmfeed.{os.getuid()}.{name}").stat().st_size
            )
            capacity = writer.geometry.capacity
            writer.close(unlink=True)
    whole = (sizes[16] - sizes[8]) // 8
    columns = 2 * len(COLUMNS) * WORD * capacity
    return {
        f"bytes of a stream of {HISTORY} bars": whole,
        "of these, besides its columns": whole - columns,
    }


def goals(found: dict[str, Spread], sizes: dict[str, int], pandas: bool) -> list[Goal]:
    name = "import shmfeed and all that attach needs, ms"
    private = "private memory after all bars of all streams, KiB"
    megabytes = Spread(*(kib / 1024 for kib in found[private]))
    _, besides = sizes.values()
    return [
        report.under(
            "import shmfeed, all of a reader, beyond numpy",
            found[name],
            MAX_IMPORT_MS,
            "ms",
            ".1f",
        ),
        Goal(
            "import wealthdata loads pandas",
            "no",
            "yes" if pandas else "no",
            not pandas,
        ),
        report.under("attach", found["attach, ms"], MAX_ATTACH_MS, "ms"),
        report.under(
            "private memory of a reader of all streams",
            megabytes,
            MAX_PRIVATE_MB,
            "MB",
        ),
        Goal(
            "a stream, besides its columns",
            f"at most {MAX_STREAM_BYTES} bytes",
            f"{besides} bytes",
            besides <= MAX_STREAM_BYTES,
        ),
    ]


def main() -> None:
    """Measure in fresh processes."""
    options = report.argument_parser(__doc__).parse_args()
    samples: dict[str, list[float]] = {}
    with filled_feed() as name:
        for _ in range(QUICK_RUNS if options.quick else RUNS):
            values = run_fresh(NUMPY) | run_fresh(IMPORTS)
            values |= run_fresh(ATTACH, name, SYMBOLS[0], TIMEFRAME)
            for what, value in values.items():
                samples.setdefault(what, []).append(value)
    pandas = any(samples.pop(PANDAS))
    found = {what: spread(values) for what, values in samples.items()}
    sizes = stream_bytes()
    lines: list[report.Line] = [HEADER, ""]
    lines += [(f"  {what}", values.text()) for what, values in found.items()]
    lines += [(f"  {what}", f"{value:,}") for what, value in sizes.items()]
    results = {what: [round(v, 4) for v in values] for what, values in found.items()}
    report.print_report(
        __file__, lines, results | sizes, options.json, goals(found, sizes, pandas)
    )


if __name__ == "__main__":
    main()
