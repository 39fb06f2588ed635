"""Events into a real segment, read back through a Feed."""

import logging
import math
import time

import pytest

import shmfeed
from shmfeed.bar import AFTER_GAP, CLOSED_BY_CLOCK, CLOSED_BY_NEXT, UNCONFIRMED
from shmfeed.codecs.interface import BarEvent, Heartbeat, Ignored, Malformed, Refused
from shmfeed.feeder import intake
from shmfeed.feeder.clock import LEAP_AFTER
from shmfeed.feeder.intake import TICK_SECONDS, Intake
from shmfeed.feeder.missing import GATHER_SECONDS, MissingBars
from shmfeed.feeder.throttled import LOG_EVERY_SECONDS
from shmfeed.layout import H_WAKE
from shmfeed.writer import create

MINUTE = 60_000
T0 = 1_700_000_040_000 // MINUTE * MINUTE
STREAM = ("BTCUSDT", "1m")
OTHER = ("ETHUSDT", "1m")


def bar(number, closed=None, price=100.0, stream=STREAM, **more):
    opened = T0 + number * MINUTE
    values = {"open": 100.0, "high": 200.0, "low": 50.0, "close": price, "volume": 1.0}
    return BarEvent(*stream, opened, opened + MINUTE, **(values | more), closed=closed)


class Bench:
    """An intake with its writer and a reader, and a clock of the test's own."""

    def __init__(self, name, monkeypatch, flagged):
        self.writer = create(name, history=50, max_streams=4)
        self.now = 1000.0
        # Without flags the clock closes bars: it begins when the first one does.
        self.wall = T0 + (60 * MINUTE if flagged else 10 - 2000)
        monkeypatch.setattr(intake, "boot_seconds", lambda: self.now)
        monkeypatch.setattr(time, "time_ns", lambda: self.wall * 1_000_000)
        self.intake = Intake(self.writer, 2.0, flagged)
        self.intake.set_streams([STREAM])
        self.intake.connected()
        self.now += 2.0  # the clock may close bars
        self.feed = shmfeed.attach(name)
        self.ring = self.feed.ring(*STREAM)

    def take(self, *events):
        self.intake.take(events)

    def wait(self, seconds):
        self.now += seconds
        self.intake.tick()

    def rows(self):
        return self.ring.snapshot(50)

    def close(self):
        self.feed.close()
        self.writer.close(unlink=True)


@pytest.fixture
def bench(feed_name, monkeypatch):
    bench = Bench(feed_name, monkeypatch, flagged=False)
    yield bench
    bench.close()


@pytest.fixture
def flagged(feed_name, monkeypatch):
    bench = Bench(feed_name, monkeypatch, flagged=True)
    yield bench
    bench.close()


def test_bars_become_rows_and_the_forming_bar(bench):
    bench.take(bar(0, closed=True, price=110.0), bar(1, closed=False, price=120.0))
    rows = bench.rows()
    assert rows.open_time.tolist() == [T0]
    assert rows["close"].tolist() == [110.0]
    assert math.isnan(rows["money"][0])
    assert bench.ring.forming().close == 120.0
    status = bench.feed.status()
    assert (status["messages"], status["bars"], status["ignored"]) == (2, 1, 0)
    assert status["last_message_age"] < 5


def test_everything_is_counted_and_costs_nothing_else(bench):
    bench.take(
        bar(0, closed=True),
        Malformed("not JSON"),
        bar(1, closed=True, close=math.nan),
        bar(1, closed=True, high=1.0),
        bar(1, closed=True, volume=-1.0),
        Ignored(),
        Refused(None, "out of the blue"),
        Heartbeat(),
        bar(0, closed=True),
        bar(1, closed=True, stream=OTHER),
        bar(1, closed=True),
    )
    assert bench.rows().open_time.tolist() == [T0, T0 + MINUTE]
    status = bench.feed.status()
    told = {name: status[name] for name in ("messages", "malformed", "ignored")}
    assert told == {"messages": 11, "malformed": 4, "ignored": 2}
    assert (status["duplicates"], status["unsubscribed"]) == (1, 1)
    assert status["gaps"] == 0


def test_heartbeats_are_not_data(bench):
    bench.take(Heartbeat())
    assert bench.feed.status()["last_message_age"] is None
    bench.take(Heartbeat(), Ignored())
    assert bench.feed.status()["last_message_age"] is not None


def test_readers_are_woken_once_a_batch_and_not_by_a_forming_bar(flagged):
    bench = flagged
    woken, header = [], bench.writer._words.ints
    wakes = header[H_WAKE]
    bench.writer.wake = lambda streams: woken.append(set(streams))
    bench.take(bar(0, closed=False))
    assert woken == []
    bench.take(*(bar(number, closed=True) for number in range(10)))
    assert woken == [{STREAM}]
    bench.take(bar(10, closed=False))
    assert len(woken) == 1
    assert header[H_WAKE] == wakes  # nor by a bar


