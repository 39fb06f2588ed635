"""Numbers of messages and trades, and two lines, through the intake into a segment."""

import logging

import pytest

import shmfeed
from shmfeed.bar import (
    AFTER_GAP,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    REVISED,
    UNCONFIRMED,
)
from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder import intake
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.sequence import SequenceCheck
from shmfeed.writer import create

MINUTE = 60_000
T0 = 1_700_000_040_000 // MINUTE * MINUTE
KEY, OTHER = ("BTCUSDT", "1m"), ("ETHUSDT", "1m")
DOUBTFUL = CLOSED_BY_NEXT | UNCONFIRMED


def bar(minute, price=100.0, closed=None, key=KEY, **more):
    opened = T0 + minute * MINUTE
    values = {"volume": 1.0} | more
    return BarEvent(
        *key, opened, 0, price, price, price, price, closed=closed, **values
    )


class Bench:
    def __init__(self, name, monkeypatch):
        self.name, self.now, self.writer = name, 1000.0, None
        monkeypatch.setattr(intake, "boot_seconds", lambda: self.now)
        # The venue's time stands at the start of the first bar.
        monkeypatch.setattr("shmfeed.feeder.ledger.LEAD_MS", 1 << 50)
        monkeypatch.setattr(intake.time, "time_ns", lambda: T0 * 10**6)

    def start(self, flagged=False, **options):
        if self.writer is not None:
            self.close()
        self.writer = create(self.name, history=50, max_streams=8)
        self.intake = Intake(self.writer, 2.0, flagged, **options)
        self.intake.set_streams([KEY, OTHER])
        self.intake.connected()
        self.feed = shmfeed.attach(self.name)
        return self

    def take(self, *events, connection=1, line=0):
        self.intake.take(events, connection, line)

    def wait(self, seconds):
        self.now += seconds
        self.intake.tick()

    def rows(self, key=KEY):
        rows = self.feed.ring(*key).snapshot(50)
        minutes = (rows.open_time - T0) // MINUTE
        flags = [flags & ~AFTER_GAP for flags in rows["flags"].tolist()]
        return list(zip(minutes.tolist(), rows["close"].tolist(), flags, strict=True))

    def forming(self, key=KEY):
        found = self.feed.ring(*key).forming()
        return None if found is None else found.close

    def count(self, *names):
        status = self.feed.status()
        return tuple(status[name] for name in names)

    def close(self):
        self.feed.close()
        self.writer.close(unlink=True)


@pytest.fixture
def bench(feed_name, monkeypatch):
    made = Bench(feed_name, monkeypatch)
    yield made
    made.close()


