"""What does the writer pay for readers that sleep until a bar closes?

Up to 64 processes sleep in ring.wait(). The writer closes one bar and wakes them; or a
batch of 50 bars and wakes once, as a feeder does after each batch of messages; or 50
bars with a wake each. It rests between, so that all are asleep again. How often the
bell was rung is read from the segment's wait word, and how often a reader was awake is
counted by the readers: those who are woken 50 times in a row may be up but once.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import attached
import filled_feed
import measure
import report
import rings
from filled_feed import SYMBOLS, TIMEFRAME
from measure import Spread, spread
from report import Goal

from shmfeed.layout import H_WAKE, WORD
from shmfeed.writer import create

READERS, QUICK_READERS = (0, 1, 8, 64), (0, 2)
ROUNDS, QUICK_ROUNDS = 5, 1
TURNS, QUICK_TURNS = 30, 5  # of each act, in each round
REST = 0.01  # s: 64 readers need some milliseconds of two cores
BATCH = 50
HEADER = ("", "us, median (quartiles)", "us a bar", "rings", "a reader was awake")
ONE, TOGETHER, EACH = "one bar, a wake", "50 bars, one wake", "50 bars, a wake each"
BARS = {ONE: 1, TOGETHER: BATCH, EACH: BATCH}


Acted = tuple[list[float], float]  # us each time, and how often the bell was rung


def rung(feed: str) -> int:
    """How often the feed's bell was rung so far."""
    segment = Path(f"/dev/shm/shmfeed.{os.getuid()}.{feed}")
    with segment.open("rb") as file:
        file.seek(H_WAKE * WORD)
        return int.from_bytes(file.read(4), sys.byteorder)


def acts(feed: str, end: ExitStack) -> dict[str, Callable[[int], Acted]]:
    """What the writer does so many times."""
    writer = create(feed, history=filled_feed.HISTORY)
    end.callback(writer.close, unlink=True)
    ring = writer.add_stream(SYMBOLS[0], TIMEFRAME)
    opened = itertools.count(rings.STEP, rings.STEP).__next__
    values = filled_feed.forming_bar(SYMBOLS[0])[2:8]

    def one() -> None:
        ring.append(opened(), *values)

    def together() -> None:
        for _ in range(BATCH):
            ring.append(opened(), *values, wake=False)
        writer.wake()

    def each() -> None:
        for _ in range(BATCH):
            ring.append(opened(), *values)

    def paced(act: Callable[[], None], turns: int) -> Acted:
        took, before = [], rung(feed)
        for _ in range(turns):
            writer.beat()
            time.sleep(REST)
            start = time.perf_counter_ns()
            act()
            took.append((time.perf_counter_ns() - start) / 1000)
        time.sleep(REST)
        return took, (rung(feed) - before) / turns

    one()
    found = {ONE: one, TOGETHER: together, EACH: each}
    return {name: lambda n, act=act: paced(act, n) for name, act in found.items()}


class Found:
    """What was measured for one act and one number of readers."""

    def __init__(self) -> None:
        self.took: list[float] = []  # us, a median a round
        self.rings: list[float] = []  # of the bell for one act, a mean a round
        self.wakes: list[float] = []  # of one reader for one act, a mean a round

    @property
    def us(self) -> Spread:
        return spread(self.took)


Table = dict[tuple[str, int], Found]


def measured(feed: str, writer: measure.Party, quick: bool) -> Table:
    sizes, turns = (QUICK_READERS, QUICK_TURNS) if quick else (READERS, TURNS)
    table: Table = {(act, size): Found() for act in BARS for size in sizes}
    with attached.crowd(feed) as crowd:
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            turn = number % len(sizes)
            for size, act in itertools.product(sizes[turn:] + sizes[:turn], BARS):
                crowd.ask(call="become", given=[size, attached.WAIT])
                took, rings = writer.ask(call=act, given=[turns])["result"]
                wakes = crowd.ask(call="become", given=[0, attached.WAIT])["result"]
                table[act, size].took.append(median(took))
                table[act, size].rings.append(rings)
                table[act, size].wakes += [sum(wakes) / size / turns] if size else []
    return table


def lines(table: Table) -> list[report.Line]:
    told: list[report.Line] = [HEADER]
    for act, bars in BARS.items():
        told += ["", act]
        for (one, size), found in table.items():
            if one == act:
                us = found.us
                wakes = f"{median(found.wakes):.2f}" if found.wakes else "-"
                bar = f"{us.median / bars:.2f}"
                rings = f"{median(found.rings):.2f}"
                told.append((f"  {size} readers", us.text(".1f"), bar, rings, wakes))
    return told


def goal(table: Table) -> Goal:
    size = max(size for _, size in table)
    all_rings = [found.rings for (act, _), found in table.items() if act == TOGETHER]
    most = max(rings for found in all_rings for rings in found)
    us = table[TOGETHER, size].us
    value = (
        f"{most:.2f}; the batch took {us.text('.0f')} us"
        f" with {size} waiting, {table[TOGETHER, 0].us.text('.0f')} us with none"
    )
    what = f"wakes for a batch of {BATCH} bars"
    return Goal(what, "1", value, most == 1)


def main() -> None:
    """Ask, or be the writer."""
    options = report.arguments(__doc__).parse_args()
    if options.party is not None:
        with ExitStack() as end:
            measure.serve(acts(options.argument, end))
        return
    feed = f"bench-{os.getpid()}"
    with measure.parties(__file__, "writer", argument=feed) as found:
        found["writer"].ask(call=ONE, given=[1])  # the feed is there
        table = measured(feed, found["writer"], options.quick)
    results = [
        {
            "act": act,
            "readers": size,
            "us": [round(us, 3) for us in one.us],
            "rings": median(one.rings),
            "wakes": round(median(one.wakes), 3) if one.wakes else None,
        }
        for (act, size), one in table.items()
    ]
    report.report(__file__, lines(table), results, options.json, [goal(table)])


if __name__ == "__main__":
    main()
