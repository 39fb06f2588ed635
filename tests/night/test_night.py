"""A short night, and its judges: each has a case that must fail."""

import itertools
import random

import numpy as np
import pytest
from night import verdict as judges
from night.__main__ import FEEDS, night, plans_of
from night.plan import BINANCE_ALONE, KINDS, LONGEST, Trouble, kinds, troubles
from night.player import Played, Sample
from night.report import report
from night.verdict import StreamRows, Verdict, Window

from shmfeed.bar import UNCONFIRMED
from shmfeed.simulator import expected
from shmfeed.simulator.log import most_within

SEED = 7
KEY = ("BTCUSDT", "1s")
BEGIN = 1_700_000_000_000
COUNT = 60


def test_a_short_night_has_no_failure(tmp_path):
    delays = {"reconnect_delay_base": 0.1, "reconnect_delay_max": 0.5}
    found = night(14.0, 7, tmp_path, **delays)
    assert len(found) == len(FEEDS)
    assert [failure for one in found for failure in one.failures] == []
    assert all(one.rows and one.recoveries for one in found)
    assert report(found, []).endswith("no failure, nothing left behind")


# The plan


@pytest.mark.parametrize("protocol", ["wealthai", "binance"])
def test_a_plan_follows_from_the_seed(protocol):
    def plan(seed):
        return troubles(random.Random(seed), kinds(seed, 0.5), protocol, 600)

    made = plan(1)
    assert made == plan(1)
    assert made != plan(2)
    assert {trouble.kind for trouble in made} <= set(KINDS)
    assert all(a.end < b.begin for a, b in itertools.pairwise(made))
    assert made[-1].end <= 600
    assert all(0 <= trouble.seconds <= LONGEST for trouble in made)
    if protocol == "wealthai":
        assert BINANCE_ALONE.isdisjoint(trouble.kind for trouble in made)


def test_a_whole_night_has_every_kind_of_trouble():
    plans = plans_of(7, 600)
    assert plans == plans_of(7, 600)
    found = [trouble.kind for plan in plans.values() for trouble in plan]
    assert set(found) == set(KINDS)
    assert len(found) >= 25


# The judges


def rows(*, without=(), wrong=(), doubtful=()):
    """Return the market's rows but some, and some with another close."""
    numbers = [n for n in range(COUNT) if n not in without]
    open_times = np.array([BEGIN + n * 1000 for n in numbers], np.int64)
    values = expected(SEED, *KEY, open_times)
    flags = np.zeros(len(numbers), np.int64)
    for n in wrong:
        values[3, numbers.index(n)] += 0.01
    for n in doubtful:
        flags[numbers.index(n)] = UNCONFIRMED
    return StreamRows(KEY, open_times, values, flags)


def judged(made, *spans):
    found = Verdict("feed")
    judges.judge_rows(found, SEED, made, spans, BEGIN / 1000)  # its clock begins at 0
    return found


def test_rows_of_the_market_are_good():
    found = judged(rows())
    assert (found.failures, found.rows, found.missing) == ([], COUNT, 0)


def test_a_wrong_row_is_seen_unless_it_says_so():
    assert judged(rows(wrong=[5])).failures == [
        f"BTCUSDT 1s: 1 confirmed rows are wrong: {BEGIN + 5000}"
    ]
    found = judged(rows(wrong=[5], doubtful=[5, 6]))
    assert (found.failures, found.unconfirmed, found.corrected) == ([], 2, 1)


def test_a_row_may_be_missing_in_a_trouble_alone():
    missing = rows(without=[20, 21, 22])
    found = judged(missing, Window(19.0, 24.0))
    assert (found.failures, found.missing) == ([], 3)
    found = judged(missing, Window(22.5, 24.0))
    assert len(found.failures) == 2
    assert "is missing without a trouble" in found.failures[0]
    judges.judge_gaps(found, 3)
    assert len(found.failures) == 2
    judges.judge_gaps(found, 2)
    assert found.failures[2] == "3 rows are missing, and 2 are counted"


