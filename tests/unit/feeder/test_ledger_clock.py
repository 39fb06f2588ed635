"""The ledger without flags, across broken connections, and after an earlier feeder."""

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

from shmfeed.bar import (
    AFTER_GAP,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    UNCONFIRMED,
)

GRACE = 2000


def due(minute: int) -> int:
    """Return the time at which the clock closes the bar of this minute."""
    return START + (minute + 1) * MINUTE + GRACE


# Without flags


def test_the_next_bar_closes_the_former_at_once():
    stream = Stream()
    assert stream.say(0, PLAIN, 1.0) == [("forming", 0, 1.0, 0)]
    assert stream.say(0, PLAIN, 2.0) == [("forming", 0, 2.0, 0)]
    assert stream.say(1, PLAIN, 3.0) == [
        ("row", 0, 2.0, CLOSED_BY_NEXT),
        ("forming", 1, 3.0, 0),
    ]
    assert not stream.ledger.is_recovering
    assert stream.counted() == {}


def test_the_clock_closes_a_bar_that_nothing_follows():
    stream = Stream()
    stream.say(0, PLAIN, 1.0)
    assert stream.tick(venue=due(0) - 1) == []
    assert stream.tick(venue=due(0)) == [("row", 0, 1.0, CLOSED_BY_CLOCK)]
    assert stream.tick(venue=due(1)) == []
    assert stream.say(1, PLAIN, venue=due(0)) == [("forming", 1, 10.0, 0)]


def test_the_grace_is_a_setting():
    stream = Stream(close_grace_ms=0)
    stream.say(0, PLAIN)
    assert stream.tick(venue=due(0) - GRACE - 1) == []
    assert stream.tick(venue=due(0) - GRACE) == [("row", 0, 10.0, CLOSED_BY_CLOCK)]


def test_a_bar_that_arrives_after_its_time_is_closed_at_once():
    stream = Stream()
    stream.say(0, PLAIN, 1.0, venue=due(0) - 1)
    assert stream.say(0, PLAIN, 2.0, venue=due(0)) == [("row", 0, 2.0, CLOSED_BY_CLOCK)]
    for minute in range(1, 5):  # history, bar by bar
        steps = stream.say(minute, PLAIN, venue=due(9))
        assert steps == [("row", minute, 10.0, CLOSED_BY_CLOCK)]
    assert stream.counted() == {}


def test_a_bar_after_its_time_closes_the_former_too():
    stream = Stream()
    stream.say(0, PLAIN, 1.0)
    assert stream.say(1, PLAIN, venue=due(1)) == [
        ("row", 0, 1.0, CLOSED_BY_NEXT),
        ("row", 1, 10.0, CLOSED_BY_CLOCK),
    ]


def test_after_a_message_about_a_closed_bar_the_clock_waits_for_silence():
    """This host's clock is ahead, so a bar that it ends goes on at the venue."""
    stream = Stream()
    assert stream.say(0, PLAIN, 1.0, venue=due(0)) == [("row", 0, 1.0, CLOSED_BY_CLOCK)]
    assert stream.say(0, PLAIN, 2.0, venue=due(0)) == []
    assert stream.counted() == {"revisions": 1}
    for number in range(30):  # of the next bar no update is lost
        now = number * 1.9
        steps = stream.say(1, PLAIN, 1.0 + number, now=now, venue=due(1))
        assert steps == [("forming", 1, 1.0 + number, 0)]
        assert stream.tick(now=now + 1.8, venue=due(1)) == []
    assert stream.say(2, PLAIN, now=58.0, venue=due(2)) == [
        ("row", 1, 30.0, CLOSED_BY_NEXT),
        ("forming", 2, 10.0, 0),
    ]
    assert stream.tick(now=59.9, venue=due(2)) == []
    assert stream.tick(now=60.0, venue=due(2)) == [("row", 2, 10.0, CLOSED_BY_CLOCK)]
    assert stream.say(3, PLAIN, venue=due(3)) == [("row", 3, 10.0, CLOSED_BY_CLOCK)]
    assert stream.counted() == {"revisions": 1}


