"""The values and times that a bar can have."""

import math

import pytest
from support.ledger_stream import (
    EARLY,
    FINAL,
    MINUTE,
    PLAIN,
    START,
    UPDATE,
    Stream,
    event,
)

from shmfeed.bar import CLOSED_BY_VENUE
from shmfeed.feeder.ledger import Ledger
from shmfeed.feeder.ledger_events import RowWrite


@pytest.mark.parametrize(
    "other",
    [
        {"open": math.nan},
        {"high": math.nan},
        {"low": math.nan},
        {"close": math.nan},
        {"high": math.inf},
        {"low": -math.inf},
        {"open": math.inf, "high": math.inf},
        {"high": 9.0, "low": 11.0},
        {"open": 12.0, "high": 11.0},
        {"open": 8.0, "low": 9.0},
        {"close": 12.0, "high": 11.0},
        {"close": 8.0, "low": 9.0},
        {"volume": -1.0},
        {"volume": math.nan},
        {"volume": math.inf},
        {"open_time": START + MINUTE + 1},
        {"open_time": -MINUTE},
        {"open_time": 10**16},
        {"close_time": START + 2 * MINUTE + 1},
        {"close_time": START + 2 * MINUTE - 2},
        {"close_time": START + MINUTE},
        {"close_time": -1},
    ],
)
@pytest.mark.parametrize("closed", [UPDATE, FINAL, PLAIN])
def test_a_bad_message_is_counted_and_changes_nothing(other, closed):
    stream = Stream()
    stream.say(1, UPDATE, 5.0)
    assert stream.say(1, closed, **other) == []
    assert stream.counted() == {"malformed": 1}
    assert stream.say(1, FINAL, 6.0) == [("row", 1, 6.0, CLOSED_BY_VENUE)]


@pytest.mark.parametrize(
    "other",
    [
        {"open": -3.0, "high": -1.0, "low": -4.0, "close": -2.0},
        {"open": 0.0, "high": 0.0, "low": 0.0, "close": 0.0, "volume": 0.0},
        {"close_time": START + 2 * MINUTE},
        {"close_time": START + 2 * MINUTE - 1},
        {"close_time": 0},
    ],
)
def test_unusual_but_legal_values_are_accepted(other):
    stream = Stream()
    (write,) = stream.ledger.apply(event(1, UPDATE, **other), EARLY, 0.0)
    (again,) = stream.ledger.apply(event(1, FINAL, **other), EARLY, 0.0)
    assert write.bar.close_time == again.bar.close_time == START + 2 * MINUTE
    assert stream.counted() == {}


@pytest.mark.parametrize("money", [-1.0, math.inf, -math.inf, math.nan])
def test_money_that_makes_no_sense_is_unknown(money):
    stream = Stream()
    (write,) = stream.ledger.apply(event(1, FINAL, money=money), EARLY, 0.0)
    assert math.isnan(write.bar.money)
    (write,) = stream.ledger.apply(event(2, FINAL, money=7.0), EARLY, 0.0)
    assert write.bar.money == 7.0


def test_months_and_weeks_have_their_own_grids():
    january, february = 1_704_067_200_000, 1_706_745_600_000
    march = 1_709_251_200_000
    ledger = Ledger("1M", lead_ms=1 << 60)
    (write,) = ledger.apply(event(0, FINAL, open_time=january), EARLY, 0.0)
    assert write.bar.close_time == february
    (write,) = ledger.apply(event(0, FINAL, open_time=february), EARLY, 0.0)
    assert write == RowWrite(True, write.bar, heard=0.0)
    assert (write.bar.close_time, write.bar.flags) == (march, CLOSED_BY_VENUE)
    # That 1 January was a Monday, 1 February a Thursday.
    (write,) = Ledger("1w", lead_ms=1 << 60).apply(
        event(0, FINAL, open_time=january), EARLY, 0.0
    )
    assert write.closed
    (anomaly,) = Ledger("1w", lead_ms=1 << 60).apply(
        event(0, 0, open_time=february), EARLY, 0.0
    )
    assert anomaly.kind == "malformed"
