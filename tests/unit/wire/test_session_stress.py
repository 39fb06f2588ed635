"""A session whose connections end, move and change at random, by a seed."""

import random

import pytest
from support.forks import SCALE
from support.house_server import HouseServer
from support.loopback import bar, venue
from support.playing import playing

from shmfeed.codecs.interface import BarEvent, GoingAway
from shmfeed.codecs.wealthai import WealthaiCodec
from shmfeed.wire.events import ChangeRefused, ConnectionLost, Subscribed

KEYS = tuple((f"SYM{number}", "1m") for number in range(10))
STEPS = 40


class Parting(WealthaiCodec):
    """The wealthai protocol with an announcement that the server is about to close."""

    def decode(self, data):
        return (GoingAway(),) if b"LEAVING" in data else super().decode(data)


class Replay:
    """The coverage of streams, as the events tell it."""

    def __init__(self):
        self.streams = ()
        self.covered = set()

    def take(self, events):
        for event in events:
            if isinstance(event, Subscribed):
                assert not self.covered.intersection(event.covered), event
                assert set(event.covered) <= set(event.streams)
                self.streams = event.streams
                self.covered = (self.covered | set(event.covered)) & set(self.streams)
            elif isinstance(event, ConnectionLost):
                assert set(event.uncovered) <= self.covered, event
                self.covered -= set(event.uncovered)


def act(rng, played, server):
    """Do one of the things that may happen to a session."""
    live = [one for one in server.connections if one.state.name == "OPEN"]
    what = rng.choice(["close", "leave", "change", "move", "repeat", "renew", "refuse"])
    if what == "close" and live:
        rng.choice(live).close()
    elif what == "leave" and live:
        rng.choice(live).send("LEAVING")
    elif what == "change" and not played.session.is_changing:
        wanted = rng.sample(KEYS, rng.randint(1, len(KEYS)))
        played.session.change(tuple(wanted))
    elif what == "move":
        played.session.move(rng.sample(KEYS, 2))
    elif what == "repeat":
        played.session.ask_again(rng.sample(KEYS, 2))
    elif what == "renew" and rng.random() < 0.3:
        played.session.replace_connections()
    elif what == "refuse":
        server.refuse = set(rng.sample(["SYM3", "SYM7"], rng.randint(0, 1)))


@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("seed", range(round(2 * SCALE)))
def test_whatever_happens_the_events_tell_what_is_covered(seed, lines):
    rng, server, replay = random.Random(seed), HouseServer(), Replay()
    given = {"max_streams_per_connection": 3, "lines": lines, "ack_timeout": 1.0}
    with venue(server) as url, playing(url, codec=Parting("", ""), **given) as played:
        played.session.change(KEYS[:5])
        for _ in range(STEPS):
            for _ in range(rng.randint(1, 4)):
                played.take(next(played.batches))
            act(rng, played, server)
        server.refuse = set()
        assert played.until(lambda: not played.session.is_changing, seconds=8)
        played.session.change(KEYS)
        assert played.until(lambda: not played.session.is_changing, seconds=8)
        assert played.session.acknowledged == KEYS or played.all(ChangeRefused)
        played.session.retry()
        assert played.until(lambda: played.status.state == "connected", seconds=8)
        replay.take(played.events)
        assert replay.streams == played.session.acknowledged
        # Streams that are left out until the next connect are not covered.
        covered = set().union(*(one.covered for one in played.session._links()))
        assert replay.covered == covered & set(played.session.acknowledged)
        live = [one for one in server.connections if one.state.name == "OPEN"]
        for connection in live:
            for symbol in server.symbols[connection]:
                connection.send(bar(0, symbol))
        spoken = {symbol for symbol, _ in replay.covered}
        assert played.until(
            lambda: spoken <= {event.symbol for event in played.all(BarEvent)},
            seconds=8,
        )
