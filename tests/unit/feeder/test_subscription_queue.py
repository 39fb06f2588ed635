"""The order of questions to the venue; the venue is an object that only remembers."""

import os

import pytest

from shmfeed.control.messages import Request
from shmfeed.errors import (
    BadArgumentError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feeder.commands import Command
from shmfeed.feeder.subscriptions import SubscriptionQueue, Subscriptions
from shmfeed.wire.subscription import ChangeRefused, Subscribed

A, B, C, D = ((name, "1m") for name in "ABCD")


class Line:
    def __init__(self):
        self.state = "connected"
        self.last_error = ""
        self.asked = []

    def change(self, streams):
        self.asked.append(set(streams))


class Desk:
    """Changes, and the wishes of managers `one` and `two`."""

    def __init__(self, room=10):
        self.room = room
        self.wants = Subscriptions()
        self.line = Line()
        self.changes = SubscriptionQueue(self.wants, self.line, self.admit)
        self.wants.put("one", os.getpid(), (A,))
        self.changes.settle(Subscribed((A,)))

    def admit(self, union):
        if len(union) > self.room:
            raise BadArgumentError("no room")

    def subscribe(self, manager, *streams):
        request = Request(v=1, id=1, op="subscribe", manager=manager, pid=os.getpid())
        command = Command(request)
        self.changes.subscribe(command, streams)
        return command.answer

    def union(self):
        return set(self.wants.union())


@pytest.fixture
def desk():
    return Desk()


def test_a_change_is_done_when_the_venue_has_said_so(desk):
    answer = desk.subscribe("two", B)
    assert desk.line.asked == [{A, B}]
    assert not answer.done()
    desk.changes.settle(Subscribed((A, B)))
    assert answer.result(0) == {"streams": 2}
    assert desk.subscribe("two", B).result(0) == {"streams": 2}  # nothing to ask
    assert len(desk.line.asked) == 1


def test_a_refused_change_leaves_the_old_one(desk):
    answer = desk.subscribe("one", A, B)
    desk.changes.settle(ChangeRefused("no such symbol: B"))
    with pytest.raises(WebSocketSubscriptionError, match="no such symbol: B"):
        answer.result(0)
    assert desk.union() == {A}


def test_one_question_at_a_time_and_each_with_its_own_answer(desk):
    bad, good = desk.subscribe("one", A, B), desk.subscribe("two", C)
    assert desk.line.asked == [{A, B}]
    desk.changes.settle(ChangeRefused("not B"))
    assert isinstance(bad.exception(0), WebSocketSubscriptionError)
    assert desk.line.asked[1:] == [{A, C}]
    assert not good.done()
    desk.changes.settle(Subscribed((A, C)))
    assert good.result(0)
    assert desk.union() == {A, C}


def test_an_acknowledgement_of_something_else_answers_nothing(desk):
    answer = desk.subscribe("two", B)
    desk.changes.settle(Subscribed((A,)))  # a connection that began before
    assert not answer.done()
    desk.changes.settle(Subscribed((B, A)))
    assert answer.done()


def test_a_lost_connection_answers_everybody_and_changes_nothing(desk):
    answers = [desk.subscribe("two", B), desk.subscribe("two", C)]
    desk.line.state = "reconnecting"
    desk.changes.lost()
    for answer in answers:
        assert isinstance(answer.exception(0), WebSocketConnectionError)
    assert desk.line.asked[-1] == {A}
    assert desk.union() == {A}
    desk.changes.settle(ChangeRefused("superseded by a later change"))
    desk.changes.settle(Subscribed((A,)))
    desk.line.state = "connected"
    answer = desk.subscribe("two", B)
    desk.changes.settle(Subscribed((A, B)))
    assert answer.result(0)


def test_without_a_connection_nothing_is_asked(desk):
    desk.line.state = "reconnecting"
    desk.line.last_error = "lost it"
    answer = desk.subscribe("two", B)
    with pytest.raises(WebSocketConnectionError, match="lost it"):
        answer.result(0)
    assert desk.line.asked == []
    assert desk.union() == {A}


def test_no_room_is_said_at_once():
    desk = Desk(room=2)
    answer = desk.subscribe("two", B, C)
    assert isinstance(answer.exception(0), BadArgumentError)
    assert desk.union() == {A}
    assert not desk.subscribe("two", B).done()
    assert desk.line.asked == [{A, B}]


def test_who_leaves_takes_its_streams_along(desk):
    desk.subscribe("two", B)
    desk.changes.settle(Subscribed((A, B)))
    desk.changes.leave("two")
    assert desk.line.asked[-1] == {A}
    desk.changes.settle(Subscribed((A,)))
    desk.changes.leave("nobody")
    assert len(desk.line.asked) == 2


def test_a_refused_leaving_is_not_asked_for_ever(desk):
    desk.subscribe("two", B)
    desk.changes.settle(Subscribed((A, B)))
    desk.changes.leave("two")
    desk.changes.settle(ChangeRefused("no"))
    assert len(desk.line.asked) == 2
    desk.subscribe("one", A, C)
    assert desk.line.asked[-1] == {A, C}


def test_who_leaves_while_its_change_is_open_wants_nothing_after(desk):
    first, second = desk.subscribe("two", B), desk.subscribe("two", C)
    desk.changes.leave("two")
    assert isinstance(second.exception(0), WebSocketConnectionError)
    desk.changes.settle(ChangeRefused("no"))
    assert first.exception(0)
    assert desk.union() == {A}


@pytest.mark.parametrize("accepted", [True, False])
def test_leaving_during_anothers_change(desk, accepted):
    desk.wants.put("three", os.getpid(), (D,))
    desk.changes.settle(Subscribed((A, D)))
    answer = desk.subscribe("two", B)
    desk.changes.leave("three")
    assert len(desk.line.asked) == 1
    if accepted:
        desk.changes.settle(Subscribed((A, D, B)))
        assert answer.result(0)
        assert desk.line.asked[-1] == {A, B}
    else:
        desk.changes.settle(ChangeRefused("no"))
        assert answer.exception(0)
        assert desk.line.asked[-1] == {A}


def test_the_end_answers_everybody(desk):
    answers = [desk.subscribe("two", B), desk.subscribe("one", C)]
    desk.changes.end()
    for answer in answers:
        with pytest.raises(WebSocketConnectionError, match="stopping"):
            answer.result(0)
