"""Latencies of messages: which are counted, in which bucket, by which clock."""

import pytest
from support.feeding import STREAM, feeder, push
from support.waiting import until

import shmfeed
from shmfeed.codecs.interface import BarEvent, Heartbeat, Malformed
from shmfeed.errors import FeedLostError
from shmfeed.feeder import latency
from shmfeed.feeder.clock import VenueClock
from shmfeed.feeder.latency import FLUSH_SECONDS, LatencyMeter
from shmfeed.memory.histogram import BOUNDS, read_latencies
from shmfeed.observe.sample import sample
from shmfeed.simulator import Venue
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.writer import create

WALL = 1_700_000_040_000
MINUTE = 60_000
LATE = 0.004  # what a message takes from the venue, in these tests


def bar(event_time=0):
    values = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0}
    return BarEvent(
        *("BTCUSDT", "1m", WALL - MINUTE, WALL),
        **values,
        volume=1.0,
        closed=True,
        event_time=event_time,
    )


class Bench:
    """A meter, its writer, this host's clocks, and a venue's clock that is `off`."""

    def __init__(self, writer, monkeypatch):
        self.now, self.off = 1000.0, 0.0
        monkeypatch.setattr(latency, "boot_seconds", lambda: self.now)
        monkeypatch.setattr(latency.time, "time", lambda: self.wall)
        self.writer = writer
        self.clock = VenueClock(WALL, self.now)
        self.meter = LatencyMeter(writer, self.clock)

    @property
    def wall(self):
        return WALL / 1000 + self.now - 1000.0

    def take(self, *events, late=LATE, publish=0.0, clocked=True):
        """Let a batch come whose first event is that old, and publish it."""
        read_at = self.now
        if not events:
            event_time = round((self.wall + self.off - late) * 1000)
            if clocked:
                self.clock.observe(event_time, self.now)
            events = (bar(event_time),)
        self.now += publish
        self.meter.observe(events, read_at)

    def read(self):
        self.now += FLUSH_SECONDS
        self.meter.tick(self.now)
        return read_latencies(self.writer._words)


@pytest.fixture
def bench(feed_name, monkeypatch):
    with create(feed_name, history=5) as writer:
        yield Bench(writer, monkeypatch)


def bucket_of(histogram):
    """Return the bounds of the one bucket that has an observation."""
    [number] = [n for n, count in enumerate(histogram.buckets) if count]
    return (0.0, *BOUNDS)[number], (*BOUNDS, float("inf"))[number]


def test_one_observation_a_batch_is_that_of_its_first_message(bench):
    first = round((bench.wall - 0.250) * 1000)
    bench.take(bar(first), *[bar(first + 200)] * 40, publish=0.004)
    venue, publish = bench.read()
    assert (venue.number, publish.number) == (1, 1)
    assert venue.seconds == pytest.approx(0.25, abs=1e-3)
    assert publish.seconds == pytest.approx(0.004, abs=1e-6)
    assert bucket_of(venue) == (0.2, 0.3)
    assert bucket_of(publish) == (0.003, 0.005)


@pytest.mark.parametrize("exact", [0.001, 0.5, 50.0, 100.0])
def test_a_bound_belongs_to_its_bucket(bench, exact):
    bench.now = 0.0  # no rounding below
    bench.meter.observe([bar()], 1e-300)
    bench.now = exact
    bench.meter.observe([bar()], 1e-300)
    buckets = bench.read().publish.buckets
    assert buckets[BOUNDS.index(exact)] == 1


@pytest.mark.parametrize(
    ("events", "venue", "publish"),
    [
        ([Heartbeat()], 0, 0),
        ([Malformed("x"), Heartbeat()], 0, 0),
        ([Heartbeat(), bar(WALL)], 1, 1),
        ([bar(0), bar(WALL)], 0, 1),  # the first one has no event time
        ([bar(1), bar(WALL)], 0, 1),  # an absurd one, of 1970
    ],
)
def test_batches_that_are_not_counted(bench, events, venue, publish):
    bench.take(*events)
    assert [one.number for one in bench.read()] == [venue, publish]


def test_a_batch_without_a_time_of_reading_is_not_counted(bench):
    bench.meter.observe([bar(WALL)], 0.0)
    assert [one.number for one in bench.read()] == [0, 0]


