"""A follower's feeder: the leader's rows, forming bars, marks and streams, as told."""

import os
import sqlite3
import time
from contextlib import closing

import numpy as np
import pytest
from support.blocks import MINUTE, bar_block
from support.feeding import feeder, settings, tell
from support.following import (
    SILENCE,
    await_equal,
    await_health,
    follow_memory,
    following,
    is_equal,
    rows_in,
)
from support.memory_leader import IDENTITY, FollowerEngine, MemoryFeed, stacked_rows
from support.waiting import until

import shmfeed
from shmfeed.bar import AFTER_GAP, BACKFILLED, CLOSED_BY_CLOCK, POLLED, UNCONFIRMED
from shmfeed.control.client import open_claim
from shmfeed.errors import (
    BadArgumentError,
    SegmentFullError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feeder import relayed_rows
from shmfeed.feeder.relay_source import RelaySource
from shmfeed.memory.holes import HoleRecord
from shmfeed.relay.engine import Answer
from shmfeed.relay.flush import Catalog, Flush
from shmfeed.relay.link import FollowerLink
from shmfeed.segment.mapping import place
from shmfeed.writer import FeedWriter, create

STREAM = ("BTCUSDT", "1m")
OTHER = ("ETHUSDT", "1m")
NOW = 0  # the number of the present minute, of each test


@pytest.fixture(autouse=True)
def present(monkeypatch):
    minute = time.time_ns() // 1_000_000 // MINUTE
    monkeypatch.setitem(globals(), "NOW", minute)


@pytest.fixture
def leader(present):
    feed = MemoryFeed()
    feed.close(range(NOW - 50, NOW - 1))
    return feed


@pytest.fixture(autouse=True)
def source(monkeypatch, leader):
    follow_memory(monkeypatch, leader)


class TestRows:
    def test_a_join_and_what_follows(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            await_equal(feed, leader)
            ring = feed.ring(*STREAM)
            count = ring.count
            leader.close([NOW - 1], flags=CLOSED_BY_CLOCK | UNCONFIRMED)
            assert ring.wait(count, 10) == count + 1
            assert is_equal(feed, leader)
            leader.form(NOW, close=9.0)
            until(lambda: ring.forming() is not None)
            assert ring.forming().close == 9.0
            assert ring.latest("close") == 9.0

    def test_flags_are_the_leaders(self, feed_name, leader):
        flags = [AFTER_GAP | POLLED, BACKFILLED, CLOSED_BY_CLOCK, CLOSED_BY_CLOCK | 8]
        with following(feed_name) as (_, feed):
            for number, one in enumerate(flags):
                leader.close([NOW + 2 * number], flags=one)
            await_equal(feed, leader)
            leader.lose()
            until(lambda: feed.status()["state"] != "connected")
            assert is_equal(feed, leader)  # no row is doubted here
            leader.come_back()
            until(lambda: feed.status()["state"] == "connected")
            assert is_equal(feed, leader)

    def test_revised_and_filled_rows(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            leader.close([NOW + 3, NOW + 5])
            await_equal(feed, leader)
            leader.close([NOW - 10, NOW + 4], close=1.75, flags=BACKFILLED)
            await_equal(feed, leader)
            assert feed.status()["revisions"] == 1
            assert feed.status()["gaps"] == 4  # NOW - 1 to NOW + 2

    def test_rows_that_the_leader_drops(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            await_equal(feed, leader)
            kept = bar_block(range(NOW - 9, NOW - 3))
            leader.flush(closed=stacked_rows({0: kept}), whole=(0,))
            await_equal(feed, leader)
            leader.flush(whole=(0,))
            until(lambda: not rows_in(feed).shape[1])
            leader.close([NOW])
            await_equal(feed, leader)

    def test_more_rows_than_the_guard(self, feed_name, leader):
        with following(feed_name, guard=16) as (_, feed):
            leader.close(range(NOW - 1, NOW + 90))
            until(lambda: rows_in(feed).shape[1] == 100)
            assert rows_in(feed).tobytes() == leader.block(0)[:, -100:].tobytes()

    def test_a_forming_bar_that_is_taken_back(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            ring = feed.ring(*STREAM)
            for number in (NOW, NOW + 3):
                leader.form(number)
                until(lambda number=number: forming_in(ring) == number)
                leader.unform()
                until(lambda: ring.forming() is None)
            assert is_equal(feed, leader)
            assert not feed.status()["last_error"]
            leader.form(NOW)
            until(lambda: forming_in(ring) == NOW)
            leader.forming.clear()
            leader.trim()  # and joins again
            until(lambda: ring.forming() is None)

    def test_holes_that_leave_the_ring(self, feed_name, leader):
        with following(feed_name, history=20) as (_, feed):
            leader.close([NOW + 1])
            until(lambda: feed.status()["gaps"] == 2)
            leader.mark(recovering=True)
            await_health(feed, "recovering")
            for number in range(NOW + 2, NOW + 22):
                leader.close([number])
            until(lambda: feed.status()["gaps"] == 0)
            await_health(feed, "recovering")

    def test_random_flushes(self, feed_name, leader, rng):
        with following(feed_name, history=40) as (_, feed):
            for _ in range(60):
                first = NOW - 60 + int(rng.integers(0, 60))
                numbers = np.unique(rng.integers(first, first + 12, 5))
                close, flags = 1 + float(rng.random()) / 2, int(rng.integers(1, 256))
                if rng.random() < 0.1:
                    leader.flush(
                        closed=stacked_rows({0: bar_block(numbers, flags)}), whole=(0,)
                    )
                leader.close(numbers.tolist(), close=close, flags=flags)
                wanted = leader.block(0)[:, -40:]
                until(
                    lambda wanted=wanted: np.array_equal(
                        rows_in(feed, most=wanted.shape[1]).view(np.int64),
                        wanted.view(np.int64),
                    ),
                    10,
                )


def forming_in(ring):
    bar = ring.forming()
    return None if bar is None else bar.open_time // MINUTE


class TestLeaders:
    def test_a_new_leader_that_lacks_the_newest_bar(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            leader.close([NOW - 1])
            await_equal(feed, leader)
            newest = leader.rings[0].pop((NOW - 1) * MINUTE)
            leader.lead("two:2")
            leader.form(NOW - 1, close=1.25)
            until(lambda: feed.status().get("relay") or True)
            leader.close([NOW - 30], close=1.6)  # a revision, after the whole flush
            until(lambda: rows_in(feed)[5, 20] == 1.6)
            assert rows_in(feed)[:, -1].tobytes() == newest.tobytes()
            leader.close([NOW - 1], close=1.9)
            await_equal(feed, leader)

    def test_a_reset_of_rows_that_a_new_leader_lacks(
        self, feed_name, leader, monkeypatch
    ):
        with following(feed_name) as (_, feed):
            leader.close([NOW - 1])
            await_equal(feed, leader)
            del leader.rings[0][(NOW - 1) * MINUTE]
            leader.lead("two:2")
            until(lambda: (facts_of(feed).get("relay") or {}).get("epoch") == 2)
            with monkeypatch.context() as apart:
                apart.setattr(FollowerLink, "reopen", lambda *_: None)
                tell(feed_name, "reset", symbols=["BTCUSDT"], resolutions=["1m"])
                leader.close([NOW - 20], close=1.9)
                until(lambda: rows_in(feed).shape[1] == 1)
            leader.trim()
            await_equal(feed, leader)

    def test_no_row_of_an_older_leader_stays(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            leader.close([NOW - 1, NOW], close=1.1)
            await_equal(feed, leader)
            del leader.rings[0][(NOW - 1) * MINUTE], leader.rings[0][NOW * MINUTE]
            leader.lead("two:2")
            leader.close([NOW + 1])
            await_equal(feed, leader)

    def test_the_same_leader_takes_rows_back(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            leader.close([NOW + 1000])  # the future, which the leader cuts off
            await_equal(feed, leader)
            del leader.rings[0][(NOW + 1000) * MINUTE]
            leader.flush(closed=stacked_rows({0: leader.block(0)}), whole=(0,))
            await_equal(feed, leader)

    def test_a_dead_feeder_at_the_leader(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            leader.state = "disconnected"
            leader.beat()
            until(lambda: feed.status()["state"] == "reconnecting")
            assert "feeder of the leader one:1 is dead" in feed.status()["last_error"]
            assert await_health(feed, "recovering")["why"].startswith("connection away")
            leader.state = "connected"
            leader.beat()
            leader.close([NOW - 1])
            until(lambda: feed.status()["state"] == "connected")
            await_health(feed, "live")

    def test_a_silent_leader(self, feed_name, leader, monkeypatch):
        monkeypatch.setattr(SILENCE, 0.2)
        with feeder(feed_name, "ws://127.0.0.1:9", symbols=[], resolutions=[]):
            with shmfeed.attach(feed_name, 10) as feed:
                until(lambda: "nothing from one:1" in str(feed.status()["last_error"]))
                until(lambda: feed.status()["state"] == "reconnecting")
                monkeypatch.setattr(SILENCE, 60.0)
                leader.beat()
                until(lambda: feed.status()["state"] == "connected")

    def test_the_state_of_its_feed(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            leader.state, leader.last_error = "error", "the venue is away"
            leader.mark(away=1000)
            leader.beat()
            until(lambda: feed.status()["state"] == "error")
            assert "the venue is away" in feed.status()["last_error"]
            await_health(feed, "stale")


class TestLinks:
    def test_away_and_back(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            await_equal(feed, leader)
            leader.lose("connection refused")
            until(lambda: feed.status()["state"] == "error")  # after three attempts
            assert feed.status()["last_error"] == "connection refused"
            leader.close([NOW - 1, NOW], close=1.8)
            leader.come_back()
            until(lambda: feed.status()["state"] == "connected")
            await_equal(feed, leader)
            assert feed.status()["reconnects"] == 1

    def test_a_trimmed_log(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            joins = leader.joins
            leader.trim()
            leader.close([NOW - 1])
            await_equal(feed, leader)
            assert leader.joins == joins + 1
            until(lambda: feed.status()["state"] == "connected")

    def test_what_the_engine_refuses(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            leader.refused = "the password is wrong"
            leader.beat()
            until(lambda: feed.status()["state"] == "error")
            assert feed.status()["last_error"] == "the password is wrong"
            assert is_equal(feed, leader)

    def test_another_identity(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            before = rows_in(feed).tobytes()
            leader.identity = IDENTITY._replace(market_type="spot")
            leader.lead("two:2")
            leader.close([NOW - 1], close=5.0)
            until(lambda: feed.status()["state"] == "error")
            said = feed.status()["last_error"]
            assert "binance/spot" in said
            assert "binance/usdm" in said
            assert rows_in(feed).tobytes() == before
        with pytest.raises(BadArgumentError, match="holds bars of binance/usdm"):
            leave_and_follow(feed_name, leader)

    def test_an_engine_that_is_away_at_the_start(self, feed_name, leader):
        leader.lose("no server")
        with pytest.raises(WebSocketConnectionError, match="no server"):
            given = settings(feed_name, "ws://127.0.0.1:9")
            RelaySource(given, lambda *_: FollowerEngine(leader))
        assert leader.open == 0

    def test_a_source_of_history_of_its_own(self, feed_name, leader):
        given = settings(feed_name, "ws://127.0.0.1:9", backfill="binance:spot")
        with pytest.raises(BadArgumentError, match="backfill is of no use"):
            RelaySource(given, lambda *_: FollowerEngine(leader))

    def test_rows_of_an_earlier_feeder_serve_meanwhile(self, feed_name, leader):
        with create(feed_name, 100, streams=[STREAM], identity=IDENTITY) as writer:
            writer.add_stream(*STREAM).append(0, 1, 2, 1, 2, 5)
        leader.lose()
        given = {"symbols": [], "resolutions": []}
        with feeder(feed_name, "ws://127.0.0.1:9", **given):
            with shmfeed.attach(feed_name, 10) as feed:
                assert rows_in(feed).shape[1] == 1
                leader.come_back()
                await_equal(feed, leader)

    def test_the_engine_is_closed(self, feed_name, leader):
        with following(feed_name):
            assert leader.open == 1
        assert leader.open == 0


def leave_and_follow(feed_name, leader):
    identity = IDENTITY
    with create(feed_name, 100, streams=[STREAM], identity=identity) as writer:
        writer.add_stream(*STREAM).append(0, 1, 2, 1, 2, 5)
    try:
        with feeder(feed_name, "ws://127.0.0.1:9", symbols=[], resolutions=[]):
            pass
    finally:
        create(feed_name, 100).close(unlink=True)


class TestMarks:
    def test_ages_have_the_delay_of_the_link(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            leader.delay = 10.0
            leader.mark(updated=600_000)
            until(lambda: age_of(feed) >= 610.0)
            leader.mark(updated=0)
            until(lambda: 10.0 <= age_of(feed) < 600.0)
            await_health(feed, "live")

    def test_rows_that_no_update_has_brought(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            leader.mark(since=700_000, updated=600_000)
            await_health(feed, "stale")
            leader.close([NOW - 9], close=1.9)  # a revision
            await_equal(feed, leader)
            assert age_of(feed) >= 600.0
            leader.close([NOW - 1], flags=BACKFILLED)
            await_equal(feed, leader)
            assert await_health(feed, "stale")["age"] >= 600.0

    def test_a_stream_that_is_carried_later_than_its_marks(self, feed_name, leader):
        leader.catalog = Catalog((STREAM, OTHER), 100)
        hole = HoleRecord((NOW - 1) * MINUTE, NOW * MINUTE, 2, "given_up", "absent")
        leader.marks[1] = leader.marks[0]._replace(
            away=5000, reason="dropped", why="says the leader", holes=(hole,)
        )
        with following(feed_name, symbols=["BTCUSDT"], resolutions=["1m"]) as (_, feed):
            with shmfeed.lease(["ETHUSDT"], ["1m"], feed_name, 10):
                row = lambda: row_of(feed, OTHER)  # noqa: E731
                until(lambda: leader.beat() or row()["why"] == "says the leader")
                assert row()["health"] == "stale"
                leader.mark(1, reason="", why="")
                until(lambda: row()["why"].startswith("connection away"))
                assert seconds_away(row()) >= 5.0
                assert row()["health"] == "recovering"

    def test_a_stream_that_the_leader_has_left(self, feed_name, leader):
        leader.catalog = Catalog((STREAM, OTHER), 100)
        leader.marks[1] = leader.marks[0]
        with following(feed_name, symbols=["BTCUSDT"], resolutions=["1m"]) as (_, feed):
            await_health(feed, "live")
            leader.mark(subscribed=False, since=0)
            why = await_health(feed, "recovering")["why"]
            assert why.startswith("connection away")
            leader.mark(subscribed=True)
            until(lambda: leader.beat() or row_of(feed, STREAM)["health"] == "live")

    @pytest.mark.parametrize("reason", ["polled", "closed"])
    def test_reasons(self, feed_name, leader, reason):
        with following(feed_name) as (_, feed):
            leader.mark(reason=reason, why="says the leader")
            assert await_health(feed, reason)["why"] == "says the leader"
            leader.mark(reason="", why="")
            await_health(feed, "live")

    def test_an_away_stream(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            leader.mark(away=5000)
            assert seconds_away(await_health(feed, "recovering")) >= 5.0
            leader.lose()
            until(lambda: feed.status()["state"] != "connected")
            leader.come_back()
            until(lambda: feed.status()["state"] == "connected")
            assert await_health(feed, "recovering")["why"].startswith("connection away")

    def test_holes(self, feed_name, leader):
        hole = HoleRecord((NOW - 1) * MINUTE, NOW * MINUTE, 2, "given_up", "absent")
        with following(feed_name) as (_, feed):
            leader.close([NOW + 1], flags=1 | AFTER_GAP)
            leader.mark(holes=(hole,))
            until(lambda: [one[2:6] for one in feed.gaps()] == [hole[:4]])
            with pytest.raises(BadArgumentError, match="at the leader's host"):
                tell(feed_name, "retry")

    def test_the_status_of_the_link(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            leader.beat()
            told = lambda: facts_of(feed).get("relay") or {}  # noqa: E731
            until(lambda: told().get("lag") is not None)
            assert told()["role"] == "follower"
            assert told()["leader"] == "one:1"
            assert (told()["epoch"], told()["since"]) == (1, 5)
            leader.lead("two:2")
            until(lambda: told()["leader"] == "two:2")
            until(lambda: told()["behind"] == 0)
            assert (told()["epoch"], told()["error"]) == (2, "")
            leader.lose("cut off")
            until(lambda: told()["error"] == "cut off")


def age_of(feed):
    return feed.status()["streams"][0]["age"]


def seconds_away(row):
    return float(row["why"].removeprefix("connection away for ").split()[0])


def row_of(feed, stream):
    rows = feed.status()["streams"]
    return next(row for row in rows if (row["symbol"], row["timeframe"]) == stream)


def facts_of(feed):
    from shmfeed.memory.note import read_facts

    mapping = feed._current().mapping
    return read_facts(mapping.words, mapping.geometry)


class TestStreams:
    def test_all_that_the_leader_carries(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            assert feed.streams() == [STREAM]
            leader.flush(catalog=Catalog((STREAM, OTHER), 100))
            leader.close([NOW - 1], stream=1)
            until(lambda: feed.streams() == [STREAM, OTHER])
            await_equal(feed, leader, 1)
            leader.mark(0, subscribed=False, since=0)
            until(lambda: feed.streams() == [OTHER])
            assert rows_in(feed).shape[1]  # its rows stay readable
            assert tell(feed_name, "status")["wanted"]

    def test_more_than_the_segment_has_room_for(self, feed_name, leader):
        many = (STREAM, *((f"S{number}", "1m") for number in range(40)))
        with following(feed_name) as (_, feed):
            leader.flush(catalog=Catalog(many, 100), whole=tuple(range(1, 41)))
            leader.close([NOW - 1], stream=40)
            until(lambda: len(feed.streams()) == 41)
            await_equal(feed, leader, 40)
            await_equal(feed, leader, 0)

    def test_more_than_max_streams(self, feed_name, leader):
        third = ("XRPUSDT", "1m")
        with following(feed_name, max_streams=2) as (_, feed):
            leader.flush(catalog=Catalog((STREAM, OTHER, third), 100))
            until(lambda: "raise max_streams" in str(feed.status()["last_error"]))
            leader.close([NOW - 1])
            await_equal(feed, leader)
            assert feed.streams() == [STREAM, OTHER]

    def test_those_that_the_settings_name(self, feed_name, leader):
        leader.catalog = Catalog((STREAM, OTHER), 100)
        with following(feed_name, symbols=["BTCUSDT"], resolutions=["1m"]) as (_, feed):
            assert feed.streams() == [STREAM]
            until(lambda: leader.asked)
            assert set(leader.asked.values()) == {(STREAM,)}

    def test_a_lease_reaches_the_leader(self, feed_name, leader):
        def answer(streams):
            if OTHER in streams and OTHER not in leader.catalog.streams:
                leader.rings[1], leader.marks[1] = {}, leader.marks[0]
                leader.flush(catalog=Catalog((STREAM, OTHER), 100))
                leader.close([NOW - 1], stream=1)
            return Answer(streams, {})

        leader.answer = answer
        with following(feed_name, lease_linger=0.0) as (_, feed):
            with shmfeed.lease(["ETHUSDT"], ["1m"], feed_name, 10):
                assert feed.streams() == [STREAM, OTHER]
                until(lambda: leader.beat() or is_equal(feed, leader, 1))
                assert set(leader.asked.values()) == {(OTHER,)}
            until(lambda: set(leader.asked.values()) == {()})

    def test_a_lease_that_the_leader_refuses(self, feed_name, leader):
        leader.answer = lambda streams: Answer(
            streams, {key: "no such symbol" for key in streams if key == OTHER}
        )
        with following(feed_name) as (_, feed):
            with pytest.raises(WebSocketSubscriptionError, match="no such symbol"):
                shmfeed.lease(["ETHUSDT"], ["1m"], feed_name, 10).__enter__()
            assert feed.streams() == [STREAM]

    def test_a_lease_outlives_the_manager_that_followed_all(self, feed_name, leader):
        leader.catalog = Catalog((STREAM, OTHER), 100)
        with following(feed_name, manager="m", pid=os.getpid()) as (_, feed):
            with shmfeed.lease(["ETHUSDT"], ["1m"], feed_name, 10):
                tell(feed_name, "release", manager="m")
                leader.mark(0, subscribed=False, since=0)  # tells of the streams
                until(lambda: feed.streams() == [OTHER])
                leader.mark(0, subscribed=True)
                until(lambda: set(leader.asked.values()) == {(OTHER,)})
                assert feed.streams() == [OTHER]

    def test_a_manager_that_comes_in_the_place_of_another(self, feed_name, leader):
        third = ("XRPUSDT", "1m")
        leader.catalog = Catalog((STREAM, OTHER), 100)
        claim = {"manager": "n", "name": "next", "linger": 0.0}
        with following(feed_name, manager="m", pid=os.getpid()) as (_, feed):
            with (
                shmfeed.lease(["ETHUSDT"], ["1m"], feed_name, 10),
                closing(open_claim(place(feed_name).socket, "hold", 10.0, **claim)),
            ):
                tell(feed_name, "release", manager="m")
                leader.marks[2] = leader.marks[0]
                leader.flush(catalog=Catalog((STREAM, OTHER, third), 100), whole=(2,))
                until(lambda: set(feed.streams()) == {STREAM, OTHER, third})
                leader.mark(0, subscribed=False, since=0)
                until(lambda: set(feed.streams()) == {OTHER, third})

    def test_a_stream_that_its_manager_adds(self, feed_name, leader):
        third = ("XRPUSDT", "1m")
        leader.catalog = Catalog((STREAM, OTHER, third), 100)
        for number in (1, 2):
            leader.rings[number] = {}
            leader.marks[number] = leader.marks[0]._replace(subscribed=False)
        leader.answer = lambda streams: carry(leader, streams)
        given = {"manager": "m", "pid": os.getpid(), "lease_linger": 0.0}
        with following(feed_name, **given) as (_, feed):
            asks = {"symbols": ["BTCUSDT", "ETHUSDT"], "resolutions": ["1m"]}
            tell(feed_name, "subscribe", manager="m", **asks)
            with shmfeed.lease(["XRPUSDT"], ["1m"], feed_name, 10):
                assert set(feed.streams()) == {STREAM, OTHER, third}
            until(lambda: set(leader.asked.values()) == {(OTHER,)})
            assert set(feed.streams()) == {STREAM, OTHER}

    def test_a_reset_here_keeps_the_leaders_holes(self, feed_name, leader):
        hole = HoleRecord((NOW - 1) * MINUTE, NOW * MINUTE, 2, "given_up", "absent")
        with following(feed_name) as (_, feed):
            leader.close([NOW + 1])
            leader.mark(holes=(hole,))
            known = lambda: [one[2:6] for one in feed.gaps()]  # noqa: E731
            until(lambda: known() == [hole[:4]])
            tell(feed_name, "reset", symbols=["BTCUSDT"], resolutions=["1m"])
            await_equal(feed, leader)
            until(lambda: known() == [hole[:4]])

    def test_a_reset_here_is_filled_again(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            await_equal(feed, leader)
            tell(feed_name, "reset", symbols=["BTCUSDT"], resolutions=["1m"])
            await_equal(feed, leader)


def carry(leader, streams):
    """Answer a request: carry its streams, and no longer those that it has left out."""
    for number, key in enumerate(leader.catalog.streams[1:], 1):
        if leader.marks[number].subscribed != (key in streams):
            leader.mark(number, subscribed=key in streams)
    return Answer(streams, {})


class TestBadRows:
    def test_times_that_no_ring_can_hold(self, feed_name, leader):
        with following(feed_name) as (_, feed):
            await_equal(feed, leader)
            bad = bar_block([NOW, NOW - 7], close=1.9)
            bad.view(np.int64)[0, 0] = 1 << 60
            leader.rings[0][(NOW - 7) * MINUTE] = bad[:, 1].copy()
            leader.log.append((1, Flush(0, closed=stacked_rows({0: bad}))))
            leader.beat()
            until(lambda: "refused" in str(feed.status()["last_error"]))
            await_equal(feed, leader)
            leader.close([NOW])
            await_equal(feed, leader)

    def test_no_memory_for_another_copy(self, feed_name, leader, monkeypatch):
        tries = []

        def full(*_):
            tries.append(1)
            raise SegmentFullError("no room")

        with following(feed_name) as (_, feed):
            with monkeypatch.context() as without:
                without.setattr(FeedWriter, "replace_rows", full)
                without.setattr(relayed_rows, "RETRY_SECONDS", 0.05)
                leader.close([NOW - 20], close=1.7)  # a swap
                leader.close([NOW - 1])
                until(lambda: len(tries) > 3)
                assert rows_in(feed).shape[1] == 49
            await_equal(feed, leader)


def test_a_store_keeps_the_versions(feed_name, leader, tmp_path):
    path = tmp_path / "bars.db"
    with following(feed_name, store=str(path)) as (_, feed):
        await_equal(feed, leader)
        closes = NOW + 1  # after the follower was connected
        leader.close([closes])
        leader.close([closes - 1], flags=BACKFILLED)
        leader.close([closes - 3], close=1.7)
        await_equal(feed, leader)
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT cause, open_time FROM bar_versions ORDER BY published, open_time"
        ).fetchall()
    assert {cause for cause, _ in found[:49]} <= {"replayed", "caught_up"}
    assert found[49:] == [
        ("closed", closes * MINUTE),
        ("backfilled", (closes - 1) * MINUTE),
        ("revised", (closes - 3) * MINUTE),
    ]
