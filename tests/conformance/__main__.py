"""Run the suite, and print a table: row, case, and the outcome in each way."""

import argparse
import sys
from collections.abc import Sequence

from conformance import adapter, case, suite

MARKS = {True: "ok", False: "FAULT"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for. Return 0 if no case differs."""
    asked = _parse(arguments)
    tested = adapter.find(asked.adapter)
    cases = [c for c in case.load() if asked.case in c.name and asked.row in c.row]
    verdicts = [
        verdict
        for way in (asked.way or tested.ways)
        for verdict in suite.run(tested, way, cases)
    ]
    _print_table(verdicts, cases, asked.way or tested.ways)
    faults = [verdict for verdict in verdicts if verdict.faults]
    for verdict in faults:
        print(f"{verdict.case.name} ({verdict.way}): {'; '.join(verdict.faults)}")
    print(
        f"{len(cases)} cases of {len({c.row for c in cases})} rows,"
        f" {len(verdicts)} runs, {len(faults)} faults"
    )
    return bool(faults) or not verdicts


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    parser.add_argument(
        "--adapter", default=adapter.DEFAULT, help="the module of the implementation"
    )
    parser.add_argument("--way", action="append", choices=case.WAYS, help="repeatable")
    parser.add_argument("--case", default="", help="only cases whose name has this")
    parser.add_argument("--row", default="", help="only rows whose name has this")
    return parser.parse_args(arguments)


def _print_table(
    verdicts: Sequence[suite.Verdict], cases: Sequence[case.Case], ways: Sequence[str]
) -> None:
    outcomes = {(v.case.name, v.way): MARKS[not v.faults] for v in verdicts}
    print(f"{'row':<24}{'case':<72}", *(f"{way:<9}" for way in ways))
    for one in sorted(cases, key=lambda one: one.row):
        marks = [outcomes.get((one.name, way), "") for way in ways]
        print(f"{one.row:<24}{one.name[:70]:<72}", *(f"{mark:<9}" for mark in marks))


if __name__ == "__main__":
    sys.exit(main())
