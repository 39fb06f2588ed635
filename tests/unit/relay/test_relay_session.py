"""A follower's session by itself: links, changes, and their ends."""

import os
import threading
from contextlib import closing, contextmanager

import pytest
from support.feeding import settings
from support.following import SILENCE
from support.memory_leader import IDENTITY, FollowerEngine, MemoryFeed
from support.waiting import until

from shmfeed.control.wake_pipe import WakePipe
from shmfeed.layout import NO_BAR
from shmfeed.relay import link
from shmfeed.relay.engine import Answer, MustJoinError
from shmfeed.relay.flush import Catalog
from shmfeed.relay.news import LeaderNews
from shmfeed.relay.session import RelaySession
from shmfeed.wire.events import (
    ChangeRefused,
    Connected,
    ConnectionLost,
    StatusChanged,
    StreamsRefused,
    Subscribed,
)

BTC, ETH = ("BTCUSDT", "1m"), ("ETHUSDT", "1m")
ADDRESSES = ["redis://one/0", "redis://two/0"]


class Following:
    """A session, its batches and all events that it has handed over."""

    def __init__(self, leader, streams=(), opened=None, **given):
        self.leader = leader
        self.opened = [] if opened is None else opened
        names = {
            "symbols": list(dict.fromkeys(symbol for symbol, _ in streams)),
            "resolutions": list(dict.fromkeys(name for _, name in streams)),
        }
        self.settings = settings("feed", "ws://127.0.0.1:9", **names, **given)
        self.pipe = WakePipe()
        self.session = RelaySession(
            self.open_engine,
            ADDRESSES,
            self.settings,
            IDENTITY,
            tuple(streams),
            follower=f"here:{os.getpid()}",
            wake=self.pipe.wake,
            wake_fd=self.pipe.fd,
        )
        self.events = []
        self.batches = self.session.batches()

    def open_engine(self, settings, address):
        self.opened.append((address, settings.name))
        return FollowerEngine(self.leader)

    def take(self, true, timeout=10.0):
        """Take batches until something is true."""

        def step():
            self.events += next(self.batches)
            return true()

        until(step, timeout)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def state(self):
        return self.session.status.state


def is_whole(event):
    return isinstance(event, LeaderNews) and bool(event.whole)


@contextmanager
def following(*given, **more):
    one = Following(*given, **more)
    with closing(one.pipe), closing(one.batches):
        yield one


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setattr(SILENCE, 60.0)  # the leader tells nothing by itself


@pytest.fixture
def leader():
    feed = MemoryFeed([BTC, ETH])
    for stream in (0, 1):
        feed.close(range(10), stream)
    return feed


def test_events_in_order(leader):
    with following(leader) as one:
        one.take(lambda: one.state == "connected")
        kinds = [type(event).__name__ for event in one.events]
        assert kinds == [
            "StatusChanged",
            "Connected",
            "Subscribed",
            *["LeaderNews"] * 3,
            "Subscribed",
            "StatusChanged",
        ]
        first, last = one.of(Subscribed)
        assert first == Subscribed((BTC, ETH))
        assert last == Subscribed((BTC, ETH), covered=(BTC, ETH))
        assert one.session.followed == (BTC, ETH)
        rows = one.of(LeaderNews)
        assert [news.whole for news in rows] == [(0,), (1,), ()]
        assert rows[2].marks == leader.marks
        assert rows[2].forming.numbers.tolist() == [0, 1]
        opens = rows[2].forming.block[0].view("int64")
        assert opens.tolist() == [NO_BAR, NO_BAR]  # an earlier leader's are gone
    states = [event.new.state for event in one.of(StatusChanged)]
    assert states == ["connecting", "connected"]


def test_each_attempt_opens_an_engine_at_the_next_address(leader):
    leader.lose()
    with following(leader, name="mine") as one:
        one.take(lambda: len(one.opened) >= 3)
        assert one.opened[:3] == [
            ("redis://one/0", "mine"),
            ("redis://two/0", "mine"),
            ("redis://one/0", "mine"),
        ]
        one.take(lambda: one.state == "error")
        assert one.session.status.attempts >= 3
        leader.come_back()
        one.take(lambda: one.state == "connected")
        assert one.session.status.attempts == 0
    assert leader.open == 0


def test_a_lost_position_joins_again_by_the_same_engine(leader):
    with following(leader) as one:
        one.take(lambda: one.state == "connected")
        opened = len(one.opened)
        leader.trim()
        one.take(lambda: len(one.of(Connected)) == 2)
        one.take(lambda: one.state == "connected")
        assert len(one.opened) == opened
        lost = one.of(ConnectionLost)
        assert [(e.uncovered, e.reason) for e in lost] == [
            ((BTC, ETH), "the log was trimmed")
        ]


