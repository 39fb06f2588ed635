"""A follower for a test: a feeder whose leader's feed is in memory."""

from contextlib import contextmanager

from support.feeding import feeder
from support.memory_leader import FollowerEngine
from support.waiting import until

import shmfeed
from shmfeed.feeder import feeder as feeder_module
from shmfeed.feeder.relay_source import RelaySource

SILENCE = "shmfeed.relay.leader_signs.SILENT_SECONDS"


def follow_memory(monkeypatch, leader):
    """Let each feeder of this process follow a MemoryFeed.

    It tells nothing by itself, and counts as silent only where a test says so.
    """
    monkeypatch.setattr(SILENCE, 60.0)
    monkeypatch.setattr(
        feeder_module,
        "open_source",
        lambda settings, *_: RelaySource(settings, lambda *_: FollowerEngine(leader)),
    )


@contextmanager
def following(feed_name, /, **more):
    """Run a follower of all streams, and attach to its feed once it is connected."""
    given = {"symbols": [], "resolutions": [], **more}
    with feeder(feed_name, "ws://127.0.0.1:9", **given) as one:
        with shmfeed.attach(feed_name, 10) as feed:
            until(lambda: feed.status()["state"] == "connected", 10, "connected")
            yield one, feed


def rows_in(feed, stream=("BTCUSDT", "1m"), most=1000):
    """Return the rows of a stream as a block."""
    return feed.ring(*stream).snapshot(most).block


def is_equal(feed, leader, number=0):
    """Return True if the ring has the leader's rows, byte for byte."""
    wanted = leader.block(number)
    found = rows_in(feed, leader.catalog.streams[number])
    return found.shape == wanted.shape and found.tobytes() == wanted.tobytes()


def await_equal(feed, leader, number=0):
    until(lambda: is_equal(feed, leader, number), 10, "the leader's rows")


def await_health(feed, health, stream=("BTCUSDT", "1m")):
    """Wait for a stream's health; return the row of its status."""

    def row():
        rows = feed.status()["streams"]
        return next(r for r in rows if (r["symbol"], r["timeframe"]) == stream)

    until(lambda: row()["health"] == health, 10, health)
    return row()
