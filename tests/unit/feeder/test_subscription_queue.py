"""The order of changes to the venue, with a session that only records them."""

import os

import pytest

from shmfeed.control.messages import ControlRequest
from shmfeed.control.peer import Peer
from shmfeed.errors import (
    BadArgumentError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feeder.requests import PendingRequest
from shmfeed.feeder.subscriptions import SubscriptionQueue
from shmfeed.feeder.wants import Claimant, Wants
from shmfeed.wire.events import ChangeRefused, SessionStatus, Subscribed

A, B, C, D = ((name, "1m") for name in "ABCD")


class FakeSession:
    """A session that only records its changes."""

    def __init__(self):
        self.status = SessionStatus(state="connected")
        self.acknowledged = ()
        self.is_changing = False
        self.asked = []

    def change(self, streams):
        self.is_changing = True
        self.asked.append(set(streams))


class Harness:
    """A queue, and the streams of managers `one` and `two`."""

    def __init__(self, room=10):
        self.room = room
        self.subscriptions = Wants()
        self.session = FakeSession()
        self.queue = SubscriptionQueue(self.subscriptions, self.session, self.admit)
        for manager in "one", "two", "three":
            process = Peer.of(os.getpid())
            claimant = Claimant("manager", manager, process, 0, 60.0)
            self.subscriptions.admit(manager, claimant)
        self.subscriptions.put("one", (A,))
        self.acknowledge(A)

    def acknowledge(self, *streams):
        """Acknowledge these streams, as a session does."""
        self.session.acknowledged = streams
        asked = self.session.asked[-1:] == [set(streams)]
        ends_change = self.session.is_changing and asked
        self.session.is_changing = self.session.is_changing and not asked
        self.queue.settle(Subscribed(streams, ends_change))

    def refuse(self, message):
        self.session.is_changing = False
        self.queue.settle(ChangeRefused(message))

    def admit(self, union):
        if len(union) > self.room:
            raise BadArgumentError("no room")

    def subscribe(self, manager, *streams):
        request = ControlRequest(
            v=1, id=1, op="subscribe", manager=manager, pid=os.getpid()
        )
        pending = PendingRequest(request)
        self.queue.subscribe(pending, streams)
        return pending.answer

    def union(self):
        return set(self.subscriptions.union())


@pytest.fixture
def harness():
    return Harness()


def test_a_change_is_answered_by_the_acknowledgement(harness):
    answer = harness.subscribe("two", B)
    assert harness.session.asked == [{A, B}]
    assert not answer.done()
    harness.acknowledge(A, B)
    assert answer.result(0) == {"streams": 2}
    assert harness.subscribe("two", B).result(0) == {"streams": 2}  # nothing to ask
    assert len(harness.session.asked) == 1


def test_a_refused_change_leaves_the_old_one(harness):
    answer = harness.subscribe("one", A, B)
    harness.refuse("no such symbol: B")
    with pytest.raises(WebSocketSubscriptionError, match="no such symbol: B"):
        answer.result(0)
    assert harness.union() == {A}


def test_changes_are_processed_one_at_a_time_and_each_gets_its_own_answer(harness):
    bad, good = harness.subscribe("one", A, B), harness.subscribe("two", C)
    assert harness.session.asked == [{A, B}]
    harness.refuse("not B")
    assert isinstance(bad.exception(0), WebSocketSubscriptionError)
    assert harness.session.asked[1:] == [{A, C}]
    assert not good.done()
    harness.acknowledge(A, C)
    assert good.result(0)
    assert harness.union() == {A, C}


def test_an_acknowledgement_of_something_else_answers_nothing(harness):
    answer = harness.subscribe("two", B)
    harness.acknowledge(A)  # a connection that began before
    assert not answer.done()
    harness.acknowledge(B, A)
    assert answer.done()


def test_a_lost_connection_fails_all_changes(harness):
    answers = [harness.subscribe("two", B), harness.subscribe("two", C)]
    harness.session.status = SessionStatus(state="reconnecting")
    harness.queue.connection_lost()
    for answer in answers:
        assert isinstance(answer.exception(0), WebSocketConnectionError)
    assert harness.session.asked[-1] == {A}
    assert harness.union() == {A}
    harness.acknowledge(A)
    harness.session.status = SessionStatus(state="connected")
    answer = harness.subscribe("two", B)
    harness.acknowledge(A, B)
    assert answer.result(0)


def test_without_a_connection_nothing_is_asked(harness):
    harness.session.status = SessionStatus(state="reconnecting", last_error="lost it")
    answer = harness.subscribe("two", B)
    with pytest.raises(WebSocketConnectionError, match="lost it"):
        answer.result(0)
    assert harness.session.asked == []
    assert harness.union() == {A}


def test_a_change_beyond_the_capacity_is_refused_at_once():
    harness = Harness(room=2)
    answer = harness.subscribe("two", B, C)
    assert isinstance(answer.exception(0), BadArgumentError)
    assert harness.union() == {A}
    assert not harness.subscribe("two", B).done()
    assert harness.session.asked == [{A, B}]


def test_a_manager_that_leaves_drops_its_streams(harness):
    harness.subscribe("two", B)
    harness.acknowledge(A, B)
    harness.queue.drop("two")
    assert harness.session.asked[-1] == {A}
    harness.acknowledge(A)
    harness.queue.drop("unknown")
    assert len(harness.session.asked) == 2


def test_a_refused_leave_is_not_asked_again(harness):
    harness.subscribe("two", B)
    harness.acknowledge(A, B)
    harness.queue.drop("two")
    harness.refuse("no")
    assert len(harness.session.asked) == 2
    harness.subscribe("one", A, C)
    assert harness.session.asked[-1] == {A, C}


def test_a_manager_that_leaves_during_its_change_wants_nothing(harness):
    first, second = harness.subscribe("two", B), harness.subscribe("two", C)
    harness.queue.drop("two")
    assert isinstance(second.exception(0), WebSocketConnectionError)
    harness.refuse("no")
    assert first.exception(0)
    assert harness.union() == {A}


@pytest.mark.parametrize("accepted", [True, False])
def test_a_manager_may_leave_during_anothers_change(harness, accepted):
    harness.subscriptions.put("three", (D,))
    harness.acknowledge(A, D)
    answer = harness.subscribe("two", B)
    harness.queue.drop("three")
    assert len(harness.session.asked) == 1
    if accepted:
        harness.acknowledge(A, D, B)
        assert answer.result(0)
        assert harness.session.asked[-1] == {A, B}
    else:
        harness.refuse("no")
        assert answer.exception(0)
        assert harness.session.asked[-1] == {A}


def test_the_end_fails_all_changes(harness):
    answers = [harness.subscribe("two", B), harness.subscribe("one", C)]
    harness.queue.end()
    for answer in answers:
        with pytest.raises(WebSocketConnectionError, match="stopping"):
            answer.result(0)
