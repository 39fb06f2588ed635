"""Samples of feeds that appear, vanish, are recreated or cannot be read."""

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmfeed.errors import BadArgumentError, BusyRingError
from shmfeed.memory.histogram import BUCKETS, VENUE
from shmfeed.observe import sample as sample_module
from shmfeed.observe.sample import MISSED_SECONDS, FeedSample, Sampler, sample
from shmfeed.segment.mapping import Mapping, place
from shmfeed.status import FeedStatus, feed_status, status_without_feed
from shmfeed.writer import create

KEY = ("BTCUSDT", "1h")
HOUR = 3_600_000


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sampler(feed_name: str, clock: Clock) -> Iterator[Sampler]:
    with Sampler([feed_name], clock) as sampler:
        yield sampler


def only(samples: list[FeedSample]) -> FeedSample:
    [one] = samples
    return one


def of_feed(samples: list[FeedSample], name: str) -> FeedSample | None:
    return next((one for one in samples if one.feed == name), None)


class TestOneFeed:
    def test_one_that_is_not_there(self, sampler: Sampler, feed_name: str) -> None:
        absent = FeedSample(feed_name, status_without_feed(feed_name), None)
        assert sampler.sample() == [absent]

    def test_one_that_appears_closes_bars_and_is_left(
        self, sampler: Sampler, feed_name: str
    ) -> None:
        sampler.sample()
        with create(feed_name, history=5, streams=[KEY]) as writer:
            writer.count_latencies(VENUE, [0] * (BUCKETS - 1) + [2], 300_000_000_000)
            ring = writer.add_stream(*KEY)
            ring.append(HOUR, 1.0, 2.0, 0.5, 1.5, 10.0)
            found = only(sampler.sample())
            assert found.status["health"] == "live"
            assert found.status["streams"][0]["count"] == 1
            assert found.latencies is not None
            assert found.latencies.venue[:2] == (2, 300.0)
            ring.append(2 * HOUR, 1.0, 2.0, 0.5, 1.5, 10.0)
            assert only(sampler.sample()).status["bars"] == 2

    def test_one_that_vanishes_and_comes_back(
        self, sampler: Sampler, feed_name: str
    ) -> None:
        for history in (5, 9):
            with create(feed_name, history=history, streams=[KEY]) as writer:
                assert only(sampler.sample()).status["health"] == "waiting"
                writer.close(unlink=True)
            found = only(sampler.sample())
            assert (found.status["health"], found.latencies) == ("dead", None)
            assert found.error == ""

    def test_one_that_is_recreated_in_another_geometry(
        self, sampler: Sampler, feed_name: str
    ) -> None:
        with create(feed_name, history=5, streams=[KEY]):
            assert len(only(sampler.sample()).status["streams"]) == 1
        streams = [KEY, ("ETHUSDT", "1h")]
        with create(feed_name, history=50, max_streams=40, streams=streams):
            assert len(only(sampler.sample()).status["streams"]) == 2

    def test_the_memory_of_one_that_vanished_is_freed(
        self, sampler: Sampler, feed_name: str
    ) -> None:
        with create(feed_name, history=5, streams=[KEY]) as writer:
            sampler.sample()
            writer.close(unlink=True)
        sampler.sample()
        del writer
        gc.collect()
        assert feed_name not in Path("/proc/self/maps").read_text()

    def test_one_that_cannot_be_read(self, sampler: Sampler, feed_name: str) -> None:
        place(feed_name).segment.write_bytes(b"x" * 8192)
        found = only(sampler.sample())
        assert "its mode is" in found.error
        assert found.status["last_error"] == found.error
        assert (found.status["health"], found.latencies) == ("dead", None)

    def test_one_whose_writer_outruns_a_read_is_read_again(
        self, sampler: Sampler, feed_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        busy = [BusyRingError("the writer outran this read")] * 4

        def read(mapping: Mapping, feed: str) -> FeedStatus:
            if busy:
                raise busy.pop()
            return feed_status(mapping, feed)

        with create(feed_name, history=5, streams=[KEY]):
            monkeypatch.setattr(sample_module, "feed_status", read)
            assert only(sampler.sample()).status["health"] == "waiting"
            busy += [BusyRingError("the writer outran this read")] * 5
            assert only(sampler.sample()).error == "the writer outran this read"


class TestNames:
    def test_order_and_repetition(self, feed_name: str) -> None:
        names = [f"{feed_name}b", f"{feed_name}a"]
        found = sample([*names, names[0]])
        assert [one.feed for one in found] == names

    @pytest.mark.parametrize("name", ["", "a/b", "-", "x" * 33])
    def test_a_bad_name(self, name: str) -> None:
        with pytest.raises(BadArgumentError, match="is not accepted"):
            Sampler(["good", name])

    def test_all_feeds(self, feed_name: str, clock: Clock) -> None:
        with Sampler(None, clock) as sampler:
            assert of_feed(sampler.sample(), feed_name) is None
            with create(feed_name, history=5) as writer:
                found = of_feed(sampler.sample(), feed_name)
                assert found is not None
                assert found.status["pid"]
                writer.close(unlink=True)
            clock.now += MISSED_SECONDS
            found = of_feed(sampler.sample(), feed_name)
            assert found is not None
            assert found.status["health"] == "dead"
            clock.now += 1
            assert of_feed(sampler.sample(), feed_name) is None

    def test_the_feed_of_a_replay_is_not_one_of_all(self, feed_name: str) -> None:
        name = f"replay-{os.getpid()}-0-0a0a"
        with create(name, history=5) as writer:
            assert of_feed(sample(), name) is None
            assert of_feed(sample([name]), name) is not None
            writer.close(unlink=True)
        place(name).lock.unlink()


class TestOwner:
    def test_the_feeds_of_another_user(
        self, feed_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with create(feed_name, history=5):
            me, other = os.geteuid(), os.geteuid() + 1
            assert only(sample([feed_name], owner=me)).status["pid"] == os.getpid()
            assert only(sample([feed_name], owner=other)).status["pid"] is None
            assert of_feed(sample(owner=other), feed_name) is None
            monkeypatch.setenv("SHMFEED_OWNER", str(other))
            assert only(sample([feed_name])).status["pid"] is None
            assert only(sample([feed_name], owner=me)).status["pid"] == os.getpid()


class TestSharing:
    def test_calls_during_a_sample_share_it(
        self, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, may_end = threading.Event(), threading.Event()
        calls: list[str] = []

        def slow(name: str, reason: str) -> object:
            calls.append(name)
            begun.set()
            assert may_end.wait(60)
            return status_without_feed(name)

        monkeypatch.setattr(sample_module, "_status_of_absent", slow)
        results: list[list[FeedSample]] = []
        threads = [
            threading.Thread(target=lambda: results.append(sampler.sample()))
            for _ in range(8)
        ]
        threads[0].start()
        assert begun.wait(60)
        waiting = sampler._sampling
        assert waiting is not None
        for thread in threads[1:]:
            thread.start()
        while len(waiting._condition._waiters) < 7:  # type: ignore[attr-defined] # no other way to see it
            threads[1].join(0.001)
        may_end.set()
        for thread in threads:
            thread.join()
        assert len(calls) == 1
        assert len({id(found) for found in results}) == 1
        sampler.sample()
        assert len(calls) == 2

    def test_an_error_is_each_caller_s_and_the_next_call_tries_again(
        self, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(sample_module, "place", lambda *_: 1 / 0)
            for _ in range(2):
                with pytest.raises(ZeroDivisionError):
                    sampler.sample()
        assert only(sampler.sample()).error == ""
