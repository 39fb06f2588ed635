"""Run the publisher of a feed with Redis as its engine."""

import threading
from collections.abc import Callable

from shmfeed.relay.publisher import Publisher, PublisherStatus
from shmfeed.relay.redis_connection import RedisTarget
from shmfeed.relay.redis_engine import RedisEngine


def run_publisher(
    feed: str,
    name: str,
    target: RedisTarget,
    flush_interval: float,
    stop: threading.Event,
    tell: Callable[[PublisherStatus], None] = lambda _: None,
) -> None:
    """Publish a feed of this host in Redis under a name, until `stop` is set.

    Nothing that fails ends the publisher: it says so in the log and in the status that
    `tell` is called with, and tries again.
    """
    Publisher(feed, RedisEngine(name, target), flush_interval, tell).run(stop)
