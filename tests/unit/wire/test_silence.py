"""A connection that brings no bar is given up after a limit."""

import math

import pytest

from shmfeed.settings.model import Settings
from shmfeed.wire.silence import STEADY_SECONDS, SilenceWatch

HOURLY = (("A", "1h"), ("A", "1d"))
MINUTELY = (("A", "1h"), ("A", "1m"))


def watch(streams, push_interval=1.0, **settings):
    one = SilenceWatch(Settings(**settings), push_interval)
    one.carry(streams)
    return one


@pytest.mark.parametrize("streams", [HOURLY, MINUTELY, (("A", "1s"),), (("A", "1M"),)])
def test_the_limit_follows_the_push_rate_and_no_timeframe(streams):
    assert watch(streams).limit == 30.0
    assert watch(streams, push_interval=5.0).limit == max(30.0, 50.0)


def test_a_setting_is_the_limit_and_stays_it():
    one = watch(HOURLY, data_timeout=7.0)
    one.ended(had_data=False)
    assert one.limit == 7.0
    assert watch((), data_timeout=7.0).limit == math.inf


def test_each_silent_connection_without_data_doubles_the_limit_up_to_the_stale_one():
    one = watch(MINUTELY)
    limits = []
    for _ in range(6):
        one.ended(had_data=False)
        limits.append(one.limit)
    assert limits == [60.0, 120.0, 180.0, 180.0, 180.0, 180.0]
    hourly = watch(HOURLY)
    for _ in range(40):
        hourly.ended(had_data=False)
    assert hourly.limit == 3 * 3600.0


def test_a_silent_connection_that_had_data_does_not():
    one = watch(HOURLY)
    one.ended(had_data=True)
    assert one.limit == 30.0


def test_a_quiet_day_costs_few_connections():
    one, now, connections = watch(HOURLY), 0.0, 0
    while now < 86_400.0:
        now += one.limit
        connections += 1
        one.ended(had_data=False)
    assert connections < 20


def test_steady_data_bring_the_first_limit_back():
    one = watch(HOURLY)
    one.ended(had_data=False)
    for second in range(int(STEADY_SECONDS) + 2):
        assert one.limit == 60.0
        one.observe(1.0, float(second))
    assert one.limit == 30.0


def test_data_with_long_pauses_do_not():
    one = watch(HOURLY)
    one.ended(had_data=False)
    for second in range(10 * int(STEADY_SECONDS)):
        one.observe(float(second % 20), float(second))
    assert one.limit == 60.0
