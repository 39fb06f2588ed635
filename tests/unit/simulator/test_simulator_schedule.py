"""The schedule closes each bar once, in the order of time."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.bar import TIMEFRAMES, close_time, floor
from shmfeed.simulator.market import STEPS, bar_state
from shmfeed.simulator.schedule import (
    Schedule,
    all_states,
    closed_states,
    open_times_before,
)

NOW = 1_700_000_000_000
MINUTE, HOUR = ("A", "1m"), ("A", "1h")


@given(st.lists(st.integers(0, 200_000), max_size=30))
def test_each_bar_closes_once_and_in_order(steps):
    schedule = Schedule(7)
    opened = {key: schedule.add(key, NOW) for key in (MINUTE, HOUR)}
    closed: list[tuple[int, tuple[str, str]]] = []
    for now in itertools.accumulate(steps, initial=NOW):
        for key, state in schedule.closings(now):
            assert state[1] <= now
            assert state == bar_state(7, key, opened[key], STEPS, state[1])
            opened[key] = state[1]
            closed.append((state[1], key))
        for key, open_time in opened.items():
            assert open_time == floor(now, key[1])
    assert closed == sorted(closed)


def test_updates_follow_the_clock():
    schedule = Schedule(7)
    opened = schedule.add(MINUTE, NOW)
    seen = []
    for second in range(60):
        now = opened + second * 1000
        assert list(schedule.closings(now)) == []
        ((key, state),) = schedule.updates(now)
        step = second * STEPS // 60
        assert (key, state) == (MINUTE, bar_state(7, MINUTE, opened, step, now))
        seen.append(step)
    assert set(seen) == set(range(STEPS))  # the last step is the close


def test_streams_are_added_and_removed():
    schedule = Schedule(7)
    assert schedule.next_closing() is None
    schedule.add(MINUTE, NOW)
    schedule.add(HOUR, NOW)
    assert schedule.add(MINUTE, NOW + 600_000) == floor(NOW, "1m")  # followed already
    assert schedule.next_closing() == close_time(floor(NOW, "1m"), "1m")
    schedule.remove(MINUTE)
    schedule.remove(MINUTE)
    assert schedule.next_closing() == close_time(floor(NOW, "1h"), "1h")
    assert [key for key, _ in schedule.updates(NOW)] == [HOUR]


@pytest.mark.parametrize("timeframe", sorted(TIMEFRAMES))
def test_open_times_before_are_on_the_grid(timeframe):
    end = floor(NOW, timeframe)
    times = open_times_before(end, timeframe, 40).tolist()
    assert len(times) == 40
    for earlier, later in itertools.pairwise([*times, end]):
        assert close_time(earlier, timeframe) == later


def test_no_bar_opens_before_the_epoch():
    assert open_times_before(120_000, "1m", 5).tolist() == [0, 60_000]


def test_states_of_many_bars_equal_the_states_of_each():
    times = np.array([NOW // 60_000 * 60_000, 0], np.int64)
    states = all_states(7, MINUTE, times)
    ends = [close_time(opened, "1m") for opened in times.tolist()]
    wanted = [
        bar_state(7, MINUTE, opened, step, opened + 60_000 * step // STEPS)
        for opened in times.tolist()
        for step in range(1, STEPS + 1)
    ]
    assert states == wanted
    assert [state[1] for state in closed_states(7, MINUTE, times)] == ends
    assert closed_states(7, MINUTE, times) == states[STEPS - 1 :: STEPS]
