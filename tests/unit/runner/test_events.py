"""Events, missing symbols and errors of a mode, as the loop hands them on."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import pytest
from support.runs import MINUTE, START, Outcome, Runs, bar

from shmfeed.errors import FeedChangedError
from wealthdata.bar_history import BarHistory
from wealthdata.column_history import ColumnHistory
from wealthdata.events import Closed, Gap, Health, Revised
from wealthdata.runner import backtest
from wealthdata.runner.steps import Event, Step

pytest_plugins = ["support.runs_fixture"]

Item = Step | Event | Exception


class Played:
    """A mode that yields these items, and raises the exceptions among them."""

    run_type = "live"
    feed: str | None = None
    history: BarHistory | None = ColumnHistory({})
    start = START

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = items

    def steps(self) -> Iterator[Step | Event]:
        for item in self._items:
            if isinstance(item, Exception):
                raise item
            yield item

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        pass


def step(number: int, symbols: str, lacking: str = "") -> Step:
    one = bar(number)
    closed = tuple(Closed(symbol, "1m", one) for symbol in symbols)
    return Step(START + (number + 1) * MINUTE, closed, tuple(lacking))


@pytest.fixture
def play(runs: Runs, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs a strategy on these items."""

    def run(source: str, *items: Item) -> Outcome:
        monkeypatch.setattr(backtest, "BacktestMode", lambda *_: Played(items))
        return runs.backtest(source)

    return run


EVENTS = (
    Health("A", "1m", "live", "dead", "no feeder"),
    Revised("A", "1m", bar(0), bar(1)),
    Gap("A", "1m", START, START, False),
)


def test_each_event_has_its_handler_between_two_steps(play) -> None:
    source = """
        def handle_bar(context, bar): print("bar", bar.close)
        def on_health(context, event): print(event.old, event.new, event.why)
        def on_revised(context, event): print(event.old.close, event.new.close)
        def on_gap(context, event): print(event.filled, context.current_dt.minute)
        def on_strategy_end(context): print("end")
    """
    found = play(source, step(0, "A"), *EVENTS, step(1, "A"))
    assert found.output == [
        "bar 11.0",
        "live dead no feeder",
        "11.0 12.0",
        "False 1",
        "bar 12.0",
        "end",
    ]
    assert "is dead" not in found.errors


def test_health_without_a_handler_is_told(play) -> None:
    found = play("def handle_bar(c, b): print(b.close)", *EVENTS, step(0, "A"))
    assert (found.code, found.output) == (0, ["11.0"])
    assert "wealthdata: A 1m is dead, was live: no feeder\n" in found.errors


def test_an_exception_in_an_events_handler_is_one_of_the_strategy(play) -> None:
    source = """
        def handle_bar(context, bar): print("bar")
        def on_health(context, event): raise LookupError(event.new)
    """
    found = play(source, step(0, "A"), *EVENTS, step(1, "A"))
    assert (found.code, found.output) == (1, ["bar"])
    assert "LookupError: dead, in on_health at 2026-01-01T00:01:00Z" in found.errors


def test_a_symbol_that_lacks_bars_is_told_once_until_it_is_back(play) -> None:
    steps = [
        step(0, "AB"),
        step(1, "A", "B"),
        step(2, "A", "B"),
        step(3, "AB"),
        step(4, "A", "B"),
    ]
    found = play("def handle_data(c, data): print(*data)", *steps)
    assert found.output == ["A B", "A", "A", "A B", "A"]
    assert found.errors.count("no bar of B at ") == 2
    assert (
        "no bar of B at 2026-01-01T00:02:00Z; the run goes on without" in found.errors
    )


def test_an_error_of_the_feed_ends_the_run_after_the_end_of_its_strategies(
    play,
) -> None:
    source = """
        def handle_bar(context, bar): print("bar")
        def on_strategy_end(context): print("end")
    """
    failure = FeedChangedError("the feed is another one")
    found = play(source, step(0, "A"), failure, step(1, "A"))
    assert (found.code, found.output) == (1, ["bar", "end"])
    assert "wealthdata: the feed is another one" in found.errors
