"""Bars from the future, and wrong clocks, through the intake into a real segment."""

import logging
import math

import pytest

import shmfeed
from shmfeed.bar import duration
from shmfeed.codecs.interface import BarEvent, Refused
from shmfeed.feeder import clock as venue_clock
from shmfeed.feeder import intake, stream
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.throttled import MOST_TEXTS
from shmfeed.writer import create

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
T0 = 1_700_000_040_000 // MINUTE * MINUTE
KEY = ("BTCUSDT", "1m")
OTHER = ("ETHUSDT", "1m")
FUTURES = [2 * MINUTE, 10 * MINUTE, DAY, 400 * DAY, 70 * 365 * DAY]


def bar(minute, price=100.0, closed=True, key=KEY, event_time=0, **more):
    opened = T0 + minute * MINUTE
    length = duration(key[1])
    return BarEvent(
        *key,
        opened,
        opened + length,
        **({"open": price, "high": price, "low": price, "close": price} | more),
        volume=1.0,
        closed=closed,
        event_time=event_time,
    )


class Bench:
    """An intake, with a host's clock and a venue's clock of the test's own."""

    def __init__(self, name, monkeypatch, flagged=False, keys=(KEY, OTHER)):
        self.name, self.flagged, self.keys = name, flagged, list(keys)
        self.now = 1000.0
        self.wall = T0  # this host's clock at the moment 1000.0
        monkeypatch.setattr(intake, "boot_seconds", lambda: self.now)
        monkeypatch.setattr(
            intake.time,
            "time_ns",
            lambda: int((self.wall + (self.now - 1000.0) * 1000) * 1e6),
        )
        monkeypatch.setattr(intake.time, "monotonic", lambda: self.now)
        self.writer = self.intake = self.feed = None

    def start(self):
        if self.writer is not None:
            self.feed.close()
            self.writer.close()
        self.writer = create(self.name, history=50, max_streams=8)
        self.intake = Intake(self.writer, 2.0, self.flagged)
        self.intake.set_streams(self.keys)
        self.intake.connected()
        self.feed = shmfeed.attach(self.name)
        return self

    def take(self, *events, seconds=0.0):
        self.now += seconds
        self.intake.take(events)

    def wait(self, seconds):
        self.now += seconds
        self.intake.tick()

    def minutes(self, key=KEY):
        opens = self.feed.ring(*key).snapshot(50).open_time.tolist()
        return [(opened - T0) // MINUTE for opened in opens]

    def forming(self, key=KEY):
        found = self.feed.ring(*key).forming()
        return None if found is None else (found.open_time - T0) // MINUTE

    def count(self, name):
        return self.feed.status()[name]

    def close(self):
        self.feed.close()
        self.writer.close(unlink=True)


@pytest.fixture(params=[False, True], ids=["plain", "flagged"])
def bench(feed_name, monkeypatch, request):
    made = Bench(feed_name, monkeypatch, request.param)
    yield made.start()
    made.close()


def know(bench, how):
    """Let the venue say its time, which is this host's."""
    if how == "date":
        bench.intake.venue_time(bench.wall + int((bench.now - 1000) * 1000), bench.now)
    elif how == "events":
        bench.take(bar(-2, event_time=T0 + int((bench.now - 1000) * 1000)))
    else:
        bench.take(bar(-2))


@pytest.mark.parametrize("how", ["date", "events", "nothing"])
@pytest.mark.parametrize("ahead", FUTURES)
@pytest.mark.parametrize("closed", [True, False])
def test_one_bar_from_the_future_silences_no_stream(bench, how, ahead, closed, caplog):
    know(bench, how)
    bench.take(bar(-1))
    event_time = T0 + 10 if how == "events" else 0
    lost = bar(ahead // MINUTE, closed=closed, event_time=event_time)
    with caplog.at_level(logging.WARNING):
        bench.take(lost)
        bench.take(bar(0), bar(1, closed=False), seconds=60)
        bench.wait(3)
    assert bench.minutes()[-2:] == [-1, 0]
    assert bench.forming() == 1
    assert bench.count("malformed") == 1
    assert "begins too far ahead of the venue's clock" in caplog.text
    assert "ahead" in bench.intake.last_error
    assert "ahead" in bench.intake.clock_error


def test_the_time_of_a_future_bar_does_not_move_the_clock(bench):
    """Its event time is as absurd as its start, and both come again and again."""
    know(bench, "events")
    for minute in range(10):
        now = T0 + minute * MINUTE
        absurd = T0 + 400 * DAY
        bench.take(bar(400 * 24 * 60, closed=False, event_time=absurd + 1))
        bench.take(bar(minute - 1, event_time=now + 1), seconds=60)
    assert bench.minutes()[-9:] == list(range(9))
    assert bench.count("malformed") == 10


def test_the_first_bar_of_all_may_be_the_wrong_one(bench):
    bench.take(bar(1440))
    bench.wait(2.5)  # nothing contradicts it
    assert bench.minutes() == [1440]
    bench.take(bar(0, closed=False), seconds=1)
    assert bench.minutes() == []
    assert bench.forming() == 0
    bench.take(bar(0), bar(1, closed=False), seconds=60)
    assert bench.minutes() == [0]


@pytest.mark.parametrize("how", ["date", "events", "nothing"])
@pytest.mark.parametrize("behind", [2 * MINUTE, DAY, 400 * DAY, -DAY])
def test_a_wrong_host_clock_loses_no_bar_and_is_said(bench, how, behind, caplog):
    """The host starts `behind` the venue, before its time service has set it."""
    if how == "nothing" and behind < 0:
        pytest.skip("then nothing tells, and nothing is lost")
    bench.wall = T0 - behind
    bench.start()
    if how == "date":
        bench.intake.venue_time(T0, bench.now)
    with caplog.at_level(logging.WARNING):
        for minute in range(8):
            for second in (1, 30, 59):
                venue = T0 + minute * MINUTE + second * 1000
                event_time = venue if how == "events" else 0
                bench.now = 1000.0 + minute * 60 + second
                bench.take(bar(minute, closed=False, event_time=event_time))
                bench.intake.tick()
            bench.take(bar(minute, 101.0, event_time=event_time and event_time + 900))
    assert bench.minutes() == list(range(8))
    assert bench.count("malformed") == bench.count("gaps") == 0
    assert "this host's clock is" in caplog.text
    known = bench.intake.clock.offset
    if how != "nothing":
        assert known == pytest.approx(behind, abs=1500)
    else:
        assert behind - 2 * MINUTE <= known <= behind


def test_a_host_clock_that_was_set_meanwhile_is_read_again(bench):
    bench.wall = T0 - DAY
    bench.start()
    bench.take(bar(-1440, closed=False))
    bench.wall = T0  # by a time service
    bench.take(bar(-1), bar(0, closed=False), seconds=1)
    bench.wait(3)  # for the bars in between
    assert bench.minutes() == [-1440, -1]
    assert bench.forming() == 0
    assert bench.count("malformed") == 0
    assert bench.intake.clock.source == "host"


def test_bars_that_only_close_are_taken_too(bench):
    bench.wall = T0 - DAY
    bench.start()
    for minute in range(5):
        bench.take(bar(minute), seconds=60)
        bench.wait(2.5)
        assert bench.minutes() == list(range(minute + 1))


def test_a_suspended_host_loses_no_bar(bench):
    """CLOCK_BOOTTIME counts through it."""
    know(bench, "events")
    bench.take(bar(-1, event_time=T0))
    bench.take(bar(9 * 60, event_time=T0 + 9 * 60 * MINUTE + 9), seconds=9 * 3600 + 1)
    bench.wait(3)
    assert bench.minutes()[-1] == 9 * 60
    assert bench.count("malformed") == 0


def left_behind(bench, minutes, forming=None):
    """Write rows as an earlier feeder did."""
    for minute in minutes:
        bench.intake._streams[KEY].ring.append(T0 + minute * MINUTE, *[1.0] * 5)
    if forming is not None:
        ring = bench.intake._streams[KEY].ring
        ring.update_forming(T0 + forming * MINUTE, *[1.0] * 5)
    bench.start()


@pytest.mark.parametrize("how", ["date", "events"])
@pytest.mark.parametrize(
    ("minutes", "forming", "kept"),
    [
        ([-3, -2, 1440, 1441], None, [-3, -2]),
        ([-3, 5000], 5001, [-3]),
        ([1440], None, []),
        ([], 1440, []),
        ([-3, -2], -1, [-3, -2]),
    ],
)
def test_rows_from_the_future_are_cut_off_once_the_time_is_known(
    bench, how, minutes, forming, kept, caplog
):
    left_behind(bench, minutes, forming)
    bench.wait(1)
    assert bench.minutes() == minutes  # nothing is known yet
    with caplog.at_level(logging.WARNING):
        if how == "date":
            bench.intake.venue_time(T0 + 1000, bench.now)
        else:
            bench.take(bar(-4, key=OTHER, event_time=T0 + 1000))
    assert bench.minutes() == kept
    assert bench.forming() == (forming if forming == -1 else None)
    assert ("cut off" in caplog.text) is (kept != minutes or forming not in (None, -1))
    bench.take(bar(0), bar(1, closed=False), seconds=60)
    bench.wait(3)
    assert bench.minutes() == [*kept, *([-1] if forming == -1 else []), 0]
    with shmfeed.attach(bench.name) as feed:
        assert feed.ring(*KEY).view(50).open_time.tolist()[-1] == T0


def test_they_are_cut_off_where_only_bars_tell_the_time(bench):
    left_behind(bench, [-3, 1440])
    for second in range(4):
        bench.take(bar(0, closed=False), seconds=second)
    assert bench.minutes() == [-3]
    bench.take(bar(0), seconds=57)
    assert bench.minutes() == [-3, 0] or bench.forming() == 0


def test_a_stream_added_later_is_cut_too(bench):
    left_behind(bench, [1440])
    bench.intake.set_streams([OTHER])
    know(bench, "date")
    bench.intake.set_streams([KEY, OTHER])
    assert bench.minutes() == []


def test_control_without_the_bound_the_stream_falls_silent(bench, monkeypatch):
    monkeypatch.setattr("shmfeed.feeder.ledger.LEAD_MS", 1 << 60)
    bench.start()
    know(bench, "date")
    bench.take(bar(-1), bar(1440), bar(0), bar(1))
    bench.wait(3)
    assert bench.minutes() != [-1, 0, 1]


def test_control_without_a_leap_a_wrong_host_clock_loses_bars(bench, monkeypatch):
    monkeypatch.setattr(venue_clock, "LEAP_AFTER", 1 << 60)
    monkeypatch.setattr(venue_clock, "LEAP_SECONDS", 1e9)
    bench.wall = T0 - DAY
    bench.start()
    bench.take(*[bar(minute) for minute in range(20)])
    assert bench.minutes() == []


def test_the_offset_is_published(bench):
    offsets = []
    bench.writer.set_clock_offset = offsets.append
    bench.wait(1)
    assert offsets == [None]
    bench.take(bar(-1, event_time=T0 + 1500 + 1000))
    bench.wait(1)
    assert offsets[-1] == pytest.approx(1500, abs=2)


# The account of a stream's messages


def stream_of(bench, key=KEY):
    return next(
        one
        for one in bench.feed.status()["streams"]
        if (one["symbol"], one["timeframe"]) == key
    )


def explained(bench, monkeypatch):
    said = []
    explain = bench.writer.explain
    bench.writer.explain = lambda *one: (said.append(one), explain(*one))
    return said


def test_a_stream_whose_messages_are_all_dropped_says_why(bench, monkeypatch):
    said = explained(bench, monkeypatch)
    off = [bar(minute, closed=False, open_time=0) for minute in ()]
    for _ in range(5):
        event = bar(0, closed=False)
        event.open_time += 1000
        event.close_time = 0
        off.append(event)
    bench.take(*off)
    bench.wait(1)
    ((key, reason, text),) = said
    assert (key, reason) == (KEY, "dropped")
    assert text == "5 messages dropped: off the grid of 1m"
    bench.take(bar(0, closed=False))
    bench.wait(1)
    assert said[-1] == (KEY, "", "")


def test_one_bad_message_among_good_ones_is_no_state(bench, monkeypatch):
    said = explained(bench, monkeypatch)
    bench.take(bar(0, closed=False), bar(0, math.nan, closed=False))
    bench.wait(60)
    assert said == []


def test_a_history_that_is_repeated_is_no_state(bench, monkeypatch):
    bench.take(*[bar(minute) for minute in range(-30, 0)])
    bench.start()
    said = explained(bench, monkeypatch)
    bench.take(*[bar(minute) for minute in range(-30, 0)])
    bench.wait(1)
    assert said == []
    for _ in range(3):
        bench.wait(stream.LATE_SECONDS / 2)
        bench.take(bar(-10, closed=False))
    bench.wait(1)
    assert "older than the newest closed bar" in said[-1][2]


def test_messages_are_counted_by_stream(bench):
    counted = []
    count = bench.writer.count_stream
    bench.writer.count_stream = lambda *one: (counted.append(one), count(*one))
    bench.take(bar(0, closed=False), bar(0, math.nan), bar(0, closed=False, key=OTHER))
    bench.wait(1)
    assert sorted(counted) == sorted(
        [(KEY, "messages", 2), (KEY, "dropped", 1), (OTHER, "messages", 1)]
    )
    bench.wait(1)
    assert len(counted) == 3


@pytest.mark.parametrize("spelt", ["btcusdt", "BtcUsdt"])
def test_a_symbol_in_another_case_is_the_subscribed_one(bench, spelt):
    bench.take(bar(0, closed=False, key=(spelt, "1m")))
    assert bench.forming() == 0
    assert bench.count("unsubscribed") == 0
    bench.take(bar(0, closed=False, key=("BTCUSD", "1m")), bar(0, key=(spelt, "5m")))
    assert bench.count("unsubscribed") == 2
    bench.intake.set_streams([OTHER])
    bench.take(bar(0, closed=False, key=(spelt, "1m")))
    assert bench.count("unsubscribed") == 3


def test_spellings_do_not_pile_up(bench):
    letters = list("btcusdt")
    for number in range(1 << len(letters)):
        name = "".join(
            c.upper() if number >> i & 1 else c for i, c in enumerate(letters)
        )
        bench.take(bar(0, closed=False, key=(name, "1m")))
    assert len(bench.intake._spelled.known) <= 8
    assert bench.count("unsubscribed") == 0


# A grid that the venue decides


DAYS3 = duration("3d")
THREE = ("BTCUSDT", "3d")


@pytest.mark.parametrize("phase", [0, 1, 2])
def test_the_phase_of_3d_is_the_venues(feed_name, monkeypatch, phase):
    bench = Bench(feed_name, monkeypatch, True, [THREE]).start()
    try:
        first = (T0 // DAYS3 - 5) * DAYS3 + phase * DAY

        def three(number, days=0, closed=True):
            opened = first + number * DAYS3 + days * DAY
            event = bar(0, key=THREE, closed=closed)
            event.open_time, event.close_time = opened, opened + DAYS3
            return event

        bench.intake.venue_time(T0, bench.now)
        bench.take(three(0), three(1), three(1, days=1), three(2, days=2), three(3))
        bench.wait(3)
        ring = bench.feed.ring(*THREE)
        opens = ring.snapshot(50).open_time.tolist()
        assert opens == [first, first + DAYS3, first + 3 * DAYS3]
        assert bench.count("malformed") == 2
        assert bench.count("gaps") == 1
        bench.start()  # the rows give the phase
        bench.intake.venue_time(T0, bench.now)
        bench.take(three(4, days=1), three(4))
        assert bench.count("malformed") == 3
        assert bench.feed.ring(*THREE).count == 4
    finally:
        bench.close()


def test_what_the_venue_says_of_a_symbol_explains_its_silence(bench):
    bench.take(bar(0, closed=False), Refused(None, f"no data for {OTHER[0]}"))
    assert stream_of(bench)["why"] == ""
    assert stream_of(bench, OTHER)["health"] == "waiting"
    assert stream_of(bench, OTHER)["why"].endswith(f"; no data for {OTHER[0]}")
    bench.take(bar(0, closed=False, key=OTHER))
    bench.wait(1)
    assert stream_of(bench, OTHER)["why"] == ""


def test_a_stream_that_had_bars_is_not_explained_by_an_error(bench, monkeypatch):
    said = explained(bench, monkeypatch)
    bench.take(bar(0, closed=False), bar(0, closed=False, key=OTHER))
    bench.take(Refused(None, "BTCUSDT: slow down"), Refused(None, "", OTHER[0]))
    assert said == []


def test_messages_that_are_dropped_come_before_silence(bench, monkeypatch):
    said = explained(bench, monkeypatch)
    bad = bar(0, math.nan, closed=False)
    bench.take(bad, Refused("7", "not available", KEY[0]))
    assert said == [(KEY, "muted", "not available")]
    bench.wait(1)
    assert said[-1][1] == "dropped"
    bench.take(Refused("8", "still not available", KEY[0]))
    assert len(said) == 2


def test_what_the_venue_says_is_no_error_of_a_clock(bench):
    bench.take(bar(0, closed=False), Refused(None, "slow down"))
    assert "slow down" in bench.intake.last_error
    assert bench.intake.clock_error == ""


def test_an_error_that_is_repeated_is_read_once(bench, monkeypatch):
    said = explained(bench, monkeypatch)
    for _ in range(3):
        bench.take(Refused(None, "no data", OTHER[0]))
    assert len(said) == 1
    for number in range(2 * MOST_TEXTS):  # bounded
        bench.take(Refused(None, f"error {number}"))
    assert len(bench.intake._late_refusals._searched._seen) <= MOST_TEXTS


# A host's clock behind the venue's, and nothing but bars to tell the time


HOUR = ("BTCUSDT", "1h")
HOST_BEHIND = [3 * MINUTE, DAY, 400 * DAY]


@pytest.mark.parametrize("behind", HOST_BEHIND)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 17, 45])
def test_a_history_before_the_first_bar_is_not_lost(bench, behind, length):
    bench.wall = T0 - behind
    bench.start()
    closed = None if not bench.flagged else True
    bench.take(*[bar(minute, closed=closed) for minute in range(-length, 0)])
    for _ in range(3):
        bench.take(bar(0, closed=closed and False), seconds=0.01)
    bench.wait(3)
    assert bench.minutes() == list(range(-length, 0))
    assert bench.forming() == 0
    assert bench.count("malformed") == 0


@pytest.mark.parametrize("behind", HOST_BEHIND[1:])
@pytest.mark.parametrize("minute", [1, 37, 59])
@pytest.mark.parametrize("first", [HOUR, KEY])
def test_a_longer_timeframe_does_not_hold_a_shorter_one_back(
    feed_name, monkeypatch, behind, minute, first
):
    bench = Bench(feed_name, monkeypatch, True, [KEY, HOUR])
    try:
        bench.wall = T0 - behind
        bench.start()
        hour = T0 // (60 * MINUTE) * (60 * MINUTE)
        both = [bar(0, key=HOUR, closed=False), bar(0)]
        both[0].open_time, both[0].close_time = hour, hour + 60 * MINUTE
        both[1].open_time = hour + minute * MINUTE
        both[1].close_time = both[1].open_time + MINUTE
        bench.take(*(both if first == HOUR else reversed(both)))
        for _ in range(3):
            bench.wait(2.5)
        assert bench.feed.ring(*KEY).count == 1
        assert bench.feed.ring(*HOUR).forming() is not None
        assert bench.count("malformed") == 0
    finally:
        bench.close()


@pytest.mark.parametrize("ahead", FUTURES[1:])
def test_a_bar_from_the_future_does_not_move_a_clock_that_follows_bars(bench, ahead):
    bench.wall = T0 - DAY
    bench.start()
    for minute in range(4):
        for second in (1, 20, 40):
            bench.now = 1000.0 + minute * 60 + second
            bench.take(bar(minute, closed=False))
            bench.wait(0.1)
        bench.take(bar(minute + ahead // MINUTE, closed=False))
        bench.take(bar(minute, closed=False), seconds=1)
        bench.wait(3)
        bench.take(bar(minute))
    assert bench.minutes() == [0, 1, 2, 3]
    assert bench.count("malformed") == 4
    assert bench.intake.clock.offset <= DAY


def test_three_absurd_times_between_two_samples_move_nothing(bench):
    """Event times that agree are sampled, but none is passed over in a doubt."""
    know(bench, "events")
    bench.take(bar(0, closed=False, event_time=T0), seconds=1)
    for _ in range(5):
        now = T0 + int((bench.now - 1000) * 1000)
        bench.take(bar(0, closed=False, event_time=now + DAY), seconds=0.004)
        bench.take(bar(0, closed=False, event_time=now), seconds=0.004)
    assert abs(bench.intake.clock.offset) < 1000


def test_a_history_makes_one_line_of_the_log(bench, caplog):
    bench.wall = T0 - DAY
    bench.start()
    with caplog.at_level(logging.WARNING):
        for minute in range(-40, 0):
            bench.take(bar(minute), seconds=0.01)
    assert caplog.text.count("this host's clock is") == 1


def test_a_bar_that_waits_for_the_clock_outlives_no_stream(bench):
    bench.take(bar(1440))
    bench.intake.set_streams([OTHER])
    bench.wait(3)
    assert bench.intake._ahead._kept == []
    assert KEY not in bench.feed.streams()


@pytest.mark.parametrize("how", ["date", "events", "nothing"])
@pytest.mark.parametrize("behind", [2 * MINUTE, 60 * MINUTE, DAY])
def test_event_times_behind_their_own_bars_are_no_clock(bench, how, behind):
    """The venue's stamps are wrong, and its bars are right."""
    know(bench, how)
    bench.take(bar(-1))
    for minute in range(5):
        for second in range(0, 60, 5):
            bench.now = 1000.0 + minute * 60 + second
            stamp = T0 + minute * MINUTE - behind
            bench.take(bar(minute, closed=False, event_time=stamp))
            bench.intake.tick()
        bench.take(bar(minute, event_time=stamp))
    assert bench.minutes()[-6:] == list(range(-1, 5))
    assert bench.count("malformed") == 0
    assert abs(bench.intake.clock.offset or 0) < 2000


def test_a_venue_that_sets_its_clock_back_with_its_bars_is_followed(bench):
    know(bench, "events")
    for second in range(1, 90):
        stamp = T0 - 60 * MINUTE + second * 1000
        bench.now = 1000.0 + second
        bench.take(bar(-60 + second // 60, closed=False, event_time=stamp))
    assert bench.intake.clock.offset == pytest.approx(-60 * MINUTE, abs=2000)
