"""When a waiter spins: the phases of arrivals, the windows, the budget."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed import spinning
from shmfeed.errors import BadArgumentError
from shmfeed.spinning import SLICE_NS, Arrivals, Spinner, Window, check_spin

MS = 1_000_000
SECOND = 1000 * MS
SPIN = 3 * MS
START = 1_000_000 * SECOND


def arrivals(*seconds: float, timeframe: str = "1s") -> Arrivals:
    found = Arrivals(timeframe)
    for at in seconds:
        found.note(START + round(at * SECOND))
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the boot clock, in seconds from START."""
    now = [START]
    monkeypatch.setattr(spinning, "boot_ns", lambda: now[0])

    def set_clock(seconds: float) -> None:
        now[0] = START + round(seconds * SECOND)

    return set_clock


class TestArrivals:
    def test_without_an_arrival_none_is_expected(self) -> None:
        assert arrivals().window(START, SPIN) is None

    @pytest.mark.parametrize("seen", [(0.25,), (0.25, 1.25), (1.249, 0.25, 2.251)])
    def test_the_next_window_is_around_the_same_phase(self, seen) -> None:
        window = arrivals(*seen).window(START + 3 * SECOND, SPIN)
        middle = START + round(3.25 * SECOND)
        assert window == Window(middle - SPIN // 2, middle + SPIN // 2)

    def test_a_window_that_runs_is_the_next_one(self) -> None:
        found = arrivals(0.25)
        window = found.window(START + SECOND, SPIN)
        assert found.window(window.end - 1, SPIN) == window
        assert found.window(window.end, SPIN).start == window.start + SECOND

    def test_after_an_arrival_the_next_window_is_a_timeframe_later(self) -> None:
        """The rest of the window in which the bar came is not spun."""
        found = arrivals(0.25, 1.25)
        found.note(START + round(2.25 * SECOND))
        window = found.window(START + round(2.2501 * SECOND), SPIN)
        assert window.start > START + 3 * SECOND

    def test_most_arrivals_count_not_a_late_one(self) -> None:
        window = arrivals(0.25, 1.25, 2.6, 3.25).window(START + 4 * SECOND, SPIN)
        assert window.start < START + round(4.25 * SECOND) < window.end

    def test_a_phase_across_the_end_of_the_timeframe(self) -> None:
        window = arrivals(0.9995, 2.0, 3.0005).window(START + 3 * SECOND + 1, SPIN)
        assert window.start < START + 4 * SECOND < window.end

    def test_of_two_phases_the_last_arrival_s_is_better(self) -> None:
        window = arrivals(0.25, 1.25, 2.75, 3.75).window(START + 4 * SECOND, SPIN)
        assert window.start < START + round(4.75 * SECOND) < window.end

    def test_the_newest_arrival_is_noted_for_the_next_window(self) -> None:
        found = arrivals(0.25)
        found.newest = START + round(1.2505 * SECOND)
        window = found.window(START + round(1.2506 * SECOND), SPIN)
        middle = START + round(2.25025 * SECOND)
        assert abs(window.start + SPIN // 2 - middle) <= 1
        assert found.newest == 0

    def test_without_a_steady_phase_none_is_expected(self) -> None:
        """Bars of a minute that come each 7.3 s, as in a fast simulation."""
        found = arrivals(*(7.3 * n for n in range(8)), timeframe="1m")
        assert found.window(START + 60 * SECOND, SPIN) is None
        # The control: the same bars at the timeframe's own pace.
        found = arrivals(*(60 * n for n in range(8)), timeframe="1m")
        assert found.window(START + 480 * SECOND, SPIN) is not None

    @given(
        phase=st.integers(0, SECOND),
        jitter=st.lists(st.integers(-MS, MS), min_size=1, max_size=20),
        after=st.integers(1, 100 * SECOND),
        length=st.integers(2 * MS + 2, 50 * MS),
    )
    def test_steady_arrivals_are_expected(
        self, phase: int, jitter: list[int], after: int, length: int
    ) -> None:
        found = Arrivals("1s")
        for number, early in enumerate(jitter):
            found.note(START + number * SECOND + phase + early)
        last = START + (len(jitter) - 1) * SECOND + phase + jitter[-1]
        now = last + after
        window = found.window(now, length)
        assert window.end - window.start == length
        assert window.end > now
        assert window.start < now + SECOND
        # It covers each arrival that it was made of, in its own timeframe.
        for early in jitter[-8:]:
            into = (START + phase + early - window.start) % SECOND
            assert into <= length

    @given(
        at=st.lists(st.integers(0, 1000 * SECOND), min_size=1, max_size=12),
        after=st.integers(0, 10 * SECOND),
        length=st.integers(1, SECOND),
    )
    def test_any_arrivals_give_a_window_ahead_or_none(self, at, after, length) -> None:
        found = Arrivals("1s")
        for each in at:
            found.note(START + each)
        window = found.window(START + at[-1] + after, length)
        if window is not None:
            assert window.end > START + at[-1] + after
            assert window.start >= START + at[-1] + SECOND // 2
            assert window.start <= START + at[-1] + after + 2 * SECOND


class TestSpinner:
    def test_it_sleeps_until_shortly_before_the_window(self, clock) -> None:
        spinner = Spinner([arrivals(0.25)], 0.003)
        clock(1)
        looks, rest = spinner.plan(10 * SECOND)
        assert not looks
        assert 0.2482 * SECOND < rest < 0.2485 * SECOND
        assert spinner.plan(5 * MS) == (False, 5 * MS)

    def test_it_looks_in_the_window_and_sleeps_after_it(self, clock) -> None:
        spinner = Spinner([arrivals(0.25)], 0.003)
        clock(1.2484)
        assert spinner.plan(10 * SECOND) == (True, SLICE_NS)
        clock(1.2516)
        looks, rest = spinner.plan(10 * SECOND)
        assert not looks
        assert rest > 0.9 * SECOND

    def test_a_deadline_ends_a_look(self, clock) -> None:
        clock(1.2484)
        assert Spinner([arrivals(0.25)], 0.003).plan(1000) == (True, 1000)

    def test_a_long_look_is_cut_into_slices(self, clock) -> None:
        clock(1.2484)
        spinner = Spinner([arrivals(0.25)], 0.4)
        looked = 0.0
        for _ in range(20_000):
            looks, rest = spinner.plan(10 * SECOND)
            if not looks:
                break
            assert 0 < rest <= SLICE_NS
            looked += rest / SECOND
            clock(1.2484 + looked)
        assert looked == pytest.approx(0.2, abs=0.01)  # the second half of the window

    def test_a_bar_ends_the_look_and_the_rest_of_the_budget_is_kept(
        self, clock
    ) -> None:
        both = [arrivals(0.25), arrivals(0.2495)]
        spinner = Spinner(both, 0.003)
        clock(1.2484)
        assert spinner.plan(SECOND) == (True, 2 * SLICE_NS)
        both[1].note(START + round(1.24845 * SECOND))
        clock(1.2485)
        assert both[0].left(START + round(1.2485 * SECOND), SPIN) == SPIN - 2 * SLICE_NS
        assert spinner.plan(SECOND) == (True, 2 * SLICE_NS)  # for the other ring

    @pytest.mark.parametrize("rings", [1, 5, 50])
    def test_no_more_is_spun_than_asked_whatever_the_bars_do(
        self, clock, rings
    ) -> None:
        runs = [spun_at_random(clock, rings) for _ in range(5)]
        assert any(spun for spun, _ in runs)  # one run may meet no window
        assert all(spun <= 0.003 * (seconds + 2) for spun, seconds in runs)

    def test_without_the_budget_more_is_spun(self, clock, monkeypatch) -> None:
        """The control: each of many rings spins around its own phase."""
        monkeypatch.setattr(Arrivals, "left", lambda *_: SPIN)
        spun, seconds = spun_at_random(clock, 50)
        assert spun > 0.003 * (seconds + 2)


def spun_at_random(clock: Callable[[float], None], rings: int) -> tuple[float, float]:
    """Return the seconds spun and passed, with bars of 1 s at steady random phases."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    each = [Arrivals("1s") for _ in range(rings)]
    phases = [chance.random() for _ in each]
    now, spun = 1.0, 0.0
    for one, phase in zip(each, phases, strict=True):
        one.note(START + round(phase * SECOND))
    clock(now)
    while now < 10:
        spinner = Spinner(each, 0.003)
        for _ in range(chance.randrange(1, 20)):
            looks, rest = spinner.plan(chance.randrange(1, SECOND))
            used = rest / SECOND * chance.choice([1, 1, chance.random()])
            spun += used if looks else 0
            now += used + 2e-6
            clock(now)
        which = chance.randrange(rings)
        at = int(now) + phases[which] + chance.gauss(0, 0.001)
        each[which].note(START + round(min(at, now) * SECOND))
    return spun, now


@pytest.mark.parametrize("value", [0, 0.0, 0.003, 1, 1.0])
def test_accepted_spins(value) -> None:
    assert check_spin(value) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, "spin is -1; it must be a number of seconds, at least 0"),
        ("1", "spin is '1'; it must be a number of seconds, at least 0"),
        (None, "spin is None; it must be a number of seconds"),
        (float("nan"), "spin is nan; it must be a number of seconds"),
        (1.5, "spin is 1.5; it must be at most 1 s"),
        (float("inf"), "spin is inf; it must be at most 1 s"),
    ],
)
def test_refused_spins(value, message: str) -> None:
    with pytest.raises(BadArgumentError) as caught:
        check_spin(value)
    assert str(caught.value).startswith(message)
