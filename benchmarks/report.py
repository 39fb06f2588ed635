"""What a program prints: the machine, a table, the samples if they are asked for."""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import median

from machine import machine
from measure import Row, spread

Line = str | tuple[str, ...]  # a line as it is, or the cells of one
TIMES = ("", "us a call, median (quartiles)", "CPU us", "times the first")


def arguments(text: str) -> argparse.ArgumentParser:
    """The options that every program has; `--party` is for its own processes."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument(
        "--json",
        action="store_true",
        help="all samples as JSON on standard output, the table on standard error",
    )
    parser.add_argument("--party", help=argparse.SUPPRESS)
    parser.add_argument("argument", nargs="?", help=argparse.SUPPRESS)
    return parser


def timings(rows: Sequence[Row]) -> list[Line]:
    """A block of lines for each question."""
    lines: list[Line] = [TIMES]
    for title, cases in groupby(rows, lambda row: row.question):
        lines += ["", title]
        for row in cases:
            wall = spread([ns / 1000 for ns in row.wall]).text()
            cpu = f"{median(row.cpu) / 1000:.2f}"
            lines.append((f"  {row.label}", wall, cpu, spread(row.ratio).text()))
    return lines


def report(program: str, lines: Sequence[Line], results: object, as_json: bool) -> None:
    """Print the lines below the machine's; with `as_json` the samples too."""
    facts = machine()
    out = sys.stderr if as_json else sys.stdout
    print(" \N{MIDDLE DOT} ".join(f"{k} {v}" for k, v in facts.items()), file=out)
    print("\n".join(_aligned(lines)), file=out)
    if as_json:
        told = {"program": Path(program).stem, "machine": facts, "results": results}
        print(json.dumps(told))


def _aligned(lines: Sequence[Line]) -> list[str]:
    cells = [line for line in lines if isinstance(line, tuple)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [line if isinstance(line, str) else _row(line, widths) for line in lines]


def _row(cells: tuple[str, ...], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in others)])
