"""Room for streams: that of unwanted ones comes first, then a larger segment."""

import gc
import os
import tracemalloc
from contextlib import contextmanager

import pytest
from support.feeding import STREAM, feeder, is_listening, push, tell
from support.venue_process import VenueProcess
from support.waiting import until

import shmfeed
from shmfeed.errors import SegmentFullError, StreamNotFoundError
from shmfeed.feeder.history_taking import HistoryTaking
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue

SCALE = float(os.environ.get("TEST_SCALE", "1"))
MANY = [f"S{number}" for number in range(60)]


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=["BTCUSDT", *MANY]) as venue:
        yield venue


@contextmanager
def connected(feed, venue, **more):
    with feeder(feed, venue, **more):
        until(lambda: is_listening(feed))
        until(lambda: tell(feed, "status")["state"] == "connected")
        yield


def want(feed, *symbols):
    fields = {"manager": "m", "symbols": symbols, "resolutions": ["1m"]}
    return tell(feed, "subscribe", **fields)


def test_a_feed_grows_for_streams_that_are_wanted(feed_name, venue):
    with connected(feed_name, venue):
        with shmfeed.attach(feed_name) as feed:
            ring = feed.ring(*STREAM)
            push(venue, 0)
            until(lambda: ring.count == 1)
            rows, before = ring.view(1), feed.status()
            assert want(feed_name, *MANY) == {"streams": 61}
            assert len(feed.streams()) == 61
            assert (ring.count, rows.valid) == (1, True)
            push(venue, 1)
            push(venue, 0, stream=(MANY[59], "1m"))
            until(lambda: ring.count == 2)
            until(lambda: feed.ring(MANY[59], "1m").count == 1)
            after = feed.status()
            for same in "pid", "identity", "state", "state_since", "endpoint":
                assert after[same] == before[same]
            assert after["bars"] == 3
        # Repairs, counters and the store find the new segment, too.
        assert tell(feed_name, "retry", symbols=[], resolutions=[])
        assert tell(feed_name, "status")["state"] == "connected"


def test_the_room_of_unwanted_streams_comes_first(feed_name, venue):
    with connected(feed_name, venue):
        size = place(feed_name).segment.stat().st_size
        want(feed_name, *MANY[:10])
        with shmfeed.attach(feed_name) as feed:
            ring = feed.ring(MANY[0], "1m")
            want(feed_name, *MANY[10:25])
            assert len(feed.streams()) == 16
            with pytest.raises(StreamNotFoundError):
                ring.count  # noqa: B018 # a verb
            with pytest.raises(StreamNotFoundError):
                ring.wait(0, timeout=5)
        assert place(feed_name).segment.stat().st_size == size


def test_a_stream_that_is_carried_again_has_another_epoch(feed_name, venue):
    with connected(feed_name, venue, max_streams=3):
        with shmfeed.attach(feed_name) as feed:
            want(feed_name, MANY[0])
            epoch = feed.ring(MANY[0], "1m").epoch
            for symbol in MANY[1:4]:
                want(feed_name, symbol)
            want(feed_name, MANY[0])
            assert feed.ring(MANY[0], "1m").epoch > epoch


def test_a_capacity_that_is_set_is_kept(feed_name, venue):
    with connected(feed_name, venue, max_streams=8):
        with pytest.raises(SegmentFullError, match="capacity for 8 streams; 9 are"):
            want(feed_name, *MANY[:8])
        want(feed_name, *MANY[:7])


def test_a_change_that_shared_memory_cannot_hold_is_refused(
    feed_name, venue, monkeypatch
):
    def full(*_):
        raise SegmentFullError("no room")

    with connected(feed_name, venue):
        monkeypatch.setattr("shmfeed.capacity.copy_feed", full)
        with pytest.raises(SegmentFullError, match="no room"):
            want(feed_name, *MANY)
        monkeypatch.undo()
        with shmfeed.attach(feed_name) as feed:
            assert feed.streams() == [STREAM]
            push(venue, 0)
            until(lambda: feed.ring(*STREAM).count == 1)
        want(feed_name, *MANY)


@pytest.mark.parametrize("leaks", [False, True], ids=["", "control"])
def test_a_feed_that_rotates_through_symbols_stays_as_it_is(
    feed_name, leaks, monkeypatch
):
    """A year of it in miniature: neither /dev/shm nor the process fills up."""
    kept = []
    if leaks:
        monkeypatch.setattr(
            HistoryTaking, "forget", lambda _, one: kept.append((one, bytes(2000)))
        )
    rounds = 1 if leaks else max(3, round(6 * SCALE))
    venue = VenueProcess(speed=None, symbols=["BTCUSDT", *MANY])
    venue.start()
    try:
        with connected(feed_name, venue.url), shmfeed.attach(feed_name) as feed:
            rotate(feed_name, 4)  # what is filled once is full
            status = place(feed_name).segment.stat()
            tracemalloc.start()
            rotate(feed_name, 1)
            grown = least_growth(feed_name, rounds)
            after = place(feed_name).segment.stat()
            assert (after.st_ino, after.st_size) == (status.st_ino, status.st_size)
            assert after.st_blocks <= status.st_blocks
            assert (grown > 100_000) is leaks
            assert len(feed.streams()) == 9
    finally:
        tracemalloc.stop()
        venue.kill()


def least_growth(feed, rounds):
    """Return the least growth of a round in bytes: a leak grows in each of them."""
    grown = []
    for _ in range(rounds):
        before = tracemalloc.get_traced_memory()[0]
        rotate(feed, 1)
        grown.append(tracemalloc.get_traced_memory()[0] - before)
    return min(grown)


def rotate(feed, rounds):
    """Want eight streams after the other, 52 changes a round."""
    for number in [*range(len(MANY) - 8)] * rounds:
        want(feed, *MANY[number : number + 8])
    gc.collect()
