"""The cost of reading 500 symbols at once, as a cross-sectional strategy does.

The floor of an array is one strided copy within a process: the same bytes, no checks.
The floor of a frame is the way without a cut: a snapshot of each ring, and one
concatenation. The path that a feed replaces is that of bench_get_price: a locked deque
of dicts for each symbol, each made a DataFrame, all concatenated.
"""

from contextlib import ExitStack
from typing import Any

import harness
import numpy as np
import report
from bench_get_price import LABELS, ORDINARY, check_same_frames, digest, ordinary
from filled_feed import filled_feed
from harness import Calls, Case, CaseTimes, Comparison
from report import Goal
from sample_bars import TIMEFRAME, symbol_of

import shmfeed
import wealthdata

STREAMS, ROWS, HISTORY, FIELDS = 500, 20, 100, 5
SHAPE = f"{STREAMS} x {ROWS} x {FIELDS}"
NAMES = [symbol_of(number) for number in range(STREAMS)]
OURS, REPLACED, NUMPY = "shmfeed", "replaced", "numpy"
ALIGNED, UNALIGNED = "shmfeed.cut()", "shmfeed.cut(align=False)"
SNAPSHOTS, STRIDED = "floor: 500 snapshots, concatenated", "floor: a strided copy"
LONG, LATEST, WIDE = "get_price", "get_price(align=True)", "get_price(wide=True)"
ONE_OF_LIST, ONE = "a list of one", "a string"
ARRAYS = Comparison(
    f"{SHAPE} as one private array",
    (
        Case(ALIGNED, OURS, ALIGNED),
        Case(UNALIGNED, OURS, UNALIGNED),
        Case(SNAPSHOTS, OURS, SNAPSHOTS),
        Case(STRIDED, NUMPY, STRIDED),
    ),
)
FRAMES = Comparison(
    f"{SHAPE} as one frame",
    (
        Case(LONG, OURS, LONG),
        Case(LATEST, OURS, LATEST),
        Case(WIDE, OURS, WIDE),
        Case(SNAPSHOTS, OURS, SNAPSHOTS),
        Case(LABELS[ORDINARY], REPLACED, LONG),
    ),
)
SINGLE = Comparison(
    "20 rows of one symbol",
    (Case(ONE, OURS, ONE), Case(ONE_OF_LIST, OURS, ONE_OF_LIST)),
)
MAX_TIMES, MIN_TIMES = 3, 40  # of a frame: times its floor, times the replaced path


def our_calls(feed: str) -> Calls:
    wealthdata.use(feed=feed)
    found = shmfeed.attach(feed)
    rings = [found.ring(name, TIMEFRAME) for name in NAMES]
    given: dict[str, Any] = {"count": ROWS, "frequency": TIMEFRAME}
    get_price = wealthdata.get_price
    return {
        ALIGNED: lambda: shmfeed.cut(rings, ROWS),
        UNALIGNED: lambda: shmfeed.cut(rings, ROWS, align=False),
        SNAPSHOTS: lambda: np.concatenate(
            [ring.snapshot(ROWS).values for ring in rings], axis=1
        ),
        LONG: lambda: get_price(NAMES, **given),
        LATEST: lambda: get_price(NAMES, align=True, **given),
        WIDE: lambda: get_price(NAMES, wide=True, **given),
        ONE: lambda: get_price(NAMES[0], **given),
        ONE_OF_LIST: lambda: get_price(NAMES[:1], **given),
        f"check {LONG}": lambda: digest(get_price(NAMES, **given)),
    }


def replaced_calls(_feed: str) -> Calls:
    get_price = ordinary("", streams=STREAMS, history=HISTORY)
    given: dict[str, Any] = {"count": ROWS, "frequency": TIMEFRAME}
    return {
        LONG: lambda: get_price(NAMES, **given),
        f"check {LONG}": lambda: digest(get_price(NAMES, **given)),
    }


def numpy_calls(_feed: str) -> Calls:
    slots = np.zeros((STREAMS, 9, 2 * (HISTORY + HISTORY // 4)))  # as slots lie
    window = slots[:, 2 : 2 + FIELDS, HISTORY - ROWS : HISTORY]
    return {STRIDED: lambda: np.ascontiguousarray(window)}


CONTENDERS = {OURS: our_calls, REPLACED: replaced_calls, NUMPY: numpy_calls}


def goals(rows: list[CaseTimes]) -> list[Goal]:
    arrays, frames, singles = (
        {case.label: report.find(rows, title, case.label) for case in cases}
        for title, cases in (ARRAYS, FRAMES, SINGLE)
    )
    cut, beside = arrays[ALIGNED], report.times_as_long
    found = [
        beside(f"cut of {SHAPE}, beside {other}", cut, arrays[other], times)
        for other, times in ((SNAPSHOTS, 1), (STRIDED, 3))
    ]
    replaced = frames[LABELS[ORDINARY]]
    for label in (LONG, LATEST, WIDE):
        what, ours = f"{label} of {SHAPE}", frames[label]
        floor = f"{what}, beside {SNAPSHOTS}"
        found.append(beside(floor, ours, frames[SNAPSHOTS], MAX_TIMES))
        what += ", beside the replaced path"
        found.append(report.times_faster(what, replaced, ours, MIN_TIMES))
    what = "get_price(count=20) of a list of one, beside a string"
    return [*found, beside(what, singles[ONE_OF_LIST], singles[ONE], MAX_TIMES)]


def main() -> None:
    """Measure all contenders, or serve as one of them."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender is not None:
        harness.serve(CONTENDERS[options.contender](options.argument))
        return
    with ExitStack() as end:
        feed = end.enter_context(filled_feed(STREAMS, HISTORY))
        found = end.enter_context(
            harness.contenders(__file__, *CONTENDERS, argument=feed)
        )
        check_same_frames(found, [Comparison("", FRAMES.cases[::4])])
        rows = harness.compare((ARRAYS, FRAMES, SINGLE), found, options.quick)
    results = {"rows": report.to_json(rows)}
    lines = report.timing_lines(rows)
    report.print_report(__file__, lines, results, options.json, goals(rows))


if __name__ == "__main__":
    main()
