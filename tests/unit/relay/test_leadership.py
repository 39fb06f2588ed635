"""The choice of a leader: who leads, who resigns, and to whom."""

import pytest
from support.memory_engine import MemoryEngine, MemoryServer

from shmfeed.errors import BadArgumentError
from shmfeed.health import health_rank
from shmfeed.relay import leadership
from shmfeed.relay.engine import Member
from shmfeed.relay.leadership import Candidate, OwnFeed

FIT = OwnFeed("connected", "live")
RECOVERING = OwnFeed("reconnecting", "recovering")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server():
    return MemoryServer()


@pytest.fixture
def candidate(server, clock):
    return Candidate(MemoryEngine(server), "here:1", clock)


@pytest.fixture
def other(server, clock):
    return Candidate(MemoryEngine(server), "there:2", clock)


def stand_by(candidate, own=FIT):
    return candidate.stand_by(own, lambda: None)


def test_the_first_leads_and_the_second_stands_by(candidate, other, server):
    assert stand_by(candidate)
    assert candidate.leads
    assert not stand_by(other)
    assert other.leadership == candidate.leadership
    assert other.leadership.leader == "here:1"
    assert server.epoch == candidate.epoch


def test_a_standby_leads_once_the_leader_has_resigned(candidate, other):
    stand_by(candidate)
    before = candidate.epoch
    candidate.resign()
    assert not candidate.leads
    assert stand_by(other)
    assert other.epoch > before


def test_an_error_before_it_leads_leaves_the_place_free(candidate, server):
    def refuse():
        raise BadArgumentError("of another identity")

    with pytest.raises(BadArgumentError):
        candidate.stand_by(FIT, refuse)
    assert server.epoch == 0
    assert not candidate.leads


@pytest.mark.parametrize(
    ("own", "of_other", "stays"),
    [
        (FIT, OwnFeed("connected", "live"), True),
        (OwnFeed("connected", "quiet"), FIT, True),
        (OwnFeed("connected", "stale"), FIT, False),
        (OwnFeed("error", "recovering"), FIT, False),
        (OwnFeed("disconnected", "dead"), FIT, False),
        (OwnFeed("connected", "stale"), OwnFeed("connected", "stale"), True),
        (OwnFeed("disconnected", "dead"), OwnFeed("connected", "stale"), True),
        (OwnFeed("disconnected", "dead"), OwnFeed("connecting", "live"), True),
        (OwnFeed("disconnected", "dead"), OwnFeed("connected", "recovering"), False),
    ],
)
def test_a_leader_resigns_to_a_fitter_member_alone(
    candidate, other, own, of_other, stays
):
    stand_by(candidate)
    stand_by(other, of_other)
    assert candidate.stay(own) == stays


def test_a_leader_without_a_connection_waits_for_a_moment(candidate, other, clock):
    stand_by(candidate)
    stand_by(other)
    assert candidate.stay(RECOVERING)
    clock.now += leadership.CONFIRM_SECONDS + 0.1
    stand_by(other)
    assert not candidate.stay(RECOVERING)
    assert candidate.stay(FIT)  # it is back


def test_an_unfit_one_leaves_the_place_to_a_fit_one_for_a_while(
    candidate, other, clock
):
    broken = OwnFeed("connected", "stale")
    stand_by(other)
    other.resign()
    assert not stand_by(candidate, broken)
    clock.now += leadership.YIELD_SECONDS - 0.1
    assert not stand_by(candidate, broken)
    clock.now += 0.2
    assert stand_by(candidate, broken)


def test_an_unfit_one_leads_at_once_where_there_is_no_other(candidate):
    assert stand_by(candidate, OwnFeed("disconnected", "dead"))


def test_two_publishers_of_one_name_are_two(engines, clock):
    one, other = (Candidate(engines.make(), "here:1", clock) for _ in range(2))
    assert stand_by(one)
    assert not stand_by(other)
    assert one.stay(FIT)
    assert not one.stay(OwnFeed("connected", "stale"))


def test_members_tell_their_health(candidate, server):
    stand_by(candidate, OwnFeed("reconnecting", "stale"))
    told = [member for _, member in server.members.values()]
    assert told == [Member("here:1", False, health_rank("stale"))]
