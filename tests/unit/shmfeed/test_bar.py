"""Timeframes, their grids and aliases, against datetime's own arithmetic."""

import math
from datetime import UTC, datetime, timedelta
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmfeed.bar import (
    ALIASES,
    DEFAULT_FIELDS,
    FIELDS,
    FLOAT_FIELDS,
    INT_FIELDS,
    LAST_TIME,
    TIMEFRAMES,
    Bar,
    Field,
    Timeframe,
    TimeframeAlias,
    bars_between,
    check_timeframe,
    close_time,
    close_times,
    duration,
    flag_names,
    floor,
    on_grid,
    phase_of,
)
from shmfeed.errors import BadArgumentError
from shmfeed.layout import COLUMNS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

times = st.integers(0, LAST_TIME - 1)
timeframes = st.sampled_from([*TIMEFRAMES])


def test_type_checkers_know_the_same_names_as_the_tables() -> None:
    assert get_args(Field) == FIELDS
    assert get_args(Timeframe) == tuple(TIMEFRAMES)
    assert get_args(TimeframeAlias) == tuple(ALIASES)


def moment(time: int) -> datetime:
    return EPOCH + timedelta(milliseconds=time)


def ms(time: datetime) -> int:
    return (time - EPOCH) // MILLISECOND


def next_month(time: datetime) -> datetime:
    return (time.replace(day=1) + timedelta(days=32)).replace(day=1)


class TestNames:
    def test_the_timeframes_of_the_venues(self) -> None:
        written = "1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M"
        assert list(TIMEFRAMES) == written.split()

    @pytest.mark.parametrize("name", TIMEFRAMES)
    def test_a_timeframe_is_its_own_spelling(self, name: str) -> None:
        assert check_timeframe(name) == name

    @pytest.mark.parametrize(
        ("alias", "name"),
        [
            ("60m", "1h"),
            ("120m", "2h"),
            ("240m", "4h"),
            ("24h", "1d"),
            ("daily", "1d"),
            ("minute", "1m"),
        ],
    )
    def test_an_alias_has_one_meaning(self, alias: str, name: str) -> None:
        assert check_timeframe(alias) == name

    def test_there_are_no_other_aliases(self) -> None:
        assert len(ALIASES) == 6

    @pytest.mark.parametrize(
        "wrong",
        ["", "1H", "1D", "m", "2m", "1h ", "60", "1mo", None, 60, b"1h", ["1h"]],
    )
    def test_another_one_is_refused_with_those_that_are_accepted(
        self, wrong: object
    ) -> None:
        with pytest.raises(BadArgumentError) as caught:
            check_timeframe(wrong)
        message = str(caught.value)
        assert repr(wrong) in message
        listed = message.partition("one of: ")[2].partition(";")[0]
        assert set(listed.split()) == {*TIMEFRAMES, *ALIASES}

    def test_case_matters(self) -> None:
        assert duration("1M") == 43_200 * duration("1m")


class TestBar:
    def test_money_and_flags_are_unknown_unless_given(self) -> None:
        bar = Bar(0, 60_000, 1.0, 2.0, 0.5, 1.5, 10.0)
        assert math.isnan(bar.money)
        assert bar.flags == 0

    def test_fields(self) -> None:
        assert DEFAULT_FIELDS == ("open", "high", "low", "close", "volume")
        assert (*DEFAULT_FIELDS, "money") == FLOAT_FIELDS
        assert INT_FIELDS == ("open_time", "close_time", "flags")
        assert set(FIELDS) == set(Bar._fields)

    def test_columns_of_a_segment_are_a_bars_fields_in_order(self) -> None:
        # latest() and the forming cell index a Bar by column number.
        assert Bar._fields == COLUMNS


