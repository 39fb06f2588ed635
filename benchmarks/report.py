"""What a program prints: the machine, a table, goals, the samples if asked for."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol

from machine import machine
from measure import Row, Spread, ratios, spread

Line = str | tuple[str, ...]  # a line as it is, or the cells of one
TIMES = ("", "us a call", "less an empty call (quartiles)", "CPU us", "times the first")


class Goal(NamedTuple):
    """What was to be reached and what was; `met` None: it could not be measured."""

    what: str
    goal: str
    value: str
    met: bool | None

    def line(self) -> str:
        word = {True: "met", False: "missed", None: "not measured"}[self.met]
        return f"{self.what}: {self.value}; goal {self.goal}: {word}"


def at_least(what: str, ratio: Sequence[float], goal: float, note: str = "") -> Goal:
    """A ratio that should not be smaller."""
    found = spread(ratio)
    text = f"{found.text('.1f')} x{note}"
    return Goal(what, f"at least {goal:g} x", text, found.median >= goal)


def under(what: str, found: Spread, goal: float, unit: str, form: str = ".3f") -> Goal:
    """A value that should be smaller."""
    text = f"{found.text(form)} {unit}"
    return Goal(what, f"under {goal:g} {unit}", text, found.median < goal)


def against(what: str, rival: Row | None, ours: Row, goal: float) -> Goal:
    """How many times faster ours is than a rival that may not be there."""
    if rival is None:
        return not_measured(what, f"at least {goal:g} x", "the rival is not here")
    times = ratios(rival.net, ours.net)
    both = (f"{median(row.net) / 1000:.3f}" for row in (rival, ours))
    return at_least(what, times, goal, f": {' / '.join(both)} us")


def not_measured(what: str, goal: str, why: str) -> Goal:
    return Goal(what, goal, why, None)


class Rival(Protocol):
    """A module that knows whether its rival can be had here."""

    def missing(self) -> str | None: ...


def missing(rivals: Mapping[str, Rival]) -> dict[str, str]:
    """Those that cannot be had here, each with the reason."""
    reasons = {name: rival.missing() for name, rival in rivals.items()}
    return {name: why for name, why in reasons.items() if why is not None}


def renamed(reasons: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Those reasons that have a name in this program, by it."""
    return {names[name]: why for name, why in reasons.items() if name in names}


def arguments(text: str) -> argparse.ArgumentParser:
    """The options that every program has; `--party` is for its own processes."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument(
        "--json",
        action="store_true",
        help="the results as JSON on standard output, the table on standard error",
    )
    parser.add_argument("--party", help=argparse.SUPPRESS)
    parser.add_argument("argument", nargs="?", help=argparse.SUPPRESS)
    return parser


def timings(rows: Sequence[Row], missing: Mapping[str, str] = {}) -> list[Line]:
    """A block of lines for each question, and a line for each rival not there."""
    lines: list[Line] = [TIMES]
    for title, cases in groupby(rows, lambda row: row.question):
        lines += ["", title]
        for row in cases:
            wall, net = ([ns / 1000 for ns in part] for part in (row.wall, row.net))
            times = f"{median(wall):.3f}", spread(net).text(".3f")
            cpu = f"{median(row.cpu) / 1000:.3f}"
            lines.append((f"  {row.label}", *times, cpu, spread(row.ratio).text()))
    lines += _absent(missing)
    return lines


def _absent(missing: Mapping[str, str]) -> list[Line]:
    return [f"not measured: {name}: {why}" for name, why in missing.items()]


def told(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows in little room: a spread for each list of samples."""
    return [
        {
            "question": row.question,
            "label": row.label,
            "rounds": len(row.wall),
            **{
                name: [float(f"{value:.4g}") for value in spread(getattr(row, name))]
                for name in ("wall", "cpu", "empty", "net", "ratio")
            },
        }
        for row in rows
    ]


def find(rows: Sequence[Row], question: str, label: str) -> Row | None:
    """The row of this question and label, None if it was not measured."""
    return next((r for r in rows if (r.question, r.label) == (question, label)), None)


def report(
    program: str,
    lines: Sequence[Line],
    results: object,
    as_json: bool,
    goals: Sequence[Goal] = (),
    missing: Mapping[str, str] = {},
) -> None:
    """Print the lines below the machine's, and the goals; with `as_json` all of it."""
    facts = machine()
    out = sys.stderr if as_json else sys.stdout
    print(" \N{MIDDLE DOT} ".join(f"{k} {v}" for k, v in facts.items()), file=out)
    print("\n".join(_aligned(lines)), file=out)
    print("\n".join(["", *(goal.line() for goal in goals)]), file=out)
    if as_json:
        answer = {
            "program": Path(program).stem,
            "machine": facts,
            "missing": dict(missing),
            "goals": [goal._asdict() for goal in goals],
            "results": results,
        }
        print(json.dumps(answer))


def _aligned(lines: Sequence[Line]) -> list[str]:
    cells = [line for line in lines if isinstance(line, tuple)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [line if isinstance(line, str) else _row(line, widths) for line in lines]


def _row(cells: tuple[str, ...], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in others)])
