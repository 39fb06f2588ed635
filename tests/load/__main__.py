"""2,000 streams and 64 strategies for half an hour, stopped readers, abusive clients.

    PYTHONPATH=tests python -m load --seconds 1800

The exit code is 0 if there is no violation: each strategy had each close with the
venue's values, each abusive client was cut off while others were served, and memory,
descriptors and latency stayed flat.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from load.abuse import Abuse, abuses
from load.findings import Findings, Probe, judge, take_closes
from load.report import MARKS, figures, report
from load.size import Size
from load.stage import Stage
from soak.report import write_table
from soak.usage import Usage
from support import census

from shmfeed.bar import duration
from shmfeed.segment.mapping import place

_SAMPLE_SECONDS = 5.0
_LOOK_SECONDS = 0.2
_ABUSE_AT = 0.34  # of the run: the growth is that from its first third to its last
_LAST_SECONDS = 1.0  # of the run, in which a strategy may not have read a close yet


def play(stage: Stage, usage: Usage) -> Findings:
    """Look at a load until its end; return the findings."""
    size, found = stage.size, Findings()
    found.taken, found.sized = stage.stream_bytes()
    began, first = time.monotonic(), time.time()
    with ThreadPoolExecutor(1) as pool:
        look_until(stage, usage, found, began + _ABUSE_AT * size.seconds)
        path = place(stage.name).socket
        abusing = None
        if size.connections:
            abusing = pool.submit(abuses, path, size.connections)
        look_until(stage, usage, found, began + size.seconds, abusing)
        found.abuses = abusing.result() if abusing else []
    stage.stop_reader(False)
    span = first * 1000, (time.time() - _LAST_SECONDS) * 1000
    take_closes(found, size, stage.results(), span)
    return found


def look_until(
    stage: Stage,
    usage: Usage,
    found: Findings,
    end: float,
    abusing: Future[list[Abuse]] | None = None,
) -> None:
    """Look until `end`, and until the abuses have ended."""
    next_probe = time.monotonic()
    while (now := time.monotonic()) < end or (abusing and not abusing.done()):
        usage.take_each(_SAMPLE_SECONDS, lambda: stage.pids)
        stopped = stop_by_turns(stage, found)
        if now >= next_probe:
            next_probe = now + stage.size.probe_every
            probe(stage, found, stopped)
        time.sleep(_LOOK_SECONDS)


def stop_by_turns(stage: Stage, found: Findings) -> bool:
    """Stop a reader over every other close, and let it go on for the next."""
    bar = duration(stage.size.timeframes[0])
    number = (time.time_ns() // 1_000_000 + bar // 2) // bar
    stopped = number % 2 == 0
    if stopped:
        found.stopped.add(number * bar)
    stage.stop_reader(stopped)
    return stopped


def probe(stage: Stage, found: Findings, stopped: bool) -> None:
    """Let each observer look once."""
    for name, look in stage.probes().items():
        began = time.monotonic()
        look()
        found.probes.append(Probe(name, time.monotonic() - began, stopped))
    found.healths[stage.status()["health"]] += 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--strategies", type=int, default=64)
    parser.add_argument("--timeframes", default="1m,5m,15m,1h")
    parser.add_argument("--show", type=Path, help="put the figures into this page")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    timeframes = tuple(given.timeframes.split(","))
    size = Size(given.seconds, given.symbols, timeframes, given.strategies)
    os.environ[census.MARK] = str(os.getpid())
    logging.getLogger("shmfeed").addHandler(logging.NullHandler())  # the report tells
    before = census.take()
    usage = Usage()
    name = f"t{os.getpid()}x-load"
    with tempfile.TemporaryDirectory() as folder:
        with Stage(name, size, Path(folder)) as stage:
            found = play(stage, usage)
    judge(found, usage)
    found.violations += [
        f"left behind: {line}"
        for line in census.leftovers(before)
        if "/dev/shm" not in line or name in line  # another run's
    ]
    rows = figures(found, usage, size, given.seconds)
    print(report(found, rows))
    if given.show is not None:
        write_table(given.show, rows, MARKS)
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())
