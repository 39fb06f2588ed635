"""Latency histograms in a header: what is stored is read, whole, and never falls."""

import sys
import threading
from bisect import bisect_left

import pytest

from shmfeed.layout import (
    COUNT_LIMIT,
    H_HISTOGRAM,
    H_HISTOGRAM_ROOM,
    H_NOTE,
    HISTOGRAM_WORDS,
    V1_HEADER_WORDS,
    WORD,
)
from shmfeed.memory.histogram import (
    BOUNDS,
    BUCKETS,
    PUBLISH,
    VENUE,
    Histogram,
    add_observations,
    read_latencies,
)
from shmfeed.memory.words import Words

SECOND = 1_000_000_000
EMPTY = Histogram(0, 0.0, (0,) * BUCKETS)


@pytest.fixture
def words() -> Words:
    return Words(bytearray(V1_HEADER_WORDS * WORD))


def one(seconds: float) -> tuple[list[int], int]:
    buckets = [0] * BUCKETS
    buckets[bisect_left(BOUNDS, seconds)] = 1
    return buckets, round(seconds * SECOND)


def test_the_buckets_fill_their_words_and_no_other(words: Words) -> None:
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert 2 + BUCKETS == HISTOGRAM_WORDS
    assert 2 * HISTOGRAM_WORDS == H_HISTOGRAM_ROOM
    for number in (VENUE, PUBLISH):
        add_observations(words, number, [1] * BUCKETS, 1)
    ints = words.ints.tolist()
    assert all(ints[H_HISTOGRAM:H_NOTE])
    assert not any(ints[:H_HISTOGRAM] + ints[H_NOTE:])


def test_what_is_stored_is_read(words: Words) -> None:
    assert read_latencies(words) == (EMPTY, EMPTY)
    for seconds in (0.0, 1e-5, 0.004, 0.005, 0.00501, 7.0, 1000.0):
        add_observations(words, VENUE, *one(seconds))
    add_observations(words, PUBLISH, *one(0.1))
    venue, publish = read_latencies(words)
    assert venue.number == 7
    assert venue.seconds == pytest.approx(1007.01402)
    found = dict(zip([*BOUNDS, "more"], venue.buckets, strict=True))
    assert {bound: n for bound, n in found.items() if n} == {
        1e-5: 2,
        0.005: 2,
        0.01: 1,
        10.0: 1,
        "more": 1,
    }
    assert (publish.number, publish.seconds) == (1, 0.1)


@pytest.mark.parametrize("word", [0, 1])
def test_a_histogram_never_leaves_the_range_of_a_counter(
    words: Words, word: int
) -> None:
    """A word out of range is damage, for which the next feeder drops the segment."""
    words.ints[H_HISTOGRAM + word] = COUNT_LIMIT - 1
    before = words.ints.tolist()
    add_observations(words, VENUE, *one(1.0))
    assert words.ints.tolist() == before


def test_a_writer_that_dies_in_a_store_leaves_a_whole_histogram(words: Words) -> None:
    add_observations(words, VENUE, *one(1.0))
    words.ints[H_HISTOGRAM + 2] += 1  # a bucket, and not the number
    venue, _ = read_latencies(words)
    assert venue.number == sum(venue.buckets) == 2


@pytest.mark.parametrize("damage", [-1, COUNT_LIMIT])
def test_words_out_of_range_count_nothing(words: Words, damage: int) -> None:
    add_observations(words, VENUE, *one(1.0))
    for word in (1, 2):
        words.ints[H_HISTOGRAM + word] = damage
    venue, _ = read_latencies(words)
    assert (venue.number, venue.seconds) == (1, 0.0)


def test_a_reader_never_sees_a_value_fall(words: Words) -> None:
    enough, written = threading.Event(), 0

    def write() -> None:
        nonlocal written
        while not enough.is_set() and written < 1_000_000:
            add_observations(words, VENUE, *one(written % 7 / 1000))
            written += 1

    thread = threading.Thread(target=write)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        last, seen = EMPTY, 0
        while seen < 100 and thread.is_alive():
            new, _ = read_latencies(words)
            assert new.number == sum(new.buckets)
            assert new.number >= last.number
            assert new.seconds >= last.seconds
            assert all(map(int.__ge__, new.buckets, last.buckets))
            seen += new != last
            last = new
    finally:
        enough.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert seen == 100
    assert read_latencies(words).venue.number == written
