"""Feeders and managers for a test, with short timeouts, stopped after the test."""

import stat
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

from shmfeed.control.client import ask
from shmfeed.control.messages import ControlError
from shmfeed.errors import FeedNotFoundError
from shmfeed.feeder.feeder import Feeder
from shmfeed.manager import WebSocketManager
from shmfeed.segment.mapping import place
from shmfeed.settings import loading

STREAM = ("BTCUSDT", "1m")
MINUTE = 60_000
T0 = 1_700_000_040_000
QUICK = {
    "reconnect_delay_base": 0.05,
    "reconnect_delay_max": 0.2,
    "connect_timeout": 2.0,
    "ack_timeout": 5.0,
}


def settings(feed, venue, /, **more):
    given = {
        "feed": feed,
        "symbols": ["BTCUSDT"],
        "resolutions": ["1m"],
        "endpoint": venue if isinstance(venue, str | list) else venue.url,
        "history": 100,
        **QUICK,
    }
    return loading.load(given | more, {})


@contextmanager
def feeder(feed, venue, /, manager="run", pid=0, source=None, **more):
    """Run a feeder in a thread of this process; join the thread at the end."""
    one = Feeder(settings(feed, venue, **more), manager, pid, source=source)
    failure = []

    def run():
        try:
            one.run()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    one.failure = failure
    one.thread = thread
    try:
        yield one
    finally:
        one.stop(unlink=True)
        thread.join()


def tell(feed, op, timeout=10.0, **fields):
    """Ask the feeder of a feed by its control socket."""
    return ask(place(feed).socket, op, timeout, **fields)


def is_listening(feed):
    """Return True if a feeder answers. Its socket is there before it listens."""
    try:
        return bool(tell(feed, "status"))
    except (ControlError, FeedNotFoundError):
        return False


@contextmanager
def managing(feed, venue, /, **more):
    """Yield a configured manager; stop it and its feeder after the test."""
    manager = WebSocketManager(feed)
    given = {"symbols": ["BTCUSDT"], "resolutions": ["1m"], "history": 100, **QUICK}
    if venue is not None:
        given["endpoint"] = venue if isinstance(venue, str | list) else venue.url
    manager.configure(**given | more)
    try:
        yield manager
    finally:
        manager.stop()


def push(venue, number, price=100.0, stream=STREAM, closed=True):
    """Push one bar from a venue that sends nothing by itself."""
    opened = T0 + number * MINUTE
    return venue.push_bar(*stream, opened, 100.0, 200.0, 50.0, price, closed=closed)


def replace_interpreter(tmp_path, monkeypatch, text):
    """Put another program in the place of the interpreter."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(path))


def is_running(pid):
    return Path(f"/proc/{pid}").exists()
