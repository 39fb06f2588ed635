"""How long from a writer's store until another process is awake and holds the bar?

One way: the writer reads the clock, puts the time into the bar and writes it; the
sleeper reads the clock when it has the bar. A bar every two milliseconds, so that
sleepers sleep. Each rival is two processes, Redis and the manager three. The floor is a
futex between two processes of C that do nothing else.
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

import measure
import on_iceoryx
import on_manager
import on_redis
import report
import rings
from histogram import Histogram
from measure import Sleeper, spread
from report import Goal
from same_bytes import window

PACE = 0.002
BARS, QUICK_BARS = 150, 20  # a round
ROUNDS, QUICK_ROUNDS = 15, 1
SHARES = (0.5, 0.9, 0.99)
MOST_TIMES_FUTEX, LEAST_BESIDE_REDIS = 1.5, 5
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
_VOLUME = 6  # the word of a bar where the time is


def _as_bytes(
    sleeping: Callable[[ExitStack], Sleeper[bytes]],
) -> Callable[[ExitStack], tuple[Sleeper[bytes], Callable[[bytes], float]]]:
    def slept(end: ExitStack) -> tuple[Sleeper[bytes], Callable[[bytes], float]]:
        return sleeping(end), lambda bar: struct.unpack_from("d", bar, 8 * _VOLUME)[0]

    return slept


def _by_bytes(
    waking: Callable[[str, ExitStack], Callable[[bytes], object]],
) -> Callable[[str, ExitStack], Send]:
    def woken(told: str, end: ExitStack) -> Send:
        send, bar = waking(told, end), bytearray(window("bar"))

        def stamped(stamp: float) -> None:
            struct.pack_into("d", bar, 8 * _VOLUME, stamp)
            send(bytes(bar))

        return stamped

    return woken


# For each party: what sleeps, with what finds the time in what it holds.
SLEEPERS: dict[str, Callable[[ExitStack], tuple[Sleeper[Any], Any]]] = {
    WAIT: rings.sleeping,
    MANY: rings.sleeping_on_many,
    AIO: rings.sleeping_in_a_loop,
    PURE: rings.sleeping,
    on_iceoryx.ICEORYX: _as_bytes(on_iceoryx.sleeping),
    on_manager.PIPE: _as_bytes(on_manager.sleeping_on_pipe),
    on_redis.REDIS: _as_bytes(on_redis.sleeping),
    on_manager.MANAGER: _as_bytes(on_manager.sleeping),
}
WRITERS: dict[str, Callable[[str, ExitStack], Send]] = {
    **dict.fromkeys((WAIT, MANY, AIO, PURE), rings.waking),
    on_iceoryx.ICEORYX: _by_bytes(on_iceoryx.waking),
    on_manager.PIPE: _by_bytes(on_manager.waking_by_pipe),
    on_redis.REDIS: _by_bytes(on_redis.waking),
    on_manager.MANAGER: _by_bytes(on_manager.waking),
}


def write(send: Send, bars: int) -> None:
    """The writer's side of one round."""
    for _ in range(bars):
        time.sleep(PACE)
        send(float(time.monotonic_ns()))


def slept(receive: Callable[[], Any], bars: int) -> list[tuple[Any, int]]:
    """So many bars, each with the time at which it was held."""
    return [(receive(), time.monotonic_ns()) for _ in range(bars)]


async def awaited(
    receive: Callable[[], Awaitable[Any]], bars: int
) -> list[tuple[Any, int]]:
    return [(await receive(), time.monotonic_ns()) for _ in range(bars)]


def serve_sleeper(name: str, end: ExitStack) -> None:
    sleeper, stamp_of = SLEEPERS[name](end)
    writer = measure.Party(__file__, f"writer {name}", sleeper.told)
    end.callback(writer.close)
    writer.tell(call="begin")
    receive = sleeper.opened()
    writer.hear()

    def go(bars: int) -> list[float]:
        writer.tell(call="write", given=[bars + 1])
        if iscoroutinefunction(receive):
            held = asyncio.run(awaited(receive, bars + 1))
        else:
            held = slept(receive, bars + 1)
        writer.hear()
        took: dict[float, float] = {}
        for bar, now in held:
            stamp = stamp_of(bar)
            # Who overslept a bar holds the last one twice in the end.
            took.setdefault(stamp, now - stamp)
        # The first one may find a writer that was not heard of for long.
        return list(took.values())[1:]

    measure.serve({"go": go})


