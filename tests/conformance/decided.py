"""Strategies as files, and the decisions that they must make, whatever way they run."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from conformance import market
from conformance.adapter import Adapter
from conformance.market import to_text

FOLDER = Path(__file__).parent / "strategies"
GOLDEN = Path(__file__).parent / "strategies.yaml"

Decided = list[list[Any]]  # [moment, what] each


class StrategyCase(NamedTuple):
    """A strategy, the bars that it runs on, and its decisions."""

    strategy: str
    bars: str
    symbols: list[str]
    frequency: str
    decides: Decided

    @property
    def name(self) -> str:
        return f"{self.strategy} on {self.bars}"


@cache
def load() -> tuple[StrategyCase, ...]:
    """Read the strategies and their golden decisions."""
    listed = yaml.safe_load(GOLDEN.read_text())
    return tuple(StrategyCase(**raw) for raw in listed)


def judge(adapter: Adapter, way: str, case: StrategyCase) -> list[str]:
    """Run a strategy. Return what it decided otherwise than demanded, in words."""
    path = FOLDER / f"{case.strategy}.py"
    given = market.load(case.bars)
    found = adapter.run(way, path, given, case.symbols, case.frequency)
    decided = [[to_text(moment), what] for moment, what in found]
    for number, (one, wanted) in enumerate(zip(decided, case.decides, strict=False)):
        if one != wanted:
            return [f"decision {number}: {one!r}, not {wanted!r}"]
    if len(decided) != len(case.decides):
        return [f"{len(decided)} decisions, not {len(case.decides)}"]
    return []
