"""History through the intake into a segment: seams, holes, corrections, revisions."""

import logging
import random
from itertools import pairwise
from typing import ClassVar

import pytest
from support.history_bench import GRACE, HISTORY, KEY, MINUTE, T0, Bench, event, past

from shmfeed.bar import (
    AFTER_GAP,
    BACKFILLED,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    NO_TRADE,
    POLLED,
    REVISED,
    UNCONFIRMED,
)
from shmfeed.errors import SegmentFullError
from shmfeed.feeder import row_merge
from shmfeed.feeder.row_events import (
    DisagreementFound,
    HistoryEffect,
    HoleFound,
    RevisionFound,
    UnconfirmedFound,
)


@pytest.fixture
def bench(feed_name, monkeypatch):
    made = Bench(feed_name, monkeypatch)
    made.start()
    yield made
    made.close()


class TestSeam:
    def test_closes_after_a_gap_wait_and_follow_the_history(self, bench):
        bench.take(event(0), event(4), event(5))
        assert bench.minutes() == [0]
        effect = bench.history(past(1), past(2), past(3))
        assert effect == HistoryEffect(appended=3)
        assert bench.minutes() == [0, 1, 2, 3, 4, 5]
        assert [bench.flags(n) for n in (3, 4)] == [BACKFILLED, CLOSED_BY_VENUE]
        assert bench.gaps() == (0, 0)
        assert bench.feed.status()["streams"][0]["health"] != "recovering"

    def test_an_awaited_range_is_reported_once(self, bench):
        bench.take(event(0), event(4))
        assert bench.intake.drain_found() == []  # the venue may send them yet
        bench.wait(2.1)
        hole = HoleFound(KEY, T0 + MINUTE, T0 + 3 * MINUTE, 3)
        assert bench.intake.drain_found() == [hole]
        bench.wait(0.5)
        assert bench.intake.drain_found() == []
        bench.wait(3)
        assert bench.minutes() == [0, 4]
        assert bench.intake.drain_found() == [hole]  # it is in the rows now

    def test_nothing_waits_longer_than_the_grace(self, bench):
        bench.take(event(0), event(4))
        bench.wait(GRACE - 0.1)
        assert bench.minutes() == [0]
        bench.wait(0.2)
        assert bench.minutes() == [0, 4]
        assert bench.flags(4) == CLOSED_BY_VENUE | AFTER_GAP
        assert bench.gaps() == (3, 3)

    def test_without_history_the_grace_of_the_venue_counts(self, bench):
        bench.start(history=False)
        bench.take(event(0), event(4))
        bench.wait(2.1)
        assert bench.minutes() == [0, 4]

    def test_without_flags_nothing_is_held_without_history(self, bench):
        bench.start(flagged=False, history=False, minute=5)
        bench.take(event(0, None), event(4, None), event(5, None))
        assert bench.minutes() == [0, 4]

    def test_without_flags_a_bar_after_a_gap_waits(self, bench):
        bench.start(flagged=False)
        bench.take(event(100, None))
        bench.now += 300
        bench.take(event(104, None), event(105, None))
        assert bench.minutes() == []
        bench.history(past(100, 7.0), past(101), past(102), past(103))
        assert bench.minutes() == [100, 101, 102, 103, 104]
        assert bench.flags(104) == CLOSED_BY_NEXT
        assert bench.rows()[0] == (100, 7.0, BACKFILLED)

    def test_the_bar_that_was_forming_gets_its_end_from_history(self, bench):
        bench.take(event(0), event(1, False, 5.0))
        bench.intake.disconnected()
        bench.intake.connected()
        bench.take(event(3, False))
        bench.wait(2.1)
        assert bench.intake.drain_found() == [
            UnconfirmedFound(KEY, T0 + MINUTE),
            HoleFound(KEY, T0 + 2 * MINUTE, T0 + 2 * MINUTE, 1),
        ]
        bench.history(past(0), past(1, 9.0), past(2))
        assert bench.rows()[1:] == [(1, 9.0, BACKFILLED), (2, 102.0, BACKFILLED)]
        assert bench.ring.forming().open_time == T0 + 3 * MINUTE

    def test_a_final_that_is_held_keeps_its_values(self, bench):
        bench.take(event(0), event(2, price=7.0))
        bench.history(past(1), past(2, 9.0))
        assert bench.rows()[1:] == [(1, 101.0, BACKFILLED), (2, 7.0, CLOSED_BY_VENUE)]

    @pytest.mark.parametrize("last", [3, 4])
    def test_a_history_that_has_the_held_bars_too_ends_the_recovery(self, bench, last):
        bench.start()
        bench.take(event(0), event(3))
        health = lambda: bench.feed.status()["streams"][0]["health"]  # noqa: E731
        assert health() == "recovering"
        bench.history(*(past(minute) for minute in range(1, last + 1)))
        assert bench.minutes() == [*range(last + 1)]
        assert not bench.intake._streams[KEY].ledger.is_recovering
        assert health() != "recovering"

    def test_a_part_of_the_hole_leaves_the_rest_waiting(self, bench):
        bench.take(event(0), event(4))
        effect = bench.history(past(1), past(2), last=3)
        assert (effect.appended, effect.missing) == (2, 1)
        assert bench.minutes() == [0, 1, 2]
        bench.intake.release([KEY])
        assert bench.minutes() == [0, 1, 2, 4]
        assert bench.gaps() == (1, 1)

    def test_a_bar_that_has_not_ended_is_not_taken(self, bench):
        bench.take(event(98))
        bench.history(past(99), past(100), past(101), how="poll")
        assert bench.minutes() == [98, 99]
        late = T0 + 101 * MINUTE  # the venue's own word
        bench.history(past(99), past(100), past(101), how="poll", venue_now=late)
        assert bench.minutes() == [98, 99, 100]

    def test_a_bar_that_was_forming_when_it_was_asked_for_is_not_taken(self, bench):
        bench.start(minute=2)
        bench.take(event(0))
        asked = bench.now + 59
        bench.now += 61  # the answer is looked at after the bar's end
        assert bench.history(past(1), past(2), asked_at=asked).appended == 1
        assert bench.history(past(2), asked_at=bench.now).appended == 1

    def test_other_sources_end_no_bar_and_pass_no_venue(self, bench):
        bench.take(event(0), event(1, False, 5.0))
        other = {"is_own": False, "source": "bars.csv"}
        assert bench.history(past(1), past(2), **other).appended == 0
        bench.take(event(4, False))
        assert bench.history(past(1, 9.0), past(2), past(3), **other).appended == 2
        assert bench.rows()[1:] == [
            (1, 5.0, CLOSED_BY_NEXT | UNCONFIRMED),
            (2, 102.0, BACKFILLED),
            (3, 103.0, BACKFILLED),
        ]


