"""The cost of a read with cold CPU caches: after sleep and other work.

A strategy does not read in a loop: it sleeps until a bar closes, reads once, computes
over its own data, and sleeps again. So each call here is timed alone, after 2 ms of
sleep and a pass over 64 MB. A frame's cost has two parts: pandas' own, measured by
building the same frame over arrays that are ready, and the rest, which is the ring's
and get_price's.
"""

from contextlib import ExitStack
from typing import Any

import harness
import report
from bench_get_price import BEST, LABELS, ORDINARY, OURS, best, ordinary
from filled_feed import filled_feed
from harness import Calls, Case, CaseTimes, Comparison, spread
from report import Goal
from sample_bars import SYMBOLS, TIMEFRAME

import shmfeed
import wealthdata

SAMPLES, QUICK_SAMPLES = 6, 2  # of each call, in each round
ARGUMENTS: dict[str, Any] = {
    "security": SYMBOLS[0],
    "count": 20,
    "frequency": TIMEFRAME,
}
FRAME, PARTS = "get_price(count=20), cold", "pandas' part: the same frame, arrays ready"
VALUES, SNAPSHOT = "ring.view(20).values", "ring.snapshot(20)"
MEAN = "get_price(count=20)['close'].mean()"
COMPARISON = Comparison(
    "20 rows, each call after 2 ms of sleep and 64 MB of other work",
    (
        Case(FRAME, OURS, FRAME),
        Case(PARTS, OURS, PARTS),
        Case(MEAN, OURS, MEAN),
        Case(VALUES, OURS, VALUES),
        Case(SNAPSHOT, OURS, SNAPSHOT),
        Case(LABELS[ORDINARY], ORDINARY, FRAME),
        Case(LABELS[BEST], BEST, FRAME),
    ),
)
MAX_SHARE, MIN_TIMES = 0.3, 10


def our_calls(feed: str) -> Calls:
    """Return the reads, and a call that builds the same frame from ready arrays."""
    from wealthdata.frame import TIME, template_of

    wealthdata.use(feed=feed)
    ring = shmfeed.attach(feed).ring(SYMBOLS[0], TIMEFRAME)
    frame = wealthdata.get_price(**ARGUMENTS)
    bars, build = ring.view(20), template_of(tuple(frame.columns)).build
    floats, times, attrs = bars.floats, bars.datetimes(TIME), frame.attrs["shmfeed"]

    def mean() -> float:
        closes = wealthdata.get_price(**ARGUMENTS)["close"]
        return closes.mean()

    return {
        FRAME: lambda: wealthdata.get_price(**ARGUMENTS),
        PARTS: lambda: build(floats, times, attrs, True),
        MEAN: mean,
        VALUES: lambda: ring.view(20).values,
        SNAPSHOT: lambda: ring.snapshot(20),
    }


def goals(rows: list[CaseTimes]) -> list[Goal]:
    whole, parts, values, replaced = (
        report.find(rows, COMPARISON.title, label)
        for label in (FRAME, PARTS, VALUES, LABELS[ORDINARY])
    )
    share = [1 - part / all_ for part, all_ in zip(parts.net, whole.net, strict=True)]
    us = (
        f": {median_us(whole):.1f} us, of which pandas' own {median_us(parts):.1f};"
        f" {VALUES} {median_us(values):.1f}"
    )
    own = report.under(f"our share of {FRAME}", spread(share), MAX_SHARE, "of it")
    what = f"{FRAME}, beside the replaced path"
    return [
        own._replace(value=own.value + us),
        report.times_faster(what, replaced, whole, MIN_TIMES),
    ]


def median_us(times: CaseTimes) -> float:
    return spread(times.net).median / 1000


def main() -> None:
    """Measure all contenders, or serve as one of them."""
    options = report.argument_parser(__doc__).parse_args()
    if options.contender == OURS:
        harness.serve(our_calls(options.argument))
        return
    if options.contender is not None:
        get_price = {ORDINARY: ordinary, BEST: best}[options.contender]("")
        harness.serve({FRAME: lambda: get_price(**ARGUMENTS)})
        return
    names = (OURS, ORDINARY, BEST)
    with ExitStack() as end:
        feed = end.enter_context(filled_feed())
        found = end.enter_context(harness.contenders(__file__, *names, argument=feed))
        samples = QUICK_SAMPLES if options.quick else SAMPLES
        rows = harness.compare([COMPARISON], found, options.quick, cold=samples)
    lines = report.timing_lines(rows)
    results = {"rows": report.to_json(rows)}
    report.print_report(__file__, lines, results, options.json, goals(rows))


if __name__ == "__main__":
    main()