class TestSequence:
    def test_a_break_is_counted_and_leaves_a_bar_unconfirmed(self, bench, caplog):
        bench.start(sequence="stream")
        bench.take(bar(0, 1.0, sequence=1), bar(0, 2.0, sequence=2))
        with caplog.at_level(logging.WARNING):
            bench.take(bar(1, 3.0, sequence=5), bar(2, 4.0, sequence=6))
        assert bench.rows() == [(0, 2.0, DOUBTFUL), (1, 3.0, CLOSED_BY_NEXT)]
        assert bench.count("missed") == (2,)
        assert "messages were lost (2 so far): 2 of BTCUSDT 1m" in caplog.text

    def test_a_later_update_of_the_bar_makes_it_whole(self, bench):
        bench.start(sequence="stream")
        bench.take(
            bar(0, 1.0, sequence=1),
            bar(0, 2.0, sequence=9),
            bar(1, sequence=10),
        )
        assert bench.rows() == [(0, 2.0, CLOSED_BY_NEXT)]
        assert bench.count("missed") == (7,)

    @pytest.mark.parametrize("mode", ["stream", "connection"])
    def test_a_break_doubts_a_row_that_the_clock_has_ended(self, bench, mode):
        bench.start(sequence=mode)
        bench.take(bar(0, 1.0, sequence=1))
        bench.wait(63)
        assert bench.rows() == [(0, 1.0, CLOSED_BY_CLOCK)]
        held = bench.feed.ring(*KEY).view(1)
        bench.take(bar(1, 3.0, sequence=3))
        assert bench.rows() == [(0, 1.0, CLOSED_BY_CLOCK | UNCONFIRMED)]
        assert held["flags"].tolist() == [CLOSED_BY_CLOCK]  # it never changes
        assert bench.count("bars", "missed") == (1, 1)

    def test_no_break_doubts_a_row_that_all_messages_made(self, bench):
        bench.start(sequence="stream")
        bench.take(bar(0, 1.0, sequence=1))
        bench.wait(63)
        bench.wait(1)
        bench.take(bar(1, 3.0, sequence=2), bar(1, 4.0, sequence=5))
        assert bench.rows() == [(0, 1.0, CLOSED_BY_CLOCK)]

    def test_another_streams_number_shows_that_nothing_was_lost_before(self, bench):
        bench.start(sequence="connection")
        bench.take(bar(0, 1.0, sequence=1))
        bench.wait(63)
        bench.wait(1)
        bench.take(bar(1, 5.0, key=OTHER, sequence=2))
        bench.wait(1)
        bench.take(bar(1, 3.0, sequence=4))
        assert bench.rows() == [(0, 1.0, CLOSED_BY_CLOCK)]

    def test_a_closing_message_needs_no_earlier_one(self, bench):
        bench.start(flagged=True, sequence="connection")
        bench.take(bar(0, 1.0, False, sequence=1), bar(0, 2.0, True, sequence=5))
        assert bench.rows() == [(0, 2.0, CLOSED_BY_VENUE)]

    @pytest.mark.parametrize("mode", ["stream", "connection"])
    def test_whom_a_break_concerns(self, bench, mode):
        bench.start(sequence=mode)
        seen = {}
        bench.writer.count_stream = lambda key, name, n: seen.update({(key, name): n})
        bench.take(
            bar(0, sequence=1),
            bar(0, key=OTHER, sequence=1 if mode == "stream" else 2),
            bar(0, sequence=5),
        )
        bench.wait(1)
        bench.take(bar(1, key=OTHER, sequence=2 if mode == "stream" else 6))
        (row,) = bench.rows(OTHER)
        if mode == "stream":
            assert row[2] == CLOSED_BY_NEXT
            assert (seen[KEY, "missed"], seen.get((OTHER, "missed"))) == (3, None)
        else:
            assert row[2] == DOUBTFUL
            assert seen[KEY, "missed"] == seen[OTHER, "missed"] == 2

    def test_an_older_message_changes_nothing(self, bench):
        bench.start(sequence="stream")
        bench.take(
            bar(0, 1.0, sequence=1),
            bar(0, 9.0, sequence=4),
            bar(0, 2.0, sequence=2),
            bar(0, 9.0, sequence=4),
            bar(1, 7.0, sequence=4),
        )
        assert bench.forming() == 9.0
        assert bench.count("duplicates", "missed") == (3, 2)
        assert bench.rows() == []

    def test_control_unchecked_it_overwrites_the_newer_one(self, bench):
        bench.start(sequence="off")
        bench.take(bar(0, 9.0, sequence=4), bar(0, 2.0, sequence=2))
        assert bench.forming() == 2.0

    def test_an_older_one_may_still_end_a_bar(self, bench):
        bench.start(flagged=True, sequence="stream")
        bench.take(
            bar(0, 1.0, False, sequence=1),
            bar(1, 5.0, False, sequence=3),
            bar(0, 2.0, True, sequence=2),
            bar(0, 3.0, True, sequence=2),
        )
        assert bench.rows() == [(0, 2.0, CLOSED_BY_VENUE)]
        assert bench.forming() == 5.0
        assert bench.count("duplicates") == (1,)

    def test_one_that_ends_a_bar_that_has_ended_is_dropped(self, bench):
        bench.start(flagged=True, sequence="stream")
        bench.take(
            bar(0, 1.0, True, sequence=1),
            bar(1, 5.0, False, sequence=4),
            bar(0, 2.0, True, sequence=2),
        )
        assert bench.rows() == [(0, 1.0, CLOSED_BY_VENUE)]
        assert bench.count("duplicates", "revisions") == (1, 0)

    def test_a_new_connection_counts_anew(self, bench):
        bench.start(sequence="connection")
        bench.take(bar(0, 1.0, sequence=500))
        bench.take(bar(0, 2.0, sequence=1), connection=2)
        bench.take(bar(0, 3.0, sequence=2), connection=2)
        assert bench.forming() == 3.0
        assert bench.count("missed", "duplicates") == (0, 0)

    def test_numbers_of_unsubscribed_bars_count_over_a_connection(self, bench):
        bench.start(sequence="connection")
        foreign = ("XRPUSDT", "1m")
        bench.take(
            bar(0, sequence=1), bar(0, key=foreign, sequence=2), bar(0, sequence=3)
        )
        assert bench.count("missed", "unsubscribed") == (0, 1)

    def test_it_is_learnt(self, bench):
        bench.start()
        for number in range(1, 4):
            bench.take(bar(0, sequence=number), bar(0, key=OTHER, sequence=number))
        bench.take(bar(0, sequence=6))
        assert bench.count("missed") == (2,)

    def test_numbers_that_count_nothing_are_said_once(self, bench, caplog):
        bench.start()
        with caplog.at_level(logging.WARNING):
            bench.take(*(bar(0, float(n), sequence=n * 37) for n in range(1, 200)))
        said = "count neither over a connection nor by stream"
        assert caplog.text.count(said) == 1
        assert said in bench.intake.last_error
        assert bench.count("missed", "duplicates") == (0, 0)
        assert bench.forming() == 199.0

    def test_control_a_check_that_forgets_holes_drops_the_closing_message(
        self, bench, monkeypatch
    ):
        take = SequenceCheck.take
        monkeypatch.setattr(SequenceCheck, "take", lambda *a: max(take(*a), -1))
        bench.start(flagged=True, sequence="stream")
        bench.take(
            bar(0, 1.0, False, sequence=1),
            bar(1, 5.0, False, sequence=3),
            bar(0, 2.0, True, sequence=2),
        )
        assert bench.rows() == []


