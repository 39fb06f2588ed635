"""A publisher: it leads, stands by, and never loses or doubles a row."""

import time
from contextlib import ExitStack

import pytest
from support.beating import HERE, A, Beating, append
from support.leasing import LeasingFeeder, join_keepers, serving
from support.memory_engine import MemoryEngine, MemoryServer, rows_of
from support.publishing import publishing
from support.waiting import until

from shmfeed.identity import FeedIdentity
from shmfeed.layout import H_ALIVE, H_TICK
from shmfeed.relay.changes import ChangeReader
from shmfeed.relay.engine import Answer, EngineAwayError, Leadership, Request
from shmfeed.wire.boot_clock import boot_seconds

MINUTE = 60_000
THERE = FeedIdentity("wealthai", "sim", ("127.0.0.1",))


@pytest.fixture
def server():
    return MemoryServer()


@pytest.fixture
def feed(feed_name):
    with Beating(feed_name) as feed:
        yield feed


@pytest.fixture
def other(feed_name):
    """Return the feed of another host."""
    with Beating(feed_name + "-b") as other:
        yield other


def fill(ring):
    """Make a stream live."""
    append(ring, 1)
    ring.update_forming(2 * MINUTE, 1, 2, 1, 1.5, 1)


def opens(server, key=A):
    return sorted(opened // MINUTE for opened in server.rows.get(key, ()))


def has(server, *numbers):
    server.wait_for(lambda: opens(server) == list(numbers))


def test_it_leads_and_tells_all_then_each_change(feed, server):
    append(feed.ring, 1, 2)
    with publishing(feed.writer.name, MemoryEngine(server)) as publisher:
        has(server, 1, 2)
        epoch, first = server.flushes[0]
        assert epoch == server.epoch == server.leadership.epoch
        assert first.is_whole
        assert first.head.identity == HERE
        assert first.head.leader == "here:1"
        assert first.head.state == "connected"
        append(feed.ring, 3)
        has(server, 1, 2, 3)
        feed.ring.update_forming(4 * MINUTE, 4, 5, 4, 4.5, 1)
        server.wait_for(lambda: A in server.forming)
        until(lambda: publisher.status["lag"] is not None)
        status = publisher.status
        assert status["role"] == "leader"
        assert status["leader"] == "here:1"
        assert status["epoch"] == server.epoch
        assert status["error"] is None
        assert status["behind"] == 0
    assert server.leadership.epoch == 0  # it has resigned
    assert sum(flush.is_whole for _, flush in server.flushes) == 1
    assert publisher._engine.is_closed


def test_each_row_is_told_once(feed, server):
    append(feed.ring, 1)
    with publishing(feed.writer.name, MemoryEngine(server)):
        has(server, 1)
        for number in range(2, 40):
            append(feed.ring, number)
        server.wait_for(lambda: opens(server)[-1] == 39)
    told = [
        row[0] // MINUTE
        for _, flush in server.flushes
        for _, row in rows_of(flush.closed, (A,))
    ]
    assert told == [*range(1, 40)]


def test_a_closed_bar_does_not_wait_for_the_interval(feed, server):
    with publishing(feed.writer.name, MemoryEngine(server), flush_interval=300.0):
        server.wait_for(lambda: server.flushes)
        feed.ring.update_forming(1 * MINUTE, 1, 2, 1, 1.5, 1)
        append(feed.ring, 1)
        has(server, 1)


def test_it_waits_for_a_feed_that_is_not_there_yet(feed_name, server):
    with publishing(feed_name, MemoryEngine(server)) as publisher:
        until(lambda: publisher.status["error"])
        assert "there is no feed" in publisher.status["error"]
        assert publisher.status["role"] == "standby"
        with Beating(feed_name) as feed:
            append(feed.ring, 1)
            has(server, 1)
            until(lambda: publisher.status["error"] is None)


def test_the_head_comes_each_beat_and_at_once_with_a_state(feed, server):
    def heads():
        return [flush.head for _, flush in server.flushes if flush.head]

    with publishing(feed.writer.name, MemoryEngine(server)):
        server.wait_for(lambda: len(heads()) >= 3)
        feed.writer.set_state("reconnecting")
        server.wait_for(lambda: heads()[-1].state == "reconnecting")
        assert heads()[-1].identity == HERE


def test_a_dead_feed_is_told_as_disconnected(feed, server):
    with publishing(feed.writer.name, MemoryEngine(server)):
        server.wait_for(lambda: server.head)
        feed.stop_beating()
        ints = feed.writer._words.ints
        ints[H_ALIVE] = ints[H_TICK] = 0
        server.wait_for(lambda: server.head.state == "disconnected")
        assert server.leadership.epoch  # no other is fitter


def test_after_a_lost_reply_all_is_told_again(feed, server):
    with publishing(feed.writer.name, MemoryEngine(server)) as publisher:
        server.wait_for(lambda: server.flushes)
        server.lost_replies = 1
        append(feed.ring, 1)
        wholes = lambda: [f for _, f in server.flushes if f.is_whole]  # noqa: E731
        server.wait_for(lambda: len(wholes()) == 2)
        has(server, 1)
        append(feed.ring, 2)
        has(server, 1, 2)
        until(lambda: publisher.status["error"] is None)
    assert {epoch for epoch, _ in server.flushes} == {server.epoch}


def test_an_engine_that_is_away_is_told_and_comes_back(feed, server):
    with publishing(feed.writer.name, MemoryEngine(server)) as publisher:
        server.wait_for(lambda: server.flushes)
        server.is_away = True
        append(feed.ring, 1)
        until(lambda: publisher.status["error"] == "the test's engine is away")
        until(lambda: publisher.status["behind"] >= 1)
        append(feed.ring, 2)
        assert opens(server) == []
        server.is_away = False
        has(server, 1, 2)
        until(lambda: publisher.status["error"] is None)
        assert publisher.status["behind"] == 0


def test_a_leader_that_another_has_replaced_stands_by(feed, server):
    with publishing(feed.writer.name, MemoryEngine(server)) as publisher:
        server.wait_for(lambda: server.flushes)
        with server.changed:  # as after a long stop of its process
            server.epoch += 1
            server.leadership = Leadership("there:2", server.epoch, 1)
            server.expires = time.monotonic() + 60.0
            told = len(server.flushes)
        append(feed.ring, 1)
        until(lambda: publisher.status["role"] == "standby")
        until(lambda: publisher.status["leader"] == "there:2")
        assert len(server.flushes) == told
        with server.changed:
            server.leadership = Leadership("", 0, 0)
        has(server, 1)
        assert server.flushes[-1][0] > server.flushes[0][0]


def test_without_the_fence_a_replaced_leader_would_write(feed, server):
    # The control of the test above: its assertion sees a server that does not check.
    server.checks_epoch = False
    with publishing(feed.writer.name, MemoryEngine(server), flush_interval=0.005):
        server.wait_for(lambda: server.flushes)
        with server.changed:
            server.epoch += 1
            server.leadership = Leadership("there:2", server.epoch, 1)
            server.expires = time.monotonic() + 60.0
            told = len(server.flushes)
            append(feed.ring, 1)
        server.wait_for(lambda: len(server.flushes) > told)


def test_a_standby_takes_over_from_a_leader_that_ends(feed, other, server):
    append(feed.ring, 1, 2)
    append(other.ring, 1, 2)
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        first.enter_context(publishing(feed.writer.name, MemoryEngine(server)))
        has(server, 1, 2)
        second = publishing(other.writer.name, MemoryEngine(server), "there:2")
        standby = stack.enter_context(second)
        until(lambda: standby.status["leader"] == "here:1")
        assert standby.status["role"] == "standby"
        first.close()
        append(other.ring, 3)
        has(server, 1, 2, 3)
        until(lambda: standby.status["role"] == "leader")
    assert server.flushes[-1][0] > server.flushes[0][0]


def test_a_leader_whose_feed_is_dead_resigns_to_a_fit_one(feed, other, server):
    append(other.ring, 1)
    other.ring.update_forming(2 * MINUTE, 1, 2, 1, 1.5, 1)
    with (
        publishing(feed.writer.name, MemoryEngine(server)) as leader,
        publishing(other.writer.name, MemoryEngine(server), "there:2") as standby,
    ):
        server.wait_for(lambda: server.leadership.leader and len(server.members) == 2)
        lost, won = feed, standby
        if server.leadership.leader == "there:2":
            lost, won = other, leader
            feed.ring.update_forming(2 * MINUTE, 1, 2, 1, 1.5, 1)
        lost.stop_beating()
        ints = lost.writer._words.ints
        ints[H_ALIVE] = ints[H_TICK] = 0
        until(lambda: won.status["role"] == "leader")


@pytest.mark.parametrize("is_added", [True, False])
def test_a_stream_for_followers_alone_makes_no_leader_resign(
    feed, other, server, feed_name, is_added
):
    wanted = ("X", "1m")
    fill(other.ring)
    fill(feed.ring)
    if not is_added:  # the control: a stream of its own that is stale
        feed.writer.add_stream(*wanted)
    server.wants["there:1"] = Request("there:1", (wanted,))
    with (
        serving(feed_name, LeasingFeeder()),
        publishing(feed_name, MemoryEngine(server)),
    ):
        server.wait_for(lambda: server.answers)
        feed.writer.add_stream(*wanted)
        feed.writer.explain(wanted, "dropped", "all of them")
        with publishing(other.writer.name, MemoryEngine(server), "there:2"):
            if is_added:
                server.wait_for(lambda: "there:2" in server.members)
                for _ in range(2):  # it looks at the other one, and stays
                    told = server.members["here:1"]
                    server.wait_for(lambda told=told: server.members["here:1"] != told)
                assert server.leadership.leader == "here:1"
            else:
                server.wait_for(lambda: server.leadership.leader == "there:2")
    join_keepers()


def test_a_leader_whose_flushes_do_not_arrive_gives_way(
    feed, other, server, monkeypatch
):
    """Of a path on which small packets pass and large ones do not, for example."""

    def fail(_):
        raise EngineAwayError("no answer in time")

    fill(feed.ring)
    fill(other.ring)
    with publishing(feed.writer.name, MemoryEngine(server)) as leader:
        server.wait_for(lambda: server.flushes)
        monkeypatch.setattr(leader._engine, "flush", fail)
        until(lambda: leader.status["behind"] >= 3)
        assert server.leadership.leader == "here:1"  # there is no other
        with publishing(other.writer.name, MemoryEngine(server), "there:2"):
            server.wait_for(lambda: server.leadership.leader == "there:2")
            until(lambda: leader.status["leader"] == "there:2")
            assert leader.status["error"] is None


def test_a_leader_that_resigns_gives_its_leases_back_first(
    feed, other, server, feed_name, monkeypatch
):
    """The engine may be away in the next moment."""
    fill(other.ring)
    server.wants["there:1"] = Request("there:1", (A,))
    with (
        serving(feed_name, LeasingFeeder()) as feeder,
        publishing(feed_name, MemoryEngine(server)) as leader,
    ):
        server.wait_for(lambda: server.answers)

        def fail():
            server.wants.clear()
            raise EngineAwayError("the reply was lost")

        monkeypatch.setattr(leader._engine, "resign", fail)
        feed.writer.explain(A, "dropped", "all of them")
        with publishing(other.writer.name, MemoryEngine(server), "there:2"):
            until(lambda: leader.status["role"] == "standby")
            until(lambda: feeder.streams() == [])
            assert leader.status["lag"] is None
    join_keepers()


def test_ages_count_from_before_the_read(feed, server, monkeypatch):
    read, done = ChangeReader.read, []

    def note(self, everything=True):
        flush = read(self, everything)
        done.append(boot_seconds())
        return flush

    monkeypatch.setattr(ChangeReader, "read", note)
    began = boot_seconds()
    with publishing(feed.writer.name, MemoryEngine(server)):
        server.wait_for(lambda: server.flushes)
        _, first = server.flushes[0]
    assert began <= first.read_at <= done[0]


def test_it_ends_without_a_word_to_an_engine_that_is_away(feed, server, monkeypatch):
    with publishing(feed.writer.name, MemoryEngine(server)) as publisher:
        server.wait_for(lambda: server.flushes)
        server.is_away = True
        until(lambda: publisher.status["behind"])
        monkeypatch.setattr(publisher._engine, "resign", pytest.fail)
    assert server.leadership.leader == "here:1"


def test_another_identity_under_the_name_is_refused(feed, server, feed_name):
    with publishing(feed.writer.name, MemoryEngine(server)):
        server.wait_for(lambda: server.head)
    told = len(server.flushes)
    name = feed_name + "-b"
    with (
        Beating(name, identity=THERE),
        publishing(name, MemoryEngine(server), "there:2") as refused,
    ):
        until(lambda: refused.status["error"])
    error = refused.status["error"]
    assert str(HERE) in error
    assert str(THERE) in error
    assert len(server.flushes) == told
    assert server.epoch == server.flushes[-1][0]  # nor was an epoch taken


def test_another_identity_beside_a_leader_is_no_member(feed, server, feed_name):
    """Else a leader in bad health would resign to it, again and again."""
    name = feed_name + "-b"
    with publishing(feed.writer.name, MemoryEngine(server)):
        server.wait_for(lambda: server.head)
        with (
            Beating(name, identity=THERE),
            publishing(name, MemoryEngine(server), "there:2") as refused,
        ):
            until(lambda: refused.status["error"])
            assert str(HERE) in refused.status["error"]
            assert "there:2" not in server.members


def test_a_feed_that_is_recreated_is_told_whole(feed, server, feed_name):
    append(feed.ring, 1, 2)
    with publishing(feed_name, MemoryEngine(server)):
        has(server, 1, 2)
        feed.close()
        with Beating(feed_name, history=80) as again:
            append(again.ring, 3)
            has(server, 1, 2, 3)
            server.wait_for(lambda: server.catalog.history == 80)


def test_a_feed_that_is_followed_itself_is_not_published(feed, server):
    feed.writer.set_text("relay", {"role": "follower", "leader": "there:2"})
    with publishing(feed.writer.name, MemoryEngine(server)) as publisher:
        until(lambda: publisher.status["error"])
        assert "is itself followed" in publisher.status["error"]
    assert server.epoch == 0


def test_requests_are_answered(feed, server, feed_name):
    server.wants["there:1"] = Request("there:1", (A,))
    with (
        serving(feed_name, LeasingFeeder()) as feeder,
        publishing(feed_name, MemoryEngine(server)),
    ):
        server.wait_for(lambda: server.answers)
        assert server.answers == {"there:1": Answer((A,), {})}
        assert feeder.streams() == [A]
    join_keepers()


def test_its_status_is_told(feed, server):
    told = []
    with publishing(feed.writer.name, MemoryEngine(server), tell=told.append):
        until(lambda: any(one["role"] == "leader" for one in told))
    assert told[0]["role"] in ("standby", "leader")
    assert set(told[-1]) == {
        "role",
        "leader",
        "epoch",
        "since",
        "lag",
        "behind",
        "error",
    }


def test_a_busy_feed_reaches_the_engine_whole(feed_name, server, rng):
    streams = [(f"S{number}", "1m") for number in range(20)]
    with (
        Beating(feed_name, streams=streams, max_streams=32) as feed,
        publishing(feed_name, MemoryEngine(server)),
    ):
        rings = [feed.writer.add_stream(*key) for key in streams]
        for number in range(1, 200):
            for ring in rings:
                append(ring, number, wake=False)
                if rng.random() < 0.2:
                    ring.update_forming((number + 1) * MINUTE, 1, 2, 1, rng.random(), 1)
            feed.writer.wake()
            if number % 20 == 0:
                key = streams[rng.integers(len(streams))]
                rows = feed.writer.reader(key).snapshot(50).block
                rows[5, rng.integers(rows.shape[1])] = rng.random()
                feed.writer.replace_rows(*key, rows)

        def rows_told(key):
            rows = server.rows.get(key, {})
            return [rows[opened] for opened in sorted(rows)[-50:]]

        server.wait_for(
            lambda: all(rows_told(key) == feed.rows(key) for key in streams)
        )
