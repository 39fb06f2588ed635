"""The output of a benchmark: the machine, a table, the goals, and JSON on request."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol

from harness import CaseTimes, Spread, ratios, spread
from machine import describe_machine

NOT_HERE = "it cannot be measured here"
Line = str | tuple[str, ...]  # a whole line, or the cells of one
_TIMES = (
    "",
    "us a call",
    "less an empty call (quartiles)",
    "CPU us",
    "times the first",
)


class Goal(NamedTuple):
    """A goal and the value reached.

    Attributes:
        what: The quantity.
        goal: Its goal.
        value: Its value.
        met: None if it could not be measured.
    """

    what: str
    goal: str
    value: str
    met: bool | None

    def line(self) -> str:
        word = {True: "met", False: "missed", None: "not measured"}[self.met]
        return f"{self.what}: {self.value}; goal {self.goal}: {word}"


def at_least(what: str, ratio: Sequence[float], goal: float, note: str = "") -> Goal:
    """Return the goal of a ratio that must be at least `goal`."""
    found = spread(ratio)
    text = f"{found.text('.1f')} x{note}"
    return Goal(what, f"at least {goal:g} x", text, found.median >= goal)


def under(what: str, found: Spread, goal: float, unit: str, form: str = ".3f") -> Goal:
    """Return the goal of a value that must be under `goal`."""
    text = f"{found.text(form)} {unit}"
    return Goal(what, f"under {goal:g} {unit}", text, found.median < goal)


def times_faster(
    what: str, rival: CaseTimes | None, ours: CaseTimes, goal: float
) -> Goal:
    """Return the goal of being `goal` times as fast as a rival, if it is here."""
    if rival is None:
        return not_measured(what, f"at least {goal:g} x", NOT_HERE)
    factors = ratios(rival.net, ours.net)
    both = (f"{median(times.net) / 1000:.3f}" for times in (rival, ours))
    return at_least(what, factors, goal, f": {' / '.join(both)} us")


def times_as_long(what: str, ours: CaseTimes, other: CaseTimes, goal: float) -> Goal:
    """Return the goal of taking at most `goal` times as long as the other."""
    times = spread(ratios(ours.net, other.net))
    both = " / ".join(f"{median(one.net) / 1000:.3f}" for one in (ours, other))
    value = f"{times.text()} x: {both} us"
    return Goal(what, f"at most {goal:g} x", value, times.median <= goal)


def not_measured(what: str, goal: str, why: str) -> Goal:
    return Goal(what, goal, why, None)


class Rival(Protocol):
    """A module `on_<rival>`."""

    def missing(self) -> str | None:
        """Return why the rival cannot be measured here, or None."""


def missing(rivals: Mapping[str, Rival]) -> dict[str, str]:
    """Return the rivals that cannot be measured here, each with the reason."""
    reasons = {name: rival.missing() for name, rival in rivals.items()}
    return {name: why for name, why in reasons.items() if why is not None}


def renamed(reasons: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Return the reasons by the names that a benchmark has for the rivals."""
    return {names[name]: why for name, why in reasons.items() if name in names}


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of the common options; `--contender` is for own processes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only check that it runs",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="the results as JSON on standard output, the table on standard error",
    )
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("argument", nargs="?", help=argparse.SUPPRESS)
    return parser


def timing_lines(
    rows: Sequence[CaseTimes], missing: Mapping[str, str] = {}
) -> list[Line]:
    """Return a block for each comparison, and a line for each missing rival."""
    lines: list[Line] = [_TIMES]
    for title, cases in groupby(rows, lambda row: row.comparison):
        lines += ["", title]
        for row in cases:
            wall, net = ([ns / 1000 for ns in part] for part in (row.wall, row.net))
            times = f"{median(wall):.3f}", spread(net).text(".3f")
            cpu = f"{median(row.cpu) / 1000:.3f}"
            lines.append((f"  {row.label}", *times, cpu, spread(row.ratio).text()))
    lines += _missing_lines(missing)
    return lines


def _missing_lines(missing: Mapping[str, str]) -> list[Line]:
    return [f"not measured: {name}: {why}" for name, why in missing.items()]


def to_json(rows: Sequence[CaseTimes]) -> list[dict[str, Any]]:
    """Return the rows with a spread in place of each list of samples."""
    return [
        {
            "comparison": row.comparison,
            "label": row.label,
            "rounds": len(row.wall),
            **{
                name: [float(f"{value:.4g}") for value in spread(getattr(row, name))]
                for name in ("wall", "cpu", "empty", "net", "ratio")
            },
        }
        for row in rows
    ]


def find(rows: Sequence[CaseTimes], comparison: str, label: str) -> CaseTimes | None:
    """Return the row of a comparison and label, None if it was not measured."""
    wanted = comparison, label
    return next((r for r in rows if (r.comparison, r.label) == wanted), None)


def print_report(
    program: str,
    lines: Sequence[Line],
    results: object,
    as_json: bool,
    goals: Sequence[Goal] = (),
    missing: Mapping[str, str] = {},
) -> None:
    """Print the machine, the lines and the goals.

    With `as_json` the text goes to standard error, and JSON to standard output.
    """
    machine = describe_machine()
    out = sys.stderr if as_json else sys.stdout
    print(" \N{MIDDLE DOT} ".join(f"{k} {v}" for k, v in machine.items()), file=out)
    print("\n".join(_aligned(lines)), file=out)
    print("\n".join(["", *(goal.line() for goal in goals)]), file=out)
    if as_json:
        found = {
            "benchmark": Path(program).stem,
            "machine": machine,
            "missing": dict(missing),
            "goals": [goal._asdict() for goal in goals],
            "results": results,
        }
        print(json.dumps(found))


def _aligned(lines: Sequence[Line]) -> list[str]:
    cells = [line for line in lines if isinstance(line, tuple)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [line if isinstance(line, str) else _row(line, widths) for line in lines]


def _row(cells: tuple[str, ...], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in others)])
