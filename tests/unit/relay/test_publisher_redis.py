"""A publisher with a real Redis: what a follower finds there is the segment's."""

import os
import signal

import numpy as np
import pytest
from support.beating import A, Beating, append
from support.publishing import publishing
from support.waiting import until

from shmfeed.relay.engine import EngineAwayError, MustJoinError

B = ("B", "5m")


@pytest.fixture
def feed(feed_name):
    with Beating(feed_name) as feed:
        yield feed


def rows_of(found):
    """Return the rows of each stream of blocks with numbers."""
    rows = {}
    for numbers, block in found:
        columns = block.view(np.int64).T.tolist()
        for number, row in zip(numbers.tolist(), columns, strict=True):
            rows.setdefault(number, []).append(tuple(row))
    return rows


def joined_rows(engine):
    """Return the rows by stream that a follower joins with; {} if it cannot."""
    try:
        joined = engine.join()
        rows = rows_of(engine.rings(joined.catalog))
    except (EngineAwayError, MustJoinError):
        return {}
    return {joined.catalog.streams[number]: found for number, found in rows.items()}


def test_a_follower_joins_with_the_rows_and_follows(feed, engines):
    append(feed.ring, 1, 2, 3)
    follower = engines.make()
    with publishing(feed.writer.name, engines.make()) as publisher:
        until(lambda: joined_rows(follower) == {A: feed.rows(A)})
        joined = follower.join()
        assert joined.head.leader == "here:1"
        assert joined.head.state == "connected"
        assert follower.head().identity == joined.head.identity
        assert joined.marks[0].subscribed
        append(feed.ring, 4)
        feed.ring.update_forming(5 * 60_000, 5, 6, 5, 5.5, 1)
        found, forming, position = [], [], joined.position
        while not found or not forming:
            for entry in follower.follow(position, 5.0):
                found += rows_of([entry.flush.closed]).get(0, [])
                forming += rows_of([entry.flush.forming]).get(0, [])
                position = entry.position
                assert entry.delay < 5.0
        assert found == feed.rows(A)[-1:]
        assert forming[-1][0] == 5 * 60_000
        until(lambda: publisher.status["lag"] is not None)
    assert follower.leadership().epoch == 0


def test_repairs_and_new_streams_reach_a_follower(feed, engines):
    append(feed.ring, *range(1, 31))
    follower = engines.make()
    with publishing(feed.writer.name, engines.make()):
        until(lambda: joined_rows(follower))
        rows = feed.writer.reader(A).snapshot(50).block
        rows[5, 7] = 99.0
        feed.writer.replace_rows(*A, rows)
        append(feed.writer.add_stream(*B), 5, 10, minutes=5)
        truth = {key: feed.rows(key) for key in (A, B)}
        until(lambda: joined_rows(follower) == truth)
        feed.writer.drop_rows(*A, 20 * 60_000)
        truth = {key: feed.rows(key) for key in (A, B)}
        until(lambda: joined_rows(follower) == truth)


def test_a_redis_that_was_restarted_empty_has_all_again(feed, engines, redis_server):
    append(feed.ring, 1, 2, 3)
    follower = engines.make()
    with publishing(feed.writer.name, engines.make()) as publisher:
        until(lambda: joined_rows(follower))
        before = follower.leadership().epoch
        redis_server.restart()
        append(feed.ring, 4)
        until(lambda: joined_rows(follower) == {A: feed.rows(A)})
        assert follower.leadership().epoch > before
        until(lambda: publisher.status["error"] is None)


def test_keys_that_were_deleted_are_written_again(feed, engines, redis_server):
    append(feed.ring, 1, 2, 3)
    follower = engines.make()
    with publishing(feed.writer.name, engines.make()):
        until(lambda: joined_rows(follower))
        redis_server.do("FLUSHALL")
        append(feed.ring, 4)
        until(lambda: joined_rows(follower) == {A: feed.rows(A)})


PROCESS = """
import signal, sys, threading
from shmfeed.relay.process import run_publisher
from shmfeed.relay.redis_connection import RedisTarget

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
target = RedisTarget("127.0.0.1", int(sys.argv[2]))
run_publisher(sys.argv[1], "shared", target, 0.02, stop)
"""


def test_a_stopped_leader_that_wakes_is_refused_and_writes_nothing(
    feed, feed_name, child, engines, redis_server
):
    append(feed.ring, 1, 2)
    follower = engines.make("shared")
    leader = child(PROCESS, feed_name, redis_server.port)
    until(lambda: joined_rows(follower) == {A: feed.rows(A)})
    before = follower.leadership()
    os.kill(leader.pid, signal.SIGSTOP)
    append(feed.ring, 3, 4)  # which it has not told yet
    with Beating(feed_name + "-b") as other:
        append(other.ring, 1, 2, 5)
        standby = publishing(other.writer.name, engines.make("shared"), "there:2")
        with standby as publisher:
            until(lambda: publisher.status["role"] == "leader")
            until(lambda: joined_rows(follower) == {A: other.rows(A)})
            now = follower.leadership()
            assert now.leader == "there:2"
            assert now.epoch > before.epoch
            position = follower.join().position
            until(lambda: before.leader not in members(redis_server, "shared"))
            os.kill(leader.pid, signal.SIGCONT)
            # Once it has told that it lives, it has met the fence.
            until(lambda: before.leader in members(redis_server, "shared"))
            append(other.ring, 6)
            until(lambda: joined_rows(follower) == {A: other.rows(A)})
            assert follower.leadership() == now
            entries = follower.follow(position, 1.0)
            assert {one.position.epoch for one in entries} == {now.epoch}
            leader.terminate()
            assert leader.wait(20.0) == 0, leader.stderr.read()


def members(redis_server, name):
    found = redis_server.do("HVALS", f"{{shmfeed:{name}}}:members")
    return " ".join(value.decode() for value in found)
