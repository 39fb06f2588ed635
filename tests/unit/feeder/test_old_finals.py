"""Closing messages about rows that are older than those the ledger knows by value."""

import pytest
from support.history_bench import KEY, MINUTE, T0, Bench, event, past

from shmfeed.bar import BACKFILLED, CLOSED_BY_VENUE, REVISED, UNCONFIRMED
from shmfeed.feeder import closed_rows, history_taking
from shmfeed.feeder.row_events import DisagreementFound

CORRECTED = CLOSED_BY_VENUE | BACKFILLED | REVISED
REVISION = CLOSED_BY_VENUE | REVISED


@pytest.fixture
def bench(feed_name, monkeypatch):
    """Return an intake whose ledger knows the values of four rows."""
    for module in closed_rows, history_taking:
        monkeypatch.setattr(module, "KNOWN_ROWS", 4)
    made = Bench(feed_name, monkeypatch)
    made.start()
    yield made
    made.close()


def counts(bench):
    return bench.count("revisions", "duplicates", "disagreements")


class TestCorrectedRows:
    @pytest.fixture
    def corrected(self, bench):
        """Have history correct row 1, and let more rows follow than are known."""
        bench.take(*[event(n) for n in range(4)])
        assert bench.history(past(1, 7.0)).corrected == 1
        bench.take(*[event(n) for n in range(4, 12)])
        return bench

    def test_the_final_that_was_corrected_is_a_duplicate(self, corrected):
        corrected.take(event(1))
        assert corrected.rows()[1] == (1, 7.0, CORRECTED)
        assert counts(corrected) == (0, 1, 0)

    def test_another_one_is_a_revision(self, corrected):
        corrected.take(event(1, price=8.0))
        assert corrected.rows()[1] == (1, 8.0, REVISION)
        assert counts(corrected) == (1, 0, 0)

    def test_the_values_of_history_are_a_duplicate(self, corrected):
        corrected.take(event(1, price=7.0))
        assert corrected.rows()[1] == (1, 7.0, CORRECTED)
        assert counts(corrected) == (0, 1, 0)

    def test_a_row_that_was_old_when_it_was_corrected(self, bench):
        bench.take(*[event(n) for n in range(12)])
        assert bench.history(past(1, 7.0)).corrected == 1
        bench.take(event(1))
        assert bench.rows()[1][1] == 7.0
        bench.take(event(1, price=8.0))
        assert bench.rows()[1][1] == 8.0
        assert counts(bench) == (1, 1, 0)

    def test_of_an_earlier_feeder_history_tells(self, corrected):
        """The final that was corrected is not known: this one may be it."""
        corrected.start()
        corrected.take(event(1, price=8.0))
        assert corrected.rows()[1] == (1, 7.0, CORRECTED)
        assert corrected.intake.drain_found() == [DisagreementFound(KEY, T0 + MINUTE)]
        assert corrected.history(past(1, 8.0)).corrected == 1

    def test_a_second_correction_forgets_no_final(self, corrected):
        assert corrected.history(past(1, 6.0)).corrected == 1
        corrected.take(event(1))
        assert corrected.rows()[1][1] == 6.0
        corrected.take(event(1, price=7.0))  # that history said, and took back
        assert corrected.rows()[1][1] == 7.0


class TestLines:
    @pytest.fixture
    def lines(self, bench):
        """Have rows of both lines in turn, more than are known by value."""
        bench.start(lines=2)
        for minute in range(12):
            bench.take(event(minute), line=minute % 2)
        return bench

    @pytest.mark.parametrize("minute", [0, 1, 10, 11])
    def test_the_first_final_stands(self, lines, minute):
        lines.take(event(minute, price=9.0), line=1 - minute % 2)
        assert lines.rows()[minute] == (minute, 100.0 + minute, CLOSED_BY_VENUE)
        assert counts(lines) == (0, 0, 1)
        assert lines.intake.drain_found() == [DisagreementFound(KEY, at(minute))]

    @pytest.mark.parametrize("minute", [0, 1, 10, 11])
    def test_its_own_line_revises_it(self, lines, minute):
        lines.take(event(minute, price=9.0), line=minute % 2)
        assert lines.rows()[minute] == (minute, 9.0, REVISION)
        assert counts(lines) == (1, 0, 0)

    @pytest.mark.parametrize("minute", [0, 10])
    def test_same_values_of_the_other_line_are_duplicates(self, lines, minute):
        lines.take(event(minute), line=1)
        assert counts(lines) == (0, 1, 0)

    @pytest.mark.parametrize("minute", [3, 11])
    def test_of_an_earlier_feeders_rows_the_first_line_that_ends_one(
        self, lines, minute
    ):
        lines.start(lines=2)
        lines.take(event(minute, price=9.0), line=1)
        lines.take(event(minute, price=8.0), line=0)
        assert lines.rows()[minute] == (minute, 9.0, REVISION)
        assert counts(lines) == (1, 0, 1)

    def test_a_row_without_a_final_takes_that_of_any_line(self, bench):
        bench.start(lines=2, history=False)
        bench.take(event(0), event(1, False, 50.0), event(2, False), line=0)
        bench.wait(2.1)
        assert bench.flags(1) & UNCONFIRMED
        bench.take(event(1, price=51.0), line=1)
        assert bench.rows()[1] == (1, 51.0, REVISION)

    def test_a_history_that_agrees_with_one_of_two_lines_is_believed(self, bench):
        bench.start(lines=2)
        for minute in range(4):
            bench.take(event(minute, price=50.0), line=0)
            bench.take(event(minute), line=1)
        assert counts(bench) == (0, 0, 4)
        effect = bench.history(*[past(n) for n in range(4)])
        assert (effect.corrected, effect.disbelieved) == (4, "")

    def test_control_without_a_second_line_it_is_not(self, bench):
        for minute in range(4):
            bench.take(event(minute, price=50.0))
        assert bench.history(*[past(n) for n in range(4)]).disbelieved


def at(minute):
    return T0 + minute * MINUTE


def test_the_lines_of_many_rows_are_bounded():
    lines = closed_rows.RowLines(10)
    for minute in range(100):
        lines.put(minute * MINUTE, minute % 2)
    known = [m for m in range(100) if lines.find(m * MINUTE) >= 0]
    assert 10 <= len(known) <= 20
    assert known == list(range(known[0], 100))
    assert all(lines.find(m * MINUTE) == m % 2 for m in known)
    lines.put(99 * MINUTE, 0)
    assert lines.find(99 * MINUTE) == 0
    assert lines.find(99 * MINUTE + 1) == -1
