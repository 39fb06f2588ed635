"""run_daily, run_weekly and run_monthly on days that never close, UTC."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import HOUR, MINUTE, START

from shmfeed.errors import BadArgumentError
from wealthdata.runner.schedule import Schedule

DAY = 24 * HOUR


def ms(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def shown(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment / 1000, UTC):%m-%d %H:%M}"


def runs_of(
    name: str, *arguments: object, until: int, start: int = START, step: int = HOUR
) -> list[str]:
    """Return the close times at which a function is run."""
    told: list[str] = []
    schedule = Schedule(start, told.append)
    getattr(schedule, name)(lambda context: None, *arguments)
    times = range(start + step, until + 1, step)
    return [shown(now) for now in times for _ in schedule.due(now)]


@pytest.mark.parametrize(
    ("time_of_day", "wanted"),
    [
        ("09:30", ["01-01 10:00", "01-02 10:00"]),
        ("9:00", ["01-01 09:00", "01-02 09:00"]),
        ("09:00:01", ["01-01 10:00", "01-02 10:00"]),
        (time(9, 0), ["01-01 09:00", "01-02 09:00"]),
        ("open", ["01-01 01:00", "01-02 00:00", "01-03 00:00"]),
        ("before_open", ["01-01 01:00", "01-02 00:00", "01-03 00:00"]),
        ("close", ["01-02 00:00", "01-03 00:00"]),
        ("after_close", ["01-02 00:00", "01-03 00:00"]),
        ("open+90m", ["01-01 02:00", "01-02 02:00"]),
        ("close-30m", ["01-02 00:00", "01-03 00:00"]),
        ("close - 1h", ["01-01 23:00", "01-02 23:00"]),
        ("open-1h", ["01-01 23:00", "01-02 23:00"]),
    ],
)
def test_a_time_is_the_first_close_at_or_after_it(
    time_of_day: object, wanted: list[str]
) -> None:
    assert runs_of("run_daily", time_of_day, until=START + 2 * DAY) == wanted


def test_every_bar_is_every_close_time() -> None:
    found = runs_of("run_daily", "every_bar", until=START + 3 * HOUR)
    assert found == ["01-01 01:00", "01-01 02:00", "01-01 03:00"]


def test_a_strategy_that_starts_at_noon_does_not_repeat_its_morning() -> None:
    found = runs_of(
        "run_daily", "09:30", start=START + 12 * HOUR, until=START + 2 * DAY
    )
    assert found == ["01-02 10:00"]


def test_days_without_bars_are_made_up_for_once() -> None:
    schedule = Schedule(START, [].append)
    schedule.run_daily(print, "09:30")
    assert schedule.due(START + HOUR) == []
    assert schedule.due(START + 5 * DAY) == [print]
    assert schedule.due(START + 5 * DAY + HOUR) == []
    assert schedule.due(START + 5 * DAY + 10 * HOUR) == [print]


@pytest.mark.parametrize(
    ("weekday", "wanted"),
    [
        (1, ["01-05", "01-12"]),
        (7, ["01-04", "01-11"]),
        (-1, ["01-04", "01-11"]),
        (4, ["01-01", "01-08"]),
        (-4, ["01-01", "01-08"]),
        (-7, ["01-05", "01-12"]),
    ],
)
def test_weeks_begin_on_a_monday(weekday: int, wanted: list[str]) -> None:
    found = runs_of("run_weekly", weekday, "12:00", until=START + 12 * DAY)
    assert found == [f"{day} 12:00" for day in wanted]


@pytest.mark.parametrize(
    ("monthday", "wanted"),
    [
        (1, ["01-01", "02-01", "03-01", "04-01", "05-01"]),
        (31, ["01-31", "03-31"]),
        (30, ["01-30", "03-30", "04-30"]),
        (-1, ["01-31", "02-28", "03-31", "04-30"]),
        (-28, ["01-04", "02-01", "03-04", "04-03"]),
        (-31, ["01-01", "03-01", "05-01"]),
    ],
)
def test_months_have_days_from_both_ends(monthday: int, wanted: list[str]) -> None:
    found = runs_of("run_monthly", monthday, "12:00", until=ms("2026-05-01 12:00"))
    assert found == [f"{day} 12:00" for day in wanted]


def test_the_close_of_a_week_is_the_midnight_after_it() -> None:
    found = runs_of("run_weekly", 5, "close", until=START + 7 * DAY)
    assert found == ["01-03 00:00"]  # Friday the 2nd ends


def test_at_midnight_the_old_day_ends_first() -> None:
    schedule = Schedule(START, [].append)
    names = ["every_bar", "open", "before_open", "00:00", "after_close", "close"]
    functions = {}
    for name in names:
        functions[name] = lambda context: None
        schedule.run_daily(functions[name], name)
    schedule.due(START + HOUR)
    due = schedule.due(START + DAY)
    order = ["close", "after_close", "before_open", "open", "00:00", "every_bar"]
    assert due == [functions[name] for name in order]


def test_functions_may_be_added_and_removed_while_it_runs() -> None:
    schedule = Schedule(START, [].append)
    schedule.due(START + 10 * HOUR)
    schedule.run_daily(print, "09:30")
    schedule.run_daily(repr, "10:30")
    assert schedule.due(START + 11 * HOUR) == [repr]
    assert len(schedule) == 2
    schedule.unschedule_all()
    assert schedule.due(START + 5 * DAY) == []
    assert len(schedule) == 0


@given(
    st.integers(0, 47),
    st.lists(st.integers(1, 30 * 60), min_size=1, max_size=40),
)
def test_each_instant_is_run_once_at_the_next_close(
    half: int, waits: list[int]
) -> None:
    """Against a model: of the instants since the close before, at least one."""
    schedule = Schedule(START, [].append)
    schedule.run_daily(print, f"{half // 2}:{half % 2 * 30:02}")
    before, now = START - 1, START
    for wait in waits:
        now += wait * MINUTE
        instants = range(START - DAY + half * 30 * MINUTE, now + 1, DAY)
        wanted = any(before < instant <= now for instant in instants)
        assert schedule.due(now) == ([print] if wanted else [])
        before = now


REFUSED = [
    (
        "run_daily",
        (print, "9.30"),
        "time of run_daily is '9.30'; it must be 'every_bar'",
    ),
    ("run_daily", (print, "24:00"), "time of run_daily is '24:00'"),
    ("run_daily", (print, "open+25h"), "time of run_daily is 'open+25h'"),
    ("run_daily", (print, 930), "time of run_daily is 930"),
    ("run_weekly", (print, 0), "weekday is 0; it must be 1 to 7, or -1 to -7"),
    ("run_weekly", (print, 8), "weekday is 8; it must be an int"),
    ("run_weekly", (print, True), "weekday is True"),
    ("run_weekly", (print, 1, "every_bar"), "only run_daily takes it"),
    ("run_monthly", (print, 32), "monthday is 32"),
    ("run_daily", ("handle", "open"), "func of run_daily is 'handle'; it must be a"),
    (
        "run_daily",
        (lambda: None, "open"),
        "takes other arguments; it is called as func(",
    ),
]


@pytest.mark.parametrize(("name", "arguments", "wanted"), REFUSED)
def test_other_arguments_are_named(
    name: str, arguments: tuple[object, ...], wanted: str
) -> None:
    schedule = Schedule(START, [].append)
    with pytest.raises(BadArgumentError) as caught:
        getattr(schedule, name)(*arguments)
    assert wanted in str(caught.value)
    assert len(schedule) == 0


def test_a_time_of_a_clock_says_that_it_is_utc() -> None:
    told: list[str] = []
    schedule = Schedule(START, told.append)
    schedule.run_daily(print, "open")
    assert told == []
    schedule.run_daily(print, "09:30")
    assert told == ["run_daily(.., '09:30'): times are UTC, and a day is a UTC day"]


def test_months_of_a_leap_year() -> None:
    found = runs_of(
        "run_monthly",
        29,
        "open",
        start=ms("2028-02-01"),
        until=ms("2028-03-01") + int(timedelta(hours=1).total_seconds()),
    )
    assert found == ["02-29 00:00"]
