"""Rates, latencies and order of `top`, from samples made by hand and real bars."""

import threading

import pytest
from support.waiting import until

from shmfeed.memory.histogram import BOUNDS, BUCKETS, Histogram, Latencies
from shmfeed.observe.sample import FeedSample, sample
from shmfeed.observe.top import (
    BarWatch,
    Quantiles,
    StreamRow,
    compare,
    quantiles,
    sort_streams,
)
from shmfeed.status import status_without_feed
from shmfeed.writer import create


def stream(symbol="A", **changes):
    row = {
        "symbol": symbol,
        "timeframe": "1m",
        "health": "live",
        "messages": 0,
        "count": 0,
        "age": 1.0,
        "gaps": 0,
        "why": "",
    }
    return row | changes


def sample_of(*streams, latencies=None, **changes):
    status = {**status_without_feed("x"), "streams": list(streams), **changes}
    return FeedSample("x", status, latencies)


def rates(before, after, seconds=2.0):
    top = compare(before, after, seconds, {})
    return [row.rate for row in top.streams], top.feeds[0].rate


class TestRates:
    def test_messages_a_second(self) -> None:
        before = [sample_of(stream(messages=10), stream("B", messages=5))]
        after = [sample_of(stream(messages=30), stream("B", messages=5))]
        assert rates(before, after) == ([10.0, 0.0], 10.0)

    def test_without_messages_bars_count(self) -> None:
        assert rates([sample_of(stream(count=1))], [sample_of(stream(count=5))]) == (
            [2.0],
            2.0,
        )

    @pytest.mark.parametrize("before", [[], [sample_of(stream("B"))]])
    def test_a_stream_that_is_new_has_none(self, before) -> None:
        assert rates(before, [sample_of(stream(messages=9))]) == ([None], None)

    def test_counters_that_began_again_have_none(self) -> None:
        before, after = [sample_of(stream(messages=9))], [sample_of(stream(messages=3))]
        assert rates(before, after) == ([None], None)


def histogram(**observed) -> Histogram:
    """Return one with observations by number of the bucket, as b3=2."""
    buckets = [observed.get(f"b{number}", 0) for number in range(BUCKETS)]
    return Histogram(sum(buckets), 0.0, tuple(buckets))


class TestQuantiles:
    def test_they_are_bounds_of_buckets(self) -> None:
        found = quantiles(None, histogram(b2=98, b5=2))
        assert found == Quantiles(BOUNDS[2], BOUNDS[5])

    def test_those_since_the_last_sample_count(self) -> None:
        found = quantiles(histogram(b2=98), histogram(b2=98, b7=1))
        assert found == Quantiles(BOUNDS[7], BOUNDS[7])

    def test_without_a_new_one_all_count(self) -> None:
        assert quantiles(histogram(b2=9), histogram(b2=9)) == Quantiles(
            BOUNDS[2], BOUNDS[2]
        )

    def test_a_recreated_feed_begins_again(self) -> None:
        found = quantiles(histogram(b2=5), histogram(b7=9))
        assert found == Quantiles(BOUNDS[7], BOUNDS[7])

    def test_none_has_none(self) -> None:
        assert quantiles(None, histogram()) is None

    def test_beyond_the_last_bound(self) -> None:
        last = {f"b{BUCKETS - 1}": 3}
        assert quantiles(None, histogram(**last)) == Quantiles(BOUNDS[-1], BOUNDS[-1])

    def test_a_feed_has_both(self) -> None:
        latencies = Latencies(histogram(b8=1), histogram(b1=1))
        (row,) = compare([], [sample_of(latencies=latencies)], 0, {}).feeds
        assert row.venue == Quantiles(BOUNDS[8], BOUNDS[8])
        assert row.publish == Quantiles(BOUNDS[1], BOUNDS[1])


def row(symbol: str, **changes) -> StreamRow:
    values = dict.fromkeys(StreamRow._fields)
    values |= {"feed": "x", "symbol": symbol, "timeframe": "1m", "health": "live"}
    return StreamRow(**(values | changes))


class TestOrder:
    @pytest.mark.parametrize("by", ["rate", "age", "gaps", "late"])
    def test_the_highest_first_and_unknown_last(self, by) -> None:
        rows = [row("A"), row("B", **{by: 1}), row("C", **{by: 2}), row("D", **{by: 2})]
        assert [one.symbol for one in sort_streams(rows, by)] == ["C", "D", "B", "A"]

    def test_the_worst_health_first(self) -> None:
        rows = [row("A"), row("B", health="stale"), row("C", health="waiting")]
        rows.append(row("D", health="closed"))
        found = [one.symbol for one in sort_streams(rows, "health")]
        assert found == ["B", "C", "A", "D"]

    def test_by_name_and_reversed(self) -> None:
        rows = [row("B"), row("A")]
        assert [one.symbol for one in sort_streams(rows, "name")] == ["A", "B"]
        assert [one.symbol for one in sort_streams(rows, "name", True)] == ["B", "A"]


class TestBarWatch:
    def test_a_bar_is_seen_and_its_lateness_measured(self, feed_name) -> None:
        key = feed_name, "A", "1m"
        with create(feed_name, history=16, max_streams=2) as writer:
            ring = writer.add_stream("A", "1m")
            watch, has_ended = BarWatch(), threading.Event()

            def look():
                while not has_ended.is_set():
                    watch.watch([key, (feed_name, "GONE", "1m")], 0.05)

            thread = threading.Thread(target=look)
            thread.start()
            try:
                numbers = iter(range(10**6))

                def is_measured():
                    ring.append(next(numbers) * 60_000, 1, 1, 1, 1, 1)
                    return key in watch.late

                until(is_measured, what="a bar was seen")
            finally:
                has_ended.set()
                thread.join()
            assert 0 <= watch.late[key] < 30
            watch.close()
            (found,) = sample([feed_name])
            (shown,) = compare([], [found], 0, watch.late).streams
            assert shown.late == watch.late[key]
            writer.close(unlink=True)

    def test_a_feed_that_is_not_there_is_passed_over(self, feed_name) -> None:
        watch = BarWatch()
        watch.watch([(feed_name, "A", "1m")], 0.01)
        assert watch.late == {}
        watch.close()
