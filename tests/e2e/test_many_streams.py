"""Five hundred streams, added at once to a feed that runs, at a venue with limits."""

import logging
import time

import pytest
from support.feeding import feeder, is_listening, tell
from support.venue_process import VenueProcess
from support.waiting import until

import shmfeed
from shmfeed.feeder.feeder import Feeder
from shmfeed.feeder.intake import Intake

MANY = [f"S{number}USDT" for number in range(500)]
OWN = ("BTCUSDT", "1s")
# CPU time of the main loop, which carries the other streams' bars, for one step.
LONGEST_STEP = 2.0


@pytest.fixture
def venue():
    """Start a venue that cuts off clients which send or ask too much."""
    symbols = ["BTCUSDT", *MANY]
    options = {"protocol": "binance", "resolutions": ["1s", "1m"], "rest": True}
    venue = VenueProcess(symbols=symbols, history=30, rest_limit=6000, **options)
    venue.start()
    yield venue
    venue.kill()


@pytest.fixture
def steps(monkeypatch):
    """Return the CPU times of the steps that grow with the number of streams."""
    found = []
    for owner, name in ((Feeder, "_check_union"), (Intake, "set_streams")):
        step = getattr(owner, name)

        def timed(*args, step=step):
            begun = time.thread_time()
            step(*args)
            found.append(time.thread_time() - begun)

        monkeypatch.setattr(owner, name, timed)
    return found


@pytest.mark.timeout(180)
def test_they_stall_no_other_stream_and_keep_the_venues_limits(
    feed_name, venue, steps, caplog
):
    options = {"protocol": "binance", "market_type": "spot", "warmup": 20}
    options |= {"rest_endpoint": venue.rest_url, "resolutions": ["1s"]}
    with (
        caplog.at_level(logging.WARNING),
        feeder(feed_name, venue.url, **options),
        shmfeed.attach(feed_name) as feed,
    ):
        until(lambda: is_listening(feed_name))
        until(lambda: tell(feed_name, "status")["state"] == "connected")
        ring = feed.ring(*OWN)
        first = ring.wait(ring.count, timeout=60)
        with shmfeed.lease(MANY, "1m", feed_name, timeout=120):
            assert len(feed.streams()) == 501
            until(lambda: _are_warm(feed), 120)
            last = ring.wait(ring.count, timeout=60)
            status = feed.status()
            rows = ring.view(last - first)
        assert set(rows.open_time[1:] - rows.open_time[:-1]) <= {1000}
        assert (status["reconnects"], status["gaps"], status["missed"]) == (0, 0, 0)
        assert venue.tell("counts")["connections"] == 1
        assert max(steps) < LONGEST_STEP
    assert "429" not in caplog.text
    assert "418" not in caplog.text


def _are_warm(feed):
    streams = feed.status()["streams"]
    return all(one["count"] >= 20 for one in streams if one["symbol"] in MANY)