class TestStart:
    def test_first_rows_appear_together_with_their_history(self, bench):
        bench.intake.hold([KEY], bench.now + GRACE)
        bench.take(event(5, False), event(5), event(6, False))
        assert bench.minutes() == []
        epoch = bench.ring.epoch
        effect = bench.history(*[past(n) for n in range(6)], how="warmup")
        assert effect.appended == 5  # the venue's own final stands
        assert bench.minutes() == [0, 1, 2, 3, 4, 5]
        assert bench.flags(5) == CLOSED_BY_VENUE
        assert bench.ring.epoch > epoch  # in one step
        assert bench.ring.forming().open_time == T0 + 6 * MINUTE
        assert bench.count("bars") == (6,)

    @pytest.mark.parametrize("is_own", [True, False])
    def test_before_the_first_bar_all_of_any_source_is_taken(self, bench, is_own):
        bench.start()
        effect = bench.history(*map(past, range(5)), how="warmup", is_own=is_own)
        assert effect.appended == 5
        assert bench.minutes() == list(range(5))

    def test_or_after_the_grace_without_it(self, bench):
        bench.intake.hold([KEY], bench.now + GRACE)
        bench.take(event(5), event(6, False))
        bench.wait(GRACE - 0.1)
        assert bench.minutes() == []
        bench.wait(0.2)
        assert bench.minutes() == [5]
        effect = bench.history(*[past(n) for n in range(6)], how="warmup")
        assert effect == HistoryEffect(prepended=5)
        assert bench.minutes() == [0, 1, 2, 3, 4, 5]

    def test_without_flags_too(self, bench):
        bench.start(flagged=False, minute=101)
        bench.intake.hold([KEY], bench.now + GRACE)
        bench.take(event(100, None), event(101, None))
        assert bench.minutes() == []
        bench.history(past(98), past(99), how="warmup")
        assert bench.minutes() == [98, 99, 100]
        assert bench.flags(100) == CLOSED_BY_NEXT

    def test_no_more_rows_than_the_ring_has(self, bench):
        bench.take(event(80))
        effect = bench.history(*[past(n) for n in range(80)], how="warmup")
        assert effect.prepended == HISTORY - 1
        assert bench.minutes() == list(range(31, 81))
        again = bench.history(*[past(n) for n in range(80)], how="warmup")
        assert again == HistoryEffect()

    def test_readers_are_woken_by_new_bars_and_by_no_repair(self, bench, monkeypatch):
        woken = []
        monkeypatch.setattr(bench.writer, "wake", lambda keys: woken.append(set(keys)))
        bench.take(event(5))
        bench.history(past(3), past(4))
        assert woken == [{KEY}]
        bench.history(past(6), how="poll")
        assert woken == [{KEY}] * 2


