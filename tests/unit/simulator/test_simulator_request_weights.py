"""The count of request weights by minute, its refusals and bans, by a fake clock."""

from shmfeed.simulator.request_weights import RequestWeights


def test_a_minute_has_its_limit_and_the_next_begins_at_zero():
    now = [600.0]
    weights = RequestWeights(10, lambda: now[0])
    assert weights.take(10) is None
    now[0] = 645.5
    refused = weights.take(1)
    assert (refused.status, refused.wait) == (429, 15)
    assert "current limit is 10 request weight" in refused.words
    assert weights.used == 11
    now[0] = 660.0
    assert weights.take(3) is None
    assert weights.used == 3


def test_going_on_beyond_the_limit_is_a_ban_to_its_end():
    now = [600.0]
    weights = RequestWeights(10, lambda: now[0])
    statuses = [one and one.status for one in (weights.take(6) for _ in range(8))]
    assert statuses == [None, 429, 429, 429, 429, 429, 418, 418]
    now[0] = 719.0
    banned = weights.take(1)
    assert (banned.status, banned.wait) == (418, 1)
    assert "IP banned until 720000" in banned.words
    now[0] = 720.0
    assert weights.take(1) is None