def test_a_position_that_is_always_lost_does_not_spin(leader, monkeypatch):
    def follow(*_):
        raise MustJoinError("again")

    monkeypatch.setattr(FollowerEngine, "follow", follow)
    with following(leader, reconnect_delay_base=5.0, reconnect_delay_max=5.0) as one:
        one.take(lambda: one.session.status.last_error == "again")
        one.take(lambda: True)
        assert leader.joins == 1


def test_a_fault_of_the_engine_ends_no_link(leader, monkeypatch):
    monkeypatch.setattr(link, "MOST_DELAY", 0.01)
    monkeypatch.setattr(FollowerEngine, "join", lambda _: 1 / 0)
    with following(leader) as one:
        one.take(lambda: "ZeroDivisionError" in one.session.status.last_error)
        monkeypatch.undo()
        one.take(lambda: one.state == "connected")


def test_retry_ends_a_wait(leader):
    leader.refused = "no rights"
    with following(leader) as one:
        one.take(lambda: one.state == "error")
        assert one.session.status.last_error == "no rights"
        assert one.session.status.next_attempt_at > 0
        leader.refused = ""
        one.session.retry()
        one.take(lambda: one.state == "connected", 4.0)  # it would wait for 5 s


def test_other_settings_reach_the_next_engine(leader):
    with following(leader, name="old") as one:
        one.take(lambda: one.state == "connected")
        new = settings(
            "feed", "ws://127.0.0.1:9", symbols=[], resolutions=[], name="new"
        )
        one.session.replace_connections(new)
        one.take(lambda: one.opened[-1] == ("redis://one/0", "new"))
        one.take(lambda: one.state == "connected")


def test_a_slow_main_loop_holds_the_link_up(leader, monkeypatch):
    monkeypatch.setattr(link, "MOST_WAITING", 4)
    with following(leader) as one:
        one.take(lambda: one.state == "connected")
        for number in range(10, 60):
            leader.close([number])
            until(lambda: one.session._link._items.qsize() <= 4)
        told = []

        def has_all():
            told[:] = [
                int(news.closed.block[0].view("int64")[-1]) // 60_000
                for news in one.of(LeaderNews)
                if not news.whole and len(news.closed.numbers)
            ]
            return told and told[-1] == 59

        one.take(has_all)
        assert told == [*range(10, 60)]
        assert one.session.relay()["behind"] == 0


def test_an_engine_that_hangs_does_not_hold_the_end_up(leader, monkeypatch):
    monkeypatch.setattr(link, "_END_SECONDS", 0.1)
    hangs, goes_on = threading.Event(), threading.Event()

    def follow(*_):
        hangs.set()
        goes_on.wait(20)
        return []

    monkeypatch.setattr(FollowerEngine, "follow", follow)
    try:
        with following(leader) as one:
            one.take(hangs.is_set)
            one.session.stop()
        assert one.session._link._thread.is_alive()
    finally:
        goes_on.set()
        one.session._link._thread.join()