class TestHoles:
    def hole(self, bench, *, last=4):
        bench.take(event(0), event(last))
        bench.wait(GRACE + 0.1)
        assert bench.gaps() == (last - 1, last - 1)
        bench.intake.drain_found()

    def test_a_whole_hole_is_filled(self, bench):
        self.hole(bench)
        held = bench.ring.view(2)
        effect = bench.history(past(1), past(2), past(3))
        assert effect == HistoryEffect(filled=3)
        assert bench.minutes() == [0, 1, 2, 3, 4]
        assert bench.flags(4) == CLOSED_BY_VENUE
        assert bench.gaps() == (0, 0)
        assert held.valid
        assert held.open_time.tolist() == [T0, T0 + 4 * MINUTE]

    def test_a_part_of_one_leaves_its_flags(self, bench):
        self.hole(bench)
        effect = bench.history(past(2), first=1, last=3)
        assert effect == HistoryEffect(filled=1, missing=2)
        assert bench.flags(2) == BACKFILLED | AFTER_GAP
        assert bench.flags(4) == CLOSED_BY_VENUE | AFTER_GAP
        assert bench.gaps() == (2, 2)

    def test_bars_that_both_lack_or_that_wait_are_told_apart(self, bench):
        bench.take(event(0), event(4))  # 4 waits
        effect = bench.history(past(1), past(2), last=120)
        assert (effect.appended, effect.missing) == (2, 96)  # 3, and 5 to 99

    def test_rows_outside_the_range_stay(self, bench):
        self.hole(bench)
        assert bench.history(past(0, 9.0), past(2), first=2, last=2).corrected == 0
        assert bench.rows()[0] == (0, 100.0, CLOSED_BY_VENUE)

    def test_a_hole_that_leaves_the_ring_counts_no_more(self, bench):
        self.hole(bench)
        bench.take(*[event(4 + n) for n in range(1, HISTORY)])
        bench.wait(1)
        assert bench.gaps() == (0, 0)

    def test_a_hole_of_an_earlier_feeder_is_counted(self, bench):
        self.hole(bench)
        bench.start()
        assert bench.gaps() == (3, 3)
        bench.history(past(1), past(2), past(3))
        assert bench.gaps() == (0, 0)

    def test_without_memory_it_stays_and_can_be_asked_again(self, bench, monkeypatch):
        self.hole(bench)

        def refuse(*_):
            raise SegmentFullError("/dev/shm is full")

        with monkeypatch.context() as patch:
            patch.setattr(bench.writer, "replace_rows", refuse)
            effect = bench.history(past(1), past(2), past(3), past(5))
            assert "/dev/shm is full" in effect.failed
            assert (effect.filled, effect.appended) == (0, 1)
        assert bench.minutes() == [0, 4, 5]
        assert bench.history(past(1), past(2), past(3)).filled == 3