def test_a_missing_bar_is_not_awaited():
    stream = Stream()
    stream.say(0, PLAIN)
    assert stream.say(3, PLAIN) == [
        ("row", 0, 10.0, CLOSED_BY_NEXT),
        ("forming", 3, 10.0, 0),
    ]
    assert stream.counted() == {}
    assert stream.say(4, PLAIN)[0] == ("row", 3, 10.0, CLOSED_BY_NEXT | AFTER_GAP)
    assert stream.counted() == {"gaps": 2}


def test_an_update_older_than_the_forming_bar_is_late_unless_past_its_time():
    stream = Stream()
    stream.say(0, PLAIN)
    stream.say(3, PLAIN)
    assert stream.say(1, PLAIN, venue=due(1) - 1) == []
    assert stream.counted() == {"late": 1}
    assert stream.say(1, PLAIN, venue=due(1)) == [("row", 1, 10.0, CLOSED_BY_CLOCK)]
    assert stream.say(3, PLAIN) == [("forming", 3, 10.0, 0)]


# A broken connection


def test_without_flags_a_bar_cut_off_is_unconfirmed():
    stream = Stream()
    stream.say(0, PLAIN)
    stream.ledger.reconnected()
    assert stream.say(1, PLAIN)[0] == ("row", 0, 10.0, GIVEN_UP)
    assert stream.say(2, PLAIN)[0] == ("row", 1, 10.0, CLOSED_BY_NEXT)


def test_without_flags_an_update_confirms_it_again():
    stream = Stream()
    stream.say(0, PLAIN)
    stream.ledger.reconnected()
    stream.say(0, PLAIN)
    assert stream.say(1, PLAIN)[0] == ("row", 0, 10.0, CLOSED_BY_NEXT)


def test_the_clock_confirms_nothing_that_was_cut_off():
    stream = Stream()
    stream.say(0, PLAIN)
    stream.ledger.reconnected()
    steps = stream.tick(venue=due(0))
    assert steps == [("row", 0, 10.0, CLOSED_BY_CLOCK | UNCONFIRMED)]


def test_flagged_a_bar_cut_off_waits_for_its_final_and_is_given_up():
    stream = Stream()
    stream.say(0, UPDATE)
    stream.ledger.reconnected()
    assert stream.say(1, UPDATE) == []
    assert stream.tick(now=2.0) == [("row", 0, 10.0, GIVEN_UP), ("forming", 1, 10.0, 0)]


def test_flagged_a_final_after_the_break_is_final():
    stream = Stream()
    stream.say(0, UPDATE)
    stream.ledger.reconnected()
    assert stream.say(0, FINAL) == [("row", 0, 10.0, CLOSED_BY_VENUE)]


# A predecessor's


def test_an_inherited_forming_bar_continues():
    stream = Stream(last_closed=row(0), forming=row(1, 1.0))
    assert stream.say(1, UPDATE, 2.0) == [("forming", 1, 2.0, 0)]
    assert stream.say(1, FINAL, 3.0) == [("row", 1, 3.0, CLOSED_BY_VENUE)]
    assert stream.counted() == {}


def test_an_inherited_forming_bar_may_have_changed_unseen():
    stream = Stream(last_closed=row(0), forming=row(2, 1.0), forming_flagged=False)
    assert stream.say(3, PLAIN)[0] == ("row", 2, 1.0, GIVEN_UP | AFTER_GAP)
    assert stream.counted() == {"gaps": 1}


def test_an_inherited_forming_bar_that_is_flagged_is_held_for():
    stream = Stream(last_closed=row(0), forming=row(1, 1.0))
    assert stream.say(2, UPDATE) == []
    assert stream.say(1, FINAL, 2.0)[0] == ("row", 1, 2.0, CLOSED_BY_VENUE)


@pytest.mark.parametrize("flagged", [True, False])
def test_the_clock_closes_an_inherited_bar_only_of_a_venue_without_flags(flagged):
    stream = Stream(forming=row(1, 1.0), forming_flagged=flagged)
    closed = [("row", 1, 1.0, CLOSED_BY_CLOCK | UNCONFIRMED)]
    assert stream.tick(venue=due(1)) == ([] if flagged else closed)


