"""Each promise of the documents names its tests and its controls, which exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROTOCOL, READERS = ROOT / "docs/memory-protocol.md", ROOT / "docs/promises.md"
HEAD = "| promise | test | control |\n|---|---|---|\n"
NODE = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
NEVER = re.compile(r"\b(never|no|none|nothing)\b")  # such a promise has a control


def promises(page: str) -> dict[str, tuple[str, str]]:
    """Return the cells of test and control by promise."""
    rows = {}
    for part in page.split(HEAD)[1:]:
        table, _, _ = part.partition("\n\n")
        for line in table.splitlines():
            promise, test, control = line.strip("|").split(" | ")
            rows[promise.strip()] = test.strip(), control.strip()
    return rows


@cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


def faults(page: str) -> Iterator[str]:
    """Yield a line for each cell without a test and each test that does not exist."""
    for promise, cells in promises(page).items():
        for number, cell in enumerate(cells):
            if number and not cell and not NEVER.search(promise):
                continue
            named = NODE.findall(cell)
            if not named or NODE.sub("", cell).strip():
                yield f"{promise}: {cell!r} must name tests, as `a.py::test_b`"
            for name, test in named:
                path = ROOT / "tests" / name
                if not path.is_file() or test not in functions_of(path):
                    yield f"{promise}: there is no {name}::{test}"


def test_each_promise_has_a_test_and_a_control() -> None:
    for page in PROTOCOL, READERS:
        assert list(faults(page.read_text())) == []
        assert len(promises(page.read_text())) > 20
    assert all(control for _, control in promises(PROTOCOL.read_text()).values())


HERE = "`unit/project/test_promises.py::test_a_fault_is_found`"


@pytest.mark.parametrize(
    ("test", "control", "told"),
    [
        (HERE, "", "must name tests"),
        (HERE, f"{HERE}, as seen", "must name tests"),
        (HERE.replace("fault", "other"), HERE, "there is no"),
        (HERE, HERE.replace("promises", "others"), "there is no"),
    ],
)
def test_a_fault_is_found(test: str, control: str, told: str) -> None:
    (found,) = faults(f"{HEAD}| never lost | {test} | {control} |\n")
    assert told in found


def test_a_promise_without_a_never_needs_no_control() -> None:
    assert list(faults(f"{HEAD}| kept | {HERE} |  |\n")) == []


def test_a_whole_row_has_no_fault() -> None:
    assert list(faults(f"{HEAD}| kept | {HERE} {HERE} | {HERE} |\n\nmore")) == []
