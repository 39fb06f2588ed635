"""The differences between two recorded runs: of decisions, and of their bars."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, NamedTuple

from shmfeed.errors import BadArgumentError
from wealthdata.runner.recorded_run import (
    BarValues,
    RecordedDecision,
    RecordedReceipt,
    RecordedRun,
)

NAMES = ("open", "high", "low", "close", "volume")
_MISSING = object()


class BarDifference(NamedTuple):
    """A bar that two runs have read differently.

    `a` and `b` are its values, None where a run has not read it. `forming` is True if
    it was the forming bar.
    """

    symbol: str
    timeframe: str
    open_time: int
    a: BarValues | None
    b: BarValues | None
    forming: bool = False

    @property
    def fields(self) -> list[str]:
        """The values that differ."""
        if self.a is None or self.b is None:
            return []
        pairs = zip(NAMES, self.a, self.b, strict=True)
        return [name for name, one, other in pairs if one != other]


class Pair(NamedTuple):
    """The decisions of both runs at one place: of a strategy, a time and a number.

    One of both is None if a run has not made it. `number` counts those of one time.
    """

    time: int
    strategy: int
    number: int
    a: RecordedDecision | None
    b: RecordedDecision | None


class Comparison(NamedTuple):
    """Two runs compared, in the range of close times that both handled.

    Attributes:
        first, last: The range, ms UTC, both ends included.
        compared: The number of pairs of decisions.
        outside: The number of each run's decisions outside of the range.
        pair: The first pair whose decisions differ; None if all are the same.
        what: Where the two differ: path, value in A, value in B.
        on_bars: The pair whose bars are compared: `pair` or, where its bars are the
            same, the first one that was decided on different bars.
        bars: The bars that differ there.
        others: The number of pairs that were decided on different bars, in the range.
    """

    first: int
    last: int
    compared: int
    outside: tuple[int, int]
    pair: Pair | None
    what: list[tuple[str, Any, Any]]
    on_bars: Pair | None
    bars: list[BarDifference]
    others: int


def compare_runs(a: RecordedRun, b: RecordedRun) -> Comparison:
    """Compare two runs. Raise BadArgumentError if they are not of the same strategy."""
    check_alike(a, b)
    first, last = max(a.first, b.first), min(a.last, b.last)
    if first > last or not (a.last and b.last):
        raise BadArgumentError(
            f"{a.path} and {b.path} have no close time in common: one handled"
            f" {_range(a)}, the other {_range(b)}"
        )
    inside = [
        [each for each in run.decisions if first <= each.time <= last] for run in (a, b)
    ]
    pairs = list(_pairs(a, inside[0], b, inside[1]))
    differing = next((pair for pair in pairs if not same_decision(pair)), None)
    on_bars = [pair for pair in pairs if _bars_may_differ(pair)]
    place, bars = None, list[BarDifference]()
    until = [p for p in on_bars if differing is None or p[:3] < differing[:3]]
    for pair in until if differing is None else [differing, *until]:
        bars = bars_that_differ(pair) or _bars_of_missing(pair, a, b)
        if bars:
            place = pair
            break
    outside = len(a.decisions) - len(inside[0]), len(b.decisions) - len(inside[1])
    what = [] if differing is None else list(_differences(differing))
    return Comparison(
        *(first, last, len(pairs), outside, differing, what, place, bars),
        len(on_bars),
    )


def _range(run: RecordedRun) -> str:
    if not run.last:
        return "none"
    return f"{moment_text(run.first)} to {moment_text(run.last)}"


def moment_text(time: int) -> str:
    """Return a time in ms UTC as text."""
    moment = datetime.fromtimestamp(time / 1000, UTC)
    text = moment.isoformat(" ", "milliseconds" if time % 1000 else "seconds")
    return f"{text[:-6]} UTC"


def check_alike(a: RecordedRun, b: RecordedRun) -> None:
    """Raise BadArgumentError if the runs are of different strategies or streams."""
    if [each.digest for each in a.strategies] != [each.digest for each in b.strategies]:
        raise _different("strategies", a, b, *map(_strategies, (a, b)))
    if a.symbols != b.symbols:
        raise _different("symbols", a, b, ",".join(a.symbols), ",".join(b.symbols))
    if a.frequency != b.frequency:
        raise _different("frequencies", a, b, a.frequency, b.frequency)


def _different(
    kind: str, a: RecordedRun, b: RecordedRun, one: str, other: str
) -> BadArgumentError:
    return BadArgumentError(
        f"the recordings are of different {kind}: {a.path} of {one}, {b.path} of"
        f" {other}"
    )


def _strategies(run: RecordedRun) -> str:
    return ", ".join(f"{each.file} (SHA-256 {each.digest[:12]})" for each in run[1])


def _pairs(
    a: RecordedRun,
    of_a: list[RecordedDecision],
    b: RecordedRun,
    of_b: list[RecordedDecision],
) -> Iterator[Pair]:
    """Yield the pairs, by time, strategy and order of decision."""
    one, other = _by_place(a, of_a), _by_place(b, of_b)
    for place in sorted(one.keys() | other.keys()):
        both = zip_longest(one.get(place, ()), other.get(place, ()))
        for number, pair in enumerate(both, 1):
            yield Pair(*place, number, *pair)


def _by_place(
    run: RecordedRun, decisions: list[RecordedDecision]
) -> dict[tuple[int, int], list[RecordedDecision]]:
    """Return the decisions by time and strategy."""
    order = {each.file: at for at, each in enumerate(run.strategies)}
    found: dict[tuple[int, int], list[RecordedDecision]] = {}
    for decision in decisions:
        at = order.get(decision.strategy or "", 0)
        found.setdefault((decision.time, at), []).append(decision)
    return found


def same_decision(pair: Pair) -> bool:
    """Return True if both runs have decided the same."""
    if pair.a is None or pair.b is None:
        return False
    return same_value(pair.a.what, pair.b.what)


def same_value(one: Any, other: Any) -> bool:
    """Return True if two values of JSON are the same; 1 and 1.0 are, 1 and true not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            same_value(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    return bool(one == other)


def _differences(pair: Pair) -> Iterator[tuple[str, Any, Any]]:
    if pair.a is not None and pair.b is not None:
        yield from _value_differences("what", pair.a.what, pair.b.what)


def _value_differences(
    path: str, one: Any, other: Any
) -> Iterator[tuple[str, Any, Any]]:
    """Yield each place at which two values differ, _MISSING as None where one lacks."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            values = one.get(key, _MISSING), other.get(key, _MISSING)
            yield from _value_differences(f"{path}[{key!r}]", *values)
    elif isinstance(one, list) and isinstance(other, list):
        both = zip_longest(one, other, fillvalue=_MISSING)
        for at, values in enumerate(both):
            yield from _value_differences(f"{path}[{at}]", *values)
    elif one is _MISSING or other is _MISSING or not same_value(one, other):
        yield path, _shown(one), _shown(other)


class Absent:
    """The value of a place that one of two decisions does not have."""


ABSENT = Absent()


def _shown(value: Any) -> Any:
    return ABSENT if value is _MISSING else value


def _bars_of_missing(pair: Pair, a: RecordedRun, b: RecordedRun) -> list[BarDifference]:
    """Return the bars that differ where one run has made no decision.

    The receipts of its next decision have the bars that it read then.
    """
    if pair.a is not None and pair.b is not None:
        return []
    run, found = (b, pair.a) if pair.b is None else (a, pair.b)
    place = pair.time, pair.strategy
    later = [*_in_order(run, run.decisions), *_in_order(run, run.undecided)]
    after = next(
        (each for at, each in later if at >= place and at[1] == place[1]), None
    )
    if found is None or after is None:
        return []
    both = (
        pair._replace(a=found, b=after) if run is b else pair._replace(a=after, b=found)
    )
    return [bar for bar in bars_that_differ(both) if bar.fields]


def _in_order(
    run: RecordedRun, decisions: list[RecordedDecision]
) -> Iterator[tuple[tuple[int, int], RecordedDecision]]:
    for place, found in sorted(_by_place(run, decisions).items()):
        for decision in found:
            yield place, decision


def _bars_may_differ(pair: Pair) -> bool:
    """Return True if the receipts of both decisions are not of the same bars."""
    if pair.a is None or pair.b is None:
        return False
    one, other = (
        {(*r.stream[1:], r.digest, r.forming) for r in decision.receipts}
        for decision in (pair.a, pair.b)
    )
    return one != other


def bars_that_differ(pair: Pair) -> list[BarDifference]:
    """Return the bars that the decisions of a pair were made on and that differ.

    They are sorted by stream, in the order of the receipts, and open time. The bars of
    both are compared where both have read the stream; where one window is longer, its
    older bars are among them only if no other bar differs.
    """
    if pair.a is None or pair.b is None:
        return []
    one, other = _by_stream(pair.a), _by_stream(pair.b)
    revised: list[BarDifference] = []
    lacking: list[BarDifference] = []
    for key in dict.fromkeys([*one, *other]):
        for bar in _of_stream(key[:2], one.get(key, []), other.get(key, [])):
            (lacking if None in (bar.a, bar.b) else revised).append(bar)
    return revised or lacking


def _by_stream(
    decision: RecordedDecision,
) -> dict[tuple[str, str, int], list[RecordedReceipt]]:
    """Return the receipts by symbol, timeframe and the number of the feed.

    A feed has another name on replay, so the feeds of one stream are only counted.
    """
    feeds: dict[tuple[str, str], list[str | None]] = {}
    found: dict[tuple[str, str, int], list[RecordedReceipt]] = {}
    for receipt in decision.receipts:
        feed, *stream = receipt.stream
        key = stream[0], stream[1]
        known = feeds.setdefault(key, [])
        if feed not in known:
            known.append(feed)
        found.setdefault((*key, known.index(feed)), []).append(receipt)
    return found


def _of_stream(
    stream: tuple[str, str],
    one: list[RecordedReceipt],
    other: list[RecordedReceipt],
) -> Iterator[BarDifference]:
    if any(receipt.unknown for receipt in (*one, *other)):
        return  # one of both cannot tell
    bars = [_joined(receipts) for receipts in (one, other)]
    for opened in sorted(bars[0].keys() | bars[1].keys()):
        values = bars[0].get(opened), bars[1].get(opened)
        if values[0] != values[1]:
            yield BarDifference(*stream, opened, *values)
    forming = [_forming(receipts) for receipts in (one, other)]
    for opened in sorted(forming[0].keys() | forming[1].keys()):
        values = forming[0].get(opened), forming[1].get(opened)
        if values[0] != values[1]:
            yield BarDifference(*stream, opened, *values, forming=True)


def _joined(receipts: list[RecordedReceipt]) -> dict[int, BarValues]:
    """Return the closed bars of several receipts, of one bar the latest values."""
    found: dict[int, BarValues] = {}
    for receipt in receipts:
        found |= receipt.bars()
    return found


def _forming(receipts: list[RecordedReceipt]) -> dict[int, BarValues]:
    found: dict[int, BarValues] = {}
    for receipt in receipts:
        if receipt.forming is not None:
            opened, *values = receipt.forming
            found[int(opened or 0)] = tuple(values)
    return found
