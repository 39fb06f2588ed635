"""The order of changes to the venue, with a session that only records them."""

import os

import pytest

from shmfeed.control.messages import Request
from shmfeed.errors import (
    BadArgumentError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feeder.requests import PendingRequest
from shmfeed.feeder.subscriptions import SubscriptionQueue, Subscriptions
from shmfeed.wire.events import ChangeRefused, SessionStatus, Subscribed

A, B, C, D = ((name, "1m") for name in "ABCD")


class Port:
    """A session that only records its changes."""

    def __init__(self):
        self.status = SessionStatus(state="connected")
        self.acknowledged = ()
        self.is_changing = False
        self.asked = []

    def change(self, streams):
        self.is_changing = True
        self.asked.append(set(streams))


class Desk:
    """A queue, and the wants of managers `one` and `two`."""

    def __init__(self, room=10):
        self.room = room
        self.wants = Subscriptions()
        self.port = Port()
        self.queue = SubscriptionQueue(self.wants, self.port, self.admit)
        self.wants.put("one", os.getpid(), (A,))
        self.acknowledge(A)

    def acknowledge(self, *streams):
        """Acknowledge these streams, as a session does."""
        self.port.acknowledged = streams
        asked = self.port.asked[-1:] == [set(streams)]
        ends_change = self.port.is_changing and asked
        self.port.is_changing = self.port.is_changing and not asked
        self.queue.settle(Subscribed(streams, ends_change))

    def refuse(self, message):
        self.port.is_changing = False
        self.queue.settle(ChangeRefused(message))

    def admit(self, union):
        if len(union) > self.room:
            raise BadArgumentError("no room")

    def subscribe(self, manager, *streams):
        request = Request(v=1, id=1, op="subscribe", manager=manager, pid=os.getpid())
        pending = PendingRequest(request)
        self.queue.subscribe(pending, streams)
        return pending.answer

    def union(self):
        return set(self.wants.union())


@pytest.fixture
def desk():
    return Desk()


def test_a_change_is_answered_by_the_acknowledgement(desk):
    answer = desk.subscribe("two", B)
    assert desk.port.asked == [{A, B}]
    assert not answer.done()
    desk.acknowledge(A, B)
    assert answer.result(0) == {"streams": 2}
    assert desk.subscribe("two", B).result(0) == {"streams": 2}  # nothing to ask
    assert len(desk.port.asked) == 1


def test_a_refused_change_leaves_the_old_one(desk):
    answer = desk.subscribe("one", A, B)
    desk.refuse("no such symbol: B")
    with pytest.raises(WebSocketSubscriptionError, match="no such symbol: B"):
        answer.result(0)
    assert desk.union() == {A}


def test_one_question_at_a_time_and_each_with_its_own_answer(desk):
    bad, good = desk.subscribe("one", A, B), desk.subscribe("two", C)
    assert desk.port.asked == [{A, B}]
    desk.refuse("not B")
    assert isinstance(bad.exception(0), WebSocketSubscriptionError)
    assert desk.port.asked[1:] == [{A, C}]
    assert not good.done()
    desk.acknowledge(A, C)
    assert good.result(0)
    assert desk.union() == {A, C}


def test_an_acknowledgement_of_something_else_answers_nothing(desk):
    answer = desk.subscribe("two", B)
    desk.acknowledge(A)  # a connection that began before
    assert not answer.done()
    desk.acknowledge(B, A)
    assert answer.done()


def test_a_lost_connection_fails_all_changes(desk):
    answers = [desk.subscribe("two", B), desk.subscribe("two", C)]
    desk.port.status = SessionStatus(state="reconnecting")
    desk.queue.connection_lost()
    for answer in answers:
        assert isinstance(answer.exception(0), WebSocketConnectionError)
    assert desk.port.asked[-1] == {A}
    assert desk.union() == {A}
    desk.acknowledge(A)
    desk.port.status = SessionStatus(state="connected")
    answer = desk.subscribe("two", B)
    desk.acknowledge(A, B)
    assert answer.result(0)


def test_without_a_connection_nothing_is_asked(desk):
    desk.port.status = SessionStatus(state="reconnecting", last_error="lost it")
    answer = desk.subscribe("two", B)
    with pytest.raises(WebSocketConnectionError, match="lost it"):
        answer.result(0)
    assert desk.port.asked == []
    assert desk.union() == {A}


def test_a_change_beyond_the_capacity_is_refused_at_once():
    desk = Desk(room=2)
    answer = desk.subscribe("two", B, C)
    assert isinstance(answer.exception(0), BadArgumentError)
    assert desk.union() == {A}
    assert not desk.subscribe("two", B).done()
    assert desk.port.asked == [{A, B}]


def test_a_manager_that_leaves_drops_its_streams(desk):
    desk.subscribe("two", B)
    desk.acknowledge(A, B)
    desk.queue.leave("two")
    assert desk.port.asked[-1] == {A}
    desk.acknowledge(A)
    desk.queue.leave("unknown")
    assert len(desk.port.asked) == 2


def test_a_refused_leave_is_not_asked_again(desk):
    desk.subscribe("two", B)
    desk.acknowledge(A, B)
    desk.queue.leave("two")
    desk.refuse("no")
    assert len(desk.port.asked) == 2
    desk.subscribe("one", A, C)
    assert desk.port.asked[-1] == {A, C}


def test_a_manager_that_leaves_during_its_change_wants_nothing(desk):
    first, second = desk.subscribe("two", B), desk.subscribe("two", C)
    desk.queue.leave("two")
    assert isinstance(second.exception(0), WebSocketConnectionError)
    desk.refuse("no")
    assert first.exception(0)
    assert desk.union() == {A}


@pytest.mark.parametrize("accepted", [True, False])
def test_leaving_during_anothers_change(desk, accepted):
    desk.wants.put("three", os.getpid(), (D,))
    desk.acknowledge(A, D)
    answer = desk.subscribe("two", B)
    desk.queue.leave("three")
    assert len(desk.port.asked) == 1
    if accepted:
        desk.acknowledge(A, D, B)
        assert answer.result(0)
        assert desk.port.asked[-1] == {A, B}
    else:
        desk.refuse("no")
        assert answer.exception(0)
        assert desk.port.asked[-1] == {A}


def test_the_end_fails_all_changes(desk):
    answers = [desk.subscribe("two", B), desk.subscribe("one", C)]
    desk.queue.end()
    for answer in answers:
        with pytest.raises(WebSocketConnectionError, match="stopping"):
            answer.result(0)
