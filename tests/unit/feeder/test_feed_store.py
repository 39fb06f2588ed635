"""The feeder's store: rows for a new segment, and rows that it lacks."""

import os
import sqlite3
import threading
import time

import numpy as np
import pytest
from support.feeding import T0, feeder, push, settings, tell
from support.storing import IDENTITY, KEY, MINUTE, OTHER, START, stored, version_of

import shmfeed
from shmfeed.bar import AFTER_GAP
from shmfeed.codecs.identity import identity_of
from shmfeed.errors import BadArgumentError, FeedNotFoundError, SegmentFullError
from shmfeed.feeder import feed_store
from shmfeed.feeder.feed_store import open_feed_store
from shmfeed.simulator import Venue
from shmfeed.store.file import StoreFile
from shmfeed.writer import FeedWriter, create

LATER = ("ETHUSDT", "1m")
VENUE = "ws://stream.binance.com:1"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bars.sqlite"


def fill(path, count, first=0, identity=IDENTITY):
    with StoreFile(str(path), identity, replace=False) as file:
        file.write([version_of(number) for number in range(first, count)])


@pytest.fixture
def take(feed_name, path):
    """Return a function that takes the feed with a store, and returns both."""
    taken = []

    def take(history=20, *, store=None, replace=False):
        given = settings(
            feed_name,
            VENUE,
            protocol="binance",
            market_type="spot",
            allow_insecure=True,
            store=store or path,
        )
        writer = create(feed_name, history, streams=[KEY], identity=IDENTITY)
        try:
            store = open_feed_store(given, identity_of(given), writer, replace)
        finally:
            taken.append(writer)
        taken.append(store)
        return writer, store

    yield take
    for one in reversed(taken):
        one.close()


