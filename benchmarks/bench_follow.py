"""The latency of `follow`: from a close to the handler of another process.

The writer reads the clock, puts the time into the bar and closes it; the reader reads
the clock when it has the bar. A bar comes every two milliseconds, so that readers
sleep. Of 40 streams each closes in turn, and `ring.wait` knows which one is next: it is
the floor that a follow of all 40 is compared with.
"""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from inspect import isasyncgen
from statistics import median

import harness
import report
from harness import spread
from report import Goal
from sample_bars import HISTORY, forming_bar

import shmfeed
import wealthdata
from shmfeed.writer import create
from wealthdata import Closed

PACE = 0.002  # s
TIMEFRAME, STEP = "1h", 3_600_000
MANY = 40
BARS, QUICK_BARS = 200, 20  # a round
ROUNDS, QUICK_ROUNDS = 15, 1
MAX_TIMES = 1.2
TIMEOUT = 60.0  # s
HEADER = ("", "p50 us (quartiles of rounds)", "times ring.wait")
WAIT, FOLLOW, AIO_WAIT, AIO_FOLLOW = "wait", "follow", "aio wait", "aio follow"
LABELS = {
    f"{WAIT} 1": "ring.wait(), then view(1)",
    f"{FOLLOW} 1": "for event in follow(), one stream",
    f"{WAIT} {MANY}": f"ring.wait() of the next of {MANY}, then view(1)",
    f"{FOLLOW} {MANY}": f"for event in follow(), {MANY} streams",
    f"{AIO_WAIT} 1": "await aio.wait_ring(), then view(1)",
    f"{AIO_FOLLOW} 1": "async for event in follow(), one stream",
}
FLOORS = {
    f"{FOLLOW} 1": f"{WAIT} 1",
    f"{FOLLOW} {MANY}": f"{WAIT} {MANY}",
    f"{AIO_FOLLOW} 1": f"{AIO_WAIT} 1",
}
GOALS = (f"{FOLLOW} 1", f"{FOLLOW} {MANY}")


def symbols(count: int) -> list[str]:
    return [f"S{number}" for number in range(count)]


def serve_writer(name: str, count: int, end: ExitStack) -> None:
    writer = create(name, history=HISTORY, max_streams=count)
    end.callback(writer.close, unlink=True)
    rings = [writer.add_stream(symbol, TIMEFRAME) for symbol in symbols(count)]
    prices = forming_bar("BTCUSDT")[2:6]
    numbers = itertools.count()

    def write(bars: int) -> None:
        for _ in range(bars):
            time.sleep(PACE)
            turn, number = divmod(next(numbers), count)
            stamp = float(time.monotonic_ns())
            rings[number].append((turn + 1) * STEP, *prices, stamp)

    harness.serve({"begin": lambda: None, "write": write})


def waited_stamps(name: str, count: int) -> Iterator[float]:
    """Yield the stamp of each bar, by `ring.wait`."""
    feed = shmfeed.attach(name)
    rings = [feed.ring(symbol, TIMEFRAME) for symbol in symbols(count)]
    for number in itertools.count():
        ring = rings[number % count]
        ring.wait(number // count, timeout=TIMEOUT)
        yield float(ring.view(1)["volume"][-1])


def followed_stamps(name: str, count: int) -> Iterator[float]:
    events = wealthdata.follow(symbols(count), TIMEFRAME, TIMEOUT, feed=name)
    return (event.bar.volume for event in events if isinstance(event, Closed))


async def waited_in_tasks(name: str, count: int) -> AsyncIterator[float]:
    from shmfeed import aio

    ring = shmfeed.attach(name).ring(symbols(count)[0], TIMEFRAME)
    for number in itertools.count():
        await aio.wait_ring(ring, number, timeout=TIMEOUT)
        yield float(ring.view(1)["volume"][-1])


async def followed_in_tasks(name: str, count: int) -> AsyncIterator[float]:
    events = wealthdata.follow(symbols(count), TIMEFRAME, TIMEOUT, feed=name)
    async for event in events:
        if isinstance(event, Closed):
            yield event.bar.volume


READERS: dict[str, Callable[[str, int], Iterator[float] | AsyncIterator[float]]] = {
    WAIT: waited_stamps,
    FOLLOW: followed_stamps,
    AIO_WAIT: waited_in_tasks,
    AIO_FOLLOW: followed_in_tasks,
}


def serve_reader(contender: str, end: ExitStack) -> None:
    kind, _, count = contender.rpartition(" ")
    name = f"bench-{os.getpid()}"
    writer = harness.Contender(__file__, f"writer {count}", name)
    end.callback(writer.close)
    writer.ask(call="begin")
    wealthdata.use(on_stale="ignore")  # the writer is idle between two rounds
    stamps = READERS[kind](name, int(count))
    runner = end.enter_context(asyncio.Runner())

    def go(bars: int) -> list[float]:
        writer.send(call="write", arguments=[bars + 1])
        if isasyncgen(stamps):
            took = runner.run(latencies_async(stamps, bars + 1))
        else:
            took = [since(next(stamps)) for _ in range(bars + 1)]
        writer.receive()
        return took[1:]  # the writer was idle before the first

    harness.serve({"go": go})


def since(stamp: float) -> float:
    return time.monotonic_ns() - stamp


async def latencies_async(stamps: AsyncIterator[float], bars: int) -> list[float]:
    return [since(await anext(stamps)) for _ in range(bars)]


Rounds = dict[str, list[list[float]]]


def medians(took: Rounds, name: str) -> list[float]:
    return [median(one) / 1000 for one in took[name]]


def times_floor(took: Rounds, name: str) -> list[float]:
    return harness.ratios(medians(took, name), medians(took, FLOORS[name]))


def table(took: Rounds) -> list[report.Line]:
    lines: list[report.Line] = [HEADER, ""]
    for name in took:
        times = spread(times_floor(took, name)).text() if name in FLOORS else "1"
        p50 = spread(medians(took, name)).text(".1f")
        lines.append((f"  {LABELS[name]}", p50, times))
    return lines


def goals(took: Rounds) -> list[Goal]:
    found = []
    for name in GOALS:
        what = f"p50 from close to handler beside ring.wait, {name.split()[-1]} streams"
        times = spread(times_floor(took, name))
        found.append(report.under(what, times, MAX_TIMES, "x", ".2f"))
    return found


def main() -> None:
    """Measure all readers, or serve as one of the two processes of one."""
    options = report.argument_parser(__doc__).parse_args()
    contender = options.contender
    if contender is not None:
        with ExitStack() as end:
            if contender.startswith("writer "):
                count = int(contender.removeprefix("writer "))
                serve_writer(options.argument, count, end)
            else:
                serve_reader(contender, end)
        return
    quick = options.quick
    bars, rounds = (QUICK_BARS, QUICK_ROUNDS) if quick else (BARS, ROUNDS)
    with harness.contenders(__file__, *LABELS, argument="") as found:
        took = harness.run_bars(found, bars, rounds)
    results = {LABELS[name]: {"p50 us": medians(took, name)} for name in took}
    report.print_report(__file__, table(took), results, options.json, goals(took), {})


if __name__ == "__main__":
    main()
