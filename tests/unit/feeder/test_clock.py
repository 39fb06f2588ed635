"""The estimate of the venue's clock."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmfeed.feeder.clock import (
    LEAP_AFTER,
    LEAP_SECONDS,
    TOLERANCE_MS,
    VenueClock,
)
from shmfeed.wire.boot_clock import boot_seconds

WALL = 1_700_000_000_000
MINUTE = 60_000
DAY = 24 * 60 * MINUTE


def venue_clock(source: str = "host", at: float = 0.0) -> VenueClock:
    clock = VenueClock(WALL, 0.0)
    if source == "date":
        clock.set_time(WALL, at)
    elif source == "events":
        clock.observe(WALL, at)
    return clock


def off(clock: VenueClock, now: float) -> int:
    """Return the estimate minus the wall clock of the tests, in ms."""
    return clock.read(now) - WALL - int(now * 1000)


class TestEventTimes:
    def test_before_any_the_clock_is_this_hosts(self):
        clock = VenueClock(WALL, 50.0)
        assert clock.read(50.0) == WALL
        assert clock.read(51.5) == WALL + 1500
        assert not clock.is_known
        assert clock.offset is None

    @pytest.mark.parametrize("offset", [5000, 1, -1, TOLERANCE_MS, -TOLERANCE_MS])
    def test_one_corrects_the_clock_either_way(self, offset):
        clock = venue_clock()
        clock.observe(WALL + 1000 + offset, 1.0)
        assert off(clock, 2.0) == offset == clock.offset
        assert clock.is_known

    def test_the_least_late_one_counts(self):
        clock = venue_clock()
        for latency in (300, 40, 900):
            clock.observe(WALL + 1000 - latency, 1.0)
        assert off(clock, 2.0) == -40

    def test_an_estimate_is_forgotten_after_two_minutes(self):
        clock = venue_clock()
        clock.observe(WALL + 500, 0.0)
        clock.observe(WALL + 61_000 + 100, 61.0)
        assert off(clock, 62.0) == 500
        clock.observe(WALL + 121_000 + 100, 121.0)
        assert off(clock, 125.0) == 100

    def test_without_them_the_estimate_stays(self):
        clock = venue_clock()
        clock.observe(WALL + 500, 0.0)
        assert off(clock, 10_000.0) == 500

    @pytest.mark.parametrize("source", ["host", "date", "events"])
    def test_one_absurd_time_moves_nothing(self, source):
        clock = venue_clock(source)
        for number in range(10):
            clock.observe(WALL + 30 * 365 * DAY, number)
            clock.observe(WALL + number * 1000 - 20, number)
            assert abs(off(clock, number)) <= 20
            clock.settle(number)

    @pytest.mark.parametrize("days", [1, 30, 10_000])
    @pytest.mark.parametrize("source", ["host", "date", "events"])
    def test_three_in_a_row_make_a_leap(self, source, days):
        clock = venue_clock(source)
        for number in range(LEAP_AFTER):
            assert abs(off(clock, 1.0)) <= 1000
            clock.observe(WALL + days * DAY + 1000 + number, 1.0)
        assert abs(off(clock, 1.0) - days * DAY) < 5
        assert clock.source == "events"

    def test_a_leap_takes_no_absurd_one_of_three(self):
        clock = venue_clock()
        for time_ms in (DAY, 40 * 365 * DAY, DAY + 3):
            clock.observe(WALL + time_ms, 0.0)
        assert off(clock, 0.0) == DAY + 3

    def test_control_without_the_rule_one_time_would_make_a_leap(self, monkeypatch):
        monkeypatch.setattr("shmfeed.feeder.clock.LEAP_AFTER", 1)
        clock = venue_clock("events")
        clock.observe(WALL + 30 * 365 * DAY, 1.0)
        assert off(clock, 1.0) > DAY

    @pytest.mark.parametrize("source", ["date", "events"])
    def test_absurd_times_that_differ_make_no_leap(self, source):
        clock = venue_clock(source)
        for days in (1, 30, 400, 2, 50, 5000):
            clock.observe(WALL + days * DAY, 1.0)
        assert off(clock, 1.0) == 0

    @pytest.mark.parametrize("hours", [1, 12, 23])
    def test_one_time_between_the_venues_and_this_hosts_moves_nothing(self, hours):
        """This host is a day ahead of the venue."""
        clock = venue_clock()
        for _ in range(LEAP_AFTER):
            clock.observe(WALL - DAY, 0.0)
        clock.observe(WALL - DAY + hours * 60 * MINUTE, 0.0)
        assert off(clock, 1.0) == -DAY

    def test_an_event_that_agrees_with_this_host_ends_a_history_of_old_ones(self):
        clock = venue_clock()
        for minute in range(-30, -3):
            clock.observe(WALL + minute * MINUTE, 0.0)
        assert off(clock, 0.0) < -TOLERANCE_MS
        clock.observe(WALL, 0.0)
        assert off(clock, 0.0) == 0

    def test_late_messages_of_a_stall_are_no_leap_backwards(self):
        clock = venue_clock("events", at=0.0)
        for number in range(100):
            clock.observe(WALL - 10 * MINUTE + number, 30.0)
        assert abs(off(clock, 30.0)) <= 1000

    def test_a_venue_that_sets_its_clock_back_is_followed(self):
        clock = venue_clock("events", at=0.0)
        for number in range(100):
            clock.observe(WALL - 10 * MINUTE + number * 1000, float(number))
        assert off(clock, 100.0) == pytest.approx(-10 * MINUTE, abs=1000)

    def test_a_minute_of_events_that_agree_leaps_back_behind_a_date(self):
        clock = venue_clock("date")
        for number in range(100):
            assert off(clock, float(number)) == (0 if number <= 60 else -DAY)
            clock.observe(WALL - DAY + number * 1000, float(number))
        assert clock.source == "events"


class TestOnlyMessage:
    def test_it_is_believed_after_a_while(self):
        clock = venue_clock()
        clock.observe(WALL + DAY, 0.0)
        assert clock.is_doubtful
        clock.settle(LEAP_SECONDS - 0.1)
        assert off(clock, LEAP_SECONDS) == 0
        clock.settle(LEAP_SECONDS)
        assert off(clock, LEAP_SECONDS) == DAY

    def test_an_event_that_agrees_with_this_host_undoes_that(self):
        clock = venue_clock()
        clock.observe(WALL + DAY, 0.0)
        clock.settle(LEAP_SECONDS)
        epoch = clock.epoch
        clock.observe(WALL + 3000, 3.0)
        assert off(clock, 3.0) == 0
        assert clock.source == "events"
        assert clock.epoch > epoch

    @pytest.mark.parametrize("source", ["date", "events"])
    def test_it_is_not_where_the_venue_has_said_its_time(self, source):
        clock = venue_clock(source)
        clock.observe(WALL + DAY, 0.0)
        clock.settle(1e6)
        assert abs(off(clock, 1e6)) <= 1000
        assert not clock.is_doubtful


class TestDate:
    @pytest.mark.parametrize("difference", [-3000, -999, 0, 1000])
    def test_within_its_resolution_this_hosts_clock_is_better(self, difference):
        clock = venue_clock()
        clock.set_time(WALL + difference, 0.0)
        assert off(clock, 1.0) == 0
        assert clock.offset == 0
        assert clock.is_known

    @pytest.mark.parametrize("difference", [-DAY, -3001, 1001, 5000, DAY, 400 * DAY])
    def test_else_it_counts(self, difference):
        clock = venue_clock()
        clock.set_time(WALL + difference, 0.0)
        assert off(clock, 1.0) == difference + 500

    def test_event_times_are_better(self):
        clock = venue_clock("events")
        clock.set_time(WALL + DAY, 0.0)
        assert off(clock, 1.0) == 0
        clock = venue_clock("date")
        clock.observe(WALL + 700, 0.0)
        assert off(clock, 1.0) == 700

    def test_the_last_one_counts(self):
        clock = venue_clock("date")
        clock.set_time(WALL + DAY, 0.0)
        assert off(clock, 1.0) == DAY + 500


class TestBars:
    """Bars of a minute, where the venue says nothing else."""

    def show(self, clock: VenueClock, minute: int, now: float) -> bool:
        """Show the bar of a minute, as the intake does. True if it is taken."""
        opened = WALL // MINUTE * MINUTE + minute * MINUTE
        taken = opened <= clock.read(now) + 62_000
        if not taken:
            clock.ask_ahead(opened, now)
        elif clock.watches_bars(True):
            clock.see_bar(opened, opened + MINUTE, now)
        return opened <= clock.read(now) + 62_000

    def test_three_bars_ahead_in_a_row_make_a_leap(self):
        clock = venue_clock()
        taken = [self.show(clock, 1440, 0.1 * n) for n in range(4)]
        assert taken == [False, False, True, True]
        assert clock.source == "bars"
        assert DAY - MINUTE <= clock.offset <= DAY

    def test_one_bar_ahead_among_others_makes_none(self):
        clock = venue_clock()
        for second in range(100):
            assert self.show(clock, second // 60, second)
            if second % 10 == 0:
                assert not self.show(clock, 1440, second)
            clock.settle(second + 0.5)
        assert clock.source == "host"

    def test_the_first_bar_ahead_is_believed_until_one_is_current(self):
        clock = venue_clock()
        assert not self.show(clock, 1440, 0.0)
        clock.settle(LEAP_SECONDS)
        assert clock.source == "bars"
        assert self.show(clock, 0, 3.0)
        assert clock.source == "host"
        assert off(clock, 3.0) == 0

    def test_a_leap_of_three_is_undone_by_three(self):
        clock = venue_clock()
        for number in range(3):
            self.show(clock, 1440, 0.1 * number)
        for number in range(2):
            self.show(clock, 0, 1.0 + number)
            assert clock.source == "bars"
        self.show(clock, 0, 3.0)
        assert clock.source == "host"

    def test_an_older_history_undoes_nothing(self):
        clock = venue_clock()
        for number in range(3):
            self.show(clock, 1440, 0.1 * number)
        for minute in range(600, 1440):
            self.show(clock, minute, 1.0)
        assert clock.source == "bars"

    def test_bars_that_go_on_move_the_clock(self):
        """A venue whose time is sixty times as fast."""
        clock = venue_clock()
        taken = [self.show(clock, n // 3, n / 3) for n in range(900)]
        assert taken.count(False) <= 2
        assert all(taken[20:])

    def test_a_venue_that_has_said_its_time_is_not_doubted(self):
        clock = venue_clock("date")
        assert not any(self.show(clock, 1440, 0.1 * n) for n in range(10))
        assert not clock.is_doubtful

    def test_bars_that_agree_confirm_this_hosts_clock(self):
        clock = venue_clock()
        epoch = clock.epoch
        for _ in range(3):
            self.show(clock, 0, 0.0)
        assert not clock.is_confirmed  # at once: it may be a history
        self.show(clock, 0, 2.5)
        assert clock.is_confirmed
        assert clock.epoch > epoch
        assert not clock.watches_bars(True)

    def test_a_clock_that_was_set_is_read_again(self):
        clock = venue_clock()
        clock.follow_host(WALL + DAY, 0.0)
        assert off(clock, 0.0) == DAY
        known = venue_clock("date")
        known.follow_host(WALL + DAY, 0.0)
        assert off(known, 0.0) == 0


def test_time_passes_through_a_suspend():
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 0 <= boot_seconds() - boot < 60


skews = st.integers(-400 * DAY, 400 * DAY)
absurd = st.integers(2 * MINUTE, 30 * 365 * DAY)
said = st.lists(
    st.tuples(st.floats(0, 5), st.integers(0, 2000), st.none() | absurd),
    min_size=LEAP_AFTER,
    max_size=60,
)


@settings(deadline=None)  # the machine is shared
@given(skews, said)
def test_the_clock_is_never_far_ahead_of_the_venue_whatever_single_times_say(
    skew, messages
):
    """Each absurd time stands between two true ones."""
    clock, now = venue_clock(), 0.0
    for passed, latency, error in messages:
        now += passed
        true = WALL + int(now * 1000) + skew
        if error is not None:
            clock.observe(true + error, now)
        clock.observe(true - latency, now)
        clock.observe(true - latency, now)
        if clock.source == "events" and skew >= 0:
            assert clock.read(now) <= true + 1
    if skew >= 0:
        assert clock.read(now) >= true - 2002
    assert clock.source == "events" or skew < 0


@settings(deadline=None)
@given(
    st.integers(-TOLERANCE_MS + 2000, TOLERANCE_MS),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 2000)), min_size=1, max_size=60),
)
def test_the_clock_is_the_best_of_two_windows(skew, messages):
    clock = venue_clock()
    now, received, begin = 0.0, [], None
    for passed, latency in messages:
        now += passed
        clock.observe(WALL + int(now * 1000) + skew - latency, now)
        if begin is None or now >= begin + 60:
            begin = now
        received.append((begin, latency))
    starts = sorted({start for start, _ in received})[-2:]
    best = min(latency for start, latency in received if start in starts)
    assert clock.read(now) == WALL + int(now * 1000) + skew - best