class TestGrid:
    @pytest.mark.parametrize("timeframe", TIMEFRAMES)
    @settings(max_examples=20)
    @given(time=times)
    def test_a_time_is_in_its_bar(self, time: int, timeframe: str) -> None:
        start = floor(time, timeframe)
        assert start <= time < close_time(start, timeframe)
        assert floor(start, timeframe) == start

    @pytest.mark.parametrize("timeframe", TIMEFRAMES)
    @settings(max_examples=20)
    @given(time=times)
    def test_bars_are_adjacent(self, time: int, timeframe: str) -> None:
        start = floor(time, timeframe)
        end = close_time(start, timeframe)
        assert floor(end, timeframe) == end
        assert floor(end - 1, timeframe) == start

    @pytest.mark.parametrize("timeframe", TIMEFRAMES)
    @settings(max_examples=20)
    @given(moments=st.lists(times, max_size=5))
    def test_the_ends_of_several_bars_are_those_of_each(
        self, moments: list[int], timeframe: str
    ) -> None:
        opens = [floor(one, timeframe) for one in moments]
        ends = close_times(np.array(opens, np.int64), timeframe)
        assert ends.dtype == np.int64
        assert ends.tolist() == [close_time(one, timeframe) for one in opens]

    @given(times, st.sampled_from([t for t in TIMEFRAMES if t not in ("1w", "1M")]))
    def test_grids_start_at_the_epoch(self, time: int, timeframe: str) -> None:
        length = timedelta(milliseconds=duration(timeframe))
        steps = (moment(time) - EPOCH) // length
        assert floor(time, timeframe) == ms(EPOCH + steps * length)

    @given(times)
    def test_weeks_start_on_monday(self, time: int) -> None:
        day = moment(time).replace(hour=0, minute=0, second=0, microsecond=0)
        monday = day - timedelta(days=day.weekday())
        assert floor(time, "1w") == ms(monday)
        assert close_time(ms(monday), "1w") == ms(monday + timedelta(days=7))

    @given(times)
    def test_months_are_calendar_months(self, time: int) -> None:
        first = moment(time).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        assert floor(time, "1M") == ms(first)
        assert close_time(ms(first), "1M") == ms(next_month(first))

    def test_a_month_over_new_year_and_in_a_leap_year(self) -> None:
        december = ms(datetime(2023, 12, 1, tzinfo=UTC))
        january = ms(datetime(2024, 1, 1, tzinfo=UTC))
        assert close_time(december, "1M") == january
        february = ms(datetime(2024, 2, 1, tzinfo=UTC))
        assert close_time(february, "1M") - february == 29 * duration("1d")

    @given(times, timeframes)
    def test_only_floors_are_on_the_grid(self, time: int, timeframe: str) -> None:
        assert on_grid(time, timeframe) == (floor(time, timeframe) == time)

    @pytest.mark.parametrize("time", [-3_600_000, -1, LAST_TIME, 10**18, -(10**18)])
    def test_garbage_is_on_no_grid(self, time: int) -> None:
        assert not on_grid(time, "1h")
        assert not on_grid(time, "1M")


class TestBarsBetween:
    @pytest.mark.parametrize("timeframe", TIMEFRAMES)
    @settings(max_examples=20)
    @given(time=times, steps=st.integers(0, 50))
    def test_against_stepping(self, time: int, steps: int, timeframe: str) -> None:
        start = later = floor(time, timeframe)
        for _ in range(steps):
            later = close_time(later, timeframe)
        assert bars_between(start, later, timeframe) == max(0, steps - 1)
        assert bars_between(later, start, timeframe) == 0


class TestFlagNames:
    def test_each_bit_has_its_name(self):
        names = [flag_names(1 << bit) for bit in range(9)]
        assert names == [
            ["closed_by_venue"],
            ["closed_by_next"],
            ["closed_by_clock"],
            ["unconfirmed"],
            ["after_gap"],
            ["backfilled"],
            ["revised"],
            ["no_trade"],
            ["polled"],
        ]
        assert flag_names(0) == []
        assert flag_names(np.int64(2 | 8 | 16)) == [
            "closed_by_next",
            "unconfirmed",
            "after_gap",
        ]

    def test_a_bit_of_a_newer_version_is_kept(self):
        assert flag_names(1 | 1 << 20) == ["closed_by_venue", str(1 << 20)]

    @pytest.mark.parametrize("flags", ["1", 1.0, None])
    def test_other_types_are_refused(self, flags):
        with pytest.raises(BadArgumentError, match="flags is"):
            flag_names(flags)


class TestPhase:
    @pytest.mark.parametrize("days", [0, 1, 2])
    def test_bars_of_3d_lie_on_the_grid_of_their_phase(self, days):
        day = duration("1d")
        phase = days * day
        opened = 100 * duration("3d") + phase
        assert phase_of(opened, "3d") == phase
        assert on_grid(opened, "3d", phase)
        assert on_grid(opened, "3d", None)
        assert not on_grid(opened + day, "3d", phase)
        assert on_grid(opened + day, "3d", None)
        assert not on_grid(opened + 1000, "3d", None)
        assert floor(opened + 2 * day + 5, "3d", phase) == opened
        assert bars_between(opened, opened + 9 * day, "3d") == 2

    def test_no_other_timeframe_has_one(self):
        assert phase_of(duration("1d"), "1d") == 0
