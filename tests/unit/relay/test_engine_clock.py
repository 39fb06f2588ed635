"""Bounds of the engine's clock: they hold, and they are close."""

import random

from shmfeed.relay.engine_clock import EngineClock


def test_nothing_is_known_before_a_round_trip() -> None:
    clock = EngineClock()
    assert not clock.is_known
    assert clock.earliest(5.0) == float("-inf")
    assert clock.latest(5.0) == float("inf")


def test_bounds_hold_and_the_quickest_trip_counts(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        clock, offset, now = EngineClock(), rng.uniform(-1e9, 1e9), 0.0
        drift = rng.uniform(-100e-6, 100e-6)
        quickest = 1.0
        for _ in range(50):
            now += rng.uniform(0.0, 0.5)
            there, back = rng.expovariate(100), rng.expovariate(100)
            quickest = min(quickest, there + back)
            engine = offset + (now + there) * (1 + drift)
            clock.measure(now, now + there + back, engine)
            now += there + back
            for later in (now, now + 10):
                true = offset + later * (1 + drift)
                assert clock.earliest(later) <= true + 1e-6
                assert clock.latest(later) >= true - 1e-6
        assert clock.latest(now) - clock.earliest(now) < quickest + 0.1


def test_a_clock_that_was_set_is_measured_again() -> None:
    clock = EngineClock()
    clock.measure(0.0, 0.1, 1000.0)
    clock.measure(1.0, 1.1, 1031.0)  # 30 s ahead
    assert clock.earliest(1.1) <= 1031.1 <= clock.latest(1.1) + 1e-9
    clock.measure(2.0, 2.1, 1002.0)  # and back
    assert clock.latest(2.1) < 1003
    assert clock.earliest(2.1) > 1001


def test_another_server_has_another_clock() -> None:
    clock = EngineClock()
    clock.measure(0.0, 0.1, 1000.0)
    clock.forget()
    assert not clock.is_known
