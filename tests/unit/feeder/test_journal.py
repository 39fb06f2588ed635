"""The journal: each event of a session is a line that says what follows, no storm."""

import logging

import pytest

from shmfeed.codecs.interface import Heartbeat
from shmfeed.feeder.journal import BURST, LINE_EVERY, TOLD_STALL, Journal, LineLimit
from shmfeed.feeder.logs import FACTS
from shmfeed.wire.events import (
    ChangeRefused,
    Connected,
    ConnectionLost,
    NextAttempt,
    Received,
    SessionStatus,
    StatusChanged,
    StreamsRefused,
    Subscribed,
)

URL = "wss://venue.example/stream?..."
UP = SessionStatus("connected", "streaming", URL)
LOST = UP._replace(
    state="reconnecting", last_error=f"lost {URL}: reset", error_kind="connection"
)
LOSS = ConnectionLost(True, False, reason="reset", endpoint=URL)
FAILED = LOST._replace(attempts=1, last_error=f"could not connect to {URL}: refused")


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(caplog, clock):
    """Return a function that returns the lines of a batch of events."""
    journal = Journal("spot", clock=clock)
    caplog.set_level(logging.INFO)

    def take(*events):
        caplog.clear()
        for event in events:
            journal.take(event)
        if journal.is_pending:
            journal.flush()
        assert not journal.is_pending
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    return take


def test_from_the_start_to_a_connection(lines) -> None:
    connecting = SessionStatus("connecting", "connecting", URL)
    assert lines(
        StatusChanged(SessionStatus(), connecting),
        StatusChanged(connecting, connecting._replace(phase="subscribing")),
        StatusChanged(connecting, UP),
        Connected(False, endpoint=URL),
        Subscribed((("A", "1m"),)),
        Received([Heartbeat()]),
    ) == [
        ("INFO", f"feed spot: connected to {URL}"),
    ]


def test_a_loss_and_a_recovery(lines, clock) -> None:
    lines(StatusChanged(SessionStatus(), UP))
    assert lines(StatusChanged(UP, LOST), LOSS) == [
        ("WARNING", f"feed spot: lost {URL}: reset; next attempt at once")
    ]
    clock.now += 3.25
    assert lines(StatusChanged(LOST, UP), Connected(True, endpoint=URL)) == [
        ("INFO", f"feed spot: connected again to {URL}, after 3.2 s")
    ]


def test_losses_of_two_connections(lines, clock) -> None:
    """Each is a line, though the words are the same; so is each recovery."""
    other = LOSS._replace(connection=2)
    line = f"feed spot: lost {URL}: reset; next attempt in"
    assert lines(
        LOSS,
        NextAttempt(0.5, f"lost {URL}: reset", URL),
        other,
        NextAttempt(0.75, f"lost {URL}: reset", URL),
    ) == [("WARNING", f"{line} 0.5 s"), ("WARNING", f"{line} 0.8 s")]
    clock.now += 1
    again = Connected(True, endpoint=URL)
    told = lines(again)
    clock.now += 1
    told += lines(again)
    words = f"feed spot: connected again to {URL}, after"
    assert told == [("INFO", f"{words} 1.0 s"), ("INFO", f"{words} 2.0 s")]


def test_a_loss_says_how_many_streams_it_touches_if_not_all(lines) -> None:
    streams = tuple((f"S{number}", "1m") for number in range(6))
    line = f"feed spot: lost {URL}: reset"
    told = lines(
        Subscribed(streams, ends_change=False),
        LOSS._replace(uncovered=streams[:2]),
        LOSS,  # of one line; the other goes on
        LOSS._replace(uncovered=streams),
    )
    assert [text for _, text in told] == [
        f"{line}; 2 of 6 streams away; next attempt at once",
        f"{line}; 0 of 6 streams away; next attempt at once",
        f"{line}; next attempt at once",
    ]


