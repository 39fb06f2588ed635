"""Defects of rows: when they are asked for, given up and accepted; the test's clock."""

import random
from itertools import pairwise

import pytest
from support.blocks import MINUTE, bar_rows

from shmfeed.bar import CLOSED_BY_NEXT, CLOSED_BY_VENUE, UNCONFIRMED
from shmfeed.feeder.defects import (
    AGAIN_SECONDS,
    MOST_SECONDS,
    RETRY_SECONDS,
    SPAN_BARS,
    Defect,
    StreamDefects,
    find_defects,
)
from shmfeed.memory.holes import HoleRecord

HOLE = Defect("hole", 3 * MINUTE, 5 * MINUTE, 3)
LATER = Defect("hole", 9 * MINUTE, 9 * MINUTE, 1)


def states(defects):
    return [(hole.state, hole.reason) for hole in defects.holes]


def ask(defects, now):
    request = defects.request(now)
    return None if request is None else (request.first, request.last, request.purpose)


def asked_until(defects, end, answer, step=0.5, start=0.0):
    """Return when the only defect was asked for; `answer(now)` settles each request."""
    times, now = [], start
    while now < end:
        if defects.request(now) is not None:
            times.append(now)
            answer(now)
        now += step
    return times


def test_holes_and_runs_of_unconfirmed_rows_are_found():
    doubtful = CLOSED_BY_NEXT | UNCONFIRMED
    flags = [1, doubtful, doubtful, 1, 1, doubtful]
    assert find_defects(bar_rows([0, 1, 2, 6, 7, 8], flags), "1m") == [
        Defect("unconfirmed", MINUTE, 2 * MINUTE, 2),
        HOLE,
        Defect("unconfirmed", 8 * MINUTE, 8 * MINUTE, 1),
    ]
    assert find_defects(bar_rows([0, 1, 2], CLOSED_BY_VENUE), "1m") == []
    assert find_defects(bar_rows([], []), "1m") == []


def test_a_hole_that_history_lacks_is_given_up_after_two_answers():
    defects = StreamDefects("1m")
    defects.update([HOLE], 0.0)
    assert ask(defects, 0.0) == (3 * MINUTE, 5 * MINUTE, "hole")
    assert ask(defects, 1000.0) is None  # one at a time
    assert defects.answered("absent", True, 1.0) == []
    assert states(defects) == [("open", "absent")]
    assert ask(defects, 1.0 + AGAIN_SECONDS - 0.1) is None
    assert ask(defects, 1.0 + AGAIN_SECONDS) is not None
    assert defects.answered("absent", True, 11.5) == [HOLE]
    assert states(defects) == [("given_up", "absent")]


def test_a_given_up_hole_is_asked_for_ever_more_rarely_and_then_no_more():
    defects = StreamDefects("1m")
    defects.update([HOLE], 0.0)
    day = 86_400.0
    times = asked_until(
        defects, 3 * day, lambda now: defects.answered("absent", True, now)
    )
    given_up = times[1]
    assert [at - given_up for at in times[2:]] == list(RETRY_SECONDS)
    assert states(defects) == [("none_at_venue", "absent")]


def test_retries_that_are_overdue_after_a_suspend_keep_their_distances():
    defects, day = given_up(), 86_400.0
    woken = AGAIN_SECONDS + 2 * day
    times = asked_until(
        defects, 5 * day, lambda now: defects.answered("absent", True, now), start=woken
    )
    late = woken - AGAIN_SECONDS - RETRY_SECONDS[0]
    assert [at - AGAIN_SECONDS - late for at in times] == list(RETRY_SECONDS)
    assert states(defects) == [("none_at_venue", "absent")]


def test_retries_wait_where_they_are_not_wanted_now():
    defects = given_up()
    assert defects.request(5000.0, retries=False) is None
    assert ask(defects, 5000.0) == (*HOLE[1:3], "retry")
    defects.answered("absent", True, 5000.0)
    defects.retry(5001.0)  # a user asks for them
    assert defects.request(5001.0, retries=False) is not None


