"""Histories that are believed or not, by the rows that the venue ended itself."""

import math

import numpy as np
import pytest

from shmfeed.bar import (
    BACKFILLED,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    POLLED,
    UNCONFIRMED,
    Bar,
)
from shmfeed.feeder.belief import Belief
from shmfeed.memory.rows import ROW

MINUTE = 60_000
KEY, SOURCE = ("BTCUSDT", "1m"), "REST of binance spot"


def block(*prices, flags=CLOSED_BY_VENUE, first=0):
    marks = flags if isinstance(flags, tuple) else (flags,) * len(prices)
    rows = [
        Bar(n * MINUTE, (n + 1) * MINUTE, *[price] * 4, 1.0, math.nan, mark)
        for n, (price, mark) in enumerate(zip(prices, marks, strict=True), first)
    ]
    cells = [np.frombuffer(ROW.pack(*row)) for row in rows]
    return np.ascontiguousarray(np.array(cells).T) if rows else np.empty((9, 0))


def judge(rows, history, has_flags=True, belief=None):
    belief = belief or Belief("feed main")
    return belief.judge(KEY, SOURCE, rows, history, has_flags)


@pytest.mark.parametrize(
    ("ours", "theirs", "is_believed"),
    [
        ((1, 1, 1), (1, 1, 1), True),
        ((1, 1, 1), (1, 2, 1), True),
        ((1, 1, 1), (2, 2, 1), False),
        ((1, 1, 1, 1), (2, 2, 1, 1), True),  # half is not most
        ((1, 1), (2, 2), True),  # too few to tell
        ((1000, 1000, 1000), (1001, 1001, 1001), True),  # 0.1 %
        ((1000, 1000, 1000), (1002, 1002, 1002), False),
        ((), (), True),
        ((0, 0, 0), (0, 0, 0), True),
        ((-1, -1, -1), (-2, -2, -2), False),
    ],
)
def test_most_of_at_least_three_rows_decide(ours, theirs, is_believed):
    said = judge(block(*map(float, ours)), block(*map(float, theirs), flags=0))
    assert (said == "") is is_believed


def test_both_are_named_and_the_first_difference():
    said = judge(block(1.0, 1.0, 1.0, 1.0), block(1.0, 2.0, 2.0, 2.0))
    assert said == (
        "REST of binance spot disagrees with 3 of 4 closed bars of feed main, open of"
        " 1970-01-01 00:01:00 UTC is 1 here and 2 there"
    )


@pytest.mark.parametrize(
    ("flags", "has_flags", "counts"),
    [
        (CLOSED_BY_VENUE, True, True),
        (CLOSED_BY_NEXT, True, False),
        (CLOSED_BY_NEXT, False, True),
        (CLOSED_BY_CLOCK, False, True),
        (CLOSED_BY_NEXT | UNCONFIRMED, False, False),
        (CLOSED_BY_VENUE | BACKFILLED, True, False),
        (BACKFILLED, False, False),
        (POLLED, False, False),
    ],
)
def test_rows_that_the_venue_ended_count(flags, has_flags, counts):
    rows = block(1.0, 1.0, 1.0, flags=flags)
    assert bool(judge(rows, block(2.0, 2.0, 2.0), has_flags)) is counts


def test_a_venue_that_has_sent_a_flag_is_judged_by_flags():
    flags = (CLOSED_BY_VENUE, CLOSED_BY_NEXT, CLOSED_BY_NEXT, CLOSED_BY_NEXT)
    rows = block(1.0, 1.0, 1.0, 1.0, flags=flags)
    assert not judge(rows, block(2.0, 2.0, 2.0, 2.0), has_flags=False)


def test_a_verdict_stands_until_enough_rows_agree():
    belief, rows = Belief("feed main"), block(1.0, 1.0, 1.0)
    assert judge(rows, block(2.0, 2.0, 2.0), belief=belief)
    assert judge(rows, block(1.0, first=9), belief=belief)  # nothing to compare
    assert not belief.judge(("ETHUSDT", "1m"), SOURCE, rows, block(1.0), True)
    assert not belief.judge(KEY, "bars.csv", rows, block(1.0), True)
    assert not judge(rows, block(1.0, 1.0, 1.0), belief=belief)
    assert not judge(rows, block(1.0, first=9), belief=belief)


def test_a_stream_that_is_left_is_forgotten():
    belief, rows = Belief("feed main"), block(1.0, 1.0, 1.0)
    assert judge(rows, block(2.0, 2.0, 2.0), belief=belief)
    belief.forget(KEY)
    assert not judge(rows, block(1.0, first=9), belief=belief)