def test_a_failed_attempt_says_when_the_next_one_is(lines, caplog) -> None:
    next_one = NextAttempt(1.25, FAILED.last_error, URL)
    assert lines(StatusChanged(LOST, FAILED), next_one) == [
        (
            "WARNING",
            f"feed spot: could not connect to {URL}: refused; next attempt in 1.2 s",
        )
    ]
    assert getattr(caplog.records[0], FACTS) == {
        "event": "attempt",
        "omitted": 0,
        "endpoint": URL,
        "next_attempt_in": 1.25,
    }
    assert lines(NextAttempt(30.0, "the dials are used up", URL)) == [
        (
            "WARNING",
            f"feed spot: {URL}: the dials are used up; next attempt in 30.0 s",
        )
    ]


def test_error_is_an_error(lines) -> None:
    failed = FAILED._replace(state="error", attempts=3)
    line = f"feed spot: {failed.last_error}; the state is error"
    next_one = NextAttempt(4.0, failed.last_error, URL)
    assert lines(StatusChanged(FAILED, failed), next_one) == [
        ("ERROR", f"{line}; next attempt in 4.0 s")
    ]
    assert lines(StatusChanged(failed, failed._replace(attempts=4))) == []
    # With give_up there is no next attempt.
    assert lines(StatusChanged(FAILED, failed)) == [("ERROR", line)]


def test_a_planned_change_of_connection_is_no_loss(lines) -> None:
    lines(StatusChanged(SessionStatus(), UP))
    assert lines(
        Connected(True, 2, True, URL), ConnectionLost(True, False, is_planned=True)
    ) == [
        ("INFO", f"feed spot: connected to {URL}, in place of an older connection"),
    ]


def test_refusals_and_changes(lines) -> None:
    streams = tuple((f"S{number}", "1m") for number in range(10))
    names = "S0 1m, S1 1m, S2 1m, S3 1m, S4 1m, S5 1m, S6 1m, S7 1m and 2 more"
    assert lines(
        StreamsRefused(streams, "unknown symbol"),
        StreamsRefused(streams[:1], "delisted"),
        ChangeRefused("too many"),
        Subscribed(streams, ends_change=True),
    ) == [
        (
            "WARNING",
            f"feed spot: the venue refused {names}, which are left out: unknown symbol",
        ),
        (
            "WARNING",
            "feed spot: the venue refused S0 1m, which are left out: delisted",
        ),
        (
            "WARNING",
            "feed spot: a change is refused, and the old streams stay: too many",
        ),
        ("INFO", "feed spot: the subscription has changed, 10 streams now"),
    ]


def test_a_flapping_feed_is_no_storm(lines, clock) -> None:
    """Twenty losses a second for an hour, each with its recovery and its attempt."""
    told = []
    for _ in range(20 * 3600):
        told += lines(
            StatusChanged(UP, LOST),
            LOSS,
            StatusChanged(LOST, UP),
            Connected(True, endpoint=URL),
        )
        clock.now += 0.05
    most = 2 * (BURST + 3600 / LINE_EVERY + 1)
    assert BURST < len(told) <= most
    assert told[-1][1].endswith(" such lines were left out before)")
    # Control: one loss a minute is told each time.
    for _ in range(100):
        clock.now += 60
        assert len(lines(StatusChanged(UP, LOST), LOSS)) == 1


def test_the_lines_that_are_left_out_are_counted() -> None:
    limit = LineLimit()
    assert [limit.admit(9.0) for _ in range(BURST + 3)] == [0] * BURST + [None] * 3
    assert limit.admit(9.0 + LINE_EVERY) == 3
    assert limit.admit(9.0 + LINE_EVERY) is None


def test_a_feeder_that_stood_still_says_so_once_it_goes_on(caplog, clock) -> None:
    journal = Journal("spot", clock=clock)
    journal.stalled(TOLD_STALL - 0.1)  # a busy host
    assert caplog.messages == []
    journal.stalled(12.04)
    (line,) = caplog.messages
    assert line.startswith(
        "feed spot: the feeder stood still for 12.0 s: it was stopped"
    )