def test_the_clock_closes_what_the_venue_does_not_flag(bench):
    bench.take(bar(0, closed=None))
    bench.wait(61.9)
    assert bench.ring.count == 0
    bench.wait(0.2)
    assert bench.rows()["flags"].tolist() == [CLOSED_BY_CLOCK]
    assert bench.ring.forming() is None


def test_event_times_correct_the_clock_before_it_is_read(bench):
    # The venue is two minutes ahead of us: the bar that this batch brings is over.
    late = bar(0, closed=None, price=150.0)
    late.event_time = bench.wall + 120_000
    bench.take(*[late] * LEAP_AFTER)
    assert bench.rows()["flags"].tolist() == [CLOSED_BY_CLOCK]
    assert bench.rows()["close"].tolist() == [150.0]


def test_where_the_venue_flags_no_clock_closes(flagged):
    flagged.take(bar(0, closed=False))
    flagged.wait(3600)
    assert flagged.ring.count == 0


def test_a_tick_works_at_most_every_tick_seconds(bench):
    bench.take(bar(0, closed=None))
    looked = []
    state = bench.intake._streams[STREAM]
    tick = state.ledger.tick
    state.ledger = type("Watched", (), {"tick": lambda _, *a: looked.append(a) or []})()
    for _ in range(100):
        bench.wait(TICK_SECONDS / 10)
    assert 9 <= len(looked) <= 11
    assert tick is not None


def test_a_bar_that_was_forming_when_the_connection_broke_is_unconfirmed(bench):
    bench.take(bar(0, closed=None), bar(1, closed=None))
    bench.intake.disconnected()
    bench.now += 120
    bench.take(bar(2, closed=None))
    flags = bench.rows()["flags"].tolist()
    assert flags == [CLOSED_BY_NEXT, CLOSED_BY_NEXT | UNCONFIRMED]


@pytest.mark.parametrize("speaks", [True, False])
def test_the_clock_waits_for_the_messages_of_a_new_connection(bench, speaks):
    """The connection breaks in the middle of a bar, and is back after its end."""
    bench.take(bar(0, closed=None, price=120.0))
    bench.intake.disconnected()
    bench.wait(300)
    assert bench.ring.count == 0
    bench.intake.connected()
    bench.wait(1.0)
    assert bench.ring.count == 0
    if speaks:  # of the past, as a venue does after a subscription
        bench.take(bar(0, closed=None, price=150.0))
    bench.wait(1.5)
    (close,) = bench.rows()["close"].tolist()
    (flags,) = bench.rows()["flags"].tolist()
    assert close == (150.0 if speaks else 120.0)
    assert flags == (CLOSED_BY_CLOCK if speaks else CLOSED_BY_CLOCK | UNCONFIRMED)


def test_missing_bars_are_waited_for_then_counted_and_logged(flagged, caplog):
    flagged.take(bar(0, closed=True), bar(3, closed=True))
    assert flagged.ring.status().health == "recovering"
    assert flagged.ring.count == 1
    with caplog.at_level(logging.WARNING):
        flagged.wait(2.5)
        flagged.wait(GATHER_SECONDS)
    assert flagged.ring.count == 2
    assert flagged.rows()["flags"].tolist()[1] & AFTER_GAP
    (stream,) = flagged.feed.status()["streams"]
    assert (stream["gaps"], flagged.feed.status()["gaps"]) == (2, 2)
    assert stream["health"] != "recovering"
    assert "2 of BTCUSDT 1m" in caplog.text


def test_the_missing_bars_of_all_streams_come_in_one_line(flagged, caplog):
    flagged.intake.set_streams([STREAM, OTHER])
    for stream, last in [(STREAM, 3), (OTHER, 4)]:
        flagged.take(bar(0, closed=True, stream=stream))
        flagged.take(bar(last, closed=True, stream=stream))
    flagged.wait(2.5)
    flagged.wait(GATHER_SECONDS)
    assert caplog.messages == ["bars are missing: 3 of ETHUSDT 1m, 2 of BTCUSDT 1m"]
    flagged.take(bar(6, closed=True))
    flagged.wait(2.5)
    flagged.wait(GATHER_SECONDS)
    assert len(caplog.messages) == 1  # one line in ten seconds ..
    flagged.wait(LOG_EVERY_SECONDS)
    assert caplog.messages[1:] == ["bars are missing: 2 of BTCUSDT 1m"]
    flagged.take(bar(8, closed=True))
    flagged.wait(2.5)
    flagged.intake.missing.log(math.inf)  # .. and none is left out at the end
    assert caplog.messages[2:] == ["bars are missing: 1 of BTCUSDT 1m"]


