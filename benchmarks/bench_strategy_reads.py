"""The ways in which a strategy reads, each beside the one that it is judged by.

`--before PATH` names a built tree of an earlier version: its `get_price` runs in a
process of its own, on the same feed. Both of a pair are timed in each round, by CPU
time. A result is the median over the rounds with its 95 % interval.
"""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import harness
import pandas as pd
import report
from filled_feed import filled_feed
from harness import Calls, Case, CaseTimes, Comparison, Contender, interval
from report import Goal
from sample_bars import END, SYMBOLS, TIMEFRAME

import wealthdata

NOW, BEFORE = "now", "before"
ROWS = (20, 1000)
SYMBOL = SYMBOLS[0]
HOUR = 3_600_000
VARIED = 20_000  # bounds of a range, in turn: each is met for the first time
REPEATED = 64  # texts in turn: each is parsed once
COUNT, ATTRS, BARS = "{n} by count", "{n}, attrs read whole", "get_bars, {n}, df=False"
TURN, ONE_FEED = "two feeds in turn", "one feed twice"
ACROSS, APART = "a list over two feeds", "two lists"
END_AND_COUNT = "{n} by end and count"
TEXTS = "{n} by start and end, str met before"


def when(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None)


RANGES: dict[str, Callable[[int], object]] = {
    "{n} by start and end, datetime": when,
    TEXTS: lambda ms: when(ms).isoformat(" "),
    "{n} by start and end, Timestamp": lambda ms: pd.Timestamp(ms, unit="ms"),
}
MAX_SLOWER, MAX_FEEDS, MAX_ARRAY = 1.03, 1.2, 0.35  # times the other
MAX_RANGE_US, MAX_ATTRS_US = 2.0, 10.0  # more than the other


class Pair(NamedTuple):
    """Two cases, and the limit of the second beside the first: a ratio, or us more."""

    what: str
    cases: tuple[Case, Case]
    limit: float
    is_ratio: bool = True

    @property
    def comparison(self) -> Comparison:
        return Comparison(self.what, self.cases)

    def goal(self, rows: list[CaseTimes]) -> Goal:
        first, second = (
            report.find(rows, self.what, case.label) for case in self.cases
        )
        unit = "x" if self.is_ratio else "us more"
        limit = f"at most {self.limit:g} {unit}"
        if first is None or second is None:
            return report.not_measured(self.what, limit, "no --before PATH")
        pairs = list(zip(net_cpu(first), net_cpu(second), strict=True))
        if self.is_ratio:
            found = interval([second / first for first, second in pairs])
        else:
            found = interval([(second - first) / 1000 for first, second in pairs])
        value = f"{found.text('.3f')} {unit}"
        return Goal(self.what, limit, value, found.median <= self.limit)


def net_cpu(times: CaseTimes) -> list[float]:
    """Return the CPU time of each round less that of an empty call, in ns."""
    return [max(c - e, 1.0) for c, e in zip(times.cpu, times.empty, strict=True)]


def _pair(what: str, first: str, second: str, limit: float, **more: bool) -> Pair:
    cases = Case(first, NOW, first), Case(second, NOW, second)
    return Pair(what, cases, limit, **more)


def pairs_of(n: int) -> list[Pair]:
    """Return the pairs that read `n` rows."""
    by_count = COUNT.format(n=n)
    before = Case(BEFORE, BEFORE, by_count), Case(NOW, NOW, by_count)
    found = [Pair(f"get_price of {n} rows, beside the earlier one", before, MAX_SLOWER)]
    for title in (*RANGES, END_AND_COUNT):
        ranged = title.format(n=n)
        what = f"get_price of {ranged}, beside by count"
        found.append(_pair(what, by_count, ranged, MAX_RANGE_US, is_ratio=False))
    return found


PAIRS = [
    *(pair for n in ROWS for pair in pairs_of(n)),
    _pair(
        "attrs of a frame of 20 rows, read whole",
        COUNT.format(n=20),
        ATTRS.format(n=20),
        MAX_ATTRS_US,
        is_ratio=False,
    ),
    _pair(f"{TURN}, beside one", ONE_FEED, TURN, MAX_FEEDS),
    _pair(f"{ACROSS}, beside one list of each", APART, ACROSS, MAX_FEEDS),
    _pair(
        "get_bars(df=False) of 20 rows, beside get_price",
        COUNT.format(n=20),
        BARS.format(n=20),
        MAX_ARRAY,
    ),
]


def by_count(n: int) -> harness.Call:
    get_price = wealthdata.get_price
    return lambda: get_price(SYMBOL, count=n, frequency=TIMEFRAME)


