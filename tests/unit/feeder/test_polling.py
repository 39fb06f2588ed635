"""Streams that come by REST while the socket gives nothing; the test's clock."""

from itertools import pairwise

import pytest

from shmfeed.feeder.polling import (
    EMPTY_SECONDS,
    LEAVE_SECONDS,
    LOST_SECONDS,
    MOST_EMPTY_SECONDS,
    SPEAKING_SECONDS,
    STEADY_SECONDS,
    PollEffect,
    Polling,
)
from shmfeed.feeder.row_events import DueBars

A, B = ("A", "1m"), ("B", "1m")
GRACE = 5.0
NEWS, OLD, NOTHING = PollEffect(1, True), PollEffect(1, False), PollEffect(0, False)


def due(key=A, late=GRACE, silent=60.0):
    return DueBars(key, 0, 0, late, silent)


def never(key):
    return False


def polled_once(effect, now=100.0, is_proof=True):
    polling = Polling(GRACE)
    polling.choose([due()], now)
    return polling, polling.answered(A, effect, is_proof, now)


def test_a_bar_is_asked_for_once_it_is_late():
    polling = Polling(GRACE)
    assert polling.choose([due(late=GRACE - 0.1)], 100.0) == []
    assert polling.choose([due(), due(B, late=1.0)], 100.0) == [due()]
    assert polling.choose([due()], 200.0) == []  # one request at a time


def test_rows_that_come_make_a_stream_polled_until_the_socket_gives_again():
    polling, _ = polled_once(OLD)
    assert polling.polled == {A: 100.0}
    polling.hear({A: 0.1}, never, 110.0)  # it speaks, and says nothing newer
    assert A in polling.polled
    polling.hear({}, lambda key: key == A, 113.0)
    assert polling.polled == {}


def test_history_that_has_nothing_newer_makes_a_stream_quiet():
    polling, leave = polled_once(NOTHING)
    assert not leave
    assert polling.quiet == {A}
    assert polling.polled == {}
    assert polling.choose([due()], 100.0 + EMPTY_SECONDS - 0.1) == []
    assert polling.choose([due()], 100.0 + EMPTY_SECONDS) == [due()]
    polling.hear({A: 21.0}, never, 120.0)
    polling.hear({}, never, 120.0)  # no connection
    assert polling.quiet == {A}
    polling.hear({A: 0.1}, never, 120.0)
    assert polling.quiet == set()


def asked_at(polling, seconds, speaks):
    """Answer nothing to each request; return when these were made."""
    asked = []
    for step in range(seconds * 4):
        now = 100.0 + step / 4
        if polling.choose([due()], now):
            asked.append(now)
            polling.answered(A, NOTHING, True, now)
        polling.hear({A: 0.0 if speaks else now - 40.0}, never, now + 0.1)
    return asked


def test_waits_grow_where_no_answer_has_the_bars():
    silent = [b - a for a, b in pairwise(asked_at(Polling(GRACE), 300, False))]
    assert silent[:6] == [EMPTY_SECONDS * 2.0**n for n in range(6)]
    assert max(silent) == MOST_EMPTY_SECONDS
    speaking = [b - a for a, b in pairwise(asked_at(Polling(GRACE), 300, True))]
    assert speaking[:4] == silent[:4]
    assert SPEAKING_SECONDS <= min(speaking[4:]) <= max(speaking) < 16


def test_a_bar_that_the_socket_should_have_sent_is_a_lie():
    polling, leave = polled_once(NEWS)
    assert leave
    assert polling.quiet == set()
    polling, leave = polled_once(NEWS, is_proof=False)
    assert not leave  # another market's history
    polling, leave = polled_once(OLD)
    assert not leave
    assert polling.quiet == {A}


def test_connections_are_left_ever_more_rarely():
    polling, now, left = Polling(GRACE), 100.0, []
    while now < 100.0 + 2 * STEADY_SECONDS:
        if polling.choose([due()], now) and polling.answered(A, NEWS, True, now):
            left.append(now)
        now += 5.0
    distances = [b - a for a, b in pairwise(left)]
    assert distances == [LEAVE_SECONDS * 2.0**n for n in range(len(distances))]
    assert len(distances) > 2
    later = now + STEADY_SECONDS + 1
    polling.choose([due()], later)
    assert polling.answered(A, NEWS, True, later)


def test_failures_are_tried_again_and_end_polling():
    polling, _ = polled_once(OLD)
    polling.choose([due()], 160.0)
    polling.failed(A, 160.0)
    assert polling.choose([due()], 160.5) == []
    assert polling.choose([due()], 161.0) == [due()]
    assert A in polling.polled
    polling.choose([due(late=GRACE + LOST_SECONDS + 1)], 195.0)
    assert polling.polled == {}


def test_a_dropped_stream_is_forgotten():
    polling, _ = polled_once(OLD)
    polling.drop([A])
    assert polling.polled == {}
    polling.failed(A, 1.0)
    assert not polling.answered(A, NEWS, True, 1.0)


# Comparisons: a silent stream is quiet only after one


def test_a_stream_is_compared_once_history_has_nothing_newer():
    polling = Polling(GRACE)
    assert polling.compared_at(A, 99.0) == 0.0
    polling.choose([due()], 100.0)
    assert polling.compared_at(A, 101.0) == 0.0
    polling.answered(A, NOTHING, True, 101.0)
    assert polling.compared_at(A, 101.0) == 100.0  # what came since then counts more


@pytest.mark.parametrize(
    "effect", [NEWS, PollEffect(0, True), PollEffect(0, False, is_proof=False)]
)
def test_news_and_a_history_that_proves_nothing_are_no_comparison(effect):
    polling, _ = polled_once(effect)
    assert polling.compared_at(A, 101.0) == 0.0
    assert polling.quiet == set()


def test_a_comparison_is_repeated_as_each_newer_bar_is_due():
    polling, _ = polled_once(NOTHING)
    for step in range(400):  # the waits grow
        if polling.choose([due()], 100.0 + step):
            polling.answered(A, NOTHING, True, 100.0 + step)
    newer = due()._replace(last=60_000)
    assert polling.choose([newer], 501.0) == [newer]
    polling.answered(A, NOTHING, True, 501.0)
    assert polling.choose([newer], 502.0) == []
    short = DueBars(("A", "1s"), 0, 0, GRACE, 9.0)
    assert polling.choose([short], 503.0) == [short]
    polling.answered(short.key, NOTHING, True, 503.0)
    assert polling.choose([short._replace(last=1000)], 503.5) == []


def test_a_comparison_that_fails_or_is_slow_holds_no_longer():
    polling, _ = polled_once(NOTHING)
    polling.choose([due()], 101.0)
    assert polling.compared_at(A, 101.0 + GRACE) == 100.0
    assert polling.compared_at(A, 101.1 + GRACE) == 0.0  # budget, or a slow service
    polling.failed(A, 107.0)
    assert polling.compared_at(A, 107.0) == 0.0
    newer = due()._replace(last=60_000)
    assert polling.choose([newer], 107.5) == []  # a service that is away is spared
    assert polling.choose([newer], 108.0) == [newer]
    polling.answered(A, NOTHING, True, 108.1)
    assert polling.compared_at(A, 108.1) == 108.0


def test_another_request_compares_up_to_the_next_close():
    polling = Polling(GRACE)
    polling.compared(A, 50.0, until=60.0)
    assert polling.compared_at(A, 60.0) == 50.0
    assert polling.compared_at(A, 60.1) == 0.0
    polling.compared(A, 61.0, until=120.0)
    polling.changed([A, B])  # another connection
    assert polling.compared_at(A, 62.0) == 0.0
