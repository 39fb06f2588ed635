from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from shmfeed.bar import NO_TRADE, close_time, on_grid
from shmfeed.history.blocks import (
    check_rows,
    cut_to,
    empty_block,
    joined,
    times_of,
)
from shmfeed.history.interface import HistoryError
from shmfeed.memory.rows import Rows

MINUTE, DAY = 60_000, 86_400_000
START = 1_700_000_040_000


def row(opened=START, end=0, values=(1, 2, 0.5, 1.5), volume=3.0, money=4.0, flags=0):
    return (opened, end, *values, volume, money, flags)


def test_a_block_has_the_columns_of_a_ring():
    rows = [row(), row(START + MINUTE, START + 2 * MINUTE - 1, flags=NO_TRADE)]
    block = Rows(check_rows(rows, "1m"), 0)
    assert block.bar(0) == (START, START + MINUTE, 1, 2, 0.5, 1.5, 3, 4, 0)
    assert block.bar(1)[:2] == (START + MINUTE, START + 2 * MINUTE)
    assert block.bar(1).flags == NO_TRADE


def test_no_rows():
    assert check_rows([], "1m").shape == (9, 0)


@pytest.mark.parametrize("money", [inf, -1.0])
def test_money_that_no_bar_can_have_is_absent(money):
    assert np.isnan(Rows(check_rows([row(money=money)], "1m"), 0).bar(0).money)


def test_pages_that_go_back_in_time_are_joined():
    pages = [check_rows([row(START + n * MINUTE)], "1m") for n in (2, 0, 1)]
    found = joined([empty_block(), *pages])
    assert times_of(found).tolist() == [START + n * MINUTE for n in range(3)]
    assert joined([]).shape == (9, 0)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(), row()], "row 2 of 2, 2023-11-14 22:14:00: not after the row before"),
        ([row(START + MINUTE), row()], "not after the row before it"),
        ([row(START + 1)], "row 1 of 1, 2023-11-14 22:14:00: off the grid of 1m"),
        ([row(), row(START + MINUTE + 500)], "row 2 of 2, .* off the grid of 1m"),
        ([row(end=START + 5 * MINUTE)], "not as long as 1m"),
        ([row(-1)], "no time in ms"),
        ([row(START * 1000)], "no time in ms"),
        ([row(nan)], "no time in ms"),
        ([row(values=(1, 2, 1.5, 1.6))], "values that no bar can have"),
        ([row(values=(1, 0.9, 0.5, 0.8))], "values that no bar can have"),
        ([row(values=(nan, 2, 0.5, 1.5))], "values that no bar can have"),
        ([row(values=(1, inf, 0.5, 1.5))], "values that no bar can have"),
        ([row(values=(1, 2, -inf, 1.5))], "values that no bar can have"),
        ([row(volume=-1.0)], "values that no bar can have"),
        ([row(volume=nan)], "values that no bar can have"),
    ],
)
def test_rows_that_are_refused(rows, words):
    with pytest.raises(HistoryError, match=words) as caught:
        check_rows(rows, "1m")
    assert caught.value.kind == "malformed"


@pytest.mark.parametrize(
    ("timeframe", "first", "second"),
    [
        ("1w", 1_699_833_600_000, 1_700_438_400_000),
        ("1M", 1_698_796_800_000, 1_701_388_800_000),
        ("3d", 19_676 * DAY, 19_679 * DAY),  # each phase
        ("3d", 19_677 * DAY, 19_680 * DAY),
        ("1d", 19_676 * DAY, 19_677 * DAY),
    ],
)
def test_grids(timeframe, first, second):
    block = check_rows([row(first), row(second)], timeframe)
    assert times_of(block).tolist() == [first, second]


@pytest.mark.parametrize(
    ("timeframe", "times"),
    [
        ("1w", [1_699_833_600_000 + DAY]),
        ("1M", [1_698_796_800_000 + DAY]),
        ("3d", [19_676 * DAY, 19_680 * DAY]),
        ("3d", [19_676 * DAY + 1]),
    ],
)
def test_off_the_grid(timeframe, times):
    with pytest.raises(HistoryError, match="off the grid"):
        check_rows([row(one) for one in times], timeframe)


VALUES = some.one_of(
    some.floats(), some.sampled_from([0.0, 1.0, 1.5, 2.0, -1.0]), some.integers(-5, 5)
)
TIMES = some.one_of(
    some.integers(-5, 20).map(lambda n: START + n * MINUTE), some.floats()
)


@given(
    rows=some.lists(
        some.tuples(TIMES, some.just(0), *[VALUES] * 6, some.just(0)), max_size=4
    ),
    timeframe=some.sampled_from(["1m", "1h", "1d", "3d", "1w", "1M"]),
)
def test_any_rows_are_a_block_of_bars_or_an_error(rows, timeframe):
    try:
        block = Rows(check_rows(rows, timeframe), 0)
    except HistoryError:
        return
    assert len(block) == len(rows)
    last = -1
    for number in range(len(block)):
        bar = block.bar(number)
        assert on_grid(bar.open_time, timeframe, None if timeframe == "3d" else 0)
        assert bar.close_time == close_time(bar.open_time, timeframe)
        assert -inf < bar.low <= min(bar.open, bar.close)
        assert max(bar.open, bar.close) <= bar.high < inf
        assert 0 <= bar.volume < inf
        assert bar.open_time > last
        last = bar.open_time


def test_cut():
    block = check_rows([row(START + n * MINUTE) for n in range(5)], "1m")
    kept = cut_to(block, START + MINUTE, START + 3 * MINUTE)
    assert times_of(kept).tolist() == [START + n * MINUTE for n in (1, 2, 3)]
