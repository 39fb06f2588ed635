"""The ledger's rules for the past, for flagged messages and for missing bars."""

import pytest
from support.ledger_stream import (
    FINAL,
    GIVEN_UP,
    MINUTE,
    PLAIN,
    START,
    UPDATE,
    Stream,
    row,
)

from shmfeed.bar import AFTER_GAP, CLOSED_BY_CLOCK, CLOSED_BY_VENUE
from shmfeed.feeder.closed_rows import KNOWN_ROWS
from shmfeed.feeder.held_bars import HELD_LIMIT

# The past


def test_a_row_never_reopens():
    stream = Stream()
    assert stream.say(5, FINAL) == [("row", 5, 10.0, CLOSED_BY_VENUE)]
    assert stream.say(5, UPDATE) == stream.say(5, UPDATE, 11.0) == []
    assert stream.say(4, UPDATE) == stream.say(4, PLAIN) == stream.say(4, FINAL) == []
    assert stream.counted() == {"late": 5}


def test_a_final_again_is_a_duplicate_and_with_other_values_a_revision():
    stream = Stream()
    for minute in range(3):
        stream.say(minute, FINAL, money=5.0)
    assert stream.say(1, FINAL, money=5.0) == []
    assert stream.say(2, FINAL) == []  # does not know the money: nothing differs
    assert stream.counted() == {"duplicates": 2}
    assert stream.say(1, FINAL, 11.0) == []
    assert stream.say(1, FINAL, money=6.0) == []
    assert stream.say(1, FINAL, volume=2.0) == []
    assert stream.counted() == {"duplicates": 2, "revisions": 3}


def test_values_are_known_of_the_newest_rows_only():
    stream = Stream()
    for minute in range(KNOWN_ROWS + 1):
        stream.say(minute, FINAL)
    stream.say(1, FINAL)
    assert stream.counted() == {"duplicates": 1}
    stream.say(0, FINAL, 11.0)
    assert stream.counted() == {"duplicates": 1, "late": 1}


def test_an_inherited_row_is_known():
    stream = Stream(last_closed=row(3, flags=CLOSED_BY_VENUE))
    assert stream.say(3, FINAL) == stream.say(3, FINAL, 11.0) == []
    assert stream.say(2, FINAL) == []
    assert stream.counted() == {"duplicates": 1, "revisions": 1, "late": 1}
    assert stream.say(4, FINAL) == [("row", 4, 10.0, CLOSED_BY_VENUE)]


def test_without_flags_only_the_last_row_again_is_a_duplicate():
    stream = Stream()
    for minute in range(3):
        stream.say(minute, PLAIN)
    assert stream.say(1, PLAIN) == []
    assert stream.counted() == {"duplicates": 1}
    stream.say(0, PLAIN)  # the same values, but older
    stream.say(1, PLAIN, 11.0)  # closed by the next: it was overtaken
    assert stream.counted() == {"duplicates": 1, "late": 2}


def test_without_flags_other_values_after_the_clock_are_a_revision():
    stream = Stream()
    stream.say(0, PLAIN)
    stream.tick(venue=START + MINUTE + 2000)
    stream.say(0, PLAIN)
    assert stream.counted() == {"duplicates": 1}
    stream.say(0, PLAIN, 11.0)
    assert stream.counted() == {"duplicates": 1, "revisions": 1}


# Flagged messages


def test_updates_replace_and_the_final_closes():
    stream = Stream()
    assert stream.say(0, UPDATE, 1.0) == [("forming", 0, 1.0, 0)]
    assert stream.say(0, UPDATE, 2.0) == [("forming", 0, 2.0, 0)]
    assert stream.say(0, FINAL, 3.0) == [("row", 0, 3.0, CLOSED_BY_VENUE)]
    assert stream.say(1, FINAL, 4.0) == [("row", 1, 4.0, CLOSED_BY_VENUE)]
    assert stream.say(2, UPDATE, 5.0) == [("forming", 2, 5.0, 0)]
    assert not stream.ledger.is_recovering
    assert stream.counted() == {}


