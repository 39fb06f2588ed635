"""Run a publisher with Redis as its engine, as a command or a feeder's child does."""

import threading
from contextlib import closing

from shmfeed.control.relay_client import RelayReporter
from shmfeed.relay.publisher import Publisher
from shmfeed.relay.redis_connection import RedisTarget
from shmfeed.relay.redis_engine import RedisEngine
from shmfeed.relay.redis_target import redis_target
from shmfeed.segment.mapping import place
from shmfeed.settings.model import Settings


def publish(settings: Settings, address: str, name: str, stop: threading.Event) -> None:
    """Publish the settings' feed to a Redis under a name, until `stop` is set.

    Raises:
        BadArgumentError: A file that the settings name cannot be used.
        ConnectionLostError: A certificate cannot be used.
    """
    target = redis_target(settings, address)
    run_publisher(settings.feed, name, target, settings.flush_interval, stop)


def run_publisher(
    feed: str,
    name: str,
    target: RedisTarget,
    flush_interval: float,
    stop: threading.Event,
) -> None:
    """Publish a feed of this host in Redis under a name, until `stop` is set.

    The feed's feeder is told the publisher's status. Nothing that fails ends the
    publisher: it says so in the log and in its status, and tries again.
    """
    engine = RedisEngine(name, target)
    with closing(RelayReporter(place(feed).socket)) as reporter:
        Publisher(feed, engine, flush_interval, reporter.tell).run(stop)
