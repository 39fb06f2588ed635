"""follow: each change of health, and feeds and streams that come and go."""

import os
import signal
import time
from collections.abc import Iterator
from itertools import islice

import pytest
from conftest import Child
from support.followed import Event, bars, beating, close, short
from support.sleeping import InThread
from support.waiting import until

import shmfeed.waiting
import wealthdata
from shmfeed.errors import MissingBarsWarning, StaleFeedWarning
from shmfeed.feed import attach
from shmfeed.layout import DEAD_NS
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create
from wealthdata import Closed, Health, follow, following, waiting
from wealthdata.followed_stream import FollowedStream

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.usefixtures("own_record")

LONG = 20.0


@pytest.fixture
def alive(writer: FeedWriter) -> Iterator[FeedWriter]:
    """Create the feed, and keep its feeder alive."""
    with beating(writer):
        yield writer


@pytest.fixture
def a(alive: FeedWriter) -> RingWriter:
    ring = alive.add_stream("A", "1m")
    close(ring, -1, 0)
    return ring


HALTED, DROPPED = ("closed", "halted since May"), ("dropped", "all: off the grid")


class TestChanges:
    def test_each_comes_with_its_reason(self, alive, a) -> None:
        loop = follow("A", "1m", LONG)
        key = "A", "1m"
        alive.explain(key, *HALTED)
        assert next(loop) == Health("A", "1m", "live", "closed", "halted since May")
        alive.explain(key, "", "")
        assert next(loop) == Health("A", "1m", "closed", "live", "")
        alive.unsubscribe(*key)
        event = next(loop)
        assert event[:4] == ("A", "1m", "live", "stale")
        assert event.why.startswith("unsubscribed ")

    def test_one_between_two_loops_is_told(self, alive, a) -> None:
        assert list(follow("A", "1m", 0)) == []
        alive.explain(("A", "1m"), *HALTED)
        assert short(follow("A", "1m", 0)) == [("live", "closed")]
        assert list(follow("A", "1m", 0)) == []

    def test_the_first_bar_comes_before_the_change_that_it_makes(self, alive) -> None:
        ring = alive.add_stream("A", "1m")
        loop = follow("A", "1m", LONG)
        close(ring, 1)
        assert short(islice(loop, 2)) == [1, ("waiting", "live")]

    @pytest.mark.parametrize("reason", [HALTED, DROPPED])
    def test_an_outage_comes_after_the_bars_and_ends_before_them(
        self, alive, a, reason
    ) -> None:
        loop = follow("A", "1m", LONG)
        close(a, 1)
        alive.explain(("A", "1m"), *reason)
        worse = {HALTED: "closed", DROPPED: "stale"}[reason]
        assert short(islice(loop, 2)) == [1, ("live", worse)]
        close(a, 2)
        alive.explain(("A", "1m"), "", "")
        assert short(islice(loop, 2)) == [(worse, "live"), 2]

    def test_of_a_timeframe_that_is_rolled_up(self, alive, a) -> None:
        loop = follow("A", ["1m", "5m"], LONG)
        alive.explain(("A", "1m"), *HALTED)
        assert [event[1:4] for event in islice(loop, 2)] == [
            ("1m", "live", "closed"),
            ("5m", "live", "closed"),
        ]


FEEDER = """
import sys, time
import shmfeed
writer = shmfeed.create(sys.argv[1], history=100, max_streams=8)
ring = writer.add_stream("A", "1h")
number = writer.reader(("A", "1h")).count
ring.append(number * 3_600_000, 1.0, 1.0, 1.0, 1.0, 1.0)
print("ready", flush=True)
while True:
    writer.beat()
    time.sleep(0.2)
"""


def feeder(child: Child, name: str):
    process = child(FEEDER, name)
    assert process.stdout.readline() == "ready\n"
    return process


class TestDeath:
    """A feeder in a process of its own, killed by SIGKILL."""

    def test_a_kill_is_told_without_a_timeout_and_so_is_its_end(
        self, strategy, child
    ) -> None:
        process = feeder(child, strategy)
        loop = follow("A", "1h")
        os.kill(process.pid, signal.SIGKILL)
        killed = time.monotonic()
        event = next(loop)
        assert event[:4] == ("A", "1h", "live", "dead")
        assert event.why.startswith("no heartbeat of the feeder for ")
        assert time.monotonic() - killed > DEAD_NS / 1e9 - 0.5
        process.wait()
        process = feeder(child, strategy)
        healths, closed = [event], 0
        while not closed or healths[-1].new != "live":
            event = next(loop)
            if isinstance(event, Closed):
                assert len(healths) > 1  # its life comes first
                closed += 1
            else:
                assert event.old == healths[-1].new
                healths.append(event)
        assert closed == 1
        process.kill()
        process.wait()
        create_again(strategy)

    def test_it_is_told_when_the_heartbeat_expires(self, strategy, monkeypatch) -> None:
        """Not at the next recheck, which is far."""
        monkeypatch.setattr(following, "_RECHECK_SECONDS", LONG)
        monkeypatch.setattr(shmfeed.waiting, "RECHECK_NS", int(LONG * 1e9))
        with create(strategy, history=10, max_streams=2) as made:
            close(made.add_stream("A", "1h"), 0)
            start = time.monotonic()
            assert next(follow("A", "1h"))[2:4] == ("live", "dead")
            assert time.monotonic() - start < LONG / 2
            made.close(unlink=True)

    def test_a_feeder_that_closes_is_told_promptly(self, strategy) -> None:
        with create(strategy, history=10, max_streams=2) as made:
            close(made.add_stream("A", "1h"), 0)
            waiter = InThread(next, follow("A", "1h")).asleep(ring_of(strategy))
            made.close()
            assert waiter.result()[2:4] == ("live", "dead")
            assert waiter.seconds < LONG / 2
        create_again(strategy)

    def test_without_a_look_at_health_it_is_not(self, strategy, monkeypatch) -> None:
        """The control."""
        monkeypatch.setattr(FollowedStream, "_health_change", lambda _: iter(()))
        with create(strategy, history=10, max_streams=2) as made:
            close(made.add_stream("A", "1h"), 0)
            loop = follow("A", "1h", 0.5)
            made.close()
            assert list(loop) == []
        create_again(strategy)


