"""A publisher in a thread of the test's own process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shmfeed.relay.engine import Engine
from shmfeed.relay.publisher import Publisher


@contextmanager
def publishing(
    name: str, engine: Engine, member: str = "here:1", **more: Any
) -> Iterator[Publisher]:
    """Publish a feed of this process by an engine."""
    publisher = Publisher(name, engine, member=member, **more)
    stop = threading.Event()
    thread = threading.Thread(target=publisher.run, args=(stop,))
    thread.start()
    try:
        yield publisher
    finally:
        stop.set()
        thread.join()
