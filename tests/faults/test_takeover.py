"""A feeder takes the place of another one: no bar is lost, doubled or in doubt.

There is no history. Of a venue that sends no closing flags, a bar whose last update
reached neither feeder has wrong values, and one that may lack it is unconfirmed.
"""

import signal
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from support import forks
from support.waiting import until

import shmfeed
from shmfeed.bar import UNCONFIRMED
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue, verify

pytestmark = [pytest.mark.usefixtures("no_settings"), pytest.mark.timeout(180)]
pytest_plugins = ["support.command_process"]

SEED = 5
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
VENUES = {
    "without flags": {"closed_flag": False, "speed": 1},
    "fast": {"speed": 30},
    "numbered": {"speed": 10, "sequence": "connection", "timestamps": True},
}
TAKEOVERS = max(2, int(forks.SCALE))

# `shmfeed`, which kills itself with SIGKILL at a point, or leaves a part out.
PROGRAM = """
import os, signal, sys
import shmfeed.feeder.handover as handover
import shmfeed.feeder.handover_channel as channel
import shmfeed.feeder.takeover as takeover
from shmfeed.cli.main import main
from shmfeed.memory.right import Right

def kill(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)

def kill_before(owner, name):
    assert hasattr(owner, name)
    setattr(owner, name, kill)

def kill_after(owner, name):
    real = getattr(owner, name)
    setattr(owner, name, lambda *args, **options: kill(real(*args, **options)))

def take_long():
    takeover.SETTLE_SECONDS = 1.5  # a bar of a second ends meanwhile

def forget_messages():
    take_long()
    received = takeover.Received
    real = takeover.HeldEvents.__iter__
    takeover.HeldEvents.__iter__ = lambda events: (
        event for event in real(events) if not isinstance(event, received)
    )

def stop_before(owner, name):
    real = getattr(owner, name)
    def stopped(*args, **options):
        os.kill(os.getpid(), signal.SIGSTOP)
        return real(*args, **options)
    setattr(owner, name, stopped)

def be_impatient():
    channel.OFFER_SECONDS = 1.0

POINTS = {
    "connected": lambda: kill_before(takeover, "ask_for_handover"),
    "handed": lambda: kill_after(takeover, "receive"),
    "taking": lambda: kill_after(Right, "take"),
    "taken": lambda: kill_before(handover, "catch_up"),
    "caught up": lambda: kill_before(channel.Taken, "confirm"),
    "asked": lambda: kill_before(handover, "describe_feed"),
    "answered": lambda: kill_before(channel.Offer, "make"),
    "offered": lambda: kill_before(channel.Offer, "_await_confirmation"),
    "handed over": lambda: kill_after(channel.Offer, "make"),
    "stops, handed": lambda: stop_before(channel.Taken, "is_offered"),
    "stops, caught up": lambda: stop_before(channel.Taken, "confirm"),
    "is impatient": be_impatient,
    "takes long": take_long,
    "forgets": forget_messages,
}
POINTS[sys.argv[1]]()
sys.exit(main(sys.argv[2:]))
"""
OF_THE_NEW = ["connected", "handed", "taking", "taken", "caught up"]
OF_THE_OLD = ["asked", "answered", "offered", "handed over"]
LEFT_OUT = ["takes long", "forgets"]
STOPPED = ["stops, handed", "stops, caught up"]
if forks.SCALE <= 1:  # each takes some seconds
    OF_THE_NEW, OF_THE_OLD, LEFT_OUT = ["caught up"], ["offered"], ["forgets"]
    STOPPED = ["stops, caught up"]


@pytest.fixture
def venue(request):
    options = VENUES[getattr(request, "param", "without flags")]
    streams = {"resolutions": ["1s", "1m"], "history": 5, "update_interval": 0.01}
    with Venue(seed=SEED, **streams, **options) as running:
        yield running


@pytest.fixture
def run(command, child, feed_name, venue):
    """Start `shmfeed run` of one feed; remove the segment at the end.

    With `point` it is the program that kills itself there.
    """

    def start(*more, point=None):
        names = "--feed", feed_name, "--symbols", ",".join(SYMBOLS)
        streams = "--resolutions", "1s,1m", "--history", "5000"
        arguments = "run", *names, *streams, "--endpoint", venue.url, *more
        if point is None:
            return command(*arguments)
        return child(PROGRAM, point, *arguments)

    yield start
    place(feed_name).segment.unlink(missing_ok=True)


class Watch:
    """A thread that reads a feed all the time, and keeps what it has seen."""

    def __init__(self, feed):
        self.healths = set()
        self.failures = []
        self._feed = feed
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._end.set()
        self._thread.join()

    def _run(self):
        ring, count = self._feed.ring("BTCUSDT", "1s"), 0
        while not self._end.wait(0.002):
            self.healths.add(self._feed.status()["health"])
            if ring.count < count:
                self.failures.append((count, ring.count))
            count = ring.count
            if len(ring.view(5)) < 5:
                self.failures.append("no rows")


