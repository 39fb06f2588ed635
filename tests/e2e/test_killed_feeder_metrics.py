"""A feeder that is killed and comes back, as a scrape sees it; real processes."""

import json
import signal
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.command_line import end
from support.waiting import until

from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def venue():
    with Venue(protocol="binance", symbols=["BTCUSDT"], resolutions=["1s"]) as running:
        yield running


@pytest.fixture
def run(command, feed_name, venue):
    def start():
        options = "--feed", feed_name, "--endpoint", venue.url, "--symbols", "BTCUSDT"
        options += "--protocol", "binance", "--market-type", "spot", "--backfill", "off"
        return command("run", *options, "--resolutions", "1s")

    yield start
    place(feed_name).segment.unlink(missing_ok=True)


@pytest.fixture
def scrape(command, feed_name):
    """Return the value of a metric by its name and further labels."""
    process = command("metrics", "--port", 0, "--feed", feed_name, "--json")
    url = json.loads(process.stdout.readline())["url"]

    def ask(name, **labels):
        with urllib.request.urlopen(url, timeout=60) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        wanted = {"feed": feed_name, **labels}
        for sample in (sample for family in families for sample in family.samples):
            if sample.name == name and sample.labels == wanted:
                return sample.value
        return None

    yield ask
    assert end(process, signal.SIGTERM) == (0, "", "")


@pytest.mark.timeout(120)
def test_a_feeder_that_is_killed_and_comes_back(run, scrape) -> None:
    stream = {"symbol": "BTCUSDT", "timeframe": "1s"}
    assert scrape("shmfeed_feed_up") == 0
    bars = 0
    for starts in (1, 2):
        feeder = run()
        until(lambda: scrape("shmfeed_stream_ok", **stream) == 1, 60)
        until(lambda: scrape("shmfeed_feed_up") == 1, 60)
        assert scrape("shmfeed_feed_starts_total") == starts
        until(lambda: scrape("shmfeed_wants", kind="run") == 1, 60)
        assert scrape("shmfeed_wants", kind="lease") == 0
        seen = bars
        until(lambda: scrape("shmfeed_bars_total") > seen + 1, 60)  # noqa: B023
        until(lambda: scrape("shmfeed_venue_latency_seconds_count") > 0, 60)
        until(lambda: scrape("shmfeed_publish_latency_seconds_count") > 0, 60)
        feeder.kill()
        feeder.wait()
        until(lambda: scrape("shmfeed_feed_up") == 0, 60)
        assert scrape("shmfeed_stream_ok", **stream) == 0
        assert scrape("shmfeed_feed_health", shmfeed_feed_health="dead") == 1
        assert scrape("shmfeed_bars_total") > bars
        bars = scrape("shmfeed_bars_total")
