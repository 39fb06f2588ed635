"""The one rule of liveness, by each core."""

import pytest
from support.cores import Core
from support.ring_on_bytes import Bench, bench

from shmfeed.layout import (
    AHEAD_NS,
    CONNECTED,
    DEAD_NS,
    E_SINCE,
    E_SUBSCRIBED,
    E_UPDATED,
    H_ALIVE,
    H_RETIRED,
    H_STATE,
    H_SUSPENDED,
    H_TICK,
    H_WAKE,
    LOOKUP_NS,
    STUCK_NS,
)
from shmfeed.memory.liveness import (
    is_alive,
    is_current,
    is_lookup_due,
    is_working,
    note_lookup,
)
from shmfeed.memory.words import boot_ns, suspended_ns

NEVER = -1 << 63
NOW = 10 * AHEAD_NS
SLACK = 10**9  # between a test's look at the clock and the reader's
YEARS = 10 * 365 * 86_400 * 10**9  # ten of them
SIGNS = pytest.mark.parametrize("sign", [H_TICK, H_ALIVE])


@pytest.fixture
def words() -> memoryview:
    """Return a segment whose feeder has never sent a heartbeat."""
    ints = bench(5).words.ints
    ints[H_TICK] = ints[H_ALIVE] = NEVER
    return ints


class TestIsAlive:
    @SIGNS
    @pytest.mark.parametrize(
        ("age", "expected"),
        [
            (0, True),
            (DEAD_NS, True),
            (DEAD_NS + 1, False),
            (-AHEAD_NS, True),
            (-AHEAD_NS - 1, False),
            (-YEARS, False),
        ],
    )
    def test_by_the_age_of_one_sign(self, words, sign, age, expected) -> None:
        words[sign] = NOW - age
        assert is_alive(words, NOW) is expected

    def test_without_any_sign(self, words) -> None:
        assert not is_alive(words, NOW)


class TestIsWorking:
    @pytest.mark.parametrize(
        ("age", "expected"),
        [
            (0, True),
            (STUCK_NS, True),
            (STUCK_NS + 1, False),
            (-AHEAD_NS, True),
            (-AHEAD_NS - 1, False),
        ],
    )
    def test_by_the_age_of_the_tick(self, words, age, expected) -> None:
        words[H_TICK] = NOW - age
        assert is_working(words, NOW) is expected

    def test_the_beat_thread_does_not_count(self, words) -> None:
        words[H_ALIVE] = NOW
        assert not is_working(words, NOW)


class TestIsCurrent:
    @SIGNS
    @pytest.mark.parametrize(
        ("age", "expected"),
        [
            (0, True),
            (DEAD_NS, True),
            (DEAD_NS + 1, False),
            (-DEAD_NS, True),
            (-DEAD_NS - 1, False),
            (-YEARS, False),
        ],
    )
    def test_by_the_age_of_one_sign(self, words, sign, age, expected) -> None:
        words[sign] = NOW - age
        assert is_current(words, NOW) is expected

    @pytest.mark.parametrize("retired", [1, 2, -1])
    def test_a_retired_segment_never_is(self, words, retired) -> None:
        words[H_TICK] = words[H_ALIVE] = NOW
        words[H_RETIRED] = retired
        assert not is_current(words, NOW)


class TestLookups:
    """The pace at which readers of a dead feed look up its name."""

    @pytest.mark.parametrize(
        ("age", "expected"), [(0, False), (LOOKUP_NS - 1, False), (LOOKUP_NS, True)]
    )
    def test_by_the_age_of_the_last_one(self, age, expected) -> None:
        words = bench(5).words
        assert is_lookup_due(words, NOW)  # the first one
        note_lookup(words, 0, NOW - age)
        assert is_lookup_due(words, NOW) is expected

    def test_a_notification_since_then(self) -> None:
        words = bench(5).words
        note_lookup(words, 0, NOW)
        words.ints[H_WAKE] = 1
        assert is_lookup_due(words, NOW)
        note_lookup(words, 1, NOW)
        assert not is_lookup_due(words, NOW)