def served_by(feed):
    """Return the pid of the feeder that serves, None while none does."""
    status = feed.status()
    return status["pid"] if status["state"] == "connected" else None


def faults_of(feed, first):
    """Return the rows that are wrong, missing or in doubt, by stream.

    `first` is the open time from which the first feeder has seen whole bars.
    """
    found = {}
    for symbol, timeframe in feed.streams():
        rows = feed.ring(symbol, timeframe).snapshot(5000)
        wrong = verify(SEED, symbol, timeframe, rows)
        steps = set(np.diff(rows.open_time).tolist())
        doubted = rows["flags"][rows.open_time > first] & UNCONFIRMED
        faults = wrong, max(0, len(steps) - 1), int(np.count_nonzero(doubted))
        if any(faults):
            found[symbol, timeframe] = faults
    return found


@contextmanager
def served(feed_name):
    """Attach to a feed that has some rows; give it, and the time of a whole bar."""
    with shmfeed.attach(feed_name, timeout=20) as feed:
        ring = feed.ring("BTCUSDT", "1s")
        assert ring.wait(6, timeout=20)
        yield feed, ring, int(ring.view(1).open_time[-1])


def end(process):
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.parametrize(
    "venue", list(VENUES)[: max(1, int(forks.SCALE))], indirect=True
)
def test_many_takeovers_in_a_row_lose_no_bar(run, feed_name) -> None:
    running = run()
    with served(feed_name) as (feed, ring, first), Watch(feed) as watch:
        for _ in range(TAKEOVERS):
            following = run("--takeover")
            assert running.wait(30) == 0
            until(lambda pid=following.pid: served_by(feed) == pid)
            running = following
            assert ring.wait(ring.count + 1, timeout=20)
        assert watch.failures == []
        # A busy machine may hold the venue up.
        assert watch.healths <= {"live", "quiet", "recovering"}
        assert faults_of(feed, first) == {}
        status = feed.status()
        counters = ("gaps", "revisions", "malformed", "unsubscribed")
        expected = dict.fromkeys(counters, 0)
        assert {name: status[name] for name in counters} == expected
    end(running)


@pytest.mark.parametrize("point", LEFT_OUT)
def test_a_takeover_without_the_held_messages_is_seen(run, feed_name, point) -> None:
    running = run()
    with served(feed_name) as (feed, ring, first):
        following = run("--takeover", point=point)
        assert running.wait(30) == 0
        assert ring.wait(ring.count + 1, timeout=20)
        assert bool(faults_of(feed, first)) is (point == "forgets")
    end(following)


@pytest.mark.parametrize("point", OF_THE_NEW)
def test_the_running_feeder_goes_on_if_the_new_one_is_killed(
    run, feed_name, point
) -> None:
    running = run()
    with served(feed_name) as (feed, ring, first):
        killed = run("--takeover", point=point)
        assert killed.wait(30) == -signal.SIGKILL
        until(lambda: served_by(feed) == running.pid)
        assert ring.wait(ring.count + 2, timeout=20)
        until(lambda: feed.status()["health"] == "live")
        following = run("--takeover")  # the control socket is there again
        assert running.wait(30) == 0
        assert ring.wait(ring.count + 1, timeout=20)
        assert faults_of(feed, first) == {}
    end(following)


@pytest.mark.parametrize("point", STOPPED)
def test_a_new_feeder_that_hangs_is_not_waited_for(run, feed_name, point) -> None:
    running = run(point="is impatient")
    with served(feed_name) as (feed, ring, first):
        hanging = run("--takeover", point=point)
        for line in running.stderr:
            if "this one goes on" in line:
                break
        until(lambda: served_by(feed) == running.pid)
        assert ring.wait(ring.count + 2, timeout=20)
        hanging.send_signal(signal.SIGCONT)
        assert hanging.wait(20) in (1, 4)  # it has no right to the feed
        assert ring.wait(ring.count + 1, timeout=20)
        assert served_by(feed) == running.pid
        assert faults_of(feed, first) == {}
    end(running)


@pytest.mark.parametrize("point", OF_THE_OLD)
def test_the_new_feeder_serves_if_the_running_one_is_killed(
    run, feed_name, point
) -> None:
    running = run(point=point)
    with served(feed_name) as (feed, ring, first):
        following = run("--takeover")
        assert running.wait(30) == -signal.SIGKILL
        until(lambda: served_by(feed) == following.pid)
        assert ring.wait(ring.count + 2, timeout=20)
        until(lambda: feed.status()["health"] == "live")
        assert faults_of(feed, first) == {}
    end(following)
