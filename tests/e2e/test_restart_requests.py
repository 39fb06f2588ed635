"""A feeder of fifty streams that was killed: how often its successor asks for history.

Requests are few and shared by all feeds of a user, so one request a stream must bring
what the stream missed and what the warm-up compares.
"""

import os
import signal
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from support.feeding import managing
from support.waiting import until

import shmfeed
from shmfeed.simulator import Venue

STREAMS = 50
SYMBOLS = [f"S{number:02}USDT" for number in range(STREAMS)]
WARMUP, HISTORY = 100, 200
LENGTH = {"1s": 1000, "1m": 60_000}


@contextmanager
def running(feed_name, venue, timeframe):
    with managing(
        feed_name,
        venue,
        symbols=SYMBOLS,
        resolutions=[timeframe],
        rest_endpoint=venue.rest_url,
        protocol="binance",
        market_type="spot",
        history=HISTORY,
        warmup=WARMUP,
        dials_per_minute=0,
    ) as manager:
        manager.start(timeout=30)
        with shmfeed.attach(feed_name, timeout=10) as feed:
            rings = [feed.ring(symbol, timeframe) for symbol in SYMBOLS]
            until(lambda: is_warm(feed, rings, None), 30)
            yield feed, rings


def is_warm(feed, rings, dead):
    status = feed.status()
    is_up = status["pid"] not in (dead, None) and status["state"] == "connected"
    return is_up and all(
        one.status().health == "live" and len(one.view(HISTORY)) >= WARMUP
        for one in rings
    )


def kill_and_count(feed_name, venue, timeframe):
    """Kill a feeder; return its successor's requests, and the feed's gaps."""
    with running(feed_name, venue, timeframe) as (feed, rings):
        before, pid = len(venue.rest_requests), feed.status()["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: is_warm(feed, rings, pid), 30)
        asked = venue.rest_requests[before:]
        for ring in rings:
            opened = ring.view(HISTORY).open_time
            assert (np.diff(opened) == LENGTH[timeframe]).all()
            assert opened[-1] >= venue.now() - 4 * LENGTH[timeframe]
        assert feed.gaps() == []
    return asked


@pytest.mark.parametrize("timeframe", ["1s", "1m"])
def test_a_restart_asks_once_for_each_stream(feed_name, timeframe):
    with Venue(protocol="binance") as venue:
        asked = kill_and_count(feed_name, venue, timeframe)
    by_symbol = Counter(one.params["symbol"] for one in asked if "klines" in one.path)
    others = [one.path for one in asked if "klines" not in one.path]
    assert by_symbol == Counter(SYMBOLS)
    assert len(others) <= 2, others
