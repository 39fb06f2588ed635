"""The log of repairs: which failures of a source of history are said."""

import pytest

from shmfeed.feeder.repair_log import RepairLog
from shmfeed.history.interface import HistoryError

KEY = ("BTCUSDT", "1m")
AWAY = HistoryError("connection refused", "away")
MALFORMED = HistoryError("off the grid of 1m", "malformed")


@pytest.fixture
def log():
    return RepairLog("spot", "REST")


def test_a_failure_of_another_kind_is_said_too(log):
    log.failed(KEY, AWAY, 1.0)
    assert log.take_said() == "REST cannot be asked for history: connection refused"
    log.failed(KEY, MALFORMED, 2.0)
    assert log.take_said() == "REST cannot be asked for history: off the grid of 1m"


def test_each_kind_is_said_once_in_a_row(log, caplog):
    with caplog.at_level("INFO"):
        for second in range(100):
            log.failed(KEY, (AWAY, MALFORMED)[second % 2], float(second))
        assert len(caplog.messages) == 2
        log.answered(100.0)
    assert caplog.messages[2] == "feed spot: REST answers again, after 100.0 s"
    log.take_said()
    log.failed(KEY, AWAY, 101.0)
    assert log.take_said()


def test_a_ban_is_an_event_of_its_own_once_until_an_answer(log):
    log.failed(KEY, AWAY, 1.0)
    assert log.take_blocked() == ""
    banned = HistoryError("the venue asked to wait", "blocked", 60.0)
    log.failed(KEY, banned, 2.0)
    log.failed(KEY, banned, 3.0)
    said = "REST cannot be asked for history: the venue asked to wait"
    assert log.take_blocked() == said
    assert log.take_blocked() == ""
    log.answered(4.0)
    log.failed(KEY, banned, 5.0)
    assert log.take_blocked() == said


def test_an_answer_without_a_failure_before_says_nothing(log, caplog):
    with caplog.at_level("INFO"):
        log.answered(1.0)
    assert caplog.messages == []


def test_a_refusal_is_said_after_a_second_unless_the_symbol_is_unknown(log, caplog):
    other = ("BTCUSD", "1m")
    for key in (KEY, other, KEY):
        log.failed(key, HistoryError("Invalid symbol.", "refused"), 1.0)
    log.flush(1.5)
    assert not caplog.messages
    log.unknown([other])  # the symbol is refused elsewhere, with the nearest one
    log.flush(2.5)
    assert caplog.messages == [
        "feed spot: REST refuses history of BTCUSDT 1m: Invalid symbol."
    ]
    assert log.take_said() == "REST refuses history of BTCUSDT 1m: Invalid symbol."
    log.failed(other, HistoryError("Invalid symbol.", "refused"), 3.0)
    log.flush(9.0)
    assert len(caplog.messages) == 1