class TestOrder:
    def test_an_update_with_an_older_event_time_is_dropped(self, bench):
        bench.start(flagged=True)
        now = T0
        bench.take(
            bar(0, 1.0, False, event_time=now - 100),
            bar(0, 2.0, False, event_time=now),
            bar(0, 3.0, False, event_time=now - 50),
        )
        assert bench.forming() == 2.0
        assert bench.count("duplicates") == (1,)
        bench.take(bar(0, 4.0, True, event_time=now - 50))
        assert bench.rows() == [(0, 4.0, CLOSED_BY_VENUE)]

    def test_an_update_with_an_older_trade_is_dropped(self, bench):
        bench.start(flagged=True, numbers_trades=True)
        bench.take(
            bar(0, 1.0, False, first_id=10, last_id=20),
            bar(0, 2.0, False, first_id=10, last_id=15),
            bar(0, 3.0, False, first_id=10, last_id=20),
        )
        assert bench.forming() == 3.0
        assert bench.count("duplicates") == (1,)

    def test_an_absurd_time_outranks_nothing(self, bench):
        bench.start(flagged=True)
        now = T0
        bench.take(
            bar(0, 1.0, False, event_time=now),
            bar(0, 2.0, False, event_time=now * 2),
            bar(0, 3.0, False, event_time=now + 10),
        )
        assert bench.forming() == 3.0


