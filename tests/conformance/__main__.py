"""Run the suite, and print a table: row, case, and the outcome in each way.

The strategies, with their decisions, are the row `decisions`.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NamedTuple

from conformance import adapter, case, decided, suite

MARKS = {True: "ok", False: "FAULT"}
DECISIONS = "decisions"


class Line(NamedTuple):
    """One line of the table: the faults by way."""

    row: str
    name: str
    faults: dict[str, list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for. Return 0 if no case differs."""
    asked = _parse(arguments)
    tested = adapter.find(asked.adapter)
    ways = asked.way or list(tested.ways)
    lines = _run_cases(tested, ways, asked) + _run_strategies(tested, ways, asked)
    print(f"{'row':<24}{'case':<72}", *(f"{way:<9}" for way in ways))
    for line in sorted(lines, key=lambda line: line.row):
        marks = [MARKS[not line.faults[w]] if w in line.faults else "" for w in ways]
        print(f"{line.row:<24}{line.name[:70]:<72}", *(f"{m:<9}" for m in marks))
    runs = [(line, way) for line in lines for way in line.faults]
    faults = [(line, way) for line, way in runs if line.faults[way]]
    for line, way in faults:
        print(f"{line.name} ({way}): {'; '.join(line.faults[way])}")
    print(
        f"{len(lines)} cases of {len({line.row for line in lines})} rows,"
        f" {len(runs)} runs, {len(faults)} faults"
    )
    return bool(faults) or not runs


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    parser.add_argument(
        "--adapter", default=adapter.DEFAULT, help="the module of the implementation"
    )
    parser.add_argument("--way", action="append", choices=case.WAYS, help="repeatable")
    parser.add_argument("--case", default="", help="only cases whose name has this")
    parser.add_argument("--row", default="", help="only rows whose name has this")
    return parser.parse_args(arguments)


def _run_cases(
    tested: adapter.Adapter, ways: Sequence[str], asked: argparse.Namespace
) -> list[Line]:
    cases = [c for c in case.load() if asked.case in c.name and asked.row in c.row]
    lines = {one.name: Line(one.row, one.name, {}) for one in cases}
    for way in ways:
        for verdict in suite.run(tested, way, cases):
            lines[verdict.case.name].faults[way] = verdict.faults
    return list(lines.values())


def _run_strategies(
    tested: adapter.Adapter, ways: Sequence[str], asked: argparse.Namespace
) -> list[Line]:
    if asked.row not in DECISIONS:
        return []
    strategies = [one for one in decided.load() if asked.case in one.name]
    can = [way for way in ways if way in tested.runs]
    return [
        Line(
            DECISIONS,
            one.name,
            {way: decided.judge(tested, way, one) for way in can},
        )
        for one in strategies
    ]


if __name__ == "__main__":
    sys.exit(main())