class TestCorrections:
    def test_a_row_of_a_closing_message_is_corrected_once_it_is_settled(self, bench):
        bench.start(minute=6)
        bench.take(event(4), event(5))
        bench.now += 9
        effect = bench.history(past(4, 3.0), past(5, 9.0))
        assert effect == HistoryEffect(corrected=1, unsettled=1)
        assert bench.rows()[0] == (4, 3.0, CLOSED_BY_VENUE | BACKFILLED | REVISED)
        bench.now += 1.5
        assert bench.history(past(5, 9.0)).corrected == 1

    def test_a_row_without_such_a_message_at_once_and_finally(self, bench):
        bench.start(minute=6)
        bench.take(event(4), event(5, False, 7.0))
        bench.intake.disconnected()
        bench.take(event(6, False))
        bench.intake.release([KEY])
        assert bench.flags(5) == CLOSED_BY_NEXT | UNCONFIRMED
        effect = bench.history(past(5, 9.0))
        assert (effect.corrected, effect.confirmed) == (1, 1)
        assert bench.rows()[1] == (5, 9.0, CLOSED_BY_NEXT | BACKFILLED | REVISED)

    def test_same_values_confirm(self, bench):
        bench.take(event(4), event(5, False, 7.0), event(6, False))
        bench.wait(GRACE + 0.1)
        assert bench.flags(5) == CLOSED_BY_NEXT | UNCONFIRMED
        assert bench.history(past(5, 7.0)) == HistoryEffect(confirmed=1)
        assert bench.flags(5) == CLOSED_BY_NEXT
        assert bench.recorder.told()[-1] == (5, 7.0, "confirmed")

    def test_another_source_corrects_nothing_and_confirms_what_it_agrees_with(
        self, bench
    ):
        bench.take(event(4), event(5, False, 7.0), event(6, False))
        bench.wait(GRACE + 0.1)
        other = {"is_own": False, "source": "bars.csv"}
        assert bench.history(past(4, 9.0), past(5, 9.0), **other) == HistoryEffect()
        assert bench.history(past(5, 7.0), **other) == HistoryEffect(confirmed=1)

    @pytest.mark.parametrize("is_own", [True, False])
    def test_a_history_of_another_market_is_not_believed(self, bench, is_own):
        bench.take(event(0), event(1), event(2), event(3), event(6))
        wrong = [past(n, 50.0) for n in range(6)]
        before = bench.rows()
        source = {"is_own": is_own, "source": "REST of binance usdm"}
        effect = bench.history(*wrong, **source)
        assert "REST of binance usdm disagrees with 4 of 4" in effect.disbelieved
        assert bench.name in effect.disbelieved
        assert bench.rows() == before
        # Nor is an answer that could not be compared, until one agrees.
        assert bench.history(past(4), **source).disbelieved
        assert bench.history(*[past(n) for n in range(6)], **source).appended == 2

    def test_prices_that_differ_a_little_are_believed(self, bench):
        bench.take(*[event(n) for n in range(4)])
        near = [past(n, (100.0 + n) * 1.0005) for n in range(4)]
        assert bench.history(*near).corrected == 4

    def test_flags_of_history_count_as_far_as_they_tell_of_the_bar(self, bench):
        bench.take(event(0))
        bench.history(past(1, flags=NO_TRADE | POLLED | CLOSED_BY_VENUE))
        assert bench.flags(1) == BACKFILLED | NO_TRADE

    def test_a_block_off_the_grid_is_refused(self, bench):
        bench.take(event(0))
        odd = past(1)._replace(open_time=T0 + MINUTE + 1, close_time=T0 + 2 * MINUTE)
        assert "off the grid" in bench.history(odd).disbelieved
        assert bench.minutes() == [0]