class TestTradeNumbers:
    def test_the_next_trade_proves_a_bar_whole(self, bench):
        bench.start(flagged=True, numbers_trades=True)
        bench.take(
            bar(0, 1.0, False, first_id=10, last_id=20),
            bar(1, 2.0, False, first_id=21, last_id=22),
        )
        bench.wait(2.5)
        assert bench.rows() == [(0, 1.0, CLOSED_BY_NEXT)]

    @pytest.mark.parametrize("first", [22, 20, 500])
    def test_other_numbers_prove_nothing(self, bench, first):
        bench.start(flagged=True, numbers_trades=True)
        bench.take(
            bar(0, 1.0, False, first_id=10, last_id=20),
            bar(1, 2.0, False, first_id=first, last_id=600),
        )
        bench.wait(2.5)
        assert bench.rows() == [(0, 1.0, DOUBTFUL)]

    def test_a_proof_that_comes_later_takes_the_flag_back(self, bench):
        bench.start(flagged=True, numbers_trades=True)
        bench.take(
            bar(0, 1.0, False, first_id=10, last_id=20), bar(1, 1.0, False, volume=0.0)
        )
        bench.wait(2.5)
        assert bench.rows() == [(0, 1.0, DOUBTFUL)]
        ring = bench.feed.ring(*KEY)
        held, count = ring.view(5), ring.count
        bench.take(bar(1, 2.0, False, first_id=21, last_id=25))
        assert bench.rows() == [(0, 1.0, CLOSED_BY_NEXT)]
        assert held["flags"].tolist() == [DOUBTFUL]
        assert ring.count == count
        assert bench.forming() == 2.0

    def test_bars_without_a_trade_are_proven_with_it(self, bench):
        bench.start(flagged=True, numbers_trades=True)
        for minute in range(3):
            more = {"first_id": 10, "last_id": 20} if minute == 0 else {"volume": 0.0}
            bench.take(bar(minute, 1.0, False, **more))
            bench.wait(2.5)
        assert [flags for _, _, flags in bench.rows()] == [DOUBTFUL] * 2
        bench.take(bar(3, 2.0, False, first_id=21, last_id=25))
        bench.wait(2.5)
        assert [flags for _, _, flags in bench.rows()] == [CLOSED_BY_NEXT] * 3

    def test_a_missing_trade_later_proves_nothing_either(self, bench):
        bench.start(flagged=True, numbers_trades=True)
        bench.take(
            bar(0, 1.0, False, first_id=10, last_id=20), bar(1, 1.0, False, volume=0.0)
        )
        bench.wait(2.5)
        bench.take(bar(1, 2.0, False, first_id=22, last_id=25))
        bench.take(bar(2, 2.0, False, first_id=21, last_id=25))
        assert bench.rows()[0] == (0, 1.0, DOUBTFUL)

    def test_a_market_without_such_numbers_is_not_believed(self, bench):
        bench.start(flagged=True)
        bench.take(
            bar(0, 1.0, False, first_id=10, last_id=20),
            bar(1, 2.0, False, first_id=21, last_id=22),
        )
        bench.wait(2.5)
        assert bench.rows() == [(0, 1.0, DOUBTFUL)]


