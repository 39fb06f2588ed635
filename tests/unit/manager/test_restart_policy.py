"""When a feeder that died is replaced."""

import pytest

from shmfeed.manager.lifecycle import DEATHS, LEAST_LIFE, RestartPolicy
from shmfeed.settings.model import Settings

SETTINGS = Settings(reconnect_delay_base=1.0, reconnect_delay_max=4.0)
LONG = LEAST_LIFE + 1


@pytest.fixture
def deaths() -> RestartPolicy:
    counted = RestartPolicy()
    counted._rng.uniform = lambda low, high: high  # the limit, not a part of it
    return counted


def test_one_that_had_been_connected_is_replaced_at_once(deaths):
    assert [deaths.delay_after(LONG, True, SETTINGS) for _ in range(20)] == [0.0] * 20


def test_one_that_dies_of_each_connection_does_not_call_without_end(deaths):
    waits = [deaths.delay_after(0.25, True, SETTINGS) for _ in range(6)]
    assert waits == [LEAST_LIFE - 0.25] * 6


def test_deaths_before_a_connection_are_waited_after_and_counted(deaths):
    waits = [deaths.delay_after(LONG, False, SETTINGS) for _ in range(DEATHS)]
    assert waits == [1.0, 2.0, 4.0, 4.0, None]


def test_a_connection_begins_the_count_anew(deaths):
    for _ in range(3):
        for _ in range(DEATHS - 1):
            assert deaths.delay_after(LONG, False, SETTINGS) is not None
        assert deaths.delay_after(LONG, True, SETTINGS) == 0.0


def test_forgiven_it_begins_anew(deaths):
    for _ in range(DEATHS - 1):
        deaths.delay_after(1.0, False, SETTINGS)
    deaths.forgive()
    assert deaths.delay_after(1.0, False, SETTINGS) == 1.0
