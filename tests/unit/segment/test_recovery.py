"""Inspection of a segment by its next owner, and what it keeps."""

import logging

import pytest
from support.ring_on_bytes import HOUR, blank, prices, right_to

import shmfeed
from shmfeed.layout import (
    COUNTERS,
    E_FORMING,
    E_GAPS,
    E_NAMES,
    E_SINCE,
    E_UPDATED,
    E_WORD,
    ENTRY_WORDS,
    H_COUNTERS,
    H_NOTE,
    H_RETIRED,
    H_STREAMS,
    H_TAKEN,
    H_WRITER_EPOCH,
    HEADER_WORDS,
    S_BASE,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    SLOT_HEADER_WORDS,
    WORD,
    Geometry,
)
from shmfeed.memory.words import Words, boot_ns
from shmfeed.ringbuf import RingWriter
from shmfeed.segment.mapping import place
from shmfeed.segment.recovery import (
    Inspection,
    inspect_segment,
    valid_count,
    valid_moment,
)
from shmfeed.writer import create

KEYS = [("A", "1h"), ("B", "1d"), ("C", "1M")]
HISTORY, GUARD = 5, 2
STEP = 40 * 24 * HOUR  # not two bars in one month
BEYOND = 1 << 62


@pytest.fixture
def segment() -> tuple[Words, Geometry]:
    words, geometry, catalog = blank(HISTORY, GUARD, max_streams=4)
    right = right_to(words)
    for key in KEYS:
        index = catalog.add(key, boot_ns())
        ring = RingWriter(words, geometry, index, key, lambda _: None, right)
        fill(ring)
    return words, geometry


def fill(ring: RingWriter) -> None:
    for number in range(9):
        ring.append(number * STEP, *prices(number))
    ring.update_forming(9 * STEP, *prices(9))


Segment = tuple[Words, Geometry]


def inspect(segment: Segment) -> tuple[list[str], str]:
    found: Inspection = inspect_segment(*segment)
    return [entry.symbol for entry in found.usable], "; ".join(found.damage)


def test_an_intact_segment(segment: Segment) -> None:
    assert inspect(segment) == (["A", "B", "C"], "")


@pytest.mark.parametrize(
    ("word", "value", "said"),
    [
        (H_RETIRED, 2, "retired"),
        (H_STREAMS, -1, "counts -1 streams"),
        (H_STREAMS, 5, "counts 5 streams"),
        (H_WRITER_EPOCH, -1, "counters"),
        (H_NOTE, (1 << 63) - 1, "counters"),
        (H_COUNTERS, BEYOND, "counters"),
        (H_COUNTERS + len(COUNTERS) - 1, -1, "counters"),
    ],
)
def test_a_damaged_header_costs_no_bars(
    segment: Segment, word: int, value: int, said: str
) -> None:
    segment[0].ints[word] = value
    usable, damage = inspect(segment)
    assert usable == ["A", "B", "C"]
    assert said in damage


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (E_SINCE, BEYOND),
        (E_UPDATED, -1),
        (E_GAPS, -1),
        (E_FORMING, BEYOND),
        (E_FORMING + 1, -2),  # the cell in use, its open_time; -1 is no bar
    ],
)
def test_damaged_counts_and_times_cost_no_bars(
    segment: Segment, word: int, value: int
) -> None:
    words, geometry = segment
    words.ints[geometry.entry_word(1) + E_FORMING] = 2
    words.ints[geometry.entry_word(1) + word] = value
    usable, damage = inspect(segment)
    assert usable == ["A", "B", "C"]
    assert damage.startswith("stream 1: ")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (HEADER_WORDS + ENTRY_WORDS + E_WORD, 0),
        (HEADER_WORDS + ENTRY_WORDS + E_WORD, -1),
        (HEADER_WORDS + ENTRY_WORDS + E_NAMES, 0),
        (Geometry(4, HISTORY, GUARD).slot_word(1) + S_EPOCH, 7),
        (Geometry(4, HISTORY, GUARD).slot_word(1) + S_BASE, 10),
        (Geometry(4, HISTORY, GUARD).slot_word(1) + S_PUBLISHED, 2),
        (Geometry(4, HISTORY, GUARD).slot_word(1) + S_INTENT, 12),
    ],
)
def test_a_damaged_stream_costs_its_own_bars(
    segment: Segment, word: int, value: int
) -> None:
    segment[0].ints[word] = value
    usable, damage = inspect(segment)
    assert usable == ["A", "C"]
    assert damage.startswith("stream 1: ")