def test_a_line_of_missing_bars_names_a_few_streams(caplog):
    missing = MissingBars()
    for number in range(600):
        missing.add((f"S{number}", "1s"), 600 - number, 0.0)
    missing.log(GATHER_SECONDS - 0.01)
    assert not caplog.messages
    missing.log(GATHER_SECONDS)
    (line,) = caplog.messages
    assert line.startswith("bars are missing: 600 of S0 1s, 599 of S1")
    assert line.endswith("593 of S7 1s, and of 592 more streams")


def test_a_missing_bar_that_arrives_is_not_counted(flagged):
    flagged.take(bar(0, closed=True), bar(2, closed=True))
    flagged.take(bar(1, closed=True))
    flagged.wait(5)
    assert flagged.ring.count == 3
    (stream,) = flagged.feed.status()["streams"]
    assert (stream["gaps"], stream["health"]) == (0, "live")


def test_warnings_are_throttled_and_counted(bench, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            bench.take(Malformed("bad"), Refused(None, "go away"))
        assert len(caplog.records) == 2
        bench.now += LOG_EVERY_SECONDS
        bench.take(Malformed("bad"))
    assert caplog.records[-1].getMessage() == "malformed message (1001 so far): bad"
    assert "go away" in caplog.text


def test_a_malformed_bar_is_named_in_the_log(bench, caplog):
    bench.take(bar(0, closed=True), bar(1, closed=True, high=1.0))
    bench.take(bar(1, closed=True))  # nothing more to say
    (said,) = caplog.messages
    assert said.startswith(
        "malformed message (1 so far): values that no bar can have: "
    )
    assert f" BTCUSDT 1m {T0 + MINUTE} to " in said
    assert " 1 " in said.partition("volume")[2]


def test_streams_come_and_go_and_keep_what_they_have(bench):
    bench.take(bar(0, closed=True), bar(1, closed=False))
    bench.intake.set_streams([STREAM, OTHER])
    bench.take(bar(0, closed=True, stream=OTHER))
    assert bench.feed.streams() == [STREAM, OTHER]
    bench.intake.set_streams([OTHER])
    assert bench.feed.streams() == [OTHER]
    bench.take(bar(1, closed=True))
    assert bench.ring.count == 1
    assert bench.feed.status()["unsubscribed"] == 1
    bench.intake.set_streams([STREAM, OTHER])
    bench.take(bar(1, closed=True))
    assert bench.rows().open_time.tolist() == [T0, T0 + MINUTE]


def test_a_stream_dropped_while_it_held_bars_stops_recovering(
    flagged,
):
    flagged.take(bar(0, closed=True), bar(3, closed=True))
    assert flagged.ring.status().health == "recovering"
    flagged.intake.set_streams([OTHER])
    flagged.intake.set_streams([OTHER, STREAM])
    assert flagged.ring.status().health != "recovering"


def test_a_successor_continues_after_the_last_row(feed_name, bench):
    bench.take(bar(0, closed=True), bar(1, closed=False, price=120.0))
    bench.intake.set_streams([STREAM, OTHER])
    bench.writer.close()
    bench.writer = create(feed_name, history=50, max_streams=4)
    assert bench.writer.reused
    bench.intake = Intake(bench.writer, 2.0, False)
    bench.intake.set_streams([STREAM])
    assert bench.feed.streams() == [STREAM]  # the other one is wanted no more
    bench.take(bar(0, closed=True), bar(1, closed=True, price=130.0))
    assert bench.rows()["close"].tolist() == [100.0, 130.0]
    assert bench.feed.status()["duplicates"] == 1


@pytest.mark.parametrize("start", ["set_streams", "create"])
def test_a_new_stream_takes_no_entry_of_a_wanted_one(feed_name, start):
    """Both were unsubscribed, the wanted one longer ago."""
    with create(feed_name, history=4, max_streams=2) as writer:
        for key in STREAM, OTHER:
            writer.add_stream(*key).append(T0, *[1.0] * 5)
        writer.unsubscribe(*STREAM)
        writer.unsubscribe(*OTHER)
    wanted = [("NEW", "1m"), STREAM]
    streams = wanted if start == "create" else []
    with create(feed_name, history=4, max_streams=2, streams=streams) as writer:
        Intake(writer, 2.0, False).set_streams(wanted)
        with shmfeed.attach(feed_name) as feed:
            assert set(feed.streams()) == set(wanted)
            assert feed.ring(*STREAM).count == 1
        writer.close(unlink=True)
