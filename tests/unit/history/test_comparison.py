"""Published rows against history, and against shorter rows that are rolled up."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.history.comparison import Difference, compare, compare_rolled
from shmfeed.history.interface import Block

MINUTE, HOUR = 60_000, 3_600_000
NAMES = ("open", "high", "low", "close", "volume", "money")


def rows(numbers: list[int], length: int = MINUTE) -> Block:
    """Return rows of these numbers; each value follows from the row's number."""
    block = np.zeros((9, len(numbers)))
    times = block.view(np.int64)
    times[0] = np.array(numbers, np.int64) * length
    times[1] = times[0] + length
    for column, number in enumerate(numbers):
        block[2:8, column] = [number + part for part in (5, 9, 1, 7, 3, 30)]
    return block


def changed(block: Block, row: int, name: str, value: float) -> Block:
    copy = block.copy()
    copy[2 + NAMES.index(name), row] = value
    return copy


class TestHistory:
    def test_equal_rows_do_not_differ(self) -> None:
        found = compare(rows([1, 2, 3]), rows([1, 2, 3]), is_own=True)
        assert found == (3, [], [], [])
        assert found.differing == 0

    @pytest.mark.parametrize("name", NAMES)
    def test_each_value_is_compared(self, name: str) -> None:
        ours = rows([1, 2, 3])
        theirs = changed(ours, 1, name, 99.0)
        found = compare(ours, theirs, is_own=True)
        old = float(ours[2 + NAMES.index(name), 1])
        assert found.differences == [Difference(2 * MINUTE, name, old, 99.0)]
        assert found.differing == 1

    def test_the_last_digit_counts(self) -> None:
        ours = rows([1])
        theirs = changed(ours, 0, "close", math.nextafter(8.0, 9.0))
        assert compare(ours, theirs, is_own=True).differing == 1

    @pytest.mark.parametrize("has", ["ours", "theirs", "neither"])
    def test_money_that_one_lacks_is_not_compared(self, has: str) -> None:
        ours, theirs = rows([1]), rows([1])
        if has != "ours":
            ours = changed(ours, 0, "money", math.nan)
        if has != "theirs":
            theirs = changed(theirs, 0, "money", math.nan)
        assert compare(ours, theirs, is_own=True).differing == 0

    def test_rows_that_one_lacks(self) -> None:
        found = compare(rows([1, 3, 4]), rows([1, 2, 3, 5]), is_own=True)
        assert found == (2, [2 * MINUTE, 5 * MINUTE], [4 * MINUTE], [])

    def test_nothing_at_all(self) -> None:
        assert compare(rows([]), rows([]), is_own=True) == (0, [], [], [])
        assert compare(rows([]), rows([7]), is_own=True).missing == [7 * MINUTE]

    def test_of_another_venue_prices_are_about_the_same(self) -> None:
        ours = rows([1000])
        theirs = changed(changed(ours, 0, "close", 1007.9), 0, "volume", 1.0)
        assert compare(ours, theirs, is_own=False).differing == 0
        theirs = changed(ours, 0, "close", 1009.0)
        (one,) = compare(ours, theirs, is_own=False).differences
        assert one == Difference(1000 * MINUTE, "close", 1007.0, 1009.0)


class TestRolledUp:
    def rolled(self, minutes: Block, hours: list[int]) -> Block:
        """Return the hours that plain Python makes of the minutes."""
        found = rows(hours, HOUR)
        for column, number in enumerate(hours):
            opens = minutes[0].view(np.int64) // HOUR == number
            part = minutes[2:8, opens].tolist()
            found[2:8, column] = (
                *(part[0][0], max(part[1]), min(part[2]), part[3][-1]),
                *(math.fsum(part[4]), math.fsum(part[5])),
            )
        return found

    def test_the_same_bars(self) -> None:
        minutes = rows(list(range(180)))
        found = compare_rolled(minutes, self.rolled(minutes, [0, 1, 2]))
        assert found == (3, [], [], [])

    @pytest.mark.parametrize("name", NAMES)
    def test_a_value_that_differs(self, name: str) -> None:
        minutes = rows(list(range(120)))
        hours = self.rolled(minutes, [0, 1])
        wrong = changed(hours, 1, name, 0.5)
        expected = float(hours[2 + NAMES.index(name), 1])
        (one,) = compare_rolled(minutes, wrong).differences
        assert one[:3] == (HOUR, name, 0.5)
        assert one.expected == pytest.approx(expected)

    def test_sums_differ_by_the_order_of_their_terms(self) -> None:
        minutes = rows(list(range(60)))
        minutes[6] = 0.1
        hours = self.rolled(minutes, [0])
        assert hours[6, 0] != sum([0.1] * 60)
        assert compare_rolled(minutes, hours).differing == 0

    @given(st.sets(st.integers(0, 179), min_size=120))
    def test_only_whole_hours_count(self, numbers: set[int]) -> None:
        minutes = rows(sorted(numbers))
        wrong = rows([0, 1, 2], HOUR)
        wrong[2:8] = 0.5
        whole = [n for n in range(3) if numbers >= set(range(n * 60, n * 60 + 60))]
        found = compare_rolled(minutes, wrong)
        assert found.compared == len(whole)
        assert {one.open_time // HOUR for one in found.differences} == set(whole)

    def test_no_minutes(self) -> None:
        assert compare_rolled(rows([]), rows([1, 2], HOUR)) == (0, [], [], [])
