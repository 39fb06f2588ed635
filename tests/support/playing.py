"""A session driven by hand, a batch at a time."""

import contextlib
import os
import random
import time

from support.loopback import STREAMS

from shmfeed.codecs import get_codec
from shmfeed.settings.model import Settings
from shmfeed.wire.events import (
    ChangeRefused,
    Connected,
    ConnectionLost,
    Received,
    StatusChanged,
    Subscribed,
    VenueTime,
)
from shmfeed.wire.session import Session

QUICK = {
    "connect_timeout": 2.0,
    "ack_timeout": 2.0,
    "data_timeout": 60.0,
    "reconnect_delay_base": 0.02,
    "reconnect_delay_max": 0.05,
    "dials_per_minute": 0,
}


class Play:
    """A session, driven by the test.

    `events` has all events of the session. `seen` has the venue's events and the
    outcomes of subscriptions, `changes` the other ones; both without what belongs to
    one connection of several.
    """

    def __init__(self, urls, *, codec=None, streams=STREAMS, rng=None, **settings):
        self.waking, self._waking = os.pipe2(os.O_NONBLOCK)
        named = ("clock", "budget")
        extra = {name: settings.pop(name) for name in named if name in settings}
        tick = settings.pop("tick", 0.02)
        self.session = Session(
            codec or get_codec("wealthai"),
            Settings(**{**QUICK, **settings}),
            [urls] if isinstance(urls, str) else urls,
            streams,
            wake_fd=self.waking,
            rng=rng or random.Random(1),
            tick=tick,
            **extra,
        )
        self.batches = self.session.batches()
        self.events = []
        self.seen = []
        self.changes = []
        self.states = []
        self.closed = False

    @property
    def status(self):
        return self.session.status

    def until(self, condition, seconds=4.0):
        """Drive until the condition holds, and return it."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            self.take(next(self.batches))
        return condition()

    def take(self, batch):
        self.events += batch
        for event in batch:
            match event:
                case Received(events):
                    self.seen += events
                case Subscribed():
                    self.seen.append(event._replace(covered=()))
                case VenueTime():
                    pass  # a server may state it, or not
                case ChangeRefused():
                    self.seen.append(event)
                case Connected():
                    self.changes.append(event._replace(connection=0, endpoint=""))
                case ConnectionLost():
                    lost = ConnectionLost(*event[:2], is_planned=event.is_planned)
                    self.changes.append(lost)
                case _:
                    self.changes.append(event)
            if isinstance(event, StatusChanged) and event.new[:2] != event.old[:2]:
                self.states.append(event.new[:2])

    def until_seen(self, kind, count=1, **options):
        """Drive until there are so many events of this kind, and return them."""
        assert self.until(lambda: len(self.all(kind)) >= count, **options), self.seen
        return self.all(kind)

    def until_state(self, state, **options):
        """Drive until the session is in this state, and return its status."""
        reached = self.until(lambda: self.status.state == state, **options)
        assert reached, self.states
        return self.status

    def all(self, kind):
        return [event for event in self.seen if isinstance(event, kind)]

    def wake(self):
        os.write(self._waking, b"!")

    def close(self):
        if self.closed:
            return
        self.closed = True
        self.session.stop()
        for batch in self.batches:
            self.take(batch)
        os.close(self.waking)
        os.close(self._waking)


@contextlib.contextmanager
def playing(urls, **options):
    """Yield a Play that is over after the block."""
    played = Play(urls, **options)
    try:
        yield played
    finally:
        played.close()


def stay(connection):
    """Read until the client closes the connection."""
    for _ in connection:
        pass
