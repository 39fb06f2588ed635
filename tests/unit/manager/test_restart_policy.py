"""RestartPolicy: when a feeder that died is replaced."""

import pytest

from shmfeed.manager.restart_policy import MAX_FAILURES, MIN_LIFETIME, RestartPolicy
from shmfeed.settings.model import Settings

SETTINGS = Settings(reconnect_delay_base=1.0, reconnect_delay_max=4.0)
LONG = MIN_LIFETIME + 1


@pytest.fixture
def policy() -> RestartPolicy:
    counted = RestartPolicy()
    counted._rng.uniform = lambda low, high: high  # the limit, not a part of it
    return counted


def test_a_feeder_that_was_connected_is_replaced_at_once(policy):
    assert [policy.delay_after(LONG, True, SETTINGS) for _ in range(20)] == [0.0] * 20


def test_a_feeder_that_dies_of_each_connection_waits_out_the_minimum(policy):
    waits = [policy.delay_after(0.25, True, SETTINGS) for _ in range(6)]
    assert waits == [MIN_LIFETIME - 0.25] * 6


def test_failures_before_a_connection_back_off_and_are_counted(policy):
    waits = [policy.delay_after(LONG, False, SETTINGS) for _ in range(MAX_FAILURES)]
    assert waits == [1.0, 2.0, 4.0, 4.0, None]


def test_each_delay_lies_between_half_and_all_of_its_limit():
    for limit, failed in ((1.0, 0), (2.0, 1), (4.0, 2), (4.0, 3)):
        for _ in range(200):
            policy = RestartPolicy()
            for _ in range(failed):
                policy.delay_after(LONG, False, SETTINGS)
            delay = policy.delay_after(LONG, False, SETTINGS)
            assert limit / 2 <= delay <= limit


def test_a_connection_resets_the_count(policy):
    for _ in range(3):
        for _ in range(MAX_FAILURES - 1):
            assert policy.delay_after(LONG, False, SETTINGS) is not None
        assert policy.delay_after(LONG, True, SETTINGS) == 0.0


def test_reset_begins_the_count_again(policy):
    for _ in range(MAX_FAILURES - 1):
        policy.delay_after(1.0, False, SETTINGS)
    policy.reset()
    assert policy.delay_after(1.0, False, SETTINGS) == 1.0
