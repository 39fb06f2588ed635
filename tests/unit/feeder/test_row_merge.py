"""Merging history: against a plain dict of bars, and cases one by one."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmfeed.bar import (
    AFTER_GAP,
    BACKFILLED,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    NO_TRADE,
    REVISED,
    UNCONFIRMED,
    Bar,
)
from shmfeed.feeder import row_merge
from shmfeed.feeder.row_merge import (
    MergeRule,
    bars_of,
    merge,
    missing_within,
    off_grid,
    within,
)
from shmfeed.memory.rows import ROW

MINUTE = 60_000
DAY = 86_400_000
FEBRUARY = 1_706_745_600_000  # 2024-02-01, a leap year
EMPTY = np.empty((9, 0))
SETTLED = 100 * MINUTE


def bar(minute, price=1.0, flags=CLOSED_BY_VENUE):
    opened = minute * MINUTE
    return Bar(opened, opened + MINUTE, *[price] * 4, 1.0, math.nan, flags)


def block(*bars):
    if not bars:
        return EMPTY.copy()
    cells = [np.frombuffer(ROW.pack(*one)) for one in bars]
    return np.ascontiguousarray(np.array(cells).T)


def told(rows):
    return [(one.open_time // MINUTE, one.close, one.flags) for one in bars_of(rows)]


@dataclass
class Model:
    """The rule of a merge, one bar after the other."""

    rows: dict[int, Bar]
    newer: dict[int, Bar] = field(default_factory=dict)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("filled", "prepended", "corrected", "confirmed", "unsettled"), 0
        )
    )

    def merge(self, history, rule):
        times = sorted(self.rows)
        first, last = (times[0], times[-1]) if times else (None, -1)
        added = {}
        for one in history:
            if one.open_time > last:
                flags = one.flags & (NO_TRADE | UNCONFIRMED)
                self.newer[one.open_time] = one._replace(flags=flags)
            elif one.open_time in self.rows:
                self._compare(one, rule)
            else:
                added[one.open_time] = one
        self._add(added, first, rule.most)

    def _compare(self, one, rule):
        row = self.rows[one.open_time]
        own = one.flags & (NO_TRADE | UNCONFIRMED)
        is_open = not row.flags & CLOSED_BY_VENUE or row.close_time <= rule.settled
        if one.close == row.close:
            if row.flags & UNCONFIRMED and not own & UNCONFIRMED:
                flags = row.flags & ~UNCONFIRMED
                self.rows[one.open_time] = row._replace(flags=flags)
                self.counts["confirmed"] += 1
        elif rule.may_correct and is_open:
            kept = row.flags & ~(UNCONFIRMED | NO_TRADE)
            flags = kept | own | BACKFILLED | REVISED
            self.rows[one.open_time] = one._replace(flags=flags)
            self.counts["corrected"] += 1
            self.counts["confirmed"] += bool(
                row.flags & UNCONFIRMED and not own & UNCONFIRMED
            )
        elif rule.may_correct:
            self.counts["unsettled"] += 1

    def _add(self, added, first, most):
        filled = {t: one for t, one in added.items() if t > first}
        before = sorted(t for t in added if t < first) if added else []
        room = max(0, most - len(self.rows) - len(filled))
        taken = before[len(before) - min(room, len(before)) :]
        self.counts["filled"] = len(filled)
        self.counts["prepended"] = len(taken)
        new = filled | {t: added[t] for t in taken}
        for t, one in new.items():
            own = one.flags & (NO_TRADE | UNCONFIRMED)
            self.rows[t] = one._replace(flags=own | BACKFILLED)
        times = sorted(self.rows)
        for earlier, later in pairwise(times):
            if earlier in new or later in new:
                gap = AFTER_GAP if later != earlier + MINUTE else 0
                row = self.rows[later]
                flags = row.flags & ~AFTER_GAP | gap
                self.rows[later] = row._replace(flags=flags)
        self.rows = {t: self.rows[t] for t in times[-most:]}


FLAGS = st.sampled_from(
    (CLOSED_BY_VENUE, CLOSED_BY_NEXT, CLOSED_BY_NEXT | UNCONFIRMED, BACKFILLED)
)
OWN = st.sampled_from((0, 0, NO_TRADE, UNCONFIRMED, CLOSED_BY_VENUE | AFTER_GAP))
PRICES = st.sampled_from((1.0, 2.0))


def bars(flags):
    one = st.tuples(PRICES, flags)
    return st.dictionaries(st.integers(0, 12), one, max_size=10).map(
        lambda found: [bar(minute, *found[minute]) for minute in sorted(found)]
    )


def with_gaps(rows):
    """Give the flag `after_gap` to the rows behind a hole."""
    return [
        one._replace(flags=one.flags | AFTER_GAP)
        if at and one.open_time != rows[at - 1].close_time
        else one
        for at, one in enumerate(rows)
    ]


@settings(deadline=None, max_examples=400)
@given(bars(FLAGS), bars(OWN), st.booleans(), st.integers(0, 13), st.integers(8, 14))
def test_a_merge_is_the_models(rows, history, may_correct, settled, most):
    rows = with_gaps(rows)[-most:]
    before, rule = block(*rows), MergeRule(may_correct, settled * MINUTE, most)
    former = before.copy()
    found = merge(before, block(*history), rule)
    model = Model({one.open_time: one for one in rows})
    model.merge(history, rule)
    # NaN is equal to no NaN: compare what is written.
    assert told(found.block) == told(block(*model.rows.values()))
    assert told(found.newer) == told(block(*model.newer.values()))
    assert {name: getattr(found, name) for name in model.counts} == model.counts
    assert found.is_changed == (told(found.block) != told(before))
    assert np.array_equal(before.view(np.int64), former.view(np.int64))
    # Never shorter, never longer than there is room, in order, each bar once.
    assert min(len(rows), most) <= found.block.shape[1] <= most
    times = [one.open_time for one in bars_of(found.block)]
    assert times == sorted(set(times))
    assert (times[-1:] or [-1]) == ([rows[-1].open_time] if rows else [-1])
    check_gaps(bars_of(found.block))


def check_gaps(rows):
    for earlier, later in pairwise(rows):
        follows = earlier.close_time == later.open_time
        assert bool(later.flags & AFTER_GAP) is not follows


def test_control_a_merge_that_forgets_flags_is_noticed(monkeypatch):
    monkeypatch.setattr(row_merge, "_mark_gaps", lambda block, changes: None)
    rows = block(bar(0), bar(3, flags=CLOSED_BY_VENUE | AFTER_GAP))
    found = merge(rows, block(bar(1), bar(2)), MergeRule(True, SETTLED, 9))
    with pytest.raises(AssertionError):
        check_gaps(bars_of(found.block))


def test_money_that_one_side_lacks_is_no_difference():
    row = bar(0, flags=CLOSED_BY_NEXT | UNCONFIRMED)
    known = row._replace(money=5.0)
    rule = MergeRule(True, SETTLED, 9)
    for rows, history in ((row, known), (known, row), (known, known)):
        found = merge(block(rows), block(history._replace(flags=0)), rule)
        assert (found.corrected, found.confirmed) == (0, 1)
    other = known._replace(money=6.0)
    assert merge(block(known), block(other), rule).corrected == 1


def test_a_correction_takes_all_values_and_keeps_what_ended_the_row():
    row = Bar(0, MINUTE, 1.0, 4.0, 0.5, 2.0, 7.0, 8.0, CLOSED_BY_VENUE | AFTER_GAP)
    new = Bar(0, MINUTE, 1.5, 5.0, 0.25, 3.0, 9.0, 10.0, 0)
    found = merge(block(row), block(new), MergeRule(True, SETTLED, 9))
    (after,) = bars_of(found.block)
    assert after == new._replace(
        flags=CLOSED_BY_VENUE | AFTER_GAP | BACKFILLED | REVISED
    )
    assert bars_of(found.former) == [row]


def test_only_closed_bars_of_the_range_are_within():
    given_bars = block(*[bar(n) for n in range(6)])
    found = within(given_bars, MINUTE, 4 * MINUTE, 4 * MINUTE)
    assert [minute for minute, _, _ in told(found)] == [1, 2, 3]


def days(*opened):
    return block(*[Bar(t, t + 3 * DAY, *[1.0] * 4, 1.0, math.nan, 0) for t in opened])


@pytest.mark.parametrize("phase", [0, DAY, 2 * DAY])
def test_the_grid_of_3d_has_the_phase_of_its_stream(phase):
    start = 19_000 * 3 * DAY // 3 // DAY * DAY
    start -= start % (3 * DAY)
    rows = days(start + phase, start + phase + 3 * DAY)
    assert off_grid(rows, "3d", phase) == -1
    assert off_grid(rows, "3d", None) == -1
    assert off_grid(rows, "3d", (phase + DAY) % (3 * DAY)) == start + phase
    mixed = days(start + phase, start + phase + 4 * DAY)
    assert off_grid(mixed, "3d", phase) == start + phase + 4 * DAY


def test_the_grid_of_months_is_the_calendars():
    march, april = FEBRUARY + 29 * DAY, FEBRUARY + 60 * DAY
    values = [*[1.0] * 4, 1.0, math.nan, 0]
    right = block(Bar(FEBRUARY, march, *values), Bar(march, april, *values))
    assert off_grid(right, "1M", 0) == -1
    wrong = block(Bar(FEBRUARY, FEBRUARY + 30 * DAY, *values))
    assert off_grid(wrong, "1M", 0) == FEBRUARY
    assert missing_within([right], FEBRUARY, april, "1M") == 1


@pytest.mark.parametrize(
    "wrong", [(1, MINUTE + 1), (MINUTE, 3 * MINUTE), (MINUTE // 2, 2 * MINUTE)]
)
def test_a_bar_off_its_grid_is_found(wrong):
    rows = [bar(0), bar(5)._replace(open_time=wrong[0], close_time=wrong[1])]
    rows.sort()
    assert off_grid(block(*rows), "1m", 0) == wrong[0]


def test_bars_that_both_lack_are_missing():
    assert missing_within([EMPTY], 0, 3 * MINUTE, "1m") == 4
    two = [block(bar(0)), block(bar(2), bar(9))]
    assert missing_within(two, 0, 3 * MINUTE, "1m") == 2
    assert missing_within(two, MINUTE, 0, "1m") == 0
