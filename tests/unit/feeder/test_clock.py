"""The estimate of the venue's clock."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmfeed.feeder.clock import ABSURD_MS, VenueClock

WALL = 1_700_000_000_000
DAY = 24 * 60 * 60 * 1000


def test_before_any_event_the_clock_is_this_hosts():
    clock = VenueClock(WALL, 50.0)
    assert clock.read(50.0) == WALL
    assert clock.read(51.5) == WALL + 1500


@pytest.mark.parametrize("offset", [5000, 1, -1])
def test_an_event_corrects_the_clock_either_way(offset):
    clock = VenueClock(WALL, 0.0)
    clock.observe(WALL + 1000 + offset, 1.0)
    assert clock.read(2.0) == WALL + 2000 + offset


def test_the_least_late_event_counts():
    clock = VenueClock(WALL, 0.0)
    for latency in (300, 40, 900):
        clock.observe(WALL + 1000 - latency, 1.0)
    assert clock.read(2.0) == WALL + 2000 - 40


def test_an_estimate_is_forgotten_after_two_minutes():
    clock = VenueClock(WALL, 0.0)
    clock.observe(WALL + 500, 0.0)
    clock.observe(WALL + 61_000 + 100, 61.0)
    assert clock.read(62.0) == WALL + 62_000 + 500
    clock.observe(WALL + 121_000 + 100, 121.0)
    assert clock.read(125.0) == WALL + 125_000 + 100


def test_without_events_the_estimate_stays():
    clock = VenueClock(WALL, 0.0)
    clock.observe(WALL + 500, 0.0)
    assert clock.read(10_000.0) == WALL + 10_000_000 + 500
    clock.observe(WALL + 10_001_000 + 300, 10_001.0)
    assert clock.read(10_002.0) == WALL + 10_002_000 + 500
    clock.observe(WALL + 10_061_000 + 300, 10_061.0)
    assert clock.read(10_062.0) == WALL + 10_062_000 + 300


@pytest.mark.parametrize("sign", [1, -1])
def test_an_absurd_event_is_ignored(sign):
    assert ABSURD_MS == DAY
    ignoring, learning = VenueClock(WALL, 0.0), VenueClock(WALL, 0.0)
    ignoring.observe(WALL + sign * (DAY + 1), 0.0)
    learning.observe(WALL + sign * DAY, 0.0)
    assert ignoring.read(1.0) == WALL + 1000
    assert learning.read(1.0) == WALL + 1000 + sign * DAY


def test_the_clock_stays_the_same_rather_than_going_back():
    clock = VenueClock(WALL, 0.0)
    assert clock.read(1.0) == WALL + 1000
    clock.observe(WALL + 1000 - 400, 1.0)
    assert clock.read(1.1) == WALL + 1000
    assert clock.read(1.5) == WALL + 1100


events = st.tuples(st.floats(0, 40), st.integers(-2 * DAY, 2 * DAY))


@settings(deadline=None)  # the machine is shared
@given(st.lists(events, max_size=40))
def test_the_clock_is_monotone_and_never_far_off(said):
    clock = VenueClock(WALL, 0.0)
    now, last = 0.0, 0
    for passed, offset in said:
        now += passed
        clock.observe(WALL + int(now * 1000) + offset, now)
        read = clock.read(now)
        assert read >= last
        assert abs(read - WALL - now * 1000) <= DAY + 1
        last = read


@settings(deadline=None)
@given(
    st.integers(-3600_000, 3600_000),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 2000)), min_size=1, max_size=60),
)
def test_the_clock_is_the_best_of_its_window_and_never_ahead_of_the_venue(skew, said):
    clock = VenueClock(WALL, 0.0)
    now, received = 0.0, []
    for passed, latency in said:
        now += passed
        clock.observe(WALL + int(now * 1000) + skew - latency, now)
        received.append((int(now // 60), latency))
    newest = received[-1][0]
    before = max((w for w, _ in received if w < newest), default=newest)
    best = min(latency for window, latency in received if window in (newest, before))
    assert clock.read(now) == WALL + int(now * 1000) + skew - best
