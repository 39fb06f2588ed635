"""The latency of a wake: from a writer's store until another process has the bar.

The writer reads the clock, puts the time into the bar and writes it; the sleeper reads
the clock when it has the bar. A bar comes every two milliseconds, so that sleepers
sleep. Each rival is two processes, Redis and the manager three. The floor is a futex
between two C processes that do nothing else.
"""

import asyncio
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from inspect import iscoroutinefunction
from pathlib import Path
from statistics import median
from typing import Any

import harness
import on_iceoryx
import on_manager
import on_redis
import on_shmfeed
import report
from harness import Sleeper, spread
from histogram import Histogram
from report import Goal
from sample_bars import window

PACE = 0.002
BARS, QUICK_BARS = 150, 20  # a round
ROUNDS, QUICK_ROUNDS = 15, 1
SHARES = (0.5, 0.9, 0.99)
MAX_TIMES_FUTEX, MIN_TIMES_REDIS = 1.5, 5
HEADER = ("", "p50 us (quartiles of rounds)", "p90", "p99", "times the first")
WAIT, MANY, AIO, PURE = "ring.wait", "shmfeed.wait", "shmfeed.aio", "pure ring.wait"
FUTEX = "futex"
LABELS = {
    WAIT: "ring.wait(), then view(1)",
    MANY: "shmfeed.wait() on 10 rings, then view(1)",
    AIO: "await shmfeed.aio.wait_ring(), then view(1)",
    PURE: "pure Python: ring.wait(), then view(1)",
    FUTEX: "floor: a futex between two processes of C",
    on_iceoryx.ICEORYX: "iceoryx2: publish and notify, timed_wait, receive",
    on_manager.PIPE: "multiprocessing Connection, over a Unix socket",
    on_redis.REDIS: "Redis PUBLISH, listen",
    on_manager.MANAGER: "multiprocessing.Manager: Queue.get",
}
Send = Callable[[float], object]
_VOLUME = 6  # the word of a bar that holds the time


def _reading_stamps(
    sleeper: Callable[[ExitStack], Sleeper[bytes]],
) -> Callable[[ExitStack], tuple[Sleeper[bytes], Callable[[bytes], float]]]:
    def with_stamp(end: ExitStack) -> tuple[Sleeper[bytes], Callable[[bytes], float]]:
        return sleeper(end), lambda bar: struct.unpack_from("d", bar, 8 * _VOLUME)[0]

    return with_stamp


def _writing_stamps(
    waker: Callable[[str, ExitStack], Callable[[bytes], object]],
) -> Callable[[str, ExitStack], Send]:
    def with_stamp(address: str, end: ExitStack) -> Send:
        send, bar = waker(address, end), bytearray(window("bar"))

        def send_stamp(stamp: float) -> None:
            struct.pack_into("d", bar, 8 * _VOLUME, stamp)
            send(bytes(bar))

        return send_stamp

    return with_stamp


# For each contender: its sleeper, and the function that finds the time in a bar.
SLEEPERS: dict[str, Callable[[ExitStack], tuple[Sleeper[Any], Any]]] = {
    WAIT: on_shmfeed.ring_sleeper,
    MANY: on_shmfeed.many_rings_sleeper,
    AIO: on_shmfeed.aio_sleeper,
    PURE: on_shmfeed.ring_sleeper,
    on_iceoryx.ICEORYX: _reading_stamps(on_iceoryx.sleeper),
    on_manager.PIPE: _reading_stamps(on_manager.pipe_sleeper),
    on_redis.REDIS: _reading_stamps(on_redis.sleeper),
    on_manager.MANAGER: _reading_stamps(on_manager.sleeper),
}
WRITERS: dict[str, Callable[[str, ExitStack], Send]] = {
    **dict.fromkeys((WAIT, MANY, AIO, PURE), on_shmfeed.waker),
    on_iceoryx.ICEORYX: _writing_stamps(on_iceoryx.waker),
    on_manager.PIPE: _writing_stamps(on_manager.pipe_waker),
    on_redis.REDIS: _writing_stamps(on_redis.waker),
    on_manager.MANAGER: _writing_stamps(on_manager.waker),
}


def write(send: Send, bars: int) -> None:
    """Write the bars of one round."""
    for _ in range(bars):
        time.sleep(PACE)
        send(float(time.monotonic_ns()))


def receive_all(receive: Callable[[], Any], bars: int) -> list[tuple[Any, int]]:
    """Return that many bars, each with the time of its arrival."""
    return [(receive(), time.monotonic_ns()) for _ in range(bars)]


async def receive_all_async(
    receive: Callable[[], Awaitable[Any]], bars: int
) -> list[tuple[Any, int]]:
    return [(await receive(), time.monotonic_ns()) for _ in range(bars)]