class TestRevisions:
    def test_a_closing_message_revises_a_row(self, bench):
        bench.take(event(0), event(1))
        held = bench.ring.view(2)
        bench.take(event(0, price=9.0))
        assert bench.rows()[0] == (0, 9.0, CLOSED_BY_VENUE | REVISED)
        assert held["close"].tolist() == [100.0, 101.0]
        assert bench.count("revisions", "duplicates", "bars") == (1, 0, 2)
        (found,) = bench.intake.drain_found()
        assert isinstance(found, RevisionFound)
        assert (found.old.close, found.new.close) == (100.0, 9.0)
        bench.take(event(0, price=9.0))
        assert bench.count("revisions", "duplicates") == (1, 1)
        assert bench.recorder.told() == [
            (0, 100.0, "replayed"),  # the bench's bars are of years ago
            (1, 101.0, "replayed"),
            (0, 9.0, "revised"),
        ]

    @pytest.mark.parametrize("is_known", [True, False])
    def test_money_alone_may_be_revised(self, bench, caplog, is_known):
        first = event(0, price=64_123.45)
        first.money = 1_234_567.25
        bench.take(first, event(1))
        if not is_known:
            bench.start()
        first.money = 1_234_567.5
        bench.take(first)
        assert bench.ring.snapshot(2)["money"][0] == 1_234_567.5
        assert bench.rows()[0] == (0, 64_123.45, CLOSED_BY_VENUE | REVISED)
        assert bench.recorder.told()[-1] == (0, 64_123.45, "revised")
        (found,) = bench.intake.drain_found()
        assert (found.old.money, found.new.money) == (1_234_567.25, 1_234_567.5)
        assert "64123.45 1 1234567.25 before" in caplog.text
        assert "64123.45 1 1234567.5 now" in caplog.text

    def test_a_revision_without_a_trade_says_so(self, bench):
        bench.take(event(0), event(1))
        nothing = event(0, price=9.0, volume=0.0)
        nothing.no_trade = True
        bench.take(nothing)
        assert bench.flags(0) == CLOSED_BY_VENUE | REVISED | NO_TRADE

    def test_as_far_back_as_the_ring_goes(self, bench):
        bench.take(*[event(n) for n in range(10)])
        bench.start()  # the ledger knows the last row alone
        bench.take(event(3, price=9.0), event(4), event(5, False, 9.0))
        assert bench.rows()[3] == (3, 9.0, CLOSED_BY_VENUE | REVISED)
        assert bench.count("revisions", "duplicates", "late") == (1, 1, 1)

    @pytest.mark.parametrize("is_known", [True, False])
    def test_a_final_that_history_has_corrected_counts_no_more(self, bench, is_known):
        bench.take(*[event(n) for n in range(4)])
        assert bench.history(past(1, 7.0)).corrected == 1
        if not is_known:
            bench.start()
        bench.take(event(1))  # it comes again
        assert bench.rows()[1] == (1, 7.0, CLOSED_BY_VENUE | BACKFILLED | REVISED)
        assert bench.count("revisions", "duplicates") == (0, 1)
        bench.take(event(2, price=6.0))
        assert bench.rows()[2][1] == 6.0

    def test_of_a_bar_that_the_ring_lacks_it_is_late(self, bench):
        bench.take(event(1), event(2))
        bench.take(event(0, price=9.0))
        assert bench.count("revisions", "late") == (0, 1)

    def test_where_two_lines_differ_history_is_asked(self, bench):
        bench.start(lines=2)
        bench.take(event(0), line=0)
        bench.take(event(0, price=9.0), line=1)
        assert bench.count("disagreements", "revisions") == (1, 0)
        assert bench.intake.drain_found() == [DisagreementFound(KEY, T0)]
        assert bench.history(past(0, 9.0)).corrected == 1

    def test_many_of_a_batch_are_one_swap(self, bench):
        bench.take(*[event(n) for n in range(10)])
        epoch = bench.ring.epoch
        bench.take(*[event(n, price=7.0) for n in range(10)])
        assert bench.ring.epoch == epoch + 1
        assert {price for _, price, _ in bench.rows()} == {7.0}

    def test_memory_that_is_used_again_early_is_logged(self, bench, caplog):
        caplog.set_level(logging.DEBUG)
        bench.take(event(0))
        spares = bench.writer.geometry.slots - 1
        for turn in range(spares):
            bench.take(event(0, price=101.0 + turn))
        assert "used again early" not in caplog.text
        bench.take(event(0, price=7.0))
        assert "replaced rows was used again early (1 so far): more rep" in caplog.text

    def test_a_final_that_comes_late_confirms(self, bench):
        bench.take(event(0), event(1, False), event(2))
        bench.wait(GRACE + 0.1)
        assert bench.flags(1) & UNCONFIRMED
        bench.take(event(1))
        assert not bench.flags(1) & UNCONFIRMED

    def test_without_memory_it_is_tried_again(self, bench, monkeypatch):
        bench.take(event(0), event(1))

        def refuse(*_):
            raise SegmentFullError("/dev/shm is full")

        with monkeypatch.context() as patch:
            patch.setattr(bench.writer, "replace_rows", refuse)
            bench.take(event(0, price=9.0), event(2))
        assert bench.rows()[0][1] == 100.0
        bench.wait(1.1)
        assert bench.rows()[0][1] == 9.0

    def test_one_that_waits_for_memory_undoes_no_later_history(
        self, bench, monkeypatch
    ):
        bench.take(event(0), event(1))

        def refuse(*_):
            raise SegmentFullError("/dev/shm is full")

        with monkeypatch.context() as patch:
            patch.setattr(bench.writer, "replace_rows", refuse)
            bench.take(event(0, price=9.0))
            assert bench.history(past(0)).failed
        bench.wait(1.1)
        assert bench.rows()[0][1] == 9.0
        assert bench.history(past(0)).corrected == 1  # asked for again
        bench.wait(1.1)
        assert bench.rows()[0] == (0, 100.0, CLOSED_BY_VENUE | BACKFILLED | REVISED)

    def test_a_history_asked_for_before_it_counts_as_settled_only(self, bench):
        """Of one batch the message comes first, then the answer."""
        bench.start(minute=6)
        bench.take(event(4), event(5))
        asked = bench.now
        bench.now += 9
        bench.take(event(5, price=9.0))
        effect = bench.history(past(5), asked_at=asked)
        assert effect == HistoryEffect(unsettled=1)
        assert bench.rows()[-1] == (5, 9.0, CLOSED_BY_VENUE | REVISED)


