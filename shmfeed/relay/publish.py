"""Publish the feed of settings: the way in of the command and of a feeder's child."""

import threading

from shmfeed.relay.process import run_publisher
from shmfeed.relay.redis_target import redis_target
from shmfeed.settings.model import Settings


def publish(settings: Settings, address: str, name: str, stop: threading.Event) -> None:
    """Publish the settings' feed to a Redis under a name, until `stop` is set.

    Raises:
        BadArgumentError: A file that the settings name cannot be used.
        ConnectionLostError: A certificate cannot be used.
    """
    target = redis_target(settings, address)
    run_publisher(settings.feed, name, target, settings.flush_interval, stop)
