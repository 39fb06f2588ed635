"""Connections that end while the venue has not answered their claimant's change."""

import os

import pytest

from shmfeed.control.messages import ControlRequest
from shmfeed.errors import WebSocketSubscriptionError
from shmfeed.feeder.requests import PendingRequest
from shmfeed.feeder.subscriptions import SubscriptionQueue
from shmfeed.feeder.symbol_gate import SymbolGate
from shmfeed.feeder.wants import Wants
from shmfeed.feeder.wants_keeper import WantsKeeper
from shmfeed.settings.model import Settings
from shmfeed.wire.events import ChangeRefused, SessionStatus, Subscribed

A, B = ("A", "1m"), ("B", "1m")


class SilentSession:
    """A connected session whose venue answers when the test says so."""

    status = SessionStatus(state="connected")

    def __init__(self):
        self.acknowledged = ()
        self.is_changing = False
        self.asked = ()

    def change(self, streams):
        self.asked, self.is_changing = streams, True


class NoMarks:
    def set_text(self, key, value):
        pass


class Harness:
    """The claimants of a feeder, and a venue that answers late."""

    def __init__(self):
        self.wants = Wants()
        self.session = SilentSession()
        queue = self.queue = SubscriptionQueue(self.wants, self.session, lambda _: None)
        gate = self.gate = SymbolGate(None, queue.subscribe)
        self.keeper = WantsKeeper(
            self.wants, queue, gate, NoMarks(), Settings, lambda _: ""
        )

    def connect(self, kind, claimant, connection):
        request = self.request(claimant)
        self.keeper.admit(kind, request, connection)

    def request(self, claimant):
        return ControlRequest(
            v=1, id=1, op="hold", manager=claimant, pid=os.getpid(), name=claimant
        )

    def ask(self, claimant, *streams):
        pending = PendingRequest(self.request(claimant))
        self.gate.ask(pending, streams, 0.0)
        return pending.answer

    def acknowledge(self):
        self.session.acknowledged, self.session.is_changing = self.session.asked, False
        self.queue.settle(Subscribed(self.session.asked, True))

    def refuse(self):
        self.session.is_changing = False
        self.queue.settle(ChangeRefused("no"))


@pytest.fixture
def harness():
    return Harness()


@pytest.mark.parametrize("is_accepted", [True, False])
def test_a_manager_killed_in_a_change_leaves_wants_that_linger(harness, is_accepted):
    harness.connect("manager", "one", 1)
    harness.ask("one", A)
    harness.acknowledge()
    answer = harness.ask("one", A, B)
    assert harness.session.asked == (A, B)
    harness.keeper.disconnected(1)
    assert harness.wants.union() == (A, B)
    if is_accepted:
        harness.acknowledge()
        assert answer.result() == {"streams": 2}
    else:
        harness.refuse()
        assert isinstance(answer.exception(), WebSocketSubscriptionError)
    assert harness.wants.union() == ((A, B) if is_accepted else (A,))
    assert harness.wants.get("one").ends_at is not None
    assert not harness.keeper.tick(0.0)  # the feeder stays


def test_a_manager_killed_in_its_first_change_that_is_refused_is_forgotten(harness):
    harness.connect("manager", "one", 1)
    harness.ask("one", A)
    harness.keeper.disconnected(1)
    harness.refuse()
    assert harness.wants.get("one") is None


def test_a_lease_killed_before_its_acknowledgement_holds_nothing(harness):
    harness.connect("manager", "one", 1)
    harness.ask("one", A)
    harness.acknowledge()
    harness.connect("lease", "two", 2)
    harness.ask("two", B)
    harness.keeper.disconnected(2)
    assert harness.wants.union() == (A,)
    assert harness.wants.get("two") is None
