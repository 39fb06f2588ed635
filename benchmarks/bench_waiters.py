"""The cost for the writer of readers that sleep until a bar closes.

Up to 64 processes sleep in ring.wait(). The writer closes one bar and wakes them; or 50
bars with one wake, as a feeder does after a batch of messages; or 50 bars with a wake
for each. It pauses between, so that all readers are asleep again. The wakes are counted
by the segment's wait word. The readers count how often they were awake: 50 wakes in a
row may wake a reader only once.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import harness
import on_shmfeed
import report
from harness import Spread, spread
from reader_crowd import WAIT, reader_crowd
from report import Goal
from sample_bars import HISTORY, SYMBOLS, TIMEFRAME, forming_bar

from shmfeed.layout import H_WAKE, WORD
from shmfeed.writer import create

READERS, QUICK_READERS = (0, 1, 8, 64), (0, 2)
ROUNDS, QUICK_ROUNDS = 5, 1
TURNS, QUICK_TURNS = 30, 5  # of each action, in each round
PAUSE = 0.01  # s; 64 readers need some milliseconds of two cores
BATCH = 50
MAX_US = 20  # for each waiting reader
HEADER = ("", "us, median (quartiles)", "us a bar", "wakes", "times awake")
ONE, TOGETHER, EACH = "one bar, a wake", "50 bars, one wake", "50 bars, a wake each"
BARS = {ONE: 1, TOGETHER: BATCH, EACH: BATCH}


Measured = tuple[list[float], float]  # us of each action, and wakes for one


def wake_count(feed: str) -> int:
    """Return the wakes of the feed so far."""
    segment = Path(f"/dev/shm/shmfeed.{os.getuid()}.{feed}")
    with segment.open("rb") as file:
        file.seek(H_WAKE * WORD)
        return int.from_bytes(file.read(4), sys.byteorder)


def actions(feed: str, end: ExitStack) -> dict[str, Callable[[int], Measured]]:
    """Return the writer's actions; the argument says how many times."""
    writer = create(feed, history=HISTORY)
    end.callback(writer.close, unlink=True)
    ring = writer.add_stream(SYMBOLS[0], TIMEFRAME)
    next_open_time = itertools.count(on_shmfeed.STEP, on_shmfeed.STEP).__next__
    values = forming_bar(SYMBOLS[0])[2:8]

    def one() -> None:
        ring.append(next_open_time(), *values)

    def together() -> None:
        for _ in range(BATCH):
            ring.append(next_open_time(), *values, wake=False)
        writer.wake()

    def each() -> None:
        for _ in range(BATCH):
            ring.append(next_open_time(), *values)

    def time_action(action: Callable[[], None], turns: int) -> Measured:
        took, before = [], wake_count(feed)
        for _ in range(turns):
            writer.beat()
            time.sleep(PAUSE)
            start = time.perf_counter_ns()
            action()
            took.append((time.perf_counter_ns() - start) / 1000)
        time.sleep(PAUSE)
        return took, (wake_count(feed) - before) / turns

    one()
    found = {ONE: one, TOGETHER: together, EACH: each}
    return {
        name: lambda n, action=action: time_action(action, n)
        for name, action in found.items()
    }


class Samples:
    """The samples of one action and one number of readers."""

    def __init__(self) -> None:
        self.took: list[float] = []  # us, a median a round
        self.wakes: list[float] = []  # for one action, a mean a round
        self.awake: list[float] = []  # of one reader for one action, a mean a round

    @property
    def us(self) -> Spread:
        return spread(self.took)


Table = dict[tuple[str, int], Samples]


def measure(feed: str, writer: harness.Contender, quick: bool) -> Table:
    sizes, turns = (QUICK_READERS, QUICK_TURNS) if quick else (READERS, TURNS)
    table: Table = {(action, size): Samples() for action in BARS for size in sizes}
    with reader_crowd(feed) as crowd:
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            turn = harness.in_turn(sizes, number)
            for size, action in itertools.product(turn, BARS):
                crowd.ask(call="replace", arguments=[size, WAIT])
                took, wakes = writer.ask(call=action, arguments=[turns])["result"]
                awake = crowd.ask(call="replace", arguments=[0, WAIT])["result"]
                samples = table[action, size]
                samples.took.append(median(took))
                samples.wakes.append(wakes)
                samples.awake += [sum(awake) / size / turns] if size else []
    return table


def lines(table: Table) -> list[report.Line]:
    found: list[report.Line] = [HEADER]
    for action, bars in BARS.items():
        found += ["", action]
        for (one, size), samples in table.items():
            if one == action:
                us = samples.us
                awake = f"{median(samples.awake):.2f}" if samples.awake else "-"
                bar = f"{us.median / bars:.2f}"
                wakes = f"{median(samples.wakes):.2f}"
                found.append((f"  {size} readers", us.text(".1f"), bar, wakes, awake))
    return found


def goals(table: Table) -> list[Goal]:
    size = max(size for _, size in table)
    waiting, none = table[ONE, size].us, table[ONE, 0].us
    what = f"the writer's cost of a bar and its wake with {size} waiting"
    cost = report.under(what, waiting, MAX_US * size, "us", ".0f")
    alone = f", {none.text('.1f')} us with none"
    return [batch_goal(table, size), cost._replace(value=cost.value + alone)]


def batch_goal(table: Table, size: int) -> Goal:
    batches = [one for (action, _), one in table.items() if action == TOGETHER]
    most = max(wakes for one in batches for wakes in one.wakes)
    us = table[TOGETHER, size].us
    value = (
        f"{most:.2f}; the batch took {us.text('.0f')} us"
        f" with {size} waiting, {table[TOGETHER, 0].us.text('.0f')} us with none"
    )
    what = f"wakes for a batch of {BATCH} bars"
    return Goal(what, "1", value, most == 1)


def main() -> None:
    """Measure, or serve as the writer."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        with ExitStack() as end:
            harness.serve(actions(options.argument, end))
        return
    feed = f"bench-{os.getpid()}"
    with harness.contenders(__file__, "writer", argument=feed) as found:
        found["writer"].ask(call=ONE, arguments=[1])  # the feed is created
        table = measure(feed, found["writer"], options.quick)
    results = [
        {
            "action": action,
            "readers": size,
            "us": [round(us, 3) for us in one.us],
            "wakes": median(one.wakes),
            "awake": round(median(one.awake), 3) if one.awake else None,
        }
        for (action, size), one in table.items()
    ]
    report.print_report(__file__, lines(table), results, options.json, goals(table))


if __name__ == "__main__":
    main()
