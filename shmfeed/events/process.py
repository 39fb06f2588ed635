"""The process that watches a feed and tells its events to a receiver.

    feeder or manager --settings, events--> this process --one JSON object--> receiver
                      <--lines for the log--

Its standard input is a socket of datagrams, each a JSON object: the settings first,
then events. It reads the feed as any reader does, looks for outages once a second, and
ends with its feeder or manager, however that ends. So no receiver, name server or
command can hold up the feed.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from shmfeed.bar import StreamKey
from shmfeed.errors import ShmfeedError
from shmfeed.events.delivery import Delivery, receiver_of
from shmfeed.events.event import Event
from shmfeed.events.outages import Outages
from shmfeed.events.pacing import Pace
from shmfeed.feed import Feed, attach
from shmfeed.holes import Hole
from shmfeed.wire.connect import ConnectPolicy

MOST_BYTES = 1 << 20  # of a datagram
LOOK_SECONDS = 1.0
TURN_SECONDS = 0.25
END_SECONDS = 5.0  # for what waits, once the feeder has ended
_NICE = 10


class Watch:
    """The outages of one feed, looked for while there is a feeder."""

    def __init__(self, feed: str) -> None:
        self._name = feed
        self._feed: Feed | None = None
        self._outages: Outages | None = None
        self._due = 0.0

    def look(self, now: float) -> list[Event]:
        """Return the events since the last look, at most once a LOOK_SECONDS."""
        if now < self._due:
            return []
        self._due = now + LOOK_SECONDS
        with suppress(ShmfeedError):  # the feed is not there yet, or is damaged
            if self._feed is None:
                self._feed = attach(self._name, owner=os.geteuid())
            status = self._feed.status()
            if status["pid"] is None:
                return []
            if self._outages is None:
                self._outages = Outages(self._holes, now)
            return self._outages.look(status, now)
        return []

    def _holes(self, key: StreamKey) -> list[Hole]:
        return [] if self._feed is None else self._feed.gaps(*key)


def serve(inbox: socket.socket) -> None:
    """Watch and tell until the other end is closed, or a signal comes."""
    settings = json.loads(inbox.recv(MOST_BYTES) or b"{}")
    if not settings:
        return  # it ended before it began
    say = _LogLines(inbox)
    receiver = receiver_of(settings["on_event"], _policy_of(settings))
    delivery = Delivery(settings["feed"], receiver, say)
    watch = Watch(settings["feed"]) if settings["watches"] else None
    pace, is_open = Pace(), True
    inbox.settimeout(TURN_SECONDS)
    while is_open:
        is_open, event = _receive(inbox)
        now = time.monotonic()
        if event is not None:
            pace.add(event, now)
        for found in watch.look(now) if watch is not None else ():
            pace.add(found, now)
        for due in pace.take(now if is_open else float("inf")):
            delivery.add(due)
    delivery.close(END_SECONDS)


def _policy_of(settings: Mapping[str, Any]) -> ConnectPolicy:
    return ConnectPolicy(
        allow_insecure=settings["allow_insecure"],
        proxy=settings["proxy"],
        ca_file=settings["ca_file"],
        client_cert=tuple(settings["client_cert"]),
        proxy_password_file=settings["proxy_password_file"],
    )


def _receive(inbox: socket.socket) -> tuple[bool, Event | None]:
    """Return True if the other end is open, and the event that it sent, if any."""
    try:
        data = inbox.recv(MOST_BYTES)
    except TimeoutError:
        return True, None
    except (OSError, _StoppedError):
        return False, None
    return (True, _event_of(json.loads(data))) if data else (False, None)


def _event_of(values: dict[str, Any]) -> Event:
    streams = tuple((symbol, timeframe) for symbol, timeframe in values["streams"])
    return Event(values["event"], values["message"], streams, values["time_ns"])


class _LogLines:
    """Lines for the log of the feeder or manager, which writes them."""

    def __init__(self, outbox: socket.socket) -> None:
        self._outbox = outbox

    def __call__(self, text: str) -> None:
        with suppress(OSError):  # it has ended, or does not read
            self._outbox.send(text[:1000].encode(errors="replace"), socket.MSG_DONTWAIT)


class _StoppedError(Exception):
    """A signal asks this process to end."""


def _stop(number: int, frame: object) -> None:  # noqa: ARG001 # signal's
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _StoppedError


def main() -> None:
    """Serve the socket that is standard input."""
    os.nice(_NICE)
    signal.signal(signal.SIGTERM, _stop)
    inbox = socket.socket(fileno=0)
    with suppress(_StoppedError):
        serve(inbox)


if __name__ == "__main__":
    main()