class TestTwoLines:
    @pytest.fixture(params=["stamped", "plain"])
    def stamps(self, request):
        """Return the event time of update n, 0 where the venue sends none."""
        is_stamped = request.param == "stamped"
        return lambda n: T0 + n if is_stamped else 0

    def both(self, bench, n, price, stamps, lines=(0, 1), closed=False, minute=0):
        more = {"volume": float(n), "event_time": stamps(n)}
        for line in lines:
            event = bar(minute, price, closed, **more)
            bench.take(event, connection=1 + line, line=line)

    def test_the_update_that_is_further_stands(self, bench, stamps):
        bench.start(flagged=True, lines=2)
        self.both(bench, 5, 5.0, stamps, lines=[0])
        self.both(bench, 3, 3.0, stamps, lines=[1])
        assert bench.forming() == 5.0
        assert bench.count("duplicates") == (1,)
        self.both(bench, 7, 7.0, stamps, lines=[1])
        assert bench.forming() == 7.0

    def test_the_same_update_of_the_other_line_is_a_duplicate(self, bench, stamps):
        bench.start(flagged=True, lines=2)
        for n in range(1, 4):
            self.both(bench, n, float(n), stamps)
        assert bench.forming() == 3.0
        assert bench.count("duplicates") == (3,)

    def test_the_first_final_stands_and_another_is_a_disagreement(self, bench, stamps):
        bench.start(flagged=True, lines=2)
        self.both(bench, 5, 5.0, stamps, closed=True)
        assert bench.rows() == [(0, 5.0, CLOSED_BY_VENUE)]
        assert bench.count("duplicates", "disagreements") == (1, 0)
        self.both(bench, 5, 5.0, stamps, lines=[0], closed=True, minute=1)
        self.both(bench, 5, 6.0, stamps, lines=[1], closed=True, minute=1)
        assert bench.rows()[1] == (1, 5.0, CLOSED_BY_VENUE)
        assert bench.count("disagreements", "revisions") == (1, 0)

    def test_either_may_die(self, bench, stamps):
        bench.start(lines=2)
        for minute in range(6):
            lines = [(0, 1), (0,), (1,), (0, 1), (1,), (0,)][minute]
            for n in range(1, 4):
                self.both(bench, n, 10.0 * minute + n, stamps, lines, None, minute)
            bench.intake.connection_lost(1 if lines == (1,) else 2)
        expected = [(m, 10.0 * m + 3, CLOSED_BY_NEXT) for m in range(5)]
        assert [row[:2] for row in bench.rows()] == [row[:2] for row in expected]
        assert bench.count("late", "gaps") == (0, 0)

    def test_a_bar_is_whole_if_one_line_had_it_whole(self, bench):
        bench.start(lines=2, sequence="connection")
        plain = {"connection": 1, "line": 0}
        other = {"connection": 2, "line": 1}
        bench.take(bar(0, 1.0, sequence=1, volume=1.0), **plain)
        bench.take(bar(0, 1.0, sequence=1, volume=1.0), **other)
        bench.take(bar(0, 2.0, sequence=2, volume=2.0), **other)
        bench.take(bar(1, 3.0, sequence=9, volume=1.0), **plain)  # lost some
        assert bench.rows() == [(0, 2.0, CLOSED_BY_NEXT)]
        bench.take(bar(1, 3.0, sequence=9, volume=1.0), **other)  # it, too
        bench.take(bar(2, 3.0, sequence=20, volume=1.0), **plain)
        assert bench.rows()[1][2] == CLOSED_BY_NEXT
        bench.take(bar(2, 3.0, sequence=19, volume=1.0), **other)
        bench.intake.connection_lost(1)
        bench.intake.connection_lost(2)
        bench.take(bar(3, 3.0, sequence=1, volume=1.0), connection=3, line=0)
        assert bench.rows()[2][2] == DOUBTFUL

    def test_control_one_line_alone_is_not(self, bench):
        bench.start(sequence="connection")
        bench.take(bar(0, 2.0, sequence=2), bar(1, 3.0, sequence=9))
        assert bench.rows() == [(0, 2.0, DOUBTFUL)]


def test_a_bar_that_the_clock_closes_after_a_break_is_unconfirmed(bench):
    """A message of another stream shows the break."""
    bench.start(sequence="connection")
    bench.take(bar(0, 1.0, sequence=1), bar(0, key=OTHER, sequence=3))
    bench.wait(70)
    assert bench.rows() == [(0, 1.0, CLOSED_BY_CLOCK | UNCONFIRMED)]
    assert bench.rows(OTHER) == [(0, 100.0, CLOSED_BY_CLOCK)]