def serve_sleeper(name: str, end: ExitStack) -> None:
    sleeper, stamp_of = SLEEPERS[name](end)
    writer = harness.Contender(__file__, f"writer {name}", sleeper.address)
    end.callback(writer.close)
    writer.send(call="begin")
    receive = sleeper.open()
    writer.receive()

    def go(bars: int) -> list[float]:
        writer.send(call="write", arguments=[bars + 1])
        if iscoroutinefunction(receive):
            received = asyncio.run(receive_all_async(receive, bars + 1))
        else:
            received = receive_all(receive, bars + 1)
        writer.receive()
        took: dict[float, float] = {}
        for bar, now in received:
            stamp = stamp_of(bar)
            # A sleeper that missed a bar receives the last one twice.
            took.setdefault(stamp, now - stamp)
        # The first bar is left out: the writer was idle before it.
        return list(took.values())[1:]

    harness.serve({"go": go})


def serve_writer(name: str, address: str, end: ExitStack) -> None:
    send = WRITERS[name](address, end)
    harness.serve({"begin": lambda: None, "write": lambda bars: write(send, bars)})


def serve_futex(end: ExitStack) -> None:
    folder = end.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
    program = Path(folder, "futex_pair")
    source = Path(__file__).with_name("futex_pair.c")
    subprocess.run(["cc", "-O2", "-o", program, source], check=True)

    def go(bars: int) -> list[float]:
        command = [program, str(bars + 1), str(round(PACE * 1e9))]
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
        return [float(line) for line in done.stdout.split()][1:]

    harness.serve({"go": go})


def missing() -> dict[str, str]:
    rivals = {on_iceoryx.ICEORYX: on_iceoryx, on_redis.REDIS: on_redis}
    found = report.missing(rivals)
    found |= report.renamed(on_shmfeed.missing(), {on_shmfeed.PURE: PURE})
    if shutil.which("cc") is None:
        found[FUTEX] = "there is no C compiler"
    return found


Rounds = dict[str, list[list[float]]]


def medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [median(took) for took in rounds]


def table(took: Rounds, missing: Mapping[str, str]) -> list[report.Line]:
    lines: list[report.Line] = [HEADER, ""]
    first = medians(took[WAIT])
    for name, rounds in took.items():
        whole = Histogram.of(one for took in rounds for one in took)
        p50 = medians(rounds)
        times = spread(harness.ratios(p50, first)).text()
        middle = spread([ns / 1000 for ns in p50]).text(".1f")
        others = (f"{whole.quantile(share) / 1000:.1f}" for share in SHARES[1:])
        lines.append((f"  {LABELS[name]}", middle, *others, times))
    return [*lines, *(f"not measured: {name}: {why}" for name, why in missing.items())]


def goals(took: Rounds) -> list[Goal]:
    ours = medians(took[WAIT])
    what = "p50 from store to awake"
    beside = f"{what}, beside a bare futex in C"
    if FUTEX in took:
        times = spread(harness.ratios(ours, medians(took[FUTEX])))
        found = [report.under(beside, times, MAX_TIMES_FUTEX, "x", ".2f")]
    else:
        goal = f"under {MAX_TIMES_FUTEX:g} x"
        found = [report.not_measured(beside, goal, report.NOT_HERE)]
    beside = f"{what}, beside Redis pub/sub"
    if on_redis.REDIS in took:
        times_less = harness.ratios(medians(took[on_redis.REDIS]), ours)
        found.append(report.at_least(beside, times_less, MIN_TIMES_REDIS))
    else:
        goal = f"at least {MIN_TIMES_REDIS} x"
        found.append(report.not_measured(beside, goal, report.NOT_HERE))
    return found


def main() -> None:
    """Measure all contenders, or serve as one of the two processes of one."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        role, _, name = options.contender.rpartition("writer ")
        with ExitStack() as end:
            if role or options.contender.startswith("writer "):
                serve_writer(name, options.argument, end)
            elif options.contender == FUTEX:
                serve_futex(end)
            else:
                serve_sleeper(options.contender, end)
        return
    absent = missing()
    names = [name for name in LABELS if name not in absent]
    quick = options.quick
    bars, rounds = (QUICK_BARS, QUICK_ROUNDS) if quick else (BARS, ROUNDS)
    with harness.contenders(__file__, *names, argument="", pure=[PURE]) as found:
        took = harness.run_bars(found, bars, rounds)
    results = {
        LABELS[name]: {
            "p50": [round(ns) for ns in medians(rounds)],
            "histogram": Histogram.of(ns for took in rounds for ns in took).to_json(),
        }
        for name, rounds in took.items()
    }
    lines = table(took, absent)
    report.print_report(__file__, lines, results, options.json, goals(took), absent)


if __name__ == "__main__":
    main()
