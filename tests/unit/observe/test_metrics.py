"""The metrics of feeds: names, labels, values, and both formats by their parsers."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from shmfeed.health import HEALTHS
from shmfeed.identity import make_identity
from shmfeed.layout import STATES
from shmfeed.memory.histogram import BOUNDS, BUCKETS, PUBLISH, VENUE
from shmfeed.observe.exposition import PLAIN, Exposition
from shmfeed.observe.metrics import FeedCollector
from shmfeed.observe.sample import Sampler
from shmfeed.segment.mapping import place
from shmfeed.writer import FeedWriter, create

KEY, OTHER = ("BTCUSDT", "1h"), ("ETHUSDT", "1m")
HOUR = 3_600_000

# Fixed names, and the labels of each beside `feed`.
NAMES = {
    "shmfeed_feed_info": "protocol market_type venue version",
    "shmfeed_feed_up": "",
    "shmfeed_feed_state": "shmfeed_feed_state",
    "shmfeed_feed_health": "shmfeed_feed_health",
    "shmfeed_messages_total": "",
    "shmfeed_bars_total": "",
    "shmfeed_malformed_total": "",
    "shmfeed_ignored_total": "",
    "shmfeed_late_total": "",
    "shmfeed_missed_total": "",
    "shmfeed_revisions_total": "",
    "shmfeed_reconnects_total": "",
    "shmfeed_missing_bars": "",
    "shmfeed_clock_offset_seconds": "",
    "shmfeed_streams": "health",
    "shmfeed_stream_ok": "symbol timeframe",
    "shmfeed_stream_age_seconds": "symbol timeframe",
    "shmfeed_stream_bars_total": "symbol timeframe",
    "shmfeed_stream_dropped_total": "symbol timeframe",
    "shmfeed_stream_missing_bars": "symbol timeframe",
    "shmfeed_venue_latency_seconds_bucket": "le",
    "shmfeed_venue_latency_seconds_sum": "",
    "shmfeed_venue_latency_seconds_count": "",
    "shmfeed_publish_latency_seconds_bucket": "le",
    "shmfeed_publish_latency_seconds_sum": "",
    "shmfeed_publish_latency_seconds_count": "",
}
TYPES = {
    "shmfeed_feed": "info",
    "shmfeed_feed_state": "stateset",
    "shmfeed_feed_health": "stateset",
    "shmfeed_messages": "counter",
    "shmfeed_missing_bars": "gauge",
    "shmfeed_clock_offset_seconds": "gauge",
    "shmfeed_streams": "gauge",
    "shmfeed_stream_bars": "counter",
    "shmfeed_venue_latency_seconds": "histogram",
}

Labels = frozenset[tuple[str, str]]
Values = dict[tuple[str, Labels], float]


def families(text: bytes) -> dict[str, Metric]:
    parsed = openmetrics.text_string_to_metric_families(text.decode())
    return {family.name: family for family in parsed}


def values(found: Any) -> Values:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in found
        for sample in family.samples
    }


@pytest.fixture
def writer(feed_name: str) -> Iterator[FeedWriter]:
    identity = make_identity("binance", "spot", ["venue.example"])
    streams = [KEY, OTHER]
    with create(feed_name, history=20, streams=streams, identity=identity) as writer:
        yield writer


@pytest.fixture
def exposition(feed_name: str) -> Iterator[Exposition]:
    with Sampler([feed_name]) as sampler:
        yield Exposition(sampler)


class Reading:
    """One exposition, by the reference parser."""

    def __init__(self, exposition: Exposition, feed: str) -> None:
        self.families = families(exposition.text())
        self.values = values(self.families.values())
        self.feed = feed

    def __call__(self, name: str, **labels: str) -> float | None:
        wanted = frozenset({"feed": self.feed, **labels}.items())
        return self.values.get((name, wanted))


def test_the_names_and_labels_are_those_that_are_promised(
    exposition: Exposition, writer: FeedWriter, feed_name: str
) -> None:
    writer.set_clock_offset(-250.0)
    writer.add_stream(*KEY).append(HOUR, 1.0, 2.0, 0.5, 1.5, 10.0)
    found = Reading(exposition, feed_name)
    labels: dict[str, set[str]] = {}
    for name, label_values in found.values:
        labels.setdefault(name, set()).update(name for name, _ in label_values)
    for name, more in NAMES.items():
        assert labels[name] == {"feed", *more.split()}, name
    kinds = {name: family.type for name, family in found.families.items()}
    assert {name: kinds[name] for name in TYPES} == TYPES
    assert not [name for name in labels if name.endswith("_created")]


def test_values_of_a_feed(
    exposition: Exposition, writer: FeedWriter, feed_name: str
) -> None:
    writer.note({"version": "1.2.3", "attempts": 2})
    writer.set_clock_offset(-250.0)
    for number, name in enumerate(("messages", "malformed", "late", "revisions"), 3):
        writer.count(name, number)
    found = Reading(exposition, feed_name)
    origin = {"protocol": "binance", "market_type": "spot", "venue": "venue.example"}
    assert found("shmfeed_feed_info", **origin, version="1.2.3") == 1
    assert found("shmfeed_feed_up") == found("shmfeed_feed_readable") == 1
    assert found("shmfeed_feed_starts_total") == 1
    assert found("shmfeed_clock_offset_seconds") == -0.25
    assert found("shmfeed_failed_attempts") == 2
    for number, name in enumerate(("messages", "malformed", "late", "revisions"), 3):
        assert found(f"shmfeed_{name}_total") == number
    states = {
        one: found("shmfeed_feed_state", shmfeed_feed_state=one) for one in STATES
    }
    assert states == {one: one == "connected" for one in STATES}
    healths = {
        one: found("shmfeed_feed_health", shmfeed_feed_health=one) for one in HEALTHS
    }
    assert healths == {one: one == "waiting" for one in HEALTHS}
    counts = {one: found("shmfeed_streams", health=one) for one in (*HEALTHS, "closed")}
    assert counts == {one: 2 * (one == "waiting") for one in (*HEALTHS, "closed")}


def test_the_relay_has_metrics_where_there_is_one(
    exposition: Exposition, writer: FeedWriter, feed_name: str
) -> None:
    assert not [
        name for name, _ in Reading(exposition, feed_name).values if "relay" in name
    ]
    told: dict[str, object] = {"role": "follower", "leader": "a:1", "epoch": 9}
    told |= {"since": 1_700_000_000_500, "lag": 0.25, "behind": 3, "error": "away"}
    writer.set_text("relay", told)
    found = Reading(exposition, feed_name)
    roles = {
        one: found("shmfeed_relay_role", shmfeed_relay_role=one)
        for one in ("leader", "standby", "follower")
    }
    assert roles == {"leader": 0, "standby": 0, "follower": 1}
    assert found("shmfeed_relay_epoch") == 9
    assert found("shmfeed_relay_since_seconds") == 1_700_000_000.5
    assert found("shmfeed_relay_lag_seconds") == 0.25
    assert found("shmfeed_relay_behind") == 3
    assert found("shmfeed_relay_error") == 1
    writer.set_text("relay", {"role": "standby"})
    found = Reading(exposition, feed_name)
    assert found("shmfeed_relay_role", shmfeed_relay_role="standby") == 1
    assert found("shmfeed_relay_error") == 0
    assert found("shmfeed_relay_lag_seconds") is None


def test_values_of_streams(
    exposition: Exposition, writer: FeedWriter, feed_name: str
) -> None:
    ring = writer.add_stream(*KEY)
    for hour in (1, 2, 6):
        ring.append(hour * HOUR, 1.0, 2.0, 0.5, 1.5, 10.0)
    writer.mark_stream(KEY, gaps=3, recovering=False)
    writer.count("gaps", 3)
    writer.count_stream(KEY, "dropped", 4)
    found = Reading(exposition, feed_name)
    key = {"symbol": "BTCUSDT", "timeframe": "1h"}
    assert found("shmfeed_stream_ok", **key) == 1
    assert found("shmfeed_stream_bars_total", **key) == 3
    assert found("shmfeed_stream_missing_bars", **key) == 3
    assert found("shmfeed_stream_dropped_total", **key) == 4
    age = found("shmfeed_stream_age_seconds", **key)
    assert age is not None
    assert age >= 0
    assert found("shmfeed_missing_bars") == 3
    other = {"symbol": "ETHUSDT", "timeframe": "1m"}
    assert found("shmfeed_stream_ok", **other) == 0
    assert found("shmfeed_stream_age_seconds", **other) is None
    assert found("shmfeed_clock_offset_seconds") is None


def test_histograms_add_up(
    exposition: Exposition, writer: FeedWriter, feed_name: str
) -> None:
    writer.count_latencies(VENUE, [2] * BUCKETS, 5_500_000_000)
    writer.count_latencies(PUBLISH, [1] + [0] * (BUCKETS - 1), 4000)
    found = Reading(exposition, feed_name)
    name = "shmfeed_venue_latency_seconds"
    assert found(f"{name}_count") == 2 * BUCKETS
    assert found(f"{name}_sum") == 5.5
    assert found(f"{name}_bucket", le="1e-05") == 2
    assert found(f"{name}_bucket", le="0.001") == 2 * (BOUNDS.index(0.001) + 1)
    assert found(f"{name}_bucket", le="+Inf") == 2 * BUCKETS
    assert found("shmfeed_publish_latency_seconds_count") == 1


@pytest.mark.parametrize("state", ["absent", "dead", "damaged"])
def test_a_feed_without_a_feeder_is_down_and_no_error(
    exposition: Exposition, feed_name: str, state: str
) -> None:
    if state == "dead":
        with create(feed_name, history=5, streams=[KEY]) as writer:
            writer.add_stream(*KEY).append(HOUR, 1.0, 2.0, 0.5, 1.5, 10.0)
            writer._words.ints[10] = writer._words.ints[11] = 1  # its heartbeats
            found = Reading(exposition, feed_name)
    else:
        if state == "damaged":
            place(feed_name).segment.write_bytes(b"x" * 8192)
        found = Reading(exposition, feed_name)
    assert found("shmfeed_feed_up") == 0
    assert found("shmfeed_feed_readable") == (state == "dead")
    assert found("shmfeed_feed_health", shmfeed_feed_health="dead") == 1
    bars = found("shmfeed_stream_bars_total", symbol="BTCUSDT", timeframe="1h")
    assert bars == (1 if state == "dead" else None)


def test_no_feed_at_all_is_valid() -> None:
    with Sampler([]) as sampler:
        found = families(Exposition(sampler).text())
    assert not values(found.values())
    assert "shmfeed_messages" in found


def test_the_older_format_has_the_same_values(
    exposition: Exposition, writer: FeedWriter, feed_name: str
) -> None:
    writer.count("messages", 7)
    text = exposition.text(PLAIN).decode()
    found = values(text_string_to_metric_families(text))
    assert found["shmfeed_messages_total", frozenset({("feed", feed_name)})] == 7
    assert "# TYPE shmfeed_messages_total counter" in text
    new = values(families(exposition.text()).values())
    ages = [name for name, _ in new if "age" in name or "uptime" in name]
    assert ages
    assert {k: v for k, v in found.items() if k[0] not in ages} == {
        k: v for k, v in new.items() if k[0] not in ages
    }


def test_registration_takes_no_sample_and_each_collection_one() -> None:
    taken = []

    def sample() -> list[Any]:
        taken.append(time.monotonic())
        return []

    registry = CollectorRegistry(auto_describe=True)
    registry.register(FeedCollector(sample))
    assert not taken
    for count in (1, 2):
        assert list(registry.collect())
        assert len(taken) == count


def test_counters_never_fall_while_a_writer_writes_and_threads_scrape(
    exposition: Exposition, writer: FeedWriter, feed_name: str
) -> None:
    ended = threading.Event()
    failures: list[str] = []
    scrapes = []

    def scrape() -> None:
        last: Values = {}
        while not ended.is_set():
            found = families(exposition.text())  # its parser checks the histograms
            new = {
                key: value
                for family in found.values()
                if family.type in ("counter", "histogram")
                for key, value in values([family]).items()
            }
            failures.extend(f"{k} {last[k]} {new[k]}" for k in last if new[k] < last[k])
            last = new
            scrapes.append(1)

    threads = [threading.Thread(target=scrape) for _ in range(3)]
    for thread in threads:
        thread.start()
    ring = writer.add_stream(*KEY)
    number = 0
    while len(scrapes) < 30 and all(thread.is_alive() for thread in threads):
        number += 1
        ring.append(number * HOUR, 1.0, 2.0, 0.5, 1.5, 10.0)
        writer.count("messages")
        writer.count_latencies(VENUE, [number % 2] * BUCKETS, 1000)
    ended.set()
    for thread in threads:
        thread.join()
    assert len(scrapes) >= 30
    assert not failures