def test_a_late_final_is_waited_for():
    stream = Stream()
    stream.say(0, UPDATE, 1.0)
    assert stream.say(1, UPDATE, 5.0) == stream.say(1, UPDATE, 6.0) == []
    assert stream.ledger.is_recovering
    assert stream.say(0, UPDATE, 2.0) == [("forming", 0, 2.0, 0)]
    assert stream.say(0, FINAL, 3.0, now=1.9) == [
        ("row", 0, 3.0, CLOSED_BY_VENUE),
        ("forming", 1, 6.0, 0),
    ]
    assert not stream.ledger.is_recovering
    assert stream.counted() == {}


def test_held_bars_are_released_in_order():
    stream = Stream()
    stream.say(0, UPDATE)
    for minute in (3, 1, 2):
        assert stream.say(minute, FINAL, minute) == []
    assert stream.say(4, UPDATE, 4.0) == []
    assert stream.say(0, FINAL) == [
        ("row", 0, 10.0, CLOSED_BY_VENUE),
        ("row", 1, 1.0, CLOSED_BY_VENUE),
        ("row", 2, 2.0, CLOSED_BY_VENUE),
        ("row", 3, 3.0, CLOSED_BY_VENUE),
        ("forming", 4, 4.0, 0),
    ]


@pytest.mark.parametrize("by", ["tick", "update of it", "newer"])
def test_a_missing_final_is_no_longer_awaited_after_the_grace(by):
    stream = Stream()
    stream.say(0, UPDATE, 1.0)
    stream.say(1, UPDATE, 2.0, now=5.0)
    assert stream.tick(now=6.99) == []
    if by == "tick":
        steps = stream.tick(now=7.0)
    elif by == "newer":
        steps = stream.say(1, UPDATE, 2.0, now=7.0)
    else:
        (first, *steps) = stream.say(0, UPDATE, 1.0, now=7.0)
        assert first == ("forming", 0, 1.0, 0)
    assert steps == [("row", 0, 1.0, GIVEN_UP), ("forming", 1, 2.0, 0)]
    assert not stream.ledger.is_recovering
    assert stream.say(0, FINAL, 1.5, now=7.1) == []
    assert stream.counted() == {"revisions": 1}


def test_the_clock_closes_nothing_that_is_flagged():
    stream = Stream()
    stream.say(0, UPDATE)
    assert stream.tick(venue=START + 100 * MINUTE, now=1e6) == []
    assert stream.say(0, UPDATE, venue=START + 100 * MINUTE)[0][0] == "forming"


def test_each_held_bar_has_its_own_grace():
    stream = Stream()
    stream.say(0, UPDATE, 1.0)
    stream.say(1, UPDATE, 2.0, now=0.0)
    stream.say(2, UPDATE, 3.0, now=1.5)
    assert stream.tick(now=2.0) == [("row", 0, 1.0, GIVEN_UP), ("forming", 1, 2.0, 0)]
    assert stream.ledger.is_recovering
    assert stream.tick(now=3.4) == []
    assert stream.say(1, FINAL, 2.5, now=3.4) == [
        ("row", 1, 2.5, CLOSED_BY_VENUE),
        ("forming", 2, 3.0, 0),
    ]


def test_a_held_bar_can_be_updated():
    stream = Stream()
    stream.say(0, UPDATE)
    stream.say(1, UPDATE, 1.0)
    stream.say(1, FINAL, 2.0)
    stream.say(1, FINAL, 2.0)
    assert stream.counted() == {"duplicates": 1}
    stream.say(1, UPDATE, 1.5)
    assert stream.counted() == {"duplicates": 1, "late": 1}
    stream.say(1, FINAL, 3.0)
    assert stream.counted() == {"duplicates": 1, "late": 1, "revisions": 1}
    assert stream.say(0, FINAL)[1:] == [("row", 1, 3.0, CLOSED_BY_VENUE)]


# Holes


def test_the_first_bar_has_no_missing_bar_before_it():
    stream = Stream()
    assert stream.say(7, FINAL) == [("row", 7, 10.0, CLOSED_BY_VENUE)]
    assert Stream().say(7, UPDATE) == [("forming", 7, 10.0, 0)]