def test_a_source_that_is_not_the_venue_never_says_that_the_venue_has_none():
    defects = StreamDefects("1m")
    defects.update([HOLE], 0.0)
    asked_until(
        defects, 3 * 86_400.0, lambda now: defects.answered("absent", False, now)
    )
    assert states(defects) == [("given_up", "absent")]


def test_a_hole_stays_open_while_history_cannot_be_asked():
    defects = StreamDefects("1m")
    defects.update([HOLE], 0.0)
    times = asked_until(defects, 3600.0, lambda now: defects.failed("away", now))
    waits = [b - a for a, b in pairwise(times)]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert set(waits[4:]) == {MOST_SECONDS}
    assert states(defects) == [("open", "away")]


def test_a_part_of_a_hole_keeps_its_attempts():
    defects = StreamDefects("1m")
    defects.update([HOLE], 0.0)
    defects.request(0.0)
    defects.answered("absent", True, 0.0)
    defects.request(10.0)
    left = Defect("hole", 4 * MINUTE, 5 * MINUTE, 2)
    defects.update([left], 10.0)
    assert defects.answered("absent", True, 10.0) == [left]
    assert [hole[:3] for hole in defects.holes] == [(4 * MINUTE, 5 * MINUTE, 2)]


def test_a_filled_hole_is_forgotten():
    defects = StreamDefects("1m")
    defects.update([HOLE], 0.0)
    defects.request(0.0)
    defects.update([], 0.5)
    assert defects.answered("absent", True, 0.5) == []
    assert len(defects) == 0
    assert defects.next_at == float("inf")


def test_the_newest_is_asked_for_first_with_its_neighbours():
    far = Defect("hole", 0, 0, 1)
    at = SPAN_BARS * MINUTE
    near = Defect("unconfirmed", at, at + MINUTE, 2)
    newest = Defect("hole", at + 5 * MINUTE, at + 6 * MINUTE, 2)
    defects = StreamDefects("1m")
    defects.update([far, near, newest], 0.0)
    assert ask(defects, 0.0) == (at, at + 6 * MINUTE, "hole")
    defects.update([far], 1.0)
    defects.answered("absent", True, 1.0)
    assert ask(defects, 1.0) == (0, 0, "hole")


def test_unconfirmed_rows_are_asked_for_and_are_no_holes():
    defects = StreamDefects("1m")
    defects.update([Defect("unconfirmed", MINUTE, MINUTE, 1)], 0.0)
    assert ask(defects, 0.0) == (MINUTE, MINUTE, "confirm")
    assert defects.holes == []
    defects.answered("absent", True, 0.0)
    defects.request(10.0)
    assert defects.answered("absent", True, 10.0) == []


def test_without_history_open_holes_are_given_up_at_once():
    defects = StreamDefects("1m")
    defects.update([HOLE], 0.0)
    assert defects.give_up("no_source", 0.0) == [HOLE]
    assert states(defects) == [("given_up", "no_source")]
    assert ask(defects, 1e9) is None
    assert defects.give_up("no_source", 1.0) == []


def given_up():
    """Return the defects with one hole, which was given up at 10 s."""
    defects = StreamDefects("1m")
    defects.update([HOLE], 0.0)
    for now in (0.0, AGAIN_SECONDS):
        defects.request(now)
        defects.answered("absent", True, now)
    assert states(defects) == [("given_up", "absent")]
    return defects


def test_bars_that_the_venue_still_lacks_as_a_user_asks_are_none_at_venue():
    defects = given_up()
    assert defects.retry(20.0) == 1
    assert ask(defects, 20.0) == (*HOLE[1:3], "retry")
    defects.answered("absent", True, 20.0)
    assert states(defects) == [("none_at_venue", "absent")]
    assert defects.next_at == float("inf")


