"""Holes: found between rows, and the feeder's marks about them in the entry's latch."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ring_on_bytes import HOUR, blank

from shmfeed.bar import close_time, duration
from shmfeed.errors import BadArgumentError
from shmfeed.layout import (
    E_HOLES,
    E_WHY,
    HOLE_REASONS,
    HOLE_STATES,
    HOLES,
    TIME_LIMIT,
)
from shmfeed.memory.holes import (
    Gap,
    HoleRecord,
    find_gaps,
    merge_records,
    read_holes,
    write_holes,
)
from shmfeed.memory.rows import Rows
from shmfeed.memory.words import boot_ns


def rows_at(opens: list[int]) -> Rows:
    block = np.zeros((9, len(opens)))
    block.view(np.int64)[0] = opens
    return Rows(block, 0)


def month(number: int) -> int:
    moment = datetime(2025 + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return int(moment.timestamp() * 1000)


class TestFindGaps:
    @pytest.mark.parametrize("opens", [[], [3], [3, 4, 5]])
    def test_whole_rows_have_none(self, opens: list[int]) -> None:
        assert find_gaps(rows_at([n * HOUR for n in opens]), "1h") == []

    def test_each_step_over_bars_is_one(self) -> None:
        rows = rows_at([n * HOUR for n in (0, 1, 3, 4, 9)])
        expected = [Gap(2 * HOUR, 2 * HOUR, 1), Gap(5 * HOUR, 8 * HOUR, 4)]
        assert find_gaps(rows, "1h") == expected

    @pytest.mark.parametrize("day", [0, 1, 2])
    def test_the_phase_of_3d_is_the_rows(self, day: int) -> None:
        start, length = day * 24 * HOUR, 72 * HOUR
        rows = rows_at([start, start + 3 * length])
        assert find_gaps(rows, "3d") == [Gap(start + length, start + 2 * length, 2)]

    def test_weeks_begin_on_monday(self) -> None:
        monday, week = 4 * 24 * HOUR, 7 * 24 * HOUR
        rows = rows_at([monday, monday + 2 * week])
        assert find_gaps(rows, "1w") == [Gap(monday + week, monday + week, 1)]

    def test_months_are_calendar_months(self) -> None:
        rows = rows_at([month(n) for n in (0, 1, 4, 5, 14)])
        expected = [Gap(month(2), month(3), 2), Gap(month(6), month(13), 8)]
        assert find_gaps(rows, "1M") == expected

    def test_times_off_the_grid_are_no_bar(self) -> None:
        assert find_gaps(rows_at([0, HOUR + HOUR // 2]), "1h") == []

    @given(
        st.sets(st.integers(0, 300), min_size=2, max_size=40),
        st.sampled_from(["1s", "1m", "1h", "1d"]),
    )
    def test_gaps_and_rows_together_are_the_grid(
        self, numbers: set[int], timeframe: str
    ) -> None:
        opens = [number * duration(timeframe) for number in sorted(numbers)]
        found = list(opens)
        for gap in find_gaps(rows_at(opens), timeframe):
            at = gap.first
            for _ in range(gap.missing):
                found.append(at)
                at = close_time(at, timeframe)
            assert at == close_time(gap.last, timeframe)
        whole = range(opens[0], opens[-1] + 1, duration(timeframe))
        assert sorted(found) == list(whole)


def record(
    number: int, state: str = "open", reason: str = "", missing: int = 1
) -> HoleRecord:
    return HoleRecord(number * HOUR, number * HOUR, missing, state, reason)  # type: ignore[arg-type] # of the tables


class TestMerge:
    def test_up_to_the_limit_each_stays(self) -> None:
        records = [record(n) for n in range(HOLES)]
        assert merge_records(reversed(records)) == records

    def test_neighbours_of_one_state_become_one(self) -> None:
        states = [("none_at_venue", "absent")] * HOLES + [("open", "away")]
        found = merge_records(record(n, *state) for n, state in enumerate(states))
        expected = HoleRecord(0, (HOLES - 1) * HOUR, HOLES, "none_at_venue", "absent")
        assert found == [expected, record(HOLES, "open", "away")]

    def test_then_the_oldest_do_and_the_worst_state_stays(self) -> None:
        kinds = [("none_at_venue", "accepted"), ("given_up", "absent")]
        records = [record(n, *kinds[n % 2], missing=2) for n in range(HOLES + 3)]
        found = merge_records(records)
        assert len(found) == HOLES
        assert found[0] == HoleRecord(0, 3 * HOUR, 8, "given_up", "absent")
        assert found[1:] == records[4:]


class TestMarks:
    def test_a_stream_has_none_at_first(self) -> None:
        words, geometry, catalog = blank(5)
        index = catalog.add(("A", "1h"), boot_ns())
        assert read_holes(words, geometry, index) is None

    def test_they_are_read_as_they_were_written(self) -> None:
        words, geometry, catalog = blank(5, max_streams=2)
        first, second = (catalog.add((s, "1h"), boot_ns()) for s in "AB")
        kinds = [(s, r) for s in HOLE_STATES for r in HOLE_REASONS]
        for at in range(0, len(kinds), HOLES):
            records = [
                record(n, *kind) for n, kind in enumerate(kinds[at : at + HOLES])
            ]
            write_holes(words, geometry, first, records)
            assert read_holes(words, geometry, first) == records
        write_holes(words, geometry, first, [])
        assert read_holes(words, geometry, first) == []
        assert read_holes(words, geometry, second) is None

    def test_they_change_no_other_word(self) -> None:
        words, geometry, catalog = blank(5, max_streams=2)
        index = catalog.add(("A", "1h"), boot_ns())
        before = words.ints.tolist()
        write_holes(words, geometry, index, [record(n) for n in range(40)])
        write_holes(words, geometry, index, [record(n) for n in range(HOLES)])
        after, at = words.ints.tolist(), geometry.entry_word(index)
        changed = [n - at for n, old in enumerate(before) if after[n] != old]
        assert E_HOLES <= min(changed) <= max(changed) < E_WHY

    def test_an_entry_that_is_given_away_loses_them(self) -> None:
        words, geometry, catalog = blank(5)
        index = catalog.add(("A", "1h"), boot_ns())
        write_holes(words, geometry, index, [record(1)])
        catalog.unsubscribe(("A", "1h"), boot_ns())
        assert catalog.add(("B", "1h"), boot_ns()) == index
        assert read_holes(words, geometry, index) is None

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            (record(1, state="lost"), "state is 'lost'"),
            (record(1, reason="moon"), "reason is 'moon'"),
            (record(1, missing=0), "of 0 bars"),
            (HoleRecord(2 * HOUR, HOUR, 1), "from 7200000 to 3600000"),
            (HoleRecord(-HOUR, HOUR, 3), "from -3600000"),
            (HoleRecord(0, TIME_LIMIT, 3), f"to {TIME_LIMIT}"),
        ],
    )
    def test_a_wrong_record_changes_nothing(self, wrong: HoleRecord, told: str) -> None:
        words, geometry, catalog = blank(5)
        index = catalog.add(("A", "1h"), boot_ns())
        write_holes(words, geometry, index, [record(7)])
        with pytest.raises(BadArgumentError, match=told):
            write_holes(words, geometry, index, [record(3), wrong])
        assert read_holes(words, geometry, index) == [record(7)]

    @given(
        st.dictionaries(
            st.integers(1, E_WHY - E_HOLES - 1),
            st.sampled_from([-1, 0, 1, 3, 99, 1 << 62, -(1 << 63), (1 << 63) - 1]),
            max_size=60,
        )
    )
    def test_damaged_words_give_no_record_that_cannot_be(
        self, damage: dict[int, int]
    ) -> None:
        words, geometry, catalog = blank(5)
        index = catalog.add(("A", "1h"), boot_ns())
        written = [record(n, "given_up", "absent") for n in range(HOLES)]
        write_holes(words, geometry, index, written)
        for word, value in damage.items():
            words.ints[geometry.entry_word(index) + E_HOLES + word] = value
        found = read_holes(words, geometry, index)
        assert found is not None
        for one in found:
            assert one.state in HOLE_STATES
            assert one.reason in HOLE_REASONS
            assert 0 <= one.first <= one.last < TIME_LIMIT
            assert one.missing >= 1
        write_holes(words, geometry, index, written)
        assert read_holes(words, geometry, index) == written

    def test_layout_1_has_no_room_for_them(self) -> None:
        words, geometry, catalog = blank(5)
        index = catalog.add(("A", "1h"), boot_ns())
        write_holes(words, geometry, index, [record(1)])
        old = geometry._replace(version=1)
        assert read_holes(words, old, index) is None
        assert old.entry_words <= E_HOLES