def played(kind, begin, seconds):
    return Played(Trouble(kind, begin, seconds), begin, begin + seconds)


def samples(*away):
    """Return a sample each 0.1 s for a minute, not connected between these times."""
    return [
        Sample(n / 10, "reconnecting" if is_away else "connected", "live")
        for n in range(600)
        if (is_away := any(begin <= n / 10 < end for begin, end in away)) or True
    ]


def test_a_feed_is_well_when_it_stays_so():
    trouble = played("away", 10.0, 5.0)
    assert judges.recovered(trouble, samples((10, 20))) == 20.0
    assert judges.recovered(trouble, samples((16, 20))) == 20.0  # noticed late
    assert judges.recovered(trouble, samples((20, 25))) == 15.0
    assert judges.recovered(trouble, samples((10, 60))) is None
    assert judges.windows([trouble], samples((10, 20))) == [Window(9.0, 25.0)]
    assert judges.windows([trouble], samples((10, 60)))[0].end == float("inf")


def test_a_slow_recovery_is_seen_unless_the_next_trouble_came_first():
    def judged(*troubles_):
        found = Verdict("feed")
        judges.judge_recovery(found, troubles_, 0, [*samples((10, 60)), *later])
        return found

    later = [Sample(100.0 + n / 10, "connected", "live") for n in range(50)]
    found = judged(played("cut", 10.0, 0.0))
    assert "needed 90.0 s to recover" in found.failures[0]
    found = judged(played("cut", 10.0, 0.0), played("away", 20.0, 5.0))
    assert (found.failures, found.overtaken) == ([], 1)
    assert judges.was_connected(played("cut", 10.0, 0.0), samples((10, 20)))
    assert not judges.was_connected(played("cut", 15.0, 0.0), samples((10, 20)))


def line(time, event="loss"):
    return {"event": event, "monotonic": time, "message": "lost"}


def test_each_loss_needs_a_line_and_each_line_a_loss():
    troubles_ = [played("cut", 10.0, 0.0), played("away", 30.0, 5.0)]
    spans = judges.windows(troubles_, samples((10, 12), (30, 40)))

    def failures(*lines):
        found = Verdict("feed")
        judges.judge_losses(found, troubles_, connected, spans, lines, [])
        return found.failures

    connected = [True, True]

    assert failures(line(10.1), line(30.2), line(35, "attempt")) == []
    assert "no line tells of" in failures(line(10.1))[0]
    assert "no line tells of" in failures(line(10.1), line(30.2, "connected"))[0]
    connected[1] = False  # the feed was away when the second one began
    assert failures(line(10.1)) == []
    assert failures(line(10.1), line(30.2), line(50)) == [
        "a loss without a trouble: lost"
    ]


def test_a_killed_feeder_needs_a_line_of_its_manager():
    killed = [played("feeder killed", 10.0, 0.0)]
    spans = judges.windows(killed, samples((10, 12)))
    found = Verdict("feed")
    told = (10.5, "the feeder was killed")
    judges.judge_losses(found, killed, [True], spans, [], [told])
    assert found.failures == []
    judges.judge_losses(found, killed, [True], spans, [], [(40.0, told[1])])
    assert len(found.failures) == 1


def test_a_stream_that_is_not_live_is_seen():
    stream = {"symbol": "A", "timeframe": "1s", "health": "live", "why": ""}
    found = Verdict("feed")
    judges.judge_health(found, samples(), {"streams": [stream]})
    assert found.failures == []
    stale = stream | {"health": "stale", "why": "mute"}
    judges.judge_health(found, samples((59, 60)), {"streams": [stream, stale]})
    assert len(found.failures) == 2
    assert found.failures[1] == "A 1s ends stale: mute"


def test_a_dial_too_many_is_seen():
    found = Verdict("feed")
    judges.judge_dials(found, [float(n) for n in range(600)])
    assert (found.failures, found.dials) == ([], 60)
    judges.judge_dials(found, [*map(float, range(600)), 300.5])
    assert found.failures == ["61 dials in a minute"]
    assert most_within([], 60) == 0
