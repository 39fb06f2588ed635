"""The page of the fault suite agrees with the tree: tests, loads, make targets."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from unit.project.test_promises import NODE, functions_of

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/fault-suite.md"
HEAD = (
    "| number | tries | load | tests | controls | larger |\n|---|---|---|---|---|---|\n"
)
LOAD = re.compile(r"([\d,]+)[^\d`(]*\(`([\w/]+\.py):([A-Z_]+)`\)")
TARGET = re.compile(r"`make ([\w-]+)[^`]*`")


class Row(NamedTuple):
    number: str
    tries: str
    load: str
    tests: str
    controls: str
    larger: str


def rows(page: str) -> list[Row]:
    table, _, _ = page.split(HEAD)[1].partition("\n\n")
    cells = (line.strip().strip("|").split("|") for line in table.splitlines())
    return [Row(*(cell.strip() for cell in row)) for row in cells]


def constant(path: Path, name: str) -> object:
    """Return the value of a module's constant at TEST_SCALE=1, without its import."""
    values: dict[str, object] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign):
            source = ast.unparse(node).replace("forks.SCALE", "1")
            try:
                exec(source, {"int": int, "max": max}, values)
            except NameError:
                continue
    return values.get(name)


def faults(page: str) -> Iterator[str]:
    """Yield a line for each cell that the tree contradicts."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for row in rows(page):
        for cell in (row.tests, row.controls):
            named = NODE.findall(cell)
            if not named or NODE.sub("", cell).strip():
                yield f"{row.number}: {cell!r} must name tests, as `a.py::test_b`"
            for name, test in named:
                path = ROOT / "tests" / name
                if not path.is_file() or test not in functions_of(path):
                    yield f"{row.number}: there is no {name}::{test}"
        for number, name, load in LOAD.findall(row.load):
            found = constant(ROOT / "tests" / name, load)
            if found != int(number.replace(",", "")):
                yield f"{row.number}: {name}:{load} is {found}"
        for target in set(TARGET.findall(row.larger)) - set(targets):
            yield f"{row.number}: there is no make {target}"


def test_each_row_names_what_is_there() -> None:
    assert list(faults(PAGE.read_text())) == []


def test_no_number_is_left_out() -> None:
    numbers = [int(row.number.removeprefix("T")) for row in rows(PAGE.read_text())]
    assert numbers == [*range(1, 31)]


HERE = "`unit/project/test_fault_suite.py::test_a_wrong_row_is_found`"
MADE = "5 lives (`unit/project/test_fault_suite.py:LIVES`)"
LIVES = 1 * 5


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (f"| 5 | {HERE} | | `make test` |", "must name tests"),
        (f"| 5 | {HERE.replace('wrong', 'lost')} | {HERE} | |", "there is no unit"),
        (f"| {MADE.replace('5', '4')} | {HERE} | {HERE} | |", "LIVES is 5"),
        (f"| {MADE.replace('LIVES', 'DEATHS')} | {HERE} | {HERE} | |", "is None"),
        (f"| 5 | {HERE} | {HERE} | `make hay` |", "there is no make hay"),
    ],
)
def test_a_wrong_row_is_found(row: str, told: str) -> None:
    (found,) = faults(f"{HEAD}| T1 | it {row}\n")
    assert told in found


def test_a_right_row_is_accepted() -> None:
    page = f"{HEAD}| T1 | it | {MADE} | {HERE} {HERE} | {HERE} | `make test` |\n"
    assert list(faults(page)) == []