@pytest.mark.parametrize(
    ("reason", "is_own"), [("disbelieved", True), ("absent", False)]
)
def test_a_users_retry_that_proves_nothing_leaves_the_later_ones(reason, is_own):
    defects = given_up()
    defects.retry(20.0)
    defects.request(20.0)
    defects.answered(reason, is_own, 20.0)
    assert states(defects) == [("given_up", reason)]
    assert defects.next_at == AGAIN_SECONDS + RETRY_SECONDS[0]


def test_a_users_retry_gives_no_open_hole_up_before_its_time():
    defects = StreamDefects("1m")
    defects.update([HOLE], 0.0)
    defects.request(0.0)
    defects.answered("absent", True, 0.0)
    defects.retry(2.0)
    defects.request(2.0)
    assert defects.answered("absent", True, 2.0) == []
    assert states(defects) == [("open", "absent")]
    assert defects.next_at == AGAIN_SECONDS


def test_answers_to_a_neighbours_requests_count_for_no_retry():
    defects = given_up()
    defects.update([HOLE, LATER], 20.0)
    earlier = Defect("hole", 0, 0, 1)
    defects.update([earlier, HOLE, LATER], 20.0)
    for now in (20.0, 31.0):
        assert ask(defects, now) == (0, 9 * MINUTE, "hole")
        defects.answered("absent", True, now)
    assert defects.next_at == AGAIN_SECONDS + RETRY_SECONDS[0]


def test_given_up_holes_can_be_accepted_and_open_ones_cannot():
    defects = StreamDefects("1m")
    defects.update([HOLE], 0.0)
    assert defects.accept() == 0
    defects.give_up("absent", 0.0)
    assert defects.accept() == 1
    assert states(defects) == [("none_at_venue", "accepted")]
    assert ask(defects, 1e9) is None
    assert defects.retry(1e9) == 1  # still, a user may ask
    assert ask(defects, 1e9) is not None
    defects.answered("absent", True, 1e9)
    assert states(defects) == [("none_at_venue", "accepted")]
    assert ask(defects, 2e9) is None


def test_the_marks_of_an_earlier_feeder_count():
    marks = [
        HoleRecord(*HOLE[1:], "none_at_venue", "accepted"),
        HoleRecord(*LATER[1:], "given_up", "absent"),
    ]
    defects = StreamDefects("1m", marks)
    defects.update([HOLE, LATER], 5.0)
    assert defects.holes == marks
    assert ask(defects, 5.0) == (*LATER[1:3], "retry")


@pytest.mark.parametrize("seed", range(20))
def test_no_hole_is_lost_whatever_the_answers_are(seed):
    """Each open hole is asked for within 15 s, until it is filled or given up."""
    rng = random.Random(seed)
    holes = [Defect("hole", n * 9 * MINUTE, n * 9 * MINUTE, 1) for n in range(6)]
    defects = StreamDefects("1m")
    defects.update(holes, 0.0)
    answers = dict.fromkeys(holes, 0)
    last_asked = dict.fromkeys(holes, 0.0)
    now, asked = 0.0, None
    while now < 400.0:
        now += rng.uniform(0.05, 0.5)
        if asked is None:
            asked = defects.request(now)
            for hole in holes if asked else ():
                if asked.first <= hole.first <= asked.last:
                    last_asked[hole] = now
            continue
        covered = [h for h in holes if asked.first <= h.first <= asked.last]
        kind, asked = rng.choice(["fail", "empty", "part"]), None
        if kind == "fail":
            defects.failed("away", now)
            continue
        if kind == "part" and covered:
            holes.remove(rng.choice(covered))
        defects.update(holes, now)
        for hole in set(covered) & set(holes):
            answers[hole] += 1
        defects.answered("absent", True, now)
        for hole, mark in zip(holes, defects.holes, strict=True):
            assert mark[:2] == hole[1:3]
            assert (mark.state == "open") == (answers[hole] < 2)
            assert mark.state != "open" or now - last_asked[hole] < MOST_SECONDS + 5
    assert all(answers[hole] >= 2 for hole in holes)