class TestEachCore:
    """A reader's own way to the rule: nearly on each bound, by the real clock."""

    @pytest.fixture
    def live(self, each_core: Core) -> Bench:
        ring, now = bench(5, core=each_core), boot_ns()
        ints, at = ring.words.ints, ring.geometry.entry_word(0)
        ints[H_TICK] = ints[H_ALIVE] = NEVER
        ints[H_STATE] = CONNECTED
        ints[at + E_SUBSCRIBED] = 1
        ints[at + E_SINCE] = ints[at + E_UPDATED] = now - SLACK
        return ring

    @SIGNS
    @pytest.mark.parametrize(
        ("age", "expected"),
        [
            (0, True),
            (DEAD_NS - SLACK, True),
            (DEAD_NS + 1, False),
            (-DEAD_NS, True),
            (-DEAD_NS - SLACK, False),
            (-YEARS, False),
        ],
    )
    def test_is_current(self, live: Bench, sign, age, expected) -> None:
        live.words.ints[sign] = boot_ns() - age
        assert live.reader.is_current is expected

    @pytest.mark.parametrize("value", [NEVER, -1, 0, (1 << 63) - 1])
    def test_is_current_by_signs_that_no_clock_shows(self, live: Bench, value) -> None:
        live.words.ints[H_TICK] = live.words.ints[H_ALIVE] = value
        assert not live.reader.is_current

    @pytest.mark.parametrize(
        ("tick", "alive", "expected"),
        [
            (0, 0, True),
            (0, YEARS, True),
            (STUCK_NS - SLACK, 0, True),
            (STUCK_NS + 1, 0, False),
            (STUCK_NS - SLACK, DEAD_NS + 1, False),
            (STUCK_NS - SLACK, -YEARS, False),
            (-YEARS, 0, False),
            (-YEARS, -YEARS, False),
        ],
    )
    def test_live_age(self, live: Bench, tick, alive, expected) -> None:
        now = boot_ns()
        live.words.ints[H_TICK] = now - tick
        live.words.ints[H_ALIVE] = now - alive
        assert (live.reader.live_age(90 * 10**9) is not None) is expected


class TestAfterASuspend:
    """The host slept between the last heartbeats and now, perhaps."""

    @staticmethod
    def sleep(words, slept, awake):
        now = boot_ns()
        words[H_TICK] = words[H_ALIVE] = now - slept - awake
        words[H_SUSPENDED] = suspended_ns() - slept + 1
        return now

    @pytest.mark.parametrize("slept", [3 * 10**9, 86_400 * 10**9])
    def test_a_feeder_that_beat_shortly_before_is_alive(self, words, slept) -> None:
        now = self.sleep(words, slept, DEAD_NS // 2)
        assert is_alive(words, now)
        assert is_alive(words, now + DEAD_NS // 3)

    @pytest.mark.parametrize("slept", [3 * 10**9, 86_400 * 10**9])
    def test_without_a_heartbeat_since_it_is_dead_in_time(self, words, slept) -> None:
        now = self.sleep(words, slept, DEAD_NS // 2)
        assert not is_alive(words, now + DEAD_NS)
        now = self.sleep(words, slept, DEAD_NS + SLACK)  # it died before the suspend
        assert not is_alive(words, now)

    def test_it_is_not_working_before_its_main_loop_has_run(self, words) -> None:
        assert not is_working(words, self.sleep(words, STUCK_NS + SLACK, 0))

    def test_control_the_same_age_without_a_suspend_is_death(self, words) -> None:
        now = self.sleep(words, 86_400 * 10**9, 0)
        for told in (0, suspended_ns() + 1, suspended_ns() * 2 + NOW, -NOW, NEVER):
            words[H_SUSPENDED] = told
            assert not is_alive(words, now)