class TestHostileSources:
    """Sources that are not the venue's own, against what the socket said."""

    OTHER: ClassVar = {"is_own": False, "source": "bars.csv"}

    def test_unconfirmed_rows_are_not_confirmed_by_other_values(self, bench):
        bench.take(event(4), event(5, False, 7.0), event(6, False))
        bench.wait(GRACE + 0.1)
        before = bench.rows()
        assert bench.history(past(5, 7.001), **self.OTHER) == HistoryEffect()
        doubtful = past(5, 7.0, flags=UNCONFIRMED)
        assert bench.history(doubtful, **self.OTHER) == HistoryEffect()
        assert bench.rows() == before
        assert bench.flags(5) & UNCONFIRMED

    def test_rows_of_theirs_give_way_to_the_venue(self, bench):
        bench.take(event(0), event(4))
        bench.history(past(1, 5.0), past(2, 5.0), past(3, 5.0), **self.OTHER)
        bench.take(event(2))  # its closing message, at last
        assert bench.history(past(1), past(3)).corrected == 2
        assert [price for _, price, _ in bench.rows()] == [100.0 + n for n in range(5)]
        assert bench.flags(2) == CLOSED_BY_VENUE | REVISED

    def test_two_of_them_change_nothing_of_each_other(self, bench):
        bench.take(event(0), event(2))
        bench.history(past(1, 5.0), **self.OTHER)
        other = self.OTHER | {"source": "a command"}
        assert bench.history(past(1, 6.0), **other) == HistoryEffect()
        assert bench.rows()[1] == (1, 5.0, BACKFILLED)

    def test_bars_ahead_of_the_venue_are_not_taken(self, bench):
        bench.start(minute=6)
        bench.take(event(4), event(5))
        bench.history(*[past(n) for n in range(3, 10)], **self.OTHER)
        assert bench.minutes() == [3, 4, 5]


class TestPolled:
    def test_rows_after_the_last_are_polled_and_those_of_a_hole_backfilled(self, bench):
        bench.take(event(0), event(2))
        bench.wait(GRACE + 0.1)
        effect = bench.history(past(1), past(2), past(3), past(4), how="poll")
        assert (effect.filled, effect.appended) == (1, 2)
        assert bench.flags(1) == BACKFILLED
        assert [bench.flags(3), bench.flags(4)] == [POLLED, POLLED]
        causes = [cause for _, _, cause in bench.recorder.told()]
        assert causes == ["replayed", "replayed", "backfilled", "polled", "polled"]
        bench.take(event(4), event(5))
        assert bench.count("duplicates", "gaps") == (1, 0)

    def test_bars_that_are_due_and_have_not_come(self, bench):
        bench.start(minute=10)
        bench.take(event(8), event(9, False))
        assert bench.intake.due(bench.now) == []
        bench.now += GRACE + 1
        (due,) = bench.intake.due(bench.now)
        assert (due.key, due.first, due.last) == (KEY, T0 + 9 * MINUTE, T0 + 9 * MINUTE)
        assert due.late == pytest.approx(GRACE + 1)
        assert due.silent == pytest.approx(GRACE + 1)
        bench.history(past(9), how="poll")
        assert bench.intake.due(bench.now) == []


