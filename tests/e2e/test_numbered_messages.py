"""Numbered messages of the local venue, through a real feeder."""

import time

import pytest
from support.feeding import feeder

import shmfeed
from shmfeed.bar import UNCONFIRMED
from shmfeed.simulator import Venue

SYMBOLS = ["BTCUSDT", "ETHUSDT", "XRPUSDT"]


def played(feed_name, bars=8, sequence="stream", faults="", lines=1, **more):
    """Return the status and the flags of all rows after some bars of a venue."""
    options = {"speed": 240.0, "update_interval": 0.02, "sequence": sequence}
    with (
        Venue(faults=faults, **options) as venue,
        feeder(feed_name, venue, symbols=SYMBOLS, lines=lines, **more),
        shmfeed.attach(feed_name, timeout=10) as feed,
    ):
        rings = [feed.ring(symbol, "1m") for symbol in SYMBOLS]
        deadline = time.monotonic() + 30
        for ring in rings:
            while ring.count < bars:
                assert ring.wait(ring.count, deadline - time.monotonic()) is not None
        venue.mute()
        time.sleep(0.5)  # the counters of streams are written now and then
        flags = [flag for ring in rings for flag in ring.snapshot(50)["flags"]]
        return feed.status(), flags


@pytest.mark.parametrize("sequence", ["stream", "connection"])
@pytest.mark.parametrize("lines", [1, 2])
def test_nothing_is_missed_where_nothing_is_lost(feed_name, sequence, lines):
    status, flags = played(feed_name, sequence=sequence, lines=lines)
    assert (status["missed"], status["late"], status["malformed"]) == (0, 0, 0)
    assert (status["duplicates"] > 0) is (lines == 2)
    assert not any(flag & UNCONFIRMED for flag in flags)


@pytest.mark.parametrize("sequence", ["stream", "connection"])
def test_what_is_lost_is_counted_by_stream_and_by_feed(feed_name, sequence):
    status, _ = played(feed_name, sequence=sequence, faults="lost:0.1")
    streams = [stream["missed"] for stream in status["streams"]]
    assert status["missed"] > 10
    assert all(streams)
    if sequence == "stream":
        assert sum(streams) == status["missed"]
