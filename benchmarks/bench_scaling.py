"""The cost of a read by the number of readers, and by the number of streams of a feed.

Up to 64 processes are attached; all but the measured one sleep between two reads, as
strategies do. On few cores they interrupt some samples, so each value is the median of
short samples.

Streams: one stream is read again and again, then all of them in turn. In turn, a stream
has left the CPU's caches by the time of its next read, and the memory's latency adds to
the cost.
"""

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

import harness
import report
from filled_feed import filled_feed
from harness import Call, Calls, spread
from reader_crowd import READ, reader_crowd
from report import Goal
from sample_bars import SYMBOLS, TIMEFRAME, symbol_of

import shmfeed

READERS, QUICK_READERS = (1, 2, 4, 8, 16, 32, 64), (1, 4)
STREAMS, QUICK_STREAMS = (1, 10, 100, 1000, 2000), (1, 20)
HISTORY = 200
ROUNDS, QUICK_ROUNDS = 9, 1
SAMPLES, SECONDS = 12, 0.002
FLAT = 1.1
HEADER = ("", "us a read (quartiles)", "CPU us", "times the first")
VIEW, SNAPSHOT = "view(20).values", "snapshot(20)"
IN_TURN, NEXT_RING = "in turn, ", "in turn: only the ring"
READS = (VIEW, SNAPSHOT, IN_TURN + VIEW, IN_TURN + SNAPSHOT)


def calls(feed: str, streams: int) -> Calls:
    """Return reads of one ring, and of all in turn."""
    found = shmfeed.attach(feed)
    rings = [found.ring(symbol_of(number), TIMEFRAME) for number in range(streams)]
    one, next_ring = rings[streams // 2], itertools.cycle(rings).__next__
    made: dict[str, Call] = {
        VIEW: lambda: one.view(20).values,
        SNAPSHOT: lambda: one.snapshot(20),
        IN_TURN + VIEW: lambda: next_ring().view(20).values,
        IN_TURN + SNAPSHOT: lambda: next_ring().snapshot(20),
        NEXT_RING: next_ring,
    }
    return made


Samples = dict[tuple[str, int], list[tuple[float, float]]]  # (wall, cpu) a round


def sample(contender: harness.Contender, call: str) -> tuple[float, float]:
    """Return (wall, cpu) in ns: medians of short samples, less an empty call."""
    answers = [contender.ask(call=call, seconds=SECONDS) for _ in range(SAMPLES)]
    empty = median(one["empty"] for one in answers)
    return (
        median(one["wall"] for one in answers) - empty,
        median(one["cpu"] for one in answers) - empty,
    )


def by_readers(quick: bool) -> Samples:
    sizes = QUICK_READERS if quick else READERS
    found: Samples = {(VIEW, size): [] for size in sizes}
    with ExitStack() as end:
        name = end.enter_context(filled_feed(history=HISTORY))
        reader = harness.Contender(__file__, "reader", f"{name} {len(SYMBOLS)}")
        end.callback(reader.close)
        crowd = end.enter_context(reader_crowd(name))
        sample(reader, VIEW)
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            for size in harness.in_turn(sizes, number):
                crowd.ask(call="replace", arguments=[size - 1, READ])
                found[VIEW, size].append(sample(reader, VIEW))
    return found


def by_streams(quick: bool) -> Samples:
    sizes = QUICK_STREAMS if quick else STREAMS
    found: Samples = {(read, size): [] for read in READS for size in sizes}
    with ExitStack() as end:
        readers = {}
        for size in sizes:
            name = end.enter_context(filled_feed(size, HISTORY))
            readers[size] = harness.Contender(__file__, "reader", f"{name} {size}")
            end.callback(readers[size].close)
            for read in READS:
                sample(readers[size], read)
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            turn = harness.in_turn(sizes, number)
            for read, size in itertools.product(READS, turn):
                wall, cpu = sample(readers[size], read)
                if read.startswith(IN_TURN):
                    picking = sample(readers[size], NEXT_RING)
                    wall, cpu = wall - picking[0], cpu - picking[1]
                found[read, size].append((wall, cpu))
    return found


def table(title: str, unit: str, found: Samples) -> list[report.Line]:
    lines: list[report.Line] = []
    first: list[float] = []
    last = None
    for (read, size), samples in found.items():
        wall = [sample[0] / 1000 for sample in samples]
        if read != last:
            lines += ["", f"{title}: {read}"]
            first, last = wall, read
        cpu = f"{median(sample[1] for sample in samples) / 1000:.3f}"
        times = spread(harness.ratios(wall, first)).text()
        label = f"  {size:,} {unit}"
        lines.append((label, spread(wall).text(".3f"), cpu, times))
    return lines


def flat_goal(what: str, found: Samples) -> Goal:
    """Return the goal of the size at which a read costs most, relative to the first."""
    sizes = [size for read, size in found if read == VIEW]
    first = [sample[0] for sample in found[VIEW, sizes[0]]]
    times = {
        size: spread(harness.ratios([s[0] for s in found[VIEW, size]], first))
        for size in sizes[1:]
    }
    worst = max(times, key=lambda size: times[size].median)
    what = f"one read among {what}, the costliest size beside {sizes[0]}"
    goal = report.under(what, times[worst], FLAT, "x", ".2f")
    return goal._replace(value=f"{goal.value} at {worst}")


def to_json(found: Samples) -> list[dict[str, object]]:
    return [
        {
            "read": read,
            "size": size,
            "us": [round(v, 4) for v in spread([s[0] / 1000 for s in samples])],
            "cpu_us": round(median(s[1] for s in samples) / 1000, 4),
        }
        for (read, size), samples in found.items()
    ]


def main() -> None:
    """Measure, or serve as the measured reader."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        feed, streams = options.argument.split()
        harness.serve(calls(feed, int(streams)))
        return
    readers, streams = by_readers(options.quick), by_streams(options.quick)
    lines: Sequence[report.Line] = [
        HEADER,
        *table("attached processes", "attached", readers),
        *table("streams of the feed", "streams", streams),
    ]
    results = {"readers": to_json(readers), "streams": to_json(streams)}
    goals = [flat_goal("attached processes", readers), flat_goal("streams", streams)]
    report.print_report(__file__, lines, results, options.json, goals)


if __name__ == "__main__":
    main()