def test_an_inherited_forming_bar_not_newer_than_the_rows_does_not_exist():
    stream = Stream(last_closed=row(1), forming=row(1), forming_flagged=False)
    assert stream.tick(venue=due(1)) == []
    assert stream.say(2, PLAIN) == [("forming", 2, 10.0, 0)]


# Both kinds of messages in one stream


def test_finals_alone_may_be_flagged():
    stream = Stream()
    stream.say(0, PLAIN, 1.0)
    assert stream.say(0, FINAL, 2.0) == [("row", 0, 2.0, CLOSED_BY_VENUE)]
    stream.say(1, PLAIN, 3.0)
    assert stream.say(2, FINAL) == []  # the final of 1 may be on its way
    assert stream.tick(venue=due(1)) == [
        ("row", 1, 3.0, CLOSED_BY_CLOCK),
        ("row", 2, 10.0, CLOSED_BY_VENUE),
    ]


@pytest.mark.parametrize("cut_off", [True, False])
def test_while_bars_are_held_all_newer_ones_are(cut_off):
    stream = Stream()
    stream.say(0, UPDATE)
    stream.say(1, UPDATE)
    assert stream.say(2, PLAIN) == []
    if cut_off:
        stream.ledger.reconnected()
    assert stream.tick(now=2.0) == [
        ("row", 0, 10.0, GIVEN_UP),
        ("forming", 1, 10.0, 0),
        ("row", 1, 10.0, GIVEN_UP),
        ("forming", 2, 10.0, 0),
    ]
    # The last one goes on as if it had never been held.
    flags = GIVEN_UP if cut_off else CLOSED_BY_NEXT
    assert stream.say(3, PLAIN)[0] == ("row", 2, 10.0, flags)


def test_the_last_message_about_a_held_bar_counts():
    stream = Stream()
    stream.say(0, UPDATE)
    stream.say(1, UPDATE)
    stream.ledger.reconnected()
    stream.say(1, PLAIN, 11.0)
    assert stream.tick(now=2.0)[1] == ("forming", 1, 11.0, 0)
    assert stream.say(2, PLAIN)[0] == ("row", 1, 11.0, CLOSED_BY_NEXT)


def test_a_flagged_bar_that_an_unflagged_one_closes_is_unconfirmed():
    stream = Stream()
    stream.say(0, UPDATE)
    assert stream.say(1, PLAIN)[0] == ("row", 0, 10.0, GIVEN_UP)


@pytest.mark.parametrize("has_stalled", [True, False])
def test_unread_messages_are_taken_before_the_clock_closes(has_stalled):
    """The feeder stood still: three updates of a bar that has ended lie unread."""
    stream = Stream()
    stream.say(0, PLAIN, 1.0)
    if has_stalled:
        stream.ledger.stalled(90.0)
    read = [stream.say(0, PLAIN, 2.0, now=90.0, venue=due(0))]
    read += [stream.say(0, PLAIN, 3.0, now=90.0, venue=due(0))]
    read += [stream.tick(now=90.1, venue=due(0)), stream.say(1, PLAIN, now=90.1)]
    rows = [write for writes in read for write in writes if write[0] == "row"]
    if has_stalled:
        assert rows == [("row", 0, 3.0, CLOSED_BY_NEXT)]
    else:  # control: the first of them closes the bar
        assert rows == [("row", 0, 2.0, CLOSED_BY_CLOCK)]


def test_a_bar_without_a_next_one_is_closed_by_the_clock_after_a_stall_too():
    stream = Stream()
    stream.say(0, PLAIN, 1.0)
    stream.ledger.stalled(90.0)
    assert stream.tick(now=91.9, venue=due(0)) == []
    assert stream.tick(now=92.1, venue=due(0)) == [("row", 0, 1.0, CLOSED_BY_CLOCK)]
    assert stream.say(1, PLAIN, venue=due(1)) == [("row", 1, 10.0, CLOSED_BY_CLOCK)]


def test_a_stall_changes_nothing_where_the_venue_flags():
    stream = Stream()
    stream.say(0, UPDATE, 1.0)
    stream.ledger.stalled(90.0)
    assert stream.say(0, FINAL, 2.0, now=90.0) == [("row", 0, 2.0, CLOSED_BY_VENUE)]