def serve_writer(name: str, told: str, end: ExitStack) -> None:
    send = WRITERS[name](told, end)
    measure.serve({"begin": lambda: None, "write": lambda bars: write(send, bars)})


def serve_futex(end: ExitStack) -> None:
    folder = end.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
    program = Path(folder, "futex_pair")
    source = Path(__file__).with_name("futex_pair.c")
    subprocess.run(["cc", "-O2", "-o", program, source], check=True)

    def go(bars: int) -> list[float]:
        command = [program, str(bars + 1), str(round(PACE * 1e9))]
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
        return [float(line) for line in done.stdout.split()][1:]

    measure.serve({"go": go})


def missing() -> dict[str, str]:
    rivals = {on_iceoryx.ICEORYX: on_iceoryx, on_redis.REDIS: on_redis}
    found = report.missing(rivals)
    found |= report.renamed(rings.missing(), {rings.PURE: PURE})
    if shutil.which("cc") is None:
        found[FUTEX] = "there is no C compiler here"
    return found


Rounds = dict[str, list[list[float]]]


def compete(found: Mapping[str, measure.Party], quick: bool) -> Rounds:
    """The latencies of each party, round by round, in an order that rotates."""
    bars, rounds = (QUICK_BARS, QUICK_ROUNDS) if quick else (BARS, ROUNDS)
    took: Rounds = {name: [] for name in found}
    for number in range(rounds):
        names = list(found)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            took[name].append(found[name].ask(call="go", given=[bars])["result"])
    return took


def medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [median(took) for took in rounds]


def table(took: Rounds, missing: Mapping[str, str]) -> list[report.Line]:
    lines: list[report.Line] = [HEADER, ""]
    first = medians(took[WAIT])
    for name, rounds in took.items():
        whole = Histogram.of(one for took in rounds for one in took)
        p50 = medians(rounds)
        times = spread(measure.ratios(p50, first)).text()
        middle = spread([ns / 1000 for ns in p50]).text(".1f")
        others = (f"{whole.quantile(share) / 1000:.1f}" for share in SHARES[1:])
        lines.append((f"  {LABELS[name]}", middle, *others, times))
    return [*lines, *(f"not measured: {name}: {why}" for name, why in missing.items())]


def goals(took: Rounds) -> list[Goal]:
    ours = medians(took[WAIT])
    what = "p50 from store to awake"
    beside = f"{what}, beside a bare futex in C"
    if FUTEX in took:
        times = spread(measure.ratios(ours, medians(took[FUTEX])))
        found = [report.under(beside, times, MOST_TIMES_FUTEX, "x", ".2f")]
    else:
        goal = f"under {MOST_TIMES_FUTEX:g} x"
        found = [report.not_measured(beside, goal, "the floor is not here")]
    beside = f"{what}, beside Redis pub/sub"
    if on_redis.REDIS in took:
        times_less = measure.ratios(medians(took[on_redis.REDIS]), ours)
        found.append(report.at_least(beside, times_less, LEAST_BESIDE_REDIS))
    else:
        goal = f"at least {LEAST_BESIDE_REDIS} x"
        found.append(report.not_measured(beside, goal, "the rival is not here"))
    return found


def main() -> None:
    """Ask, or be one of the two processes of a party."""
    options = report.arguments(__doc__).parse_args()
    if options.party is not None:
        role, _, name = options.party.rpartition("writer ")
        with ExitStack() as end:
            if role or options.party.startswith("writer "):
                serve_writer(name, options.argument, end)
            elif options.party == FUTEX:
                serve_futex(end)
            else:
                serve_sleeper(options.party, end)
        return
    absent = missing()
    names = [name for name in LABELS if name not in absent]
    with measure.parties(__file__, *names, argument="", pure=[PURE]) as found:
        took = compete(found, options.quick)
    results = {
        LABELS[name]: {
            "p50": [round(ns) for ns in medians(rounds)],
            "histogram": Histogram.of(ns for took in rounds for ns in took).told(),
        }
        for name, rounds in took.items()
    }
    lines = table(took, absent)
    report.report(__file__, lines, results, options.json, goals(took), absent)


if __name__ == "__main__":
    main()
