"""Changes of the subscription wait for the venue's word about their symbols."""

import threading

import pytest

from shmfeed.control.messages import ControlRequest
from shmfeed.errors import WebSocketSubscriptionError
from shmfeed.feeder.requests import PendingRequest
from shmfeed.feeder.symbol_check import SymbolCheck
from shmfeed.feeder.symbol_gate import GATE_SECONDS, SymbolGate
from shmfeed.history.interface import HistoryError, SymbolState

A, B, TYPO = (("A", "1m"),), (("B", "1m"),), (("A", "1m"), ("BTCUST", "1m"))
GOOD = SymbolState(True, True, "")
UNKNOWN = SymbolState(False, False, "no such symbol; the nearest is BTCUSDT")


class Source:
    name = "REST"

    def __init__(self, answer):
        self.answer = answer

    def symbols(self, wanted):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer and {name: self.answer.get(name, UNKNOWN) for name in wanted}


class Gate:
    """A gate, and the changes that it let go on."""

    def __init__(self, answer):
        self.woken = threading.Semaphore(0)
        self.check = SymbolCheck(Source(answer), self.woken.release)
        self.went = []
        self.gate = SymbolGate(self.check, lambda _, streams: self.went.append(streams))

    def ask(self, streams, manager="m"):
        pending = PendingRequest(
            ControlRequest(v=1, id=0, op="subscribe", manager=manager)
        )
        self.gate.ask(pending, streams, 0.0)
        return pending.answer

    def turn(self, now=0.1):
        self.check.tick(now)
        if self.check.is_asking:
            assert self.woken.acquire(timeout=10)
            self.check.tick(now)
        self.gate.tick(now)


def test_a_change_to_checked_symbols_goes_on_at_once():
    gate = Gate({"A": GOOD})
    gate.check.set_symbols(["A"])
    gate.ask(A)
    assert gate.went == [A]


def test_a_change_with_an_unknown_symbol_fails_as_a_whole():
    gate = Gate({"A": GOOD})
    gate.check.set_symbols(["A"])
    answer = gate.ask(TYPO)
    assert gate.went == []
    gate.turn()
    with pytest.raises(
        WebSocketSubscriptionError, match="BTCUST: no such symbol; the nearest"
    ):
        answer.result(timeout=0)
    assert gate.went == []


def test_changes_keep_their_order():
    gate = Gate({"A": GOOD, "B": GOOD})
    gate.check.set_symbols(["A"])
    gate.ask(B)
    gate.ask(A)
    assert gate.went == []
    gate.turn()
    assert gate.went == [B, A]


def test_without_an_answer_a_change_goes_on_after_a_while():
    gate = Gate(HistoryError("away", "away"))
    gate.ask(B)
    gate.turn()
    assert gate.went == []
    gate.gate.tick(GATE_SECONDS)
    assert gate.went == [B]


def test_a_source_without_states_is_asked_once():
    gate = Gate(None)
    gate.check.set_symbols(["A"])
    gate.turn()
    gate.ask(B)
    assert gate.went == [B]
    assert not gate.check.is_told


def test_no_change_is_left_without_an_answer():
    gate = Gate({})
    one, other = gate.ask(B, "one"), gate.ask(B, "other")
    gate.gate.drop("one")
    with pytest.raises(WebSocketSubscriptionError, match="was stopped"):
        one.result(timeout=0)
    gate.gate.end()
    with pytest.raises(WebSocketSubscriptionError, match="stopping"):
        other.result(timeout=0)
    without = SymbolGate(None, lambda _, streams: gate.went.append(streams))
    without.ask(PendingRequest(ControlRequest(v=1, id=0, op="subscribe")), A, 0.0)
    assert gate.went == [A]