def ring_of(name: str):
    return wealthdata.attachment.attached_feed(name).ring(("A", "1h"))


def create_again(name: str) -> None:
    """Remove a feed that no process holds."""
    until(lambda: not attach(name).alive(), what="its feeder is dead")
    create(name, history=100, max_streams=8).close(unlink=True)


class TestFeedsThatComeLater:
    def test_one_that_is_not_there_is_warned_of_and_found(self, strategy) -> None:
        with pytest.warns(StaleFeedWarning, match="is dead: not on this host") as seen:
            loop = follow("A", "1m")
        assert seen[0].filename == __file__
        waiter = InThread(lambda: list(islice(bars_of(loop), 2))).asleep()
        with create(strategy, history=10, max_streams=2) as made:
            ring = made.add_stream("A", "1m")
            close(ring, 1)
            close(ring, 2)
            assert short(waiter.result()) == [1, 2]
            made.close(unlink=True)

    def test_its_change_of_health_is_told(self, strategy) -> None:
        with pytest.warns(StaleFeedWarning):
            loop = follow("A", "1m", LONG)
        with create(strategy, history=10, max_streams=2) as made, beating(made):
            ring = made.add_stream("A", "1m")
            close(ring, 1)
            found = list(islice(loop, 2))
            while short(found)[-1] != 1:
                found.append(next(loop))
            assert found[0][2] == "dead"
            made.close(unlink=True)

    @pytest.mark.filterwarnings("error")
    def test_it_is_not_warned_of_if_stale_is_ignored(self, strategy) -> None:
        wealthdata.use(on_stale="ignore")
        assert list(follow("A", "1m", 0)) == []

    def test_a_second_loop_does_not_warn(self, strategy, recwarn) -> None:
        for _ in range(3):
            assert list(follow(["A", "B"], "1m", 0)) == []
        assert [str(each.message)[:30] for each in recwarn] == [
            f"feed {strategy!r} is dead: not"[:30]
        ]

    def test_a_stream_that_is_not_carried_yet(self, alive, a) -> None:
        waiting._warned.clear()
        with pytest.warns(MissingBarsWarning, match="does not carry X 1m; follow wait"):
            loop = follow(["X", "A"], "1m", LONG)
        close(a, 1)
        assert short([next(loop)]) == [1]
        other = alive.add_stream("X", "1m")
        event = next(loop)
        assert event[:4] == ("X", "1m", "stale", "waiting")
        assert event.why.startswith("no bar yet")
        close(other, 1)
        assert [e.symbol for e in islice(loop, 2)] == ["X", "X"]

    def test_a_stream_whose_room_was_given_away(self, strategy) -> None:
        with create(strategy, history=10, max_streams=1) as made, beating(made):
            close(made.add_stream("A", "1m"), 0)
            loop = follow("A", "1m", LONG)
            made.unsubscribe("A", "1m")
            assert next(loop)[2:4] == ("live", "stale")
            close(made.add_stream("B", "1m"), 0)
            made.unsubscribe("B", "1m")
            close(made.add_stream("A", "1m"), 1)
            found = list(islice(loop, 2))
            assert [event for event in short(found) if event == 1] == [1]
            made.close(unlink=True)


def bars_of(loop) -> Iterator[Event]:
    return (event for event in loop if isinstance(event, Closed))


def test_the_feeder_of_a_recreated_segment_is_followed(strategy) -> None:
    """With other rooms and streams: the rings are found again."""
    loop = None
    for number in range(4):
        made = create(strategy, history=10 + number, max_streams=2 + number)
        with made, beating(made):
            for symbol in ["X", "Y"][: number % 3]:
                made.add_stream(symbol, "1m")
            ring = made.add_stream("A", "1m")
            close(ring, number)
            loop = loop or bars(timeout=LONG)
            if number:
                assert short([next(loop)]) == [number]
            made.close(unlink=True)
