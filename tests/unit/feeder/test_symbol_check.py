"""The states of symbols are asked for at a connect and each hour; the test's clock."""

import threading

import pytest

from shmfeed.feeder.symbol_check import HOUR, LEAST_SECONDS, SymbolCheck
from shmfeed.history.interface import HistoryError, SymbolState

GOOD = SymbolState(True, True, "")
HALTED = SymbolState(True, False, "BREAK since 2026-01-31")
UNKNOWN = SymbolState(False, False, "did you mean BTCUSDT?")


class Source:
    """A source whose states the test sets; an error is raised."""

    name = "REST"

    def __init__(self, states):
        self.states = states
        self.asked = []

    def symbols(self, wanted):
        self.asked.append(set(wanted))
        if isinstance(self.states, Exception):
            raise self.states
        return self.states and {name: self.states[name] for name in wanted}


@pytest.fixture
def play():
    """Return a function that makes a check of states, and one that turns it."""

    def begin(states):
        source, woken = Source(states), threading.Semaphore(0)
        check = SymbolCheck(source, woken.release)

        def turn(now):
            changes = check.tick(now)
            if check.is_asking:
                assert woken.acquire(timeout=10)
                changes += check.tick(now)
            return changes

        return check, source, turn

    return begin


def names(changes):
    return [(change.symbol, change.state) for change in changes]


def test_unknown_and_halted_symbols_are_told_once(play):
    check, source, turn = play({"A": GOOD, "B": HALTED, "C": UNKNOWN})
    check.set_symbols(["A", "B", "C"])
    assert names(turn(0.0)) == [("B", HALTED), ("C", UNKNOWN)]
    assert turn(HOUR - 1) == []
    assert len(source.asked) == 1
    assert turn(HOUR) == []
    assert len(source.asked) == 2


def test_a_symbol_that_trades_again_is_told(play):
    check, source, turn = play({"B": HALTED})
    check.set_symbols(["B"])
    turn(0.0)
    source.states = {"B": GOOD}
    assert names(turn(HOUR)) == [("B", GOOD)]
    assert turn(2 * HOUR) == []


def test_a_connect_asks_again_but_not_at_each_reconnect(play):
    check, source, turn = play({"A": GOOD})
    check.set_symbols(["A"])
    turn(0.0)
    check.connected(1.0)
    turn(2.0)
    assert len(source.asked) == 1
    turn(LEAST_SECONDS)
    assert len(source.asked) == 2


def test_new_symbols_are_asked_for_at_once(play):
    check, source, turn = play({"A": GOOD, "B": HALTED})
    check.set_symbols(["A"])
    turn(0.0)
    check.set_symbols(["A", "B"])
    assert names(turn(1.0)) == [("B", HALTED)]
    assert source.asked[-1] == {"A", "B"}


def test_failures_are_tried_again_and_change_nothing(play):
    check, source, turn = play(HistoryError("no answer", "away"))
    check.set_symbols(["A"])
    assert turn(0.0) == []
    assert turn(0.5) == []
    assert len(source.asked) == 1
    source.states = {"A": HALTED}
    assert names(turn(1.0)) == [("A", HALTED)]


def test_a_source_that_tells_no_states_is_asked_again_in_an_hour(play):
    check, source, turn = play(None)
    check.set_symbols(["A"])
    turn(0.0)
    turn(HOUR - 1)
    assert len(source.asked) == 1
    assert not check.is_told
    source.states = {"A": HALTED}
    assert names(turn(HOUR)) == [("A", HALTED)]
    assert check.is_told


def test_the_limit_of_threads_is_a_failure(play, monkeypatch):
    check, source, turn = play({"A": HALTED})
    check.set_symbols(["A"])

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", refuse)
        assert turn(0.0) == []
    assert not source.asked
    assert names(turn(60.0)) == [("A", HALTED)]