@pytest.mark.parametrize("closed", [UPDATE, FINAL])
def test_a_missing_bar_is_awaited(closed):
    stream = Stream()
    stream.say(0, FINAL)
    assert stream.say(2, closed, 2.0) == []
    assert stream.ledger.is_recovering
    (first, second) = stream.say(1, FINAL, 1.0, now=1.9)
    assert first == ("row", 1, 1.0, CLOSED_BY_VENUE)
    assert second == (
        ("row", 2, 2.0, CLOSED_BY_VENUE) if closed else ("forming", 2, 2.0, 0)
    )
    assert not stream.ledger.is_recovering
    assert stream.sink.tally["gaps"] == 0


def test_a_missing_bar_is_counted_once_and_flagged_on_the_row_behind_it():
    stream = Stream()
    stream.say(0, FINAL)
    stream.say(4, UPDATE, 1.0)
    assert stream.tick(now=2.0) == [("forming", 4, 1.0, 0)]
    assert stream.sink.tally["gaps"] == 0
    assert stream.say(4, FINAL, 2.0) == [("row", 4, 2.0, CLOSED_BY_VENUE | AFTER_GAP)]
    assert stream.sink.tally["gaps"] == 3
    assert stream.say(5, FINAL) == [("row", 5, 10.0, CLOSED_BY_VENUE)]
    assert stream.say(2, FINAL) == []  # too late: rows are in order
    assert stream.counted() == {"gaps": 3, "late": 1}


def test_a_held_final_behind_a_missing_bar_is_released():
    stream = Stream()
    stream.say(0, FINAL)
    stream.say(2, FINAL)
    stream.say(3, FINAL, now=1.0)
    assert stream.tick(now=2.0) == [
        ("row", 2, 10.0, CLOSED_BY_VENUE | AFTER_GAP),
        ("row", 3, 10.0, CLOSED_BY_VENUE),
    ]
    assert stream.counted() == {"gaps": 1}


def test_an_update_of_a_missing_bar_becomes_the_forming_bar():
    stream = Stream()
    stream.say(0, FINAL)
    stream.say(2, FINAL)
    assert stream.say(1, UPDATE, 1.0, now=1.0) == [("forming", 1, 1.0, 0)]
    assert stream.ledger.is_recovering
    assert stream.tick(now=2.0) == [
        ("row", 1, 1.0, GIVEN_UP),
        ("row", 2, 10.0, CLOSED_BY_VENUE),
    ]


@pytest.mark.parametrize("closed", [FINAL, PLAIN])
def test_a_last_message_between_the_rows_and_the_forming_bar_becomes_a_row(closed):
    stream = Stream()
    stream.say(0, FINAL)
    stream.say(4, UPDATE)
    stream.tick(now=2.0)
    late = START + 2 * MINUTE + 2000
    flag = CLOSED_BY_VENUE if closed else CLOSED_BY_CLOCK
    assert stream.say(1, closed, venue=late) == [("row", 1, 10.0, flag)]
    assert stream.say(2, UPDATE, venue=late) == stream.say(2, PLAIN, venue=late) == []
    assert stream.counted() == {"late": 2}
    assert stream.say(4, FINAL) == [("row", 4, 10.0, CLOSED_BY_VENUE | AFTER_GAP)]
    assert stream.counted() == {"late": 2, "gaps": 2}


def test_a_missing_bar_and_a_missing_final_are_settled_in_order():
    stream = Stream()
    stream.say(0, UPDATE)
    stream.say(2, UPDATE, 2.0)
    assert stream.say(0, FINAL, now=1.0) == [("row", 0, 10.0, CLOSED_BY_VENUE)]
    assert stream.ledger.is_recovering
    assert stream.tick(now=2.0) == [("forming", 2, 2.0, 0)]


def test_too_many_held_bars_settle_the_oldest_missing_bar():
    stream = Stream()
    stream.say(0, FINAL)
    for minute in range(2, 2 + HELD_LIMIT):
        assert stream.say(minute, FINAL) == []
    steps = stream.say(3 + HELD_LIMIT, FINAL)
    assert len(steps) == HELD_LIMIT
    assert steps[0] == ("row", 2, 10.0, CLOSED_BY_VENUE | AFTER_GAP)
    assert stream.ledger.is_recovering  # the last one, behind its own hole
    assert stream.counted() == {"gaps": 1}
