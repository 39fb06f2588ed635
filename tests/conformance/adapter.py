"""The protocol of an adapter: an implementation under test, as the suite calls it."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from conformance.market import Market

DEFAULT = "conformance.wealthdata_adapter"


class Adapter(Protocol):
    """An implementation under test.

    A module is an adapter if it has these names.
    """

    ways: Sequence[str]  # those of case.WAYS in which `play` can run a strategy
    runs: Sequence[str]  # those in which `run` can

    def function(self, name: str) -> Callable[..., Any]:
        """Return the implementation's function of this name."""
        ...

    def choices(self, given: Mapping[str, object]) -> AbstractContextManager[object]:
        """Make process-wide choices, as `use` takes them, and end them at the exit."""
        ...

    def play(
        self,
        way: str,
        market: Market,
        moments: Sequence[int],
        probe: Callable[[int], None],
    ) -> None:
        """Run a strategy on the given bars, and call `probe` at each of the moments.

        The moments are close times of given bars, ms UTC, oldest first. While `probe`
        runs, the functions must answer as they answer a strategy at that moment.
        """
        ...

    def run(
        self,
        way: str,
        strategy: Path,
        market: Market,
        symbols: Sequence[str],
        frequency: str,
    ) -> list[tuple[int, Any]]:
        """Run a strategy's file on the given bars. Return its decisions, in order.

        Each is the strategy's moment, ms UTC, and the decision as JSON gives it back.
        """
        ...


def find(name: str = DEFAULT) -> Adapter:
    """Import the adapter of this module name."""
    module: Any = importlib.import_module(name)
    return module
