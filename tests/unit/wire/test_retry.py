"""The backoff of a chain of connections, by a clock of the test's own."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.settings.model import Settings
from shmfeed.wire.retry import LASTING, Demand, Life, ReconnectPolicy

SHORT = Life(0.2, had_data=False)
LASTED = Life(LASTING, had_data=True)


def policy(seed=1, **settings):
    return ReconnectPolicy(Settings(**settings), random.Random(seed))


def waits(one, count, now=0.0):
    """Return the delays of so many failures in a row."""
    found = []
    for _ in range(count):
        one.failed(now)
        found.append(one.next_at - now)
        now = one.next_at
    return found


def test_each_delay_lies_between_half_and_all_of_a_limit_that_doubles():
    for seed in range(50):
        for k, delay in enumerate(waits(policy(seed), 10)):
            limit = min(60.0, 2.0**k)
            assert limit / 2 <= delay <= limit


def test_failures_in_a_row_exhaust_the_attempts_and_delays_grow_on():
    one = policy(max_reconnect_attempts=3)
    waits(one, 2)
    assert not one.is_exhausted
    waits(one, 1)
    assert one.is_exhausted
    assert waits(one, 6)[-1] >= 30.0


def test_without_a_limit_no_failure_exhausts_the_attempts():
    one = policy(max_reconnect_attempts=None)
    waits(one, 50)
    assert not one.is_exhausted


def test_an_acknowledgement_ends_the_row_but_not_the_backoff():
    one = policy()
    waits(one, 5)
    one.acknowledged()
    assert one.failures == 0
    one.lost(100.0, Life(5.0, had_data=True))
    assert one.next_at - 100.0 >= 16.0  # the sixth delay: half of 32 s


def test_the_first_attempt_after_a_connection_that_lasted_comes_at_once():
    one = policy()
    waits(one, 5)
    one.acknowledged()
    one.lost(500.0, LASTED)
    assert one.next_at == 500.0
    assert 0.5 <= waits(one, 1, 500.0)[0] <= 1.0  # and the backoff has begun again


def test_a_minute_without_data_does_not_begin_the_backoff_again():
    one = policy()
    waits(one, 5)
    one.acknowledged()
    one.lost(500.0, Life(LASTING, had_data=False))
    assert waits(one, 1, 500.0)[0] >= 16.0


def test_a_short_life_without_data_counts_as_a_failure():
    one = policy(max_reconnect_attempts=3)
    for _ in range(3):
        one.acknowledged()
        one.lost(0.0, SHORT)
    assert one.is_exhausted
    other = policy(max_reconnect_attempts=1)
    other.acknowledged()
    other.lost(0.0, Life(0.2, had_data=True))
    assert not other.is_exhausted


def test_a_venues_wait_is_kept_and_counts_as_no_failure():
    one = policy()
    for _ in range(10):
        one.failed(0.0, Demand(wait=100.0))
        assert one.next_at >= 100.0
    assert one.failures == 0
    one.lost(0.0, LASTED, Demand(wait=7.0))
    assert one.next_at >= 7.0


def test_a_wait_of_no_length_does_not_undercut_the_backoff():
    one = policy()
    for _ in range(8):
        one.failed(0.0, Demand(wait=0.001))
    assert one.next_at >= 30.0


def test_a_policy_violation_is_not_retried_fast():
    one = policy()
    one.failed(0.0, Demand(is_slow=True))
    assert one.next_at >= 30.0
    two = policy()
    two.lost(0.0, Life(3.0, had_data=True), Demand(is_slow=True))
    assert two.next_at >= 30.0


def test_a_users_retry_forgets_every_failure():
    one = policy(max_reconnect_attempts=1)
    waits(one, 5)
    one.begin_again()
    assert (one.failures, one.next_at) == (0, 0.0)
    assert waits(one, 1)[0] <= 1.0


class Forgetful(ReconnectPolicy):
    """The control: any acknowledgement begins the backoff again."""

    def acknowledged(self):
        super().acknowledged()
        self._delays, self._is_fresh = 0, True


# A life in seconds, and whether it brought data; None: no acknowledgement.
OUTCOMES = st.lists(
    st.none()
    | st.tuples(st.floats(0.0, 200.0) | st.just(1.2) | st.just(60.0), st.booleans()),
    max_size=60,
)


def dials(one, outcomes):
    """Return the times of the dials of a venue that behaves so."""
    now, times = 0.0, []
    for outcome in outcomes:
        now = max(now, one.next_at)
        times.append(now)
        if outcome is None:
            one.failed(now)
            continue
        one.acknowledged()
        seconds, had_data = outcome
        now += seconds
        one.lost(now, Life(seconds, had_data))
    return times


def most_in_a_minute(times):
    return max((sum(a <= t < a + 60 for t in times) for a in times), default=0)


@given(OUTCOMES, st.integers(0, 9))
def test_no_schedule_of_lives_and_failures_gets_many_dials_in_a_minute(outcomes, seed):
    assert most_in_a_minute(dials(policy(seed), outcomes)) <= 12


def test_control_a_backoff_that_each_life_resets_dials_without_end():
    settings, rng = Settings(), random.Random(1)
    outcomes = [(1.2, True)] * 60
    assert most_in_a_minute(dials(Forgetful(settings, rng), outcomes)) > 40
    times = dials(policy(), outcomes)
    assert sum(t < 30 for t in times) <= 8


@pytest.mark.parametrize("seed", range(20))
def test_an_outage_of_two_seconds_is_survived_by_default(seed):
    one = policy(seed)
    one.acknowledged()
    one.lost(0.0, LASTED)
    times = list(itertools.takewhile(lambda t: t < 2.0, dials(one, [None] * 9)))
    assert times[0] == 0.0
    # After the third failure the state is error, and the attempts go on.
    assert len(times) <= 3