@pytest.mark.parametrize(
    ("broken", "kept"),
    [([4], (5, 9)), ([8], (4, 8)), ([6], (7, 9)), ([5, 7], (8, 9)), ([*range(9)], ())],
)
def test_a_bar_with_a_wrong_time_costs_the_shorter_side(
    feed_name: str, broken: list[int], kept: tuple[int, int]
) -> None:
    with create(feed_name, HISTORY, GUARD, 4) as old:
        fill(old.add_stream("A", "1h"))
        at = old.geometry.slot_word(0) + SLOT_HEADER_WORDS
        for row in broken:
            for copy in (0, HISTORY + GUARD):
                old._words.ints[at + row % (HISTORY + GUARD) + copy] = 17
    with create(feed_name, HISTORY, GUARD, 4) as new:
        rows = shmfeed.attach(feed_name).ring("A", "1h").view(HISTORY)
        assert (rows.open_time // STEP).tolist() == list(range(*kept or (0,)))
        if kept:
            assert (rows.first, rows.last) == kept
        assert new.add_stream("A", "1h").reader.forming().open_time == 9 * STEP
        new.close(unlink=True)


def test_two_streams_with_one_slot_are_both_unusable(segment: Segment) -> None:
    words, geometry = segment
    first, second = (geometry.entry_word(index) + E_WORD for index in (0, 1))
    words.ints[second] = words.ints[first]
    assert inspect(segment)[0] == ["C"]


def test_two_streams_with_one_name_are_both_unusable(segment: Segment) -> None:
    words, geometry = segment
    first, second = ((geometry.entry_word(index) + E_NAMES) * WORD for index in (0, 1))
    words.raw[second : second + 56] = bytes(words.raw[first : first + 56])
    assert inspect(segment)[0] == ["C"]


def test_a_damaged_epoch_of_a_free_slot_is_found(segment: Segment) -> None:
    words, geometry = segment
    words.ints[H_TAKEN] = 10
    words.ints[geometry.slot_word(9) + S_EPOCH] = BEYOND  # the next one would not fit
    usable, damage = inspect(segment)
    assert usable == ["A", "B", "C"]
    assert f"word {S_EPOCH} of one of its slots" in damage


def test_values_out_of_range_become_zero() -> None:
    assert [valid_count(n) for n in (0, 7, BEYOND - 1, BEYOND, -1)] == [
        0,
        7,
        BEYOND - 1,
        0,
        0,
    ]
    now = boot_ns()
    assert [valid_moment(n) for n in (0, now, -1, BEYOND)] == [0, now, 0, 0]


def test_a_damaged_segment_is_recreated_with_usable_streams(
    feed_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its readers follow. The log names file and damage."""
    with create(feed_name, HISTORY, GUARD, 4) as old:
        for key in KEYS:
            fill(old.add_stream(*key))
        old.count("messages", 7)
        at = old.geometry.entry_word(1)
        old._words.ints[at + E_WORD] = 3
        old._words.ints[H_NOTE] = -1
    feed = shmfeed.attach(feed_name)
    with pytest.raises(shmfeed.SegmentFormatError, match="catalog word 0x3"):
        feed.ring("B", "1d")
    ring = feed.ring("A", "1h")
    epoch, rows = ring.epoch, ring.view(5)
    with caplog.at_level(logging.WARNING), create(feed_name, HISTORY, GUARD, 4) as new:
        assert not new.reused
        assert new.streams() == [("A", "1h"), ("C", "1M")]
        assert feed.streams() == new.streams()
        assert ring.epoch > epoch
        assert ring.count == 9
        assert (ring.view(5).values == rows.values).all()
        assert rows.valid
        assert feed.status()["messages"] == 7
        assert new.add_stream("B", "1d").reader.count == 0
        new.close(unlink=True)
    (said,) = caplog.messages
    assert str(place(feed_name).segment) in said
    assert "the bars of 2 streams" in said
    assert "stream 1: catalog word 0x3" in said
    assert "one of its counters" in said
