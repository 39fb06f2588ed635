"""A manager's measure of its feeder's silence, with a clock of the test's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.manager.stuck import StuckTimer


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_silence_grows_until_the_next_sign() -> None:
    clock = Clock()
    watch = StuckTimer(clock)
    found = []
    for sign in "aaabbb":
        clock.now += 0.5
        found.append(watch.look(sign))
    assert found == [0, 0.5, 1.0, 0, 0.5, 1.0]


def test_a_break_of_the_manager_counts_a_second() -> None:
    clock = Clock()
    watch = StuckTimer(clock)
    watch.look("a")
    clock.now += 3600  # the host slept, or the manager was stopped
    assert watch.look("a") == 1.0
    clock.now += 0.05
    assert watch.look("a") == pytest.approx(1.05)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_silence_is_never_longer_than_the_looks(pauses: list[float]) -> None:
    clock = Clock()
    watch = StuckTimer(clock)
    watch.look("a")
    for pause in pauses:
        clock.now += pause
        silent = watch.look("a")
    assert silent <= len(pauses)
    assert silent <= sum(pauses) + 1e-6


def test_another_feeder_begins_without_silence() -> None:
    clock = Clock()
    watch = StuckTimer(clock)
    watch.look(None)
    clock.now += 0.9
    watch.reset()
    assert watch.look(None) == 0.0
