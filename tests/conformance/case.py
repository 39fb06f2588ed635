"""Golden cases: what a strategy calls at a moment, and what it must be given."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from conformance.market import to_ms

CASES = Path(__file__).parent / "cases"
WAYS = {
    "live": "the feed has the bars up to the strategy's moment",
    "ahead": "the feed has later bars too; the strategy's clock bounds the reads",
    "hybrid": "the feed has the newer half of the bars, a context the older one",
    "replay": "a runner plays the file through a feed of its own",
    "backtest": "a runner reads the file alone",
}
OUTCOMES = {"gives", "raises", "says", "warns", "attrs", "same_as"}
KEYS = OUTCOMES | {
    "case",
    "row",
    "bars",
    "now",
    "ways",
    "call",
    "args",
    "with",
    "then",
    "choices",
    "but",
}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Case(NamedTuple):
    """One call of a strategy, and its outcome.

    Attributes:
        name: The file and the case's own name.
        row: The row of the tables in the documents that it belongs to.
        bars: The name of the given bars.
        now: The strategy's moment, ms UTC.
        ways: The ways to run the strategy in which it holds.
        call: The name of the function.
        args, keywords: Its arguments, as they stand in the file.
        then: Items and attributes to take from the result, in turn.
        choices: Process-wide choices, as `use` takes them.
        outcome: The result that must come, by the keys of OUTCOMES.
        but: Other outcomes, by way.
    """

    name: str
    row: str
    bars: str
    now: int
    ways: tuple[str, ...]
    call: str
    args: list[Any]
    keywords: dict[str, Any]
    then: list[dict[str, Any]]
    choices: dict[str, Any]
    outcome: dict[str, Any]
    but: dict[str, dict[str, Any]]

    def expected(self, way: str) -> dict[str, Any]:
        """Return the outcome in this way."""
        return {**self.outcome, **self.but.get(way, {})}


@cache
def load() -> tuple[Case, ...]:
    """Read all case files, in the order of their names."""
    found = [case for path in sorted(CASES.glob("*.yaml")) for case in read_file(path)]
    names = [case.name for case in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"cases have the same name: {sorted(twice)}")
    return tuple(found)


def read_file(path: Path) -> list[Case]:
    """Read one case file: its defaults, and its cases."""
    with path.open() as file:
        content = yaml.load(file, _Loader)  # a safe loader
    defaults = {name: content[name] for name in content if name != "cases"}
    return [_case(path.stem, {**defaults, **raw}) for raw in content["cases"]]


def _case(topic: str, raw: Mapping[str, Any]) -> Case:
    name = f"{topic}: {raw['case']}"
    if unknown := set(raw) - KEYS:
        raise ValueError(f"{name}: unknown keys {sorted(unknown)}")
    outcome = {key: raw[key] for key in raw if key in OUTCOMES}
    if not outcome.keys() & {"gives", "raises", "same_as", "attrs"}:
        raise ValueError(f"{name}: nothing is expected")
    ways = raw.get("ways", list(WAYS))
    if unknown := set(ways) - set(WAYS):
        raise ValueError(f"{name}: unknown ways {sorted(unknown)}")
    if not re.fullmatch(r"[a-z0-9-]+", raw["row"]):
        raise ValueError(f"{name}: the row {raw['row']!r} is no name of a row")
    return Case(
        name,
        raw["row"],
        raw["bars"],
        to_ms(raw["now"]),
        tuple(ways),
        raw["call"],
        raw.get("args", []),
        raw.get("with", {}),
        raw.get("then", []),
        raw.get("choices", {}),
        outcome,
        raw.get("but", {}),
    )
