"""`python -m wealthdata compare A B`: where two runs of a strategy first differ."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from shmfeed.errors import BadArgumentError
from shmfeed.text import counted, printable, shorten
from wealthdata.runner.differences import (
    ABSENT,
    NAMES,
    BarDifference,
    Comparison,
    Pair,
    compare_runs,
    moment_text,
)
from wealthdata.runner.recorded_run import RecordedDecision, RecordedRun, read_recording

SAME, DIFFERENT, UNREADABLE = 0, 1, 2
_MOST_LINES = 10  # of places, and of bars
_MOST_TEXT = 400  # characters of a decision


def main(arguments: Sequence[str]) -> int:
    """Compare two recordings and print where they differ.

    Args:
        arguments: Those after the word `compare`.

    Returns:
        The exit code: 0 where the decisions are the same, 1 where one differs, 2 where
        the recordings cannot be compared.
    """
    parser = argparse.ArgumentParser(
        prog="python -m wealthdata compare",
        description="Compare the recorded decisions of two runs of one strategy.",
        epilog="Exits 0 where the decisions are the same, 1 where one differs, 2 where"
        " the recordings cannot be read or are of different strategies.",
    )
    parser.add_argument("a", metavar="A", help="a recording, of run --record")
    parser.add_argument("b", metavar="B", help="the recording to compare with it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(list(arguments))
    try:
        a, b = read_recording(given.a), read_recording(given.b)
        found = compare_runs(a, b)
    except BadArgumentError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNREADABLE
    lines = [json.dumps(as_dict(found))] if given.json else describe(found, a, b)
    print("\n".join(lines))
    return SAME if found.pair is None else DIFFERENT


def describe(found: Comparison, a: RecordedRun, b: RecordedRun) -> Iterator[str]:
    """Yield the lines that describe a comparison."""
    yield f"A: {_run(a)}"
    yield f"B: {_run(b)}"
    span = f"{moment_text(found.first)} to {moment_text(found.last)}"
    yield f"compared: {counted(found.compared, 'decision')} from {span}"
    for name, number in zip("AB", found.outside, strict=True):
        if number:
            told = counted(number, "decision")
            yield f"not compared: {told} of {name} at close times that only {name} has"
    if found.pair is None:
        yield "the decisions are the same"
    else:
        yield from _pair(found.pair, a, found.what)
    yield from _bars(found)


def _run(run: RecordedRun) -> str:
    files = ", ".join(each.file for each in run.strategies)
    cut = ", cut off before its end" if run.cut_off else ""
    told = counted(len(run.decisions), "decision")
    return f"{run.path} ({run.mode} of {files}, {told}{cut})"


def _pair(
    pair: Pair, run: RecordedRun, what: list[tuple[str, Any, Any]]
) -> Iterator[str]:
    yield f"first difference: {_place(pair, run)}"
    yield f"  A decided {_decision(pair.a)}"
    yield f"  B decided {_decision(pair.b)}"
    if len(what) > 1 or (what and what[0][0] != "what"):
        for path, one, other in what[:_MOST_LINES]:
            yield f"  {printable(path)}: {_value(one)} in A, {_value(other)} in B"
        if len(what) > _MOST_LINES:
            yield f"  and {len(what) - _MOST_LINES} more"


def _place(pair: Pair, run: RecordedRun) -> str:
    number = f", decision {pair.number} of this time" if pair.number > 1 else ""
    return f"{moment_text(pair.time)}, {run.strategies[pair.strategy].file}{number}"


def _decision(decision: RecordedDecision | None) -> str:
    if decision is None:
        return "nothing"
    return f"{_value(decision.what)} (line {decision.line})"


def _value(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    return shorten(json.dumps(value), _MOST_TEXT)


def _bars(found: Comparison) -> Iterator[str]:
    place = found.on_bars
    if place is None:
        if found.pair is not None:
            yield from _same_bars(found.pair)
        return
    if found.pair is None:
        told = counted(found.others, "decision was", "decisions were")
        yield f"{told} made on different bars, first at {moment_text(place.time)}:"
    elif place[:3] != found.pair[:3]:
        moment = moment_text(place.time)
        yield f"an earlier decision, at {moment}, was made on different bars:"
    for bar in found.bars[:_MOST_LINES]:
        yield f"  {_bar(bar)}"
    if len(found.bars) > _MOST_LINES:
        yield f"  and {counted(len(found.bars) - _MOST_LINES, 'bar')} more"


def _same_bars(pair: Pair) -> Iterator[str]:
    """Yield a line for each reason why no bar explains a difference."""
    decisions = {"A": pair.a, "B": pair.b}
    unknown = [
        f"the bars of {name} are not known: {receipt.unknown}"
        for name, decision in decisions.items()
        for receipt in (() if decision is None else decision.receipts)
        if receipt.unknown
    ]
    yield from dict.fromkeys(unknown)
    if not unknown:
        yield "no bar was revised in between: both runs have read the same bars"


def _bar(bar: BarDifference) -> str:
    kind = "forming bar" if bar.forming else "bar"
    moment = moment_text(bar.open_time)
    name = f"{bar.symbol} {bar.timeframe}, the {kind} that opens at {moment}"
    if bar.a is None or bar.b is None:
        return f"{name}, was read in {'A' if bar.b is None else 'B'} alone"
    one, other = (
        dict(zip(NAMES, bar.a, strict=True)),
        dict(zip(NAMES, bar.b, strict=True)),
    )
    values = [f"{name} {one[name]} in A, {other[name]} in B" for name in bar.fields]
    return f"{name}, {'differs' if bar.forming else 'was revised'}: {'; '.join(values)}"


def as_dict(found: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON can hold it."""
    pair, place = found.pair, found.on_bars
    what = [
        {"path": path, "a": _plain(one), "b": _plain(other)}
        for path, one, other in found.what
    ]
    return {
        "same": pair is None,
        "first": found.first,
        "last": found.last,
        "compared": found.compared,
        "outside": dict(zip("ab", found.outside, strict=True)),
        "difference": None if pair is None else _pair_dict(pair) | {"what": what},
        "on_different_bars": found.others,
        "bars_of": None if place is None else place.time,
        "bars": [bar._asdict() for bar in found.bars],
    }


def _plain(value: Any) -> Any:
    return None if value is ABSENT else value


def _pair_dict(pair: Pair) -> dict[str, Any]:
    return {
        "time": pair.time,
        "number": pair.number,
        "a": None if pair.a is None else {"line": pair.a.line, "what": pair.a.what},
        "b": None if pair.b is None else {"line": pair.b.line, "what": pair.b.what},
    }