def test_the_time_of_a_message_is_when_it_came(bench):
    bench.start(flagged=False)
    bench.take(event(100, None))
    came = bench.wall
    bench.now += 60
    bench.take(event(101, None))
    (version,) = bench.recorder.versions
    assert version.received == pytest.approx(came * 1_000_000, abs=1_000_000)
    assert version.published == bench.wall * 1_000_000


def test_a_stream_that_is_not_carried_takes_nothing(bench):
    bench.intake.set_streams([])
    assert bench.history(past(0)) == HistoryEffect()


def play(bench, seed, steps=60):
    """Give the intake messages, history and losses at random; yield after each."""
    rand = random.Random(seed)
    flagged = rand.random() < 0.5
    bench.start(flagged=flagged, minute=20, lines=rand.choice((1, 2)))
    for _ in range(steps):
        minute = rand.randrange(20)
        match rand.randrange(10):
            case 0 | 1 | 2 | 3:
                closed = rand.choice((True, False, None))
                message = event(minute, closed, rand.choice((None, 50.0)))
                bench.take(message, line=rand.randrange(2))
            case 4 | 5 | 6:
                chosen = sorted(rand.sample(range(20), rand.randint(1, 6)))
                price = rand.choice((None, None, None, 50.0))
                how = rand.choice(("repair", "poll", "warmup"))
                is_own = rand.random() < 0.7
                bars = [past(n, price) for n in chosen]
                bench.history(*bars, how=how, is_own=is_own, source=f"{is_own}")
            case 7:
                bench.wait(rand.choice((0.5, 2.0, 10.0, 60.0)))
            case 8:
                bench.intake.hold([KEY], bench.now + rand.choice((1.0, 10.0)))
            case _:
                if rand.random() < 0.3:
                    bench.start(flagged=flagged, minute=20)
                elif rand.random() < 0.5:
                    bench.intake.release([KEY])
                else:
                    bench.intake.disconnected()
                    bench.intake.connected()
        yield


def check_rows(bench):
    """Check the rows' order and flags, and the count of missing bars."""
    rows = bench.rows()
    minutes = [minute for minute, _, _ in rows]
    assert minutes == sorted(set(minutes))
    for (earlier, *_), (later, _, flags) in pairwise(rows):
        assert bool(flags & AFTER_GAP) is (later > earlier + 1)
    missing = minutes[-1] - minutes[0] + 1 - len(minutes) if minutes else 0
    assert bench.gaps() == (missing, missing)
    return minutes


@pytest.mark.parametrize("seed", range(25))
def test_anything_leaves_rows_in_order_and_right_counts(bench, seed):
    seen = set()
    for _ in play(bench, seed):
        minutes = check_rows(bench)
        assert seen <= set(minutes)  # no row is ever taken back
        seen = set(minutes)


def test_control_a_swap_that_loses_a_flag_is_noticed(bench, monkeypatch):
    monkeypatch.setattr(row_merge, "_mark_gaps", lambda block, changes: None)
    with pytest.raises(AssertionError):
        for seed in range(25):
            for _ in play(bench, seed):
                check_rows(bench)


def test_the_store_is_told_of_rows_that_are_cut_off(bench):
    bench.start()
    ring = bench.intake._streams[KEY].ring
    for minute in (99, 5000, 5001):
        ring.append(T0 + minute * MINUTE, *[1.0] * 5)
    bench.start()
    bench.intake.venue_time(bench.wall, bench.now)
    bench.wait(1)
    assert [number for number, _, _ in bench.rows()] == [99]
    assert bench.recorder.told() == [(5000, 1.0, "cut"), (5001, 1.0, "cut")]
