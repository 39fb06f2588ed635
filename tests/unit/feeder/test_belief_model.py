"""Belief in messages and histories: the intake beside a plain dict of the rules.

Twelve rows have been closed by messages. Then closing messages, the venue's own REST
and another source contradict them and each other in any order.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.history_bench import Bench, event, past

from shmfeed.bar import BACKFILLED, CLOSED_BY_VENUE, REVISED
from shmfeed.feeder import closed_rows, history_taking
from shmfeed.feeder.row_changes import RowChange

ROWS = 12
KNOWN = 4  # rows whose values the ledger knows
PRICES = 1.0, 2.0, 3.0

minutes = st.integers(0, ROWS - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("message"), minutes, st.sampled_from(PRICES)),
        st.tuples(
            st.sampled_from(("own", "own", "other")),
            st.dictionaries(minutes, st.sampled_from(PRICES), min_size=1, max_size=5),
        ),
    ),
    max_size=25,
)


@dataclass
class Model:
    """The contract's rules of belief, for rows that closing messages ended."""

    prices: dict[int, float] = field(
        default_factory=lambda: dict.fromkeys(range(ROWS), 1.0)
    )
    of_history: set[int] = field(default_factory=set)
    overruled: dict[int, float] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    disbelieved: dict[str, bool] = field(default_factory=dict)

    def message(self, minute: int, price: float) -> None:
        """Revise a row by a final with other values, not one that history corrected."""
        if price in (self.prices[minute], self.overruled.get(minute)):
            return
        self.prices[minute] = price
        self.of_history.discard(minute)
        self.changed.add(minute)

    def history(self, source: str, told: dict[int, float]) -> None:
        """Correct rows by the own REST, unless it denies most of the venue's rows."""
        ours = [n for n in told if n not in self.of_history]
        wrong = sum(told[n] != self.prices[n] for n in ours)
        if len(ours) >= 3:
            self.disbelieved[source] = 2 * wrong > len(ours)
        if self.disbelieved.get(source) or source != "own":
            return
        for minute, price in told.items():
            if price != self.prices[minute]:
                if minute not in self.of_history:
                    self.overruled[minute] = self.prices[minute]
                self.prices[minute] = price
                self.of_history.add(minute)
                self.changed.add(minute)

    def rows(self):
        for minute, price in self.prices.items():
            flags = CLOSED_BY_VENUE
            flags |= BACKFILLED * (minute in self.of_history)
            yield minute, price, flags | REVISED * (minute in self.changed)


@pytest.fixture
def bench(feed_name, monkeypatch):
    for module in closed_rows, history_taking:
        monkeypatch.setattr(module, "KNOWN_ROWS", KNOWN)
    made = Bench(feed_name, monkeypatch)
    made.start()
    yield made
    made.close()


def play(bench, given_steps):
    """Give the steps to an intake and to the model; compare the rows after each."""
    bench.close()
    bench.writer = None
    bench.start()
    bench.take(*[event(minute, price=1.0) for minute in range(ROWS)])
    model = Model()
    for kind, *step in given_steps:
        if kind == "message":
            model.message(*step)
            bench.take(event(step[0], price=step[1]))
        else:
            model.history(kind, step[0])
            bars = [past(n, price) for n, price in sorted(step[0].items())]
            bench.history(*bars, is_own=kind == "own", source=kind)
        assert bench.rows() == list(model.rows())
    assert bench.gaps() == (0, 0)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps)
def test_rows_are_the_models(bench, given_steps):
    play(bench, given_steps)


REPEATED = [("own", {1: 2.0}), ("message", 1, 1.0)]  # history has the last word
REVISED_AGAIN = [("own", {1: 2.0}), ("message", 1, 3.0)]  # about the first final alone
OTHERS = [("other", {1: 2.0})]
DENIED = [("own", {1: 2.0, 2: 2.0, 3: 1.0}), ("own", {4: 3.0})]


@pytest.mark.parametrize("given_steps", [REPEATED, REVISED_AGAIN, OTHERS, DENIED])
def test_the_rules_one_by_one(bench, given_steps):
    play(bench, given_steps)


@pytest.mark.parametrize(
    ("given_steps", "answer"), [(REPEATED, True), (REVISED_AGAIN, False)]
)
def test_control_the_model_sees_a_wrong_rule(bench, monkeypatch, given_steps, answer):
    monkeypatch.setattr(RowChange, "may_revise", lambda *_: answer)
    monkeypatch.setattr(closed_rows.ClosedRows, "overruled", lambda *_: None)
    monkeypatch.setattr(closed_rows, "OVERRULED_ROWS", 0)
    with pytest.raises(AssertionError):
        play(bench, given_steps)
