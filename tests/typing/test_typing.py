"""A user's program passes a strict type check, and each misspelling in one fails it."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import pytest

import shmfeed
import wealthdata
from shmfeed import aio
from shmfeed.follower import ReattachingReader
from shmfeed.memory import rows
from shmfeed.ringbuf import RingWriter

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAM, MISSPELT = HERE / "program.py", HERE / "misspelt.py"
EXPECTED = re.compile(r" *# \[([a-z-]+)\] (.+)")
FOUND = re.compile(
    r"(?P<file>[^:]+):(?P<line>\d+): error: (?P<text>.*)  \[(?P<code>.+)\]$"
)

# The classes whose objects a user holds; of C's the definitions in pure Python.
CLASSES: dict[str, tuple[type, ...]] = {
    "Feed": (shmfeed.Feed,),
    "Ring": (shmfeed.Ring, ReattachingReader),
    "Rows": (rows.Rows,),
    "Slice": (rows.Slice,),
    "FeedWriter": (shmfeed.FeedWriter,),
    "RingWriter": (RingWriter,),
    "Lease": (shmfeed.Lease,),
    "WebSocketManager": (shmfeed.WebSocketManager,),
    "Context": (wealthdata.Context,),
    "CurrentData": (wealthdata.CurrentData,),
    "CurrentSecurity": (wealthdata.CurrentSecurity,),
    "ContextDataAdapter": (wealthdata.ContextDataAdapter,),
    "DataAdapter": (wealthdata.DataAdapter,),
    "Receipt": (wealthdata.Receipt,),
}
# Methods without an underscore that only the package itself calls.
INTERNAL = {
    *("current", "reader_of", "locate", "feeder"),  # Feed
    *("datetimes", "missing", "validity", "count_flags"),  # Rows, Slice
    # FeedWriter: the feeder's part.
    *("beat_alive", "tick", "set_state", "count", "mark_message", "mark_stream"),
    *("mark_connection", "count_stream", "explain", "set_silence", "set_clock_offset"),
    *("set_repair_grace", "set_next_attempt", "reader", "unrested_slots"),
    *(
        "note",
        "has_capacity_for",
        "disown",
        "streams",
        "reserve_for",
        "known_first",
        "set_text",
        "enlarge",
        "share_locks",
        "may_write",
        "drop_rows",
    ),
}


class Mistake(NamedTuple):
    """An error of the type checker, at its line."""

    line: int
    code: str
    text: str


@pytest.fixture(scope="module")
def errors() -> dict[str, list[Mistake]]:
    """Return the errors of one run of mypy over both programs, by file."""
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml"]
    files = [str(path.relative_to(ROOT)) for path in (PROGRAM, MISSPELT)]
    run = subprocess.run(
        [*command, "--no-pretty", "--no-error-summary", "--hide-error-context", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    found: dict[str, list[Mistake]] = {name: [] for name in files}
    for line in run.stdout.splitlines():
        match = FOUND.fullmatch(line)
        if match:
            mistake = Mistake(int(match["line"]), match["code"], match["text"])
            found[match["file"]].append(mistake)
        else:
            assert ": note: " in line, line
    return found


def expected_mistakes() -> dict[int, tuple[str, str]]:
    """Return code and words of the error that each line must give, by its number."""
    lines = enumerate(MISSPELT.read_text().splitlines(), 2)  # the line below
    found = {number: EXPECTED.fullmatch(line) for number, line in lines}
    return {number: match.groups() for number, match in found.items() if match}


EXPECTED_MISTAKES = expected_mistakes()


def test_a_users_program_passes(errors) -> None:
    assert errors["tests/typing/program.py"] == []


@pytest.mark.parametrize("line", EXPECTED_MISTAKES)
def test_each_misspelling_fails_for_its_own_reason(errors, line: int) -> None:
    code, words = EXPECTED_MISTAKES[line]
    here = [one for one in errors["tests/typing/misspelt.py"] if one.line == line]
    assert [one.code for one in here] == [code], here
    assert words in here[0].text


def test_nothing_else_fails(errors) -> None:
    assert len(EXPECTED_MISTAKES) >= 20
    lines = {one.line for one in errors["tests/typing/misspelt.py"]}
    assert lines == EXPECTED_MISTAKES.keys()


@pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright_agrees(tmp_path) -> None:
    """Strict pyright accepts the program and reports each misspelling.

    The package pyright downloads its checker from npm at the first run, so that it is
    not among the tools that `make test` installs.
    """
    names = [str(path.relative_to(ROOT)) for path in (PROGRAM, MISSPELT)]
    config = tmp_path / "pyrightconfig.json"
    links = [os.path.relpath(ROOT / name, tmp_path) for name in names]
    config.write_text(json.dumps({"include": links, "typeCheckingMode": "strict"}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "-p", str(config)]
    command += ["--pythonpath", sys.executable]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1)
        for one in json.loads(run.stdout)["generalDiagnostics"]
        if one["severity"] == "error"
    ]
    assert not [line for name, line in found if name == PROGRAM.name]
    lines = {line for name, line in found if name == MISSPELT.name}
    assert EXPECTED_MISTAKES.keys() - lines == set()


def names_used(path: Path) -> set[str]:
    """Return the names and attributes that a program mentions."""
    tree = list(ast.walk(ast.parse(path.read_text())))
    names = {node.id for node in tree if isinstance(node, ast.Name)}
    return names | {node.attr for node in tree if isinstance(node, ast.Attribute)}


def members(kinds: tuple[type, ...]) -> dict[str, Any]:
    """Return the public methods and properties that classes define themselves."""
    found = {name: value for kind in kinds for name, value in vars(kind).items()}
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("_")
        and name not in INTERNAL
        and isinstance(value, FunctionType | property)
    }


def test_the_program_has_every_public_name() -> None:
    used = names_used(PROGRAM)
    assert {*shmfeed.__all__, *wealthdata.__all__} - used == set()
    for name, kinds in CLASSES.items():
        assert members(kinds).keys() - used == set(), name


def test_every_class_of_the_interface_is_listed() -> None:
    exported = {
        name
        for package in (shmfeed, wealthdata)
        for name in package.__all__
        if inspect.isclass(getattr(package, name))
        and not issubclass(getattr(package, name), Exception | dict | tuple)
    }
    assert exported == CLASSES.keys()


PUBLIC = {
    **{f"shmfeed.{name}": getattr(shmfeed, name) for name in shmfeed.__all__},
    **{f"wealthdata.{name}": getattr(wealthdata, name) for name in wealthdata.__all__},
    "shmfeed.aio.wait": aio.wait,
    "shmfeed.aio.wait_ring": aio.wait_ring,
    **{
        f"{name}.{member}": value
        for name, kinds in CLASSES.items()
        for member, value in members(kinds).items()
    },
}
FUNCTIONS = {
    name: value.fget if isinstance(value, property) else value
    for name, value in PUBLIC.items()
    if isinstance(value, FunctionType | property)
}
DOCUMENTED = {
    name: value
    for name, value in PUBLIC.items()
    if name in FUNCTIONS or inspect.isclass(value)
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_is_typed(name: str) -> None:
    signature = inspect.signature(FUNCTIONS[name])
    assert signature.return_annotation is not signature.empty
    for parameter in signature.parameters.values():
        if parameter.name != "self":
            assert parameter.annotation is not parameter.empty, parameter


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_public_name_is_documented(name: str) -> None:
    value = DOCUMENTED[name]
    inherited = [
        getattr(base, "__doc__", None) for base in getattr(value, "__mro__", ())
    ][1:]
    assert value.__doc__
    assert value.__doc__ not in inherited
