"""Followers' requests, held as leases at the leader's feeder."""

import pytest
from support.leasing import LeasingFeeder, join_keepers, serving
from support.waiting import until

from shmfeed.control.lease_client import LeaseKeeper
from shmfeed.relay import requests
from shmfeed.relay.engine import Answer, Request
from shmfeed.relay.requests import RequestedStreams

A, B, C = ("A", "1m"), ("B", "1m"), ("C", "5m")
BAD, WORSE = ("BAD", "1m"), ("WORSE", "1m")


@pytest.fixture
def feeder(feed_name):
    with serving(feed_name, LeasingFeeder()) as feeder:
        yield feeder


@pytest.fixture
def requested(feed_name):
    requested = RequestedStreams(feed_name, LeaseKeeper())
    yield requested
    requested.close()
    join_keepers()


def answered(requested, *wanted):
    """Return the answers to these requests, once there is one to each."""
    found = {}

    def is_complete():
        found.update(requested.update(wanted))
        return len(found) == len(wanted)

    until(is_complete)
    return found


def test_a_request_is_held_and_answered(requested, feeder):
    found = answered(requested, Request("there:1", (A, B, C)))
    assert found == {"there:1": Answer((A, B, C), {})}
    assert feeder.streams() == [A, B, C]
    assert all(one.name == "relay to there:1" for one in feeder.held.values())


def test_each_refused_stream_is_named_and_the_others_are_held(requested, feeder):
    streams = (A, BAD, B, WORSE, C)
    answer = answered(requested, Request("there:1", streams))["there:1"]
    assert answer.streams == streams
    assert answer.refused == {
        BAD: "the venue has no BAD",
        WORSE: "the venue has no WORSE",
    }
    assert feeder.streams() == [A, B, C]


def test_a_refused_stream_is_not_asked_for_again_at_once(requested, feeder):
    request = Request("there:1", (A, BAD))
    answered(requested, request)
    asked = feeder.asked
    for _ in range(5):
        answered(requested, request)
    assert feeder.asked == asked


def test_a_refused_stream_is_asked_for_again_later(requested, feeder, monkeypatch):
    request = Request("there:1", (A, BAD))
    answered(requested, request)
    feeder.refused.clear()
    monkeypatch.setattr(requests, "ASK_AGAIN_SECONDS", 0.0)
    until(lambda: answered(requested, request)["there:1"].refused == {})
    assert BAD in feeder.streams()


def test_a_refusal_is_told_until_the_stream_is_settled_again(
    requested, feeder, monkeypatch
):
    request = Request("there:1", (A, BAD))
    answered(requested, request)
    feeder.refused.clear()
    feeder.is_silent = True
    monkeypatch.setattr(requests, "ASK_AGAIN_SECONDS", 0.0)
    refused = answered(requested, request)["there:1"].refused
    assert refused == {BAD: "the venue has no BAD"}


def test_a_follower_that_vanishes_loses_its_leases(requested, feeder):
    answered(requested, Request("there:1", (A,)), Request("there:2", (A, B)))
    assert feeder.streams() == [A, A, B]
    answered(requested, Request("there:2", (A, B)))
    until(lambda: feeder.streams() == [A, B])
    assert requested.update([]) == []
    until(lambda: feeder.streams() == [])


def test_another_request_replaces_the_first(requested, feeder):
    answered(requested, Request("there:1", (A, C)))
    found = answered(requested, Request("there:1", (B, C)))
    assert found["there:1"].streams == (B, C)
    until(lambda: feeder.streams() == [B, C])


def test_a_request_is_not_answered_before_its_streams_are_held(requested, feeder):
    feeder.is_silent = True
    request = Request("there:1", (A,))
    assert requested.update([request]) == []
    until(lambda: feeder.asked == 1)
    assert requested.update([request]) == []


def test_a_feeder_that_does_not_answer_is_told_as_the_reason(
    requested, feeder, monkeypatch
):
    feeder.is_silent = True
    request = Request("there:1", (A,))
    requested.update([request])
    until(lambda: feeder.asked == 1)
    monkeypatch.setattr(requests, "SETTLE_SECONDS", 0.0)

    def reason():
        return answered(requested, request)["there:1"].refused[A]

    until(lambda: "did not acknowledge the lease" in reason())


def test_the_leases_are_asked_for_again_after_a_restart(requested, feed_name):
    request = Request("there:1", (A,))
    with serving(feed_name, LeasingFeeder()):
        answered(requested, request)
    with serving(feed_name, LeasingFeeder()) as second:
        until(lambda: second.streams() == [A])
        assert answered(requested, request)["there:1"].refused == {}


def test_a_name_that_cannot_be_sent_is_refused(requested, feeder):
    long = ("X" * (1 << 20), "1m")
    found = answered(requested, Request("there:1", (long,)))
    assert "longer than" in found["there:1"].refused[long]
    assert feeder.asked == 0


def test_streams_that_the_feed_did_not_carry_are_known(requested, feeder):
    one, other = Request("there:1", (A, B)), Request("there:2", (B, C))
    requested.update([one], lambda: [A])
    assert requested.added == {B}
    requested.update([one, other], lambda: [A, B])  # which has come by the lease
    assert requested.added == {B, C}
    requested.update([other], list)
    assert requested.added == {B, C}
    requested.update([one], lambda: [A, B, C])
    assert requested.added == {B}
    requested.close()
    assert requested.added == set()


def test_close_gives_all_leases_back(requested, feeder):
    answered(requested, Request("there:1", (A, C)))
    requested.close()
    until(lambda: feeder.streams() == [])
