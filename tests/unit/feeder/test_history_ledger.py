"""A ledger whose newer bars wait for history, case by case and under anything."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ledger_stream import (
    FINAL,
    GIVEN_UP,
    MINUTE,
    PLAIN,
    START,
    UPDATE,
    Stream,
    event,
    row,
)

from shmfeed.bar import (
    AFTER_GAP,
    BACKFILLED,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    REVISED,
    UNCONFIRMED,
)
from shmfeed.feeder.history_ledger import HistoryLedger
from shmfeed.feeder.ledger_events import (
    HistoryAwaited,
    PastFinal,
    RecoveringChanged,
    RowProven,
    RowRevised,
)

GRACE = 5.0
FOREVER = 1e9


def stream(**options) -> Stream:
    given_options = {"repair_grace": GRACE, "kind": HistoryLedger} | options
    return Stream(**given_options)


def at(minute: int) -> int:
    return START + minute * MINUTE


class TestWaits:
    def test_a_bar_after_a_gap_waits_for_the_grace(self):
        one = stream()
        one.say(0, FINAL)
        assert one.say(2, FINAL, now=1.0) == []
        assert one.tick(now=1.0 + GRACE - 0.01) == []
        written = [("row", 2, 10.0, CLOSED_BY_VENUE | AFTER_GAP)]
        assert one.tick(now=1.0 + GRACE) == written

    @pytest.mark.parametrize("grace", [0.0, 0.5, 1.0])
    def test_a_grace_shorter_than_that_of_a_close_counts(self, grace):
        one = stream(repair_grace=grace, close_grace_ms=2000)
        one.say(0, FINAL)
        one.say(2, FINAL, now=1.0)
        one.tick(now=1.0 + grace)
        assert [(bar.open_time - START) // MINUTE for bar in one.sink.rows] == [0, 2]

    def test_without_history_messages_out_of_order_have_the_grace_of_a_close(self):
        one = stream(repair_grace=None, close_grace_ms=2000)
        one.say(0, FINAL)
        assert one.say(2, FINAL, now=1.0) == []
        assert one.tick(now=2.9) == []
        assert len(one.tick(now=3.0)) == 1

    def test_a_plain_bar_follows_the_one_before_at_once(self):
        one = stream(forming_flagged=False)
        one.say(0, PLAIN)
        assert one.say(1, PLAIN) == [
            ("row", 0, 10.0, CLOSED_BY_NEXT),
            ("forming", 1, 10.0, 0),
        ]

    def test_after_a_loss_a_plain_bar_waits_for_the_end_of_the_one_before(self):
        one = stream(forming_flagged=False)
        one.say(0, PLAIN)
        one.ledger.reconnected()
        assert one.say(1, PLAIN) == []
        assert one.tick(now=GRACE) == [
            ("row", 0, 10.0, GIVEN_UP),
            ("forming", 1, 10.0, 0),
        ]

    def test_a_message_after_the_loss_settles_it(self):
        one = stream(forming_flagged=False)
        one.say(0, PLAIN)
        one.ledger.reconnected()
        one.say(0, PLAIN, 11.0)
        assert one.say(1, PLAIN)[0] == ("row", 0, 11.0, CLOSED_BY_NEXT)

    def test_the_clock_ends_no_bar_that_history_may_end(self):
        one = stream(forming_flagged=False)
        one.say(0, PLAIN)
        one.ledger.hold(50.0)
        assert one.tick(venue=at(2), now=49.0) == []
        closed = [("row", 0, 10.0, CLOSED_BY_CLOCK)]
        assert one.tick(venue=at(2), now=50.0) == closed

    def test_an_awaited_range_is_an_event_once(self):
        one = stream()
        one.say(0, FINAL)
        one.say(1, UPDATE)
        one.say(4, FINAL)
        said = one.ledger.tick(START, 1.99)
        assert said == []
        (said,) = one.ledger.tick(START, 2.0)
        assert said == HistoryAwaited(at(1), at(2), at(3), 2)
        assert one.ledger.tick(START, 2.5) == []

    def test_a_release_waits_no_longer(self):
        one = stream()
        one.say(0, FINAL)
        one.say(2, FINAL)
        assert one.release() == [("row", 2, 10.0, CLOSED_BY_VENUE | AFTER_GAP)]
        assert one.release() == []

    def test_more_bars_than_the_limit_wait_no_longer(self):
        one = stream(repair_grace=FOREVER)
        one.say(0, FINAL)
        for minute in range(2, 70):
            one.say(minute, FINAL)
        assert [r.open_time for r in one.sink.rows][:2] == [at(0), at(2)]


class TestFirstRows:
    def test_they_wait_as_long_as_the_caller_says(self):
        one = stream()
        one.ledger.hold(10.0)
        assert one.say(5, UPDATE) == [("forming", 5, 10.0, 0)]
        assert one.say(5, FINAL, 11.0) == [("forming", 5, 11.0, 0)]
        assert one.say(6, UPDATE, 12.0) == []
        assert one.tick(now=9.9) == []
        assert one.tick(now=10.0) == [
            ("row", 5, 11.0, CLOSED_BY_VENUE),
            ("forming", 6, 12.0, 0),
        ]

    def test_history_comes_before_them(self):
        one = stream()
        one.ledger.hold(10.0)
        one.say(5, FINAL, 11.0)
        assert one.take(3, 4) == [
            ("row", 3, 20.0, BACKFILLED),
            ("row", 4, 20.0, BACKFILLED),
            ("row", 5, 11.0, CLOSED_BY_VENUE),
        ]

    def test_of_a_stream_with_rows_nothing_waits_that_follows(self):
        one = stream(last_closed=row(4))
        one.ledger.hold(10.0)
        assert one.say(5, FINAL) == [("row", 5, 10.0, CLOSED_BY_VENUE)]


class TestHistory:
    def test_it_ends_the_forming_bar(self):
        one = stream()
        one.say(0, UPDATE)
        assert one.take(0) == [("row", 0, 20.0, BACKFILLED)]
        assert one.say(0, FINAL, 20.0) == []
        assert one.counted() == {"duplicates": 1}

    def test_a_forming_bar_that_history_lacks_ends_unconfirmed(self):
        one = stream()
        one.say(0, UPDATE)
        assert one.take(1) == [
            ("row", 0, 10.0, GIVEN_UP),
            ("row", 1, 20.0, BACKFILLED),
        ]

    def test_older_bars_are_not_taken(self):
        one = stream(last_closed=row(4))
        assert one.take(3, 4) == []

    def test_a_bar_before_the_forming_one_is_a_row(self):
        one = stream(last_closed=row(4))
        one.say(6, UPDATE)
        one.tick(now=GRACE)
        assert one.take(5) == [("row", 5, 20.0, BACKFILLED)]
        assert one.say(6, FINAL) == [("row", 6, 10.0, CLOSED_BY_VENUE)]

    def test_a_final_that_waits_keeps_its_values(self):
        one = stream(last_closed=row(0))
        one.say(2, FINAL)
        assert one.take(1, 2)[1] == ("row", 2, 10.0, CLOSED_BY_VENUE)

    def test_an_update_that_waits_gives_way(self):
        one = stream(last_closed=row(0))
        one.say(2, UPDATE)
        assert one.take(1, 2)[1] == ("row", 2, 20.0, BACKFILLED)
        assert not one.ledger.is_recovering

    @pytest.mark.parametrize("minutes", [(1,), (1, 2), (2, 3)])
    def test_of_another_source_only_bars_that_the_venue_has_passed(self, minutes):
        one = stream(last_closed=row(0))
        one.say(1, UPDATE)
        assert one.take(*minutes, may_end=False) == []
        one.say(4, UPDATE)
        one.take(1, 2, 3, may_end=False)
        told = [(r.close, r.flags) for r in one.sink.rows]
        assert told == [(10.0, GIVEN_UP), (20.0, BACKFILLED), (20.0, BACKFILLED)]

    def test_of_another_source_an_update_that_waits_keeps_its_values(self):
        one = stream(last_closed=row(0))
        one.say(2, UPDATE)
        one.say(3, UPDATE)
        assert one.take(1, 2, may_end=False) == [
            ("row", 1, 20.0, BACKFILLED),
            ("forming", 2, 10.0, 0),
            ("row", 2, 10.0, GIVEN_UP),
            ("forming", 3, 10.0, 0),
        ]

    def test_its_rows_are_known_to_messages(self):
        one = stream(last_closed=row(0))
        one.take(1)
        (revised,) = one.ledger.apply(event(1, FINAL, 7.0), START, 0.0)
        assert isinstance(revised, RowRevised)
        assert revised.bar.flags == CLOSED_BY_VENUE | REVISED

    def test_no_plain_message_revises_them(self):
        one = stream(forming_flagged=False, last_closed=row(0))
        one.take(1)
        one.say(1, PLAIN, 7.0)
        assert one.counted() == {"late": 1}

    def test_rows_that_were_replaced_are_followed(self):
        one = stream(last_closed=row(0, 1.0, CLOSED_BY_VENUE))
        one.ledger.follow([row(0, 9.0, CLOSED_BY_VENUE)])
        one.say(0, FINAL, 9.0)
        assert one.counted() == {"duplicates": 1}


class TestPast:
    def test_a_final_of_a_row_that_the_ring_alone_knows(self):
        one = stream(last_closed=row(4))
        (past,) = one.ledger.apply(event(1, FINAL), START, 0.0)
        assert isinstance(past, PastFinal)
        assert past.bar == row(1, flags=CLOSED_BY_VENUE)._replace(money=past.bar.money)

    def test_a_final_with_the_same_values_proves_a_row(self):
        one = stream()
        one.say(0, UPDATE)
        one.say(1, UPDATE)
        one.tick(now=GRACE)
        assert one.sink.rows[0].flags & UNCONFIRMED
        events = one.ledger.apply(event(0, FINAL), START, GRACE)
        assert RowProven(at(0)) in events
        assert RowProven(at(0)) not in one.ledger.apply(event(0, FINAL), START, GRACE)


# Anything at all

minutes = st.integers(-1, 8)
flags = st.sampled_from((True, False, None))
prices = st.sampled_from((1.0, 2.0))
commands = st.lists(
    st.one_of(
        st.tuples(st.just("bar"), minutes, flags, prices),
        st.tuples(st.just("time"), st.sampled_from((0.5, 2.0, 5.0, 60.0))),
        st.tuples(st.just("reconnected")),
        st.tuples(st.just("hold"), st.sampled_from((1.0, 10.0))),
        st.tuples(st.just("release")),
        st.tuples(
            st.just("history"), st.sets(minutes, min_size=1, max_size=5), st.booleans()
        ),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=400)
@given(commands, st.booleans(), st.booleans())
def test_rows_stay_in_order_and_nothing_waits_for_ever(given_commands, flagged, lines):
    one = stream(forming_flagged=flagged, lines=1 + lines)
    now = 0.0
    for number, (command, *values) in enumerate(given_commands):
        venue = START + int(now * 1000)
        if command == "bar":
            minute, closed, price = values
            message = event(minute, closed, price)
            one.sink.write(one.ledger.apply(message, venue, now, number % (1 + lines)))
        elif command == "time":
            now += values[0]
            one.tick(venue=START + int(now * 1000), now=now)
        elif command == "hold":
            one.ledger.hold(now + values[0])
        elif command == "release":
            one.release(now=now)
            assert not one.ledger.is_recovering
        elif command == "history":
            before = one.sink.rows[-1].open_time if one.sink.rows else -1
            one.take(*sorted(values[0]), now=now, may_end=values[1])
            rows = {r.open_time for r in one.sink.rows}
            wanted = {at(minute) for minute in values[0] if at(minute) > before}
            assert not values[1] or wanted <= rows
        else:
            one.sink.write(one.ledger.reconnected())
        assert one.sink.is_recovering is one.ledger.is_recovering
    one.tick(venue=START, now=FOREVER)
    assert not one.ledger.is_recovering


def test_control_the_invariant_needs_the_end_of_a_recovery(monkeypatch):
    one = stream(last_closed=row(0))
    one.say(2, FINAL)
    one.sink.is_recovering = False  # as if it had not been said
    with pytest.raises(AssertionError):
        one.sink.write([RecoveringChanged(False)])