class TestLostConnection:
    def test_it_doubts_a_row_that_the_clock_ended_after_its_last_message(self, bench):
        bench.start()
        bench.take(bar(0, 1.0))
        bench.wait(63)
        bench.intake.connection_lost(1, [KEY, OTHER])
        assert bench.rows() == [(0, 1.0, CLOSED_BY_CLOCK | UNCONFIRMED)]
        bench.intake.connection_lost(1, [KEY, OTHER])
        assert bench.feed.ring(*KEY).count == 1

    def test_it_doubts_no_row_that_was_ended_while_messages_came(self, bench):
        bench.start()
        bench.take(bar(0, 1.0))
        bench.wait(63)
        bench.wait(1)
        bench.take(bar(1, 5.0, key=OTHER))  # the connection lives
        bench.intake.connection_lost(1, [KEY, OTHER])
        assert bench.rows() == [(0, 1.0, CLOSED_BY_CLOCK)]

    def test_it_doubts_no_row_of_another_connection(self, bench):
        bench.start()
        bench.take(bar(0, 1.0))
        bench.take(bar(0, 1.0, key=OTHER), connection=2)
        bench.wait(63)
        bench.intake.connection_lost(2, [OTHER])
        assert bench.rows() == [(0, 1.0, CLOSED_BY_CLOCK)]
        assert bench.rows(OTHER) == [(0, 1.0, CLOSED_BY_CLOCK | UNCONFIRMED)]

    def test_one_of_two_lines_doubts_nothing_that_the_other_had(self, bench):
        bench.start(lines=2)
        bench.take(bar(0, 1.0), connection=1, line=0)
        bench.take(bar(0, 1.0), connection=2, line=1)
        bench.wait(63)
        bench.intake.connection_lost(1)
        assert bench.rows() == [(0, 1.0, CLOSED_BY_CLOCK)]
        bench.intake.connection_lost(2, [KEY])
        assert bench.rows() == [(0, 1.0, CLOSED_BY_CLOCK | UNCONFIRMED)]


class TestNothingNew:
    """All messages of a stream repeat what is known: it is not quiet."""

    @pytest.mark.parametrize(
        "more", [{"sequence": 3}, {"event_time": T0 - 9}, {"last_id": 5}]
    )
    def test_it_is_said_after_a_while(self, bench, more):
        bench.start(flagged=True, sequence="stream", numbers_trades=True)
        first = {"sequence": 3, "event_time": T0, "last_id": 7}
        bench.take(bar(0, 1.0, False, **first))
        for second in range(14):
            bench.take(bar(0, 2.0 + second, False, **more))
            bench.wait(1)
            why = self.stream(bench)["why"]
            assert bool(why) is (second >= 9)
        assert why == "10 messages dropped: older than the last update, or repeated"
        assert self.stream(bench)["health"] != "quiet"
        assert bench.count("duplicates") == (14,)
        bench.take(bar(0, 3.0, False, **{name: first[name] + 1 for name in more}))
        bench.wait(1)
        assert self.stream(bench)["why"] == ""

    def test_a_second_line_that_lags_is_no_state(self, bench):
        bench.start(flagged=True, lines=2)
        for second in range(20):
            bench.take(bar(0, 1.0, False, volume=2.0 + second), line=0)
            bench.take(bar(0, 1.0, False, volume=1.0 + second), line=1)
            bench.wait(1)
            assert self.stream(bench)["why"] == ""

    def stream(self, bench):
        bench.writer.set_state("connected")
        return bench.feed.status()["streams"][0]


def test_a_later_message_with_other_values_revises_a_row_of_the_clock(bench):
    bench.start()
    bench.take(bar(0, 1.0))
    bench.wait(63)
    bench.wait(1)
    bench.take(bar(0, 1.0))
    assert bench.rows() == [(0, 1.0, CLOSED_BY_CLOCK)]
    bench.take(bar(0, 2.0))
    revised = CLOSED_BY_CLOCK | UNCONFIRMED | REVISED  # a later one may follow
    assert bench.rows() == [(0, 2.0, revised)]
    assert bench.count("revisions", "bars") == (1, 1)