def minutes(writer):
    rows = writer.reader(KEY).snapshot(10_000)
    return ((rows.open_time - START) // MINUTE).tolist()


def append(writer, *numbers):
    ring = writer.add_stream(*KEY)
    for number in numbers:
        bar = version_of(number).bar
        ring.append(bar.open_time, *bar[2:9])


class TestWarm:
    def test_the_newest_rows_fill_an_empty_ring(self, take, path):
        fill(path, 50)
        writer, store = take()
        store.warm([KEY])
        assert minutes(writer) == list(range(30, 50))
        append(writer, 50)
        assert minutes(writer)[-2:] == [49, 50]

    def test_they_are_no_update_of_the_stream(self, take, path):
        fill(path, 5)
        writer, store = take()
        store.warm([KEY])
        with shmfeed.attach(writer.name) as feed:
            assert len(feed.ring(*KEY).view(10)) == 5
            assert feed.status()["streams"][0]["age"] is None

    def test_they_come_before_those_of_the_ring(self, take, path):
        fill(path, 10)
        writer, store = take()
        append(writer, 8, 9, 10)
        store.warm([KEY])
        assert minutes(writer) == list(range(11))

    def test_a_hole_between_them_is_flagged(self, take, path):
        fill(path, 3)
        writer, store = take()
        append(writer, 5, 6)
        store.warm([KEY])
        rows = writer.reader(KEY).snapshot(99)
        assert minutes(writer) == [0, 1, 2, 5, 6]
        assert (rows["flags"] & AFTER_GAP).astype(bool).tolist() == [
            False,
            False,
            False,
            True,
            False,
        ]

    def test_a_full_ring_stays(self, take, path):
        fill(path, 5)
        writer, store = take(history=3)
        append(writer, 6, 7, 8)
        epoch = writer.reader(KEY).epoch
        store.warm([KEY])
        assert minutes(writer) == [6, 7, 8]
        assert writer.reader(KEY).epoch == epoch

    def test_only_streams_that_the_feed_has(self, take, path):
        fill(path, 5)
        writer, store = take()
        store.warm([("NONEUSDT", "1m")])
        assert minutes(writer) == []

    def test_no_room_costs_the_stream_alone(self, take, path, monkeypatch, caplog):
        fill(path, 5)
        writer, store = take()

        def full(*arguments):
            raise SegmentFullError("no memory")

        monkeypatch.setattr(FeedWriter, "replace_rows", full)
        store.warm([KEY])
        assert minutes(writer) == []
        assert "cannot fill BTCUSDT 1m from the store: no memory" in caplog.text
        caplog.clear()  # the error's frames hold the writer

    def test_a_damaged_store_costs_itself(self, take, path):
        path.write_bytes(b"rubbish" * 999)
        writer, store = take()
        store.warm([KEY])
        assert minutes(writer) == []
        assert "is damaged" in store.last_error

    def test_a_store_that_hangs_costs_its_time(self, take, path, monkeypatch):
        fill(path, 5)
        writer, store = take()
        monkeypatch.setattr(feed_store, "WARM_SECONDS", 0.0)
        store.warm([KEY])
        store.recorder.newest([], 1)  # the thread has come to an end with it
        append(writer, 9)
        assert minutes(writer)[-1] == 9


class TestFollow:
    def test_the_rows_of_the_ring_are_kept(self, take, path):
        writer, store = take()
        append(writer, *range(5))
        store.follow([KEY])
        store.close()
        assert [(at - START) // MINUTE for (at,) in stored(path, "open_time")] == [
            *range(5)
        ]
        assert np.unique(stored(path, "cause")).tolist() == ["caught_up"]

    def test_without_a_store(self, take, feed_name):
        with create(feed_name, 10, streams=[KEY]) as writer:
            given = settings(feed_name, VENUE, allow_insecure=True)
            store = open_feed_store(given, identity_of(given), writer, False)
            store.warm([KEY])
            store.follow([KEY])
            store.close()
            assert (store.recorder, store.path, store.last_error) == (None, None, "")


class TestRefused:
    def test_another_identity(self, take, path, feed_name):
        fill(path, 3, identity=OTHER)
        with pytest.raises(BadArgumentError, match="--replace"):
            take()
        with pytest.raises(FeedNotFoundError):  # the new segment is gone again
            shmfeed.attach(feed_name)
        take(replace=True)
        assert stored(path) == []

    def test_a_segment_that_was_there_stays(self, take, path, feed_name):
        with create(feed_name, 20, streams=[KEY], identity=IDENTITY) as writer:
            append(writer, 1)
        with pytest.raises(BadArgumentError, match="it is a directory"):
            take(store=path.parent)
        with shmfeed.attach(feed_name) as feed:
            assert len(feed.ring(*KEY).view(5)) == 1


class TestFeeder:
    """The whole: venue, feeder, store, and what the commands read of it."""

    @pytest.fixture
    def venue(self):
        with Venue(speed=None, symbols=["BTCUSDT", "ETHUSDT"]) as venue:
            yield venue

    def kept(self, path, count):
        deadline = time.monotonic() + 20
        found = []
        while len(found) < count:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
            try:
                found = stored(path, "open_time, version, close, cause")
            except sqlite3.OperationalError:  # not created yet
                continue
        return [((at - T0) // MINUTE, *rest) for at, *rest in found]

    def test_each_version_with_its_times(self, feed_name, venue, path):
        begin = time.time_ns()
        with feeder(feed_name, venue, store=path):
            venue.wait_subscribed()
            for number in range(3):
                push(venue, number, 100.0 + number)
            push(venue, 1, 150.0)  # the venue corrects its closing message
            assert self.kept(path, 4) == [
                (0, 1, 100.0, "replayed"),  # these bars are of years ago
                (1, 1, 101.0, "replayed"),
                (1, 2, 150.0, "revised"),
                (2, 1, 102.0, "replayed"),
            ]
            with shmfeed.attach(feed_name) as feed:
                assert feed.status()["store"] == str(path)
        for received, published in stored(path, "received, published"):
            assert begin <= received <= published <= time.time_ns()

    def test_a_new_segment_begins_with_the_stored_rows(self, feed_name, venue, path):
        with feeder(feed_name, venue, store=path):
            venue.wait_subscribed()
            for number in range(5):
                push(venue, number, 100.0 + number)
            self.kept(path, 5)
        with feeder(feed_name, venue, store=path):  # the first has unlinked its segment
            venue.wait_subscribed(2)
            with shmfeed.attach(feed_name) as feed:
                rows = feed.ring(*KEY).snapshot(10)
                assert rows["close"].tolist() == [100.0 + n for n in range(5)]
            push(venue, 5, 105.0)
            found = self.kept(path, 6)
        assert [row[0] for row in found] == [0, 1, 2, 3, 4, 5]
        assert {row[3] for row in found} == {"replayed"}

    def test_a_bar_that_closes_while_it_is_connected(self, feed_name, venue, path):
        """The control of the tests above: a bar of today is closed, not replayed."""
        with feeder(feed_name, venue, store=path):
            venue.wait_subscribed()
            minute = (time.time_ns() // 1_000_000 - T0) // MINUTE
            push(venue, minute - 2, 100.0)
            push(venue, minute, 101.0)  # it closes after the feeder was connected
            assert [row[3] for row in self.kept(path, 2)] == ["replayed", "closed"]

    def keep(self, path, feed_name, venue, count):
        identity = identity_of(settings(feed_name, venue))
        with StoreFile(str(path), identity, replace=False) as file:
            file.write([version_of(number, key=LATER) for number in range(count)])

    def subscribe(self, feed_name):
        wanted = {"symbols": ["BTCUSDT", "ETHUSDT"], "resolutions": ["1m"]}
        tell(feed_name, "subscribe", manager="run", pid=os.getpid(), **wanted)
        with shmfeed.attach(feed_name) as feed:
            return len(feed.ring(*LATER).view(100))

    def test_a_stream_that_is_subscribed_later(self, feed_name, venue, path):
        self.keep(path, feed_name, venue, 7)
        with feeder(feed_name, venue, store=path) as one:
            venue.wait_subscribed()
            assert self.subscribe(feed_name) == 7
            push(venue, (time.time_ns() // 1_000_000 - T0) // MINUTE, stream=LATER)
            with shmfeed.attach(feed_name) as feed:
                assert feed.ring(*LATER).wait(7, 10) == 8
        assert one.failure == []

    def test_a_store_that_is_slow_holds_no_change_up(
        self, feed_name, venue, path, monkeypatch
    ):
        self.keep(path, feed_name, venue, 7)
        with feeder(feed_name, venue, store=path) as one:
            venue.wait_subscribed()
            file, go_on = one._store.recorder._file, threading.Event()
            newest = file.newest
            monkeypatch.setattr(
                file, "newest", lambda *a: go_on.wait(20) and newest(*a)
            )
            begin = time.monotonic()
            assert self.subscribe(feed_name) == 0
            assert time.monotonic() - begin < 5.0
            go_on.set()
            push(venue, 1, stream=LATER)
            with shmfeed.attach(feed_name) as feed:
                assert feed.ring(*LATER).wait(0, 10) == 1

    def test_a_failure_is_the_last_error(self, feed_name, venue, path):
        path.write_bytes(b"rubbish" * 999)
        with feeder(feed_name, venue, store=path):
            venue.wait_subscribed()
            push(venue, 0)
            with shmfeed.attach(feed_name) as feed:
                deadline = time.monotonic() + 20
                while "is damaged" not in (feed.status()["last_error"] or ""):
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                assert feed.ring(*KEY).wait(0, 10) == 1
