"""Does a read cost more where others read too, or where a feed carries more streams?

Up to 64 processes are attached; all but the measured one sleep between two reads, as
strategies do. On few cores they still run at times: each figure is the median of short
samples, so that a sample into which one of them fell does not count.

Streams: the same one of the feed is read again and again; then all of them in turn,
where a stream that was not looked at for long is no more in the CPU's caches. What that
costs is the memory's, and is told beside it.
"""

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

import attached
import filled_feed
import measure
import report
from filled_feed import TIMEFRAME, symbol_of
from measure import Call, Calls, spread
from report import Goal

import shmfeed

READERS, QUICK_READERS = (1, 2, 4, 8, 16, 32, 64), (1, 4)
STREAMS, QUICK_STREAMS = (1, 10, 100, 1000, 2000), (1, 20)
HISTORY = 200
ROUNDS, QUICK_ROUNDS = 9, 1
SAMPLES, SECONDS = 12, 0.002
FLAT = 1.1
HEADER = ("", "us a read (quartiles)", "CPU us", "times the first")
VIEW, SNAPSHOT = "view(20).values", "snapshot(20)"
TURN, PICK = "in turn, ", "in turn: only the ring"
READS = (VIEW, SNAPSHOT, TURN + VIEW, TURN + SNAPSHOT)


def calls(feed: str, streams: int) -> Calls:
    """Reads of one ring, and of all in turn."""
    found = shmfeed.attach(feed)
    rings = [found.ring(symbol_of(number), TIMEFRAME) for number in range(streams)]
    one, pick = rings[streams // 2], itertools.cycle(rings).__next__
    made: dict[str, Call] = {
        VIEW: lambda: one.view(20).values,
        SNAPSHOT: lambda: one.snapshot(20),
        TURN + VIEW: lambda: pick().view(20).values,
        TURN + SNAPSHOT: lambda: pick().snapshot(20),
        PICK: pick,
    }
    return made


Samples = dict[tuple[str, int], list[tuple[float, float]]]  # (wall, cpu) a round


def ask(party: measure.Party, call: str) -> tuple[float, float]:
    """The median of some short samples, without an empty call."""
    heard = [party.ask(call=call, seconds=SECONDS) for _ in range(SAMPLES)]
    empty = median(one["empty"] for one in heard)
    return (
        median(one["wall"] for one in heard) - empty,
        median(one["cpu"] for one in heard) - empty,
    )


def by_readers(quick: bool) -> Samples:
    sizes = QUICK_READERS if quick else READERS
    found: Samples = {(VIEW, size): [] for size in sizes}
    with ExitStack() as end:
        name = end.enter_context(filled_feed.held(history=HISTORY))
        reader = measure.Party(__file__, "reader", f"{name} {len(filled_feed.SYMBOLS)}")
        end.callback(reader.close)
        crowd = end.enter_context(attached.crowd(name))
        ask(reader, VIEW)
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            turn = number % len(sizes)
            for size in sizes[turn:] + sizes[:turn]:
                crowd.ask(call="become", given=[size - 1, attached.READ])
                found[VIEW, size].append(ask(reader, VIEW))
    return found


def by_streams(quick: bool) -> Samples:
    sizes = QUICK_STREAMS if quick else STREAMS
    found: Samples = {(read, size): [] for read in READS for size in sizes}
    with ExitStack() as end:
        readers = {}
        for size in sizes:
            name = end.enter_context(filled_feed.held(size, HISTORY))
            readers[size] = measure.Party(__file__, "reader", f"{name} {size}")
            end.callback(readers[size].close)
            for read in READS:
                ask(readers[size], read)
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            turn = number % len(sizes)
            for read, size in itertools.product(READS, sizes[turn:] + sizes[:turn]):
                wall, cpu = ask(readers[size], read)
                if read.startswith(TURN):
                    picked = ask(readers[size], PICK)
                    wall, cpu = wall - picked[0], cpu - picked[1]
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
        times = spread(measure.ratios(wall, first)).text()
        label = f"  {size:,} {unit}"
        lines.append((label, spread(wall).text(".3f"), cpu, times))
    return lines


def flat(what: str, found: Samples) -> Goal:
    """Of the size at which a read cost most, against the first."""
    sizes = [size for read, size in found if read == VIEW]
    first = [sample[0] for sample in found[VIEW, sizes[0]]]
    times = {
        size: spread(measure.ratios([s[0] for s in found[VIEW, size]], first))
        for size in sizes[1:]
    }
    worst = max(times, key=lambda size: times[size].median)
    what = f"{what}: one read, the dearest at {worst}, beside {sizes[0]}"
    return report.under(what, times[worst], FLAT, "x", ".2f")


def told(found: Samples) -> list[dict[str, object]]:
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
    """Ask, or be the one who reads."""
    options = report.arguments(__doc__).parse_args()
    if options.party is not None:
        feed, streams = options.argument.split()
        measure.serve(calls(feed, int(streams)))
        return
    readers, streams = by_readers(options.quick), by_streams(options.quick)
    lines: Sequence[report.Line] = [
        HEADER,
        *table("attached processes", "attached", readers),
        *table("streams of the feed", "streams", streams),
    ]
    results = {"readers": told(readers), "streams": told(streams)}
    goals = [flat("attached processes", readers), flat("streams", streams)]
    report.report(__file__, lines, results, options.json, goals)


if __name__ == "__main__":
    main()