def test_observations_are_stored_together_and_once(bench):
    bench.meter.tick(bench.now)
    for _ in range(3):
        bench.take()
    bench.meter.tick(bench.now)
    assert read_latencies(bench.writer._words).venue.number == 0
    assert bench.read().venue.number == 3
    assert bench.read().venue.number == 3
    bench.take()
    assert bench.read().venue.number == 4


class TestTheVenuesClock:
    def test_that_agrees_leaves_a_steady_delay_as_it_is(self, bench):
        """An estimate of the clock from the fastest message would make it 0."""
        for _ in range(5):
            bench.take(late=1.5)
            venue = bench.read().venue
        assert venue.seconds == pytest.approx(7.5, abs=0.01)
        assert bucket_of(venue) == (1.0, 2.0)

    @pytest.mark.parametrize("off", [0.3, 20.0, 3600.0, 86_400.0, -3600.0, -86_400.0])
    def test_that_is_off_is_corrected(self, bench, off):
        bench.off = off
        for _ in range(10):
            bench.take(late=LATE)
            bench.read()
        before = bench.read().venue
        for _ in range(10):
            bench.take(late=LATE + 0.040)
        venue = bench.read().venue
        assert venue.number - before.number == 10
        assert (venue.seconds - before.seconds) / 10 == pytest.approx(0.04, abs=0.003)
        assert before.seconds < 0.1  # none of the first ones took the offset for delay

    def test_without_the_correction_it_would_be_seen(self, bench, monkeypatch):
        """Control of the test above."""
        monkeypatch.setattr(latency, "TOLERANCE_MS", 10**9)
        bench.off = -3600.0
        with pytest.raises(AssertionError):
            self.test_that_is_off_is_corrected.__func__(self, bench, -3600.0)

    def test_that_leaps_is_not_measured_until_that_is_decided(self, bench):
        for _ in range(3):
            bench.take()
        assert bench.read().venue.number == 3
        bench.off = 86_400.0
        bench.take()
        assert bench.clock.is_doubtful
        assert bench.read().venue.number == 3
        for _ in range(3):
            bench.take()
        assert not bench.clock.is_doubtful
        assert bench.read().venue.number >= 5
        assert bench.read().venue.seconds < 0.1

    def test_a_delay_is_never_negative(self, bench):
        bench.take()
        bench.off = 2.0  # within what may come between two comparisons
        bench.take(clocked=False)
        venue = bench.read().venue
        assert venue.number == 2
        assert venue.seconds == pytest.approx(LATE, abs=1e-3)

    def test_a_step_of_this_hosts_clock_is_no_delay(self, bench, monkeypatch):
        monkeypatch.setattr(
            latency.time, "time", lambda: WALL / 1000 + bench.now - 1000 - 30.0
        )
        bench.off = -30.0  # the event times are right, by the clock that was set
        for _ in range(4):
            bench.take()
        assert bench.read().venue.seconds < 0.1


def test_a_lost_feed_is_noticed(bench):
    bench.take()
    bench.writer.close()
    with pytest.raises(FeedLostError):
        bench.read()


def test_a_feeder_counts_what_it_receives(feed_name):
    with (
        Venue(speed=None, symbols=["BTCUSDT"]) as venue,
        feeder(feed_name, venue),
        shmfeed.attach(feed_name) as feed,
    ):
        venue.wait_subscribed()
        ring = feed.ring(*STREAM)
        for number in range(5):
            push(venue, number)
            assert ring.wait(number, timeout=60)
        until(lambda: latencies(feed_name).publish.number == 5)
        publish = latencies(feed_name).publish
        assert 0 < publish.seconds < 60
        assert sum(publish.buckets) == 5


def test_a_feeder_measures_the_venues_event_times(feed_name):
    begun = boot_seconds()
    symbols = ["BTCUSDT"]
    given = {"symbols": symbols, "resolutions": ["1s"], "protocol": "binance"}
    with (
        Venue(protocol="binance", symbols=symbols) as venue,
        feeder(feed_name, venue, market_type="spot", backfill="off", **given),
    ):
        until(lambda: (found := latencies(feed_name)) and found.venue.number > 2)
        found = latencies(feed_name).venue
        assert 0 <= found.seconds < found.number * (boot_seconds() - begun + 1)


def latencies(name):
    return sample([name])[0].latencies
