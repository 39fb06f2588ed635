"""A publisher beside a real feeder: its status reaches readers, leases the venue."""

import threading
from contextlib import contextmanager

import pytest
from support.feeding import feeder, is_listening, tell
from support.leasing import join_keepers
from support.waiting import until

import shmfeed
from shmfeed.relay.engine import Request
from shmfeed.relay.process import run_publisher
from shmfeed.simulator import Venue

OWN, OTHER, NONE = ("BTCUSDT", "1m"), ("ETHUSDT", "1m"), ("NOSUCH", "1m")


@pytest.fixture
def feed(feed_name):
    with (
        Venue(speed=None, symbols=["BTCUSDT", "ETHUSDT"]) as venue,
        feeder(feed_name, venue, lease_linger=0.1),
    ):
        until(lambda: is_listening(feed_name))
        until(lambda: tell(feed_name, "status")["state"] == "connected")
        yield feed_name


@contextmanager
def publishing(feed, target):
    stop = threading.Event()
    thread = threading.Thread(
        target=run_publisher, args=(feed, feed, target, 0.02, stop)
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        join_keepers()


def relay_of(feed):
    with shmfeed.attach(feed) as attached:
        return attached.status()["relay"]


def streams_of(feed):
    with shmfeed.attach(feed) as attached:
        return set(attached.streams())


def test_its_status_is_the_feeds_while_it_runs(feed, redis_server):
    with publishing(feed, redis_server.target):
        until(lambda: relay_of(feed) is not None)
        until(lambda: relay_of(feed)["role"] == "leader")
        found = relay_of(feed)
        assert found["error"] is None
        assert found["epoch"] > 0
        assert found["leader"]
    until(lambda: relay_of(feed) is None)


def test_a_followers_request_becomes_a_lease(feed, redis_server, engines):
    follower = engines.make(feed)
    with publishing(feed, redis_server.target):
        until(lambda: follower.leadership().epoch)
        wanted = Request("there:1", (OWN, OTHER, NONE))
        answer = []
        until(lambda: answer.append(follower.request(wanted)) or answer[-1])
        assert list(answer[-1].refused) == [NONE]
        assert streams_of(feed) == {OWN, OTHER}
        follower.request(Request("there:1", ()))
        until(lambda: streams_of(feed) == {OWN})
