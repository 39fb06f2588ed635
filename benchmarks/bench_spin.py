"""The latency of a reader that spins, beside one that sleeps and a bare futex in C.

A writer closes a bar each second, as a venue does; the reader reads the clock when it
has the bar. Spinning is for bars that come seldom, when caches have gone cold: a
benchmark of hot wakes, bench_wakeup, says little about it. The floor is a futex between
two processes of C that do nothing else, at the same pace.

The writer appends to another stream just before each bar, so that the time from its
store of the time to that of the row is short: what is measured is the reader.

Other programs that run would take the core from a reader that looks, and from a writer.
So both have real-time priority where the system allows it. The floor has the usual one:
at it the kernel may run the sleeper on the waker's core, which is the faster.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import harness
import report
from harness import spread

import shmfeed
from shmfeed.memory.words import boot_ns
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import create

PACE, WARM_SECONDS = 1.0, 0.002
TIMEFRAME = "1s"
SPIN_SECONDS = 0.003
BARS, QUICK_BARS = 12, 2  # a round
ROUNDS, QUICK_ROUNDS = 3, 1
FIRST_BARS = 2  # the first teaches the reader when bars come
MAX_TIMES_FUTEX, MAX_SHARE = 0.5, 0.5
HEADER = ("", "p50 us (quartiles of rounds)", "most us", "times a futex", "% of a core")
SPIN, SLEEP, FUTEX = "spin", "sleep", "futex"
LABELS = {
    SPIN: f"ring.wait(spin={SPIN_SECONDS:g})",
    SLEEP: "ring.wait()",
    FUTEX: "floor: a futex between two processes of C",
}
PRIORITY = 50
Round = dict[str, list[float]]  # latencies, ns; the reader's share of a core, %


def take_priority() -> bool:
    """Run this process at real-time priority. Return False if that is refused."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError:
        return False
    return True


def serve_writer(feed: str, end: ExitStack) -> None:
    take_priority()
    writer = create(feed, history=100)
    end.callback(writer.close, unlink=True)
    ring = writer.add_stream("BTCUSDT", TIMEFRAME)
    other = writer.add_stream("ETHUSDT", TIMEFRAME)

    def append(ring: RingWriter, wake: bool) -> None:
        ring.append((ring.reader.count + 1) * 1000, 1, 1, 1, 1, 1, wake=wake)

    next_at = 0.0

    def write(bars: int) -> None:
        nonlocal next_at
        for _ in range(bars):
            now = time.monotonic()
            next_at = max(next_at + PACE, now - now % PACE + PACE)
            while (left := next_at - WARM_SECONDS - time.monotonic()) > 0:
                writer.beat()
                time.sleep(min(left, 0.4))
            while time.monotonic() < next_at:
                append(other, wake=False)
            append(ring, wake=True)

    harness.serve({"begin": lambda: None, "write": write})


def serve_reader(name: str, end: ExitStack) -> None:
    privileged = take_priority()
    feed = f"bench-spin-{os.getpid()}"
    writer = harness.Contender(__file__, "writer", feed)
    end.callback(writer.close)
    writer.ask(call="begin")
    ring = end.enter_context(shmfeed.attach(feed)).ring("BTCUSDT", TIMEFRAME)
    spin, seen = SPIN_SECONDS if name == SPIN else 0.0, 0

    def receive(bars: int) -> list[float]:
        nonlocal seen
        took = []
        while len(took) < bars:
            count = ring.wait(seen, timeout=10, spin=spin)
            now = boot_ns()
            if count is None:
                raise SystemExit("no bar came within 10 s")
            seen = count
            # The append itself stores this time, just before it publishes the row.
            took.append(now - ring._current_reader().updated)
        return took

    def go(bars: int) -> Round:
        writer.send(call="write", arguments=[FIRST_BARS + bars])
        receive(FIRST_BARS)
        cpu, wall = time.process_time(), time.monotonic()
        took = receive(bars)
        share = (time.process_time() - cpu) / (time.monotonic() - wall)
        writer.receive()
        return {"ns": took, "share": [100 * share], "privileged": [privileged]}

    harness.serve({"go": go})


def serve_futex(end: ExitStack) -> None:
    folder = end.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
    program = Path(folder, "futex_pair")
    source = Path(__file__).with_name("futex_pair.c")
    subprocess.run(["cc", "-O2", "-o", program, source], check=True)

    def go(bars: int) -> Round:
        command = [program, str(bars + FIRST_BARS), str(round(PACE * 1e9))]
        done = subprocess.run(command, capture_output=True, check=True, timeout=90)
        took = [float(line) for line in done.stdout.split()]
        return {"ns": took[FIRST_BARS:], "share": []}

    harness.serve({"go": go})


def medians(rounds: Sequence[Round]) -> list[float]:
    return [median(one["ns"]) for one in rounds]


def times_futex(took: dict[str, list[Round]], name: str) -> list[float] | None:
    if FUTEX not in took:
        return None
    return harness.ratios(medians(took[name]), medians(took[FUTEX]))


def table(took: dict[str, list[Round]]) -> list[report.Line]:
    lines: list[report.Line] = [HEADER, ""]
    for name, rounds in took.items():
        middle = spread([ns / 1000 for ns in medians(rounds)]).text(".1f")
        most = max(ns for one in rounds for ns in one["ns"]) / 1000
        times = times_futex(took, name)
        shares = [share for one in rounds for share in one["share"]]
        lines.append(
            (
                f"  {LABELS[name]}",
                middle,
                f"{most:.1f}",
                spread(times).text() if times else "-",
                f"{median(shares):.3f}" if shares else "-",
            )
        )
    if not all(took[SPIN][0]["privileged"]):
        lines.append("real-time priority is refused: other programs delay the bars")
    return lines


def goals(took: dict[str, list[Round]]) -> list[report.Goal]:
    what = "p50 from store to awake with spin, beside a bare futex in C"
    times = times_futex(took, SPIN)
    if times is None:
        goal = f"under {MAX_TIMES_FUTEX:g} x"
        found = [report.not_measured(what, goal, report.NOT_HERE)]
    else:
        found = [report.under(what, spread(times), MAX_TIMES_FUTEX, "x", ".2f")]
    share = spread([share for one in took[SPIN] for share in one["share"]])
    what = "share of a core of a reader that spins, bars of 1 s"
    return [*found, report.under(what, share, MAX_SHARE, "%")]


def main() -> None:
    """Measure, or serve as one process."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        with ExitStack() as end:
            serve: Callable[[], None] = {
                "writer": lambda: serve_writer(options.argument, end),
                FUTEX: lambda: serve_futex(end),
            }.get(options.contender, lambda: serve_reader(options.contender, end))
            serve()
        return
    absent = {} if shutil.which("cc") else {FUTEX: "there is no C compiler"}
    names = [name for name in LABELS if name not in absent]
    quick = options.quick
    bars, rounds = (QUICK_BARS, QUICK_ROUNDS) if quick else (BARS, ROUNDS)
    with harness.contenders(__file__, *names, argument="") as found:
        took = harness.run_bars(found, bars, rounds)
    lines = [*table(took), *(f"not measured: {n}: {why}" for n, why in absent.items())]
    report.print_report(__file__, lines, took, options.json, goals(took), absent)


if __name__ == "__main__":
    main()