class TestChanges:
    def test_streams_that_the_leader_carries(self, leader):
        with following(leader, [BTC]) as one:
            one.take(lambda: one.state == "connected")
            assert one.session.acknowledged == (BTC,)
            one.session.change((BTC, ETH))
            assert one.session.is_changing
            one.take(lambda: not one.session.is_changing)
            assert one.of(Subscribed)[-1] == Subscribed((BTC, ETH), True)
            told = len(one.events)
            one.take(lambda: leader.beat() or one.of(Subscribed)[-1].covered)
            assert one.of(Subscribed)[-1] == Subscribed((BTC, ETH), covered=(ETH,))
            brought = [event for event in one.events[told:] if is_whole(event)]
            assert [news.streams for news in brought] == [
                (ETH,)
            ]  # the rows that it had
            assert brought[0].closed.block.shape[1] == 10
            assert one.events.index(brought[0]) < one.events.index(
                one.of(Subscribed)[-1]
            )
            until(lambda: leader.asked == {f"here:{os.getpid()}": (BTC, ETH)})

    def test_rows_that_are_not_in_the_rings_yet(self, leader):
        with following(leader, [BTC]) as one:
            one.take(lambda: one.state == "connected")
            leader.is_late = True
            leader.close([10], 1)  # it is not carried here
            one.take(lambda: len(one.of(LeaderNews)[-1].closed.numbers) == 1)
            one.session.change((BTC, ETH))
            one.take(lambda: not one.session.is_changing)
            told = len(one.events)
            one.take(lambda: leader.beat() or one.of(Subscribed)[-1].covered)
            brought = [event for event in one.events[told:] if is_whole(event)]
            assert brought[0].closed.block.shape[1] == 11

    def test_one_that_is_refused(self, leader):
        other = ("XUSDT", "1m")
        leader.answer = lambda streams: Answer(
            streams, {key: "unknown symbol" for key in streams if key == other}
        )
        with following(leader, [BTC]) as one:
            one.take(lambda: one.state == "connected")
            one.session.change((BTC, other))
            one.take(lambda: one.of(ChangeRefused))
            assert one.of(ChangeRefused)[0].message == "unknown symbol"
            assert one.session.acknowledged == (BTC,)

    def test_one_that_is_refused_from_the_start(self, leader):
        other = ("XUSDT", "1m")
        leader.answer = lambda streams: Answer(streams, {other: "unknown symbol"})
        with following(leader, [BTC, other]) as one:
            one.take(lambda: one.of(StreamsRefused))
            assert one.of(StreamsRefused) == [((other,), "unknown symbol")]
            one.take(lambda: one.state == "connected")

    def test_one_without_an_answer(self, leader):
        leader.answer = lambda _: None
        with following(leader, [BTC], ack_timeout=0.1) as one:
            one.take(lambda: one.state == "connected")
            one.session.change((BTC, ("XUSDT", "1m")))
            one.take(lambda: one.of(ChangeRefused))
            assert "does not carry XUSDT 1m" in one.of(ChangeRefused)[0].message

    def test_one_while_the_link_is_away(self, leader):
        with following(leader, [BTC]) as one:
            one.take(lambda: one.state == "connected")
            leader.lose()
            one.take(lambda: one.state != "connected")
            one.session.change((ETH,))
            leader.come_back()
            one.take(lambda: one.session.acknowledged == (ETH,))
            one.take(lambda: leader.beat() or one.of(Subscribed)[-1].covered == (ETH,))

    def test_one_beside_a_stream_that_the_leader_lacks(self, leader):
        other = ("XUSDT", "1m")
        with following(leader, [BTC, other], ack_timeout=60.0) as one:
            one.take(lambda: one.state == "connected")
            one.session.change((BTC, other, ETH))
            one.take(lambda: not one.session.is_changing)
            one.session.change((BTC, other))  # a lease ends
            one.take(lambda: not one.session.is_changing)
            assert one.of(ChangeRefused) == []
            until(lambda: leader.asked == {f"here:{os.getpid()}": (BTC, other)})

    def test_one_while_the_leader_is_silent(self, leader, monkeypatch):
        monkeypatch.setattr(SILENCE, 0.0)
        with following(leader, [BTC, ETH]) as one:
            one.take(lambda: one.session.status.last_error.startswith("no leader"))
            one.session.change((BTC,))
            one.take(lambda: not one.session.is_changing)
            assert one.of(Subscribed)[-1] == Subscribed((BTC,), True)
            assert not any(event.covered for event in one.of(Subscribed))

    def test_streams_that_are_claimed(self, leader):
        other = ("XUSDT", "1m")
        leader.answer = lambda streams: Answer(streams, {other: "unknown symbol"})
        with following(leader, ack_timeout=0.001) as one:
            one.take(lambda: one.state == "connected")
            one.session.claim((BTC, other))
            one.take(lambda: one.of(StreamsRefused))
            assert one.of(ChangeRefused) == []
            asked = leader.asked.pop(f"here:{os.getpid()}")
            assert asked == (other,)
            until(lambda: set(leader.asked.values()) == {(other,)})  # and again

    def test_numbers_that_another_leader_gives(self, leader):
        with following(leader) as one:
            one.take(lambda: one.state == "connected")
            leader.flush(
                catalog=Catalog((ETH, BTC), 100),
                marks={0: leader.marks[1]._replace(why="eth"), 1: leader.marks[0]},
            )
            one.take(lambda: one.session.acknowledged == (ETH, BTC))
            assert one.of(ConnectionLost) == []


def test_what_is_left_of_a_leader_is_no_sign_of_life(leader):
    leader.delay = 600.0
    with following(leader) as one:
        one.take(lambda: one.session.status.last_error.startswith("no leader"))
        assert len(one.of(LeaderNews)) == 3  # its rows are there
        assert not any(event.covered for event in one.of(Subscribed))
        assert "connected" not in {event.new.state for event in one.of(StatusChanged)}
        leader.beat()  # however slow the link is
        one.take(lambda: one.state == "connected")


def test_a_silent_leader_comes_and_goes(leader, monkeypatch):
    monkeypatch.setattr(SILENCE, 0.05)
    with following(leader) as one:
        one.take(lambda: one.of(ConnectionLost))
        lost = one.of(ConnectionLost)[0]
        assert lost.uncovered == (BTC, ETH)
        assert lost.reason == "no leader: nothing from one:1 for 0.05 s or more"
        monkeypatch.setattr(SILENCE, 60.0)
        leader.beat()
        one.take(lambda: one.state == "connected")
        assert one.of(Subscribed)[-1].covered == (BTC, ETH)
        assert len(one.of(Connected)) == 1  # the link was there all the time