def by_range(n: int, kind: Callable[[int], object], varied: int) -> harness.Call:
    """Return a call whose bounds differ each time, as a strategy's do."""
    get_price = wealthdata.get_price
    first = END - (n - 1) * HOUR
    bounds: Any = cycle([(kind(first - ms), kind(END + ms)) for ms in range(varied)])

    def call() -> object:
        start, end = next(bounds)
        return get_price(SYMBOL, start, end, TIMEFRAME)

    return call


def by_end(n: int) -> harness.Call:
    get_price = wealthdata.get_price
    ends = cycle([when(END + ms) for ms in range(VARIED)])
    return lambda: get_price(SYMBOL, end_date=next(ends), count=n, frequency=TIMEFRAME)


def calls_before(feeds: str) -> Calls:
    wealthdata.use(feed=feeds.split(",", maxsplit=1)[0])
    return {COUNT.format(n=n): by_count(n) for n in ROWS}


def calls_now(feeds: str) -> Calls:
    one, other = feeds.split(",")
    wealthdata.use(feed=one)
    return {**_calls_of_one(), **_calls_of_two(one, other)}


def _calls_of_one() -> dict[str, harness.Call]:
    get_price, get_bars = wealthdata.get_price, wealthdata.get_bars
    found: dict[str, harness.Call] = {COUNT.format(n=n): by_count(n) for n in ROWS}
    for n in ROWS:
        for title, kind in RANGES.items():
            varied = REPEATED if title == TEXTS else VARIED
            found[title.format(n=n)] = by_range(n, kind, varied)
        found[END_AND_COUNT.format(n=n)] = by_end(n)
    check_same_rows(found)
    found[ATTRS.format(n=20)] = lambda: dict(
        get_price(SYMBOL, count=20, frequency=TIMEFRAME).attrs["shmfeed"]
    )
    found[BARS.format(n=20)] = lambda: get_bars(
        SYMBOL, count=20, unit=TIMEFRAME, df=False
    )
    return found


def check_same_rows(found: dict[str, harness.Call]) -> None:
    """Exit if two ways to ask for the same rows give different ones."""
    for n in ROWS:
        expected: Any = found[COUNT.format(n=n)]()
        for title in (*RANGES, END_AND_COUNT):
            frame: Any = found[title.format(n=n)]()
            if len(frame) != n or not frame.equals(expected):
                raise SystemExit(f"{title.format(n=n)}: other rows than by count")


def _calls_of_two(one: str, other: str) -> dict[str, harness.Call]:
    get_price = wealthdata.get_price
    given: dict[str, Any] = {"count": 20, "frequency": TIMEFRAME}
    names = list(SYMBOLS)
    both = [f"{symbol}@{feed}" for feed in (one, other) for symbol in SYMBOLS]

    def in_turn(first: str, second: str) -> None:
        get_price(SYMBOL, feed=first, **given)
        get_price(SYMBOL, feed=second, **given)

    def apart() -> None:
        get_price(names, feed=one, **given)
        get_price(names, feed=other, **given)

    return {
        ONE_FEED: lambda: in_turn(one, one),
        TURN: lambda: in_turn(one, other),
        APART: apart,
        ACROSS: lambda: get_price(both, **given),
    }


CONTENDERS: dict[str, Callable[[str], Calls]] = {
    NOW: calls_now,
    BEFORE: calls_before,
}


def main() -> None:
    """Measure all pairs, or serve as one of the two contenders."""
    parser = report.argument_parser(__doc__)
    parser.add_argument("--before", type=Path, metavar="PATH", help="an earlier tree")
    options = parser.parse_args()
    if options.contender is not None:
        harness.serve(CONTENDERS[options.contender](options.argument))
        return
    trees: dict[str, Path | None] = {NOW: None}
    if options.before is not None:
        trees[BEFORE] = options.before.resolve()
    with ExitStack() as end:
        # The number of streams is a part of a filled feed's name.
        feeds = [end.enter_context(filled_feed(len(SYMBOLS) + n)) for n in range(2)]
        found = {}
        for name, tree in trees.items():
            found[name] = Contender(__file__, name, ",".join(feeds), tree=tree)
            end.callback(found[name].close)
        comparisons = [pair.comparison for pair in PAIRS]
        rows = harness.compare(comparisons, found, options.quick)
    results = {"rows": report.to_json(rows)}
    goals = [pair.goal(rows) for pair in PAIRS]
    missing = {} if BEFORE in trees else {BEFORE: "no --before PATH"}
    lines = report.timing_lines(rows, missing)
    report.print_report(__file__, lines, results, options.json, goals, missing)


if __name__ == "__main__":
    main()
