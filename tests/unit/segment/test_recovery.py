"""What a feeder finds in a segment that it is to go on with, and what it keeps."""

import logging
from collections.abc import Callable

import pytest
from support.ring_on_bytes import HOUR, blank, prices

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
from shmfeed.segment.recovery import Survey, kept_count, kept_moment, survey
from shmfeed.writer import create

NAMES = [("A", "1h"), ("B", "1d"), ("C", "1M")]
HISTORY, GUARD = 5, 2
STEP = 40 * 24 * HOUR  # not two bars in one month
BEYOND = 1 << 62


@pytest.fixture
def segment() -> tuple[Words, Geometry]:
    words, geometry, catalog = blank(HISTORY, GUARD, max_streams=4)
    for names in NAMES:
        index = catalog.add(names, boot_ns())
        ring = RingWriter(words, geometry, index, names, lambda _: None)
        fill(ring)
    return words, geometry


def fill(ring: RingWriter) -> None:
    for number in range(9):
        ring.append(number * STEP, *prices(number))
    ring.update_forming(9 * STEP, *prices(9))


Segment = tuple[Words, Geometry]


def look(segment: Segment) -> tuple[list[str], str]:
    found: Survey = survey(*segment)
    return [entry.symbol for entry in found.sound], "; ".join(found.damage)


def test_a_sound_one(segment: Segment) -> None:
    assert look(segment) == (["A", "B", "C"], "")


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
    sound, damage = look(segment)
    assert sound == ["A", "B", "C"]
    assert said in damage


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (E_SINCE, BEYOND),
        (E_UPDATED, -1),
        (E_GAPS, -1),
        (E_FORMING, BEYOND),
        (E_FORMING + 1, -1),  # the cell in use, its open_time
    ],
)
def test_small_words_around_sound_bars(segment: Segment, word: int, value: int) -> None:
    words, geometry = segment
    words.ints[geometry.entry_word(1) + E_FORMING] = 2
    words.ints[geometry.entry_word(1) + word] = value
    sound, damage = look(segment)
    assert sound == ["A", "B", "C"]
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
    sound, damage = look(segment)
    assert sound == ["A", "C"]
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


def test_of_two_that_claim_one_slot_neither_is_believed(segment: Segment) -> None:
    words, geometry = segment
    first, second = (geometry.entry_word(index) + E_WORD for index in (0, 1))
    words.ints[second] = words.ints[first]
    assert look(segment)[0] == ["C"]


def test_of_two_of_one_name_neither_is_believed(segment: Segment) -> None:
    words, geometry = segment
    first, second = ((geometry.entry_word(index) + E_NAMES) * WORD for index in (0, 1))
    words.raw[second : second + 56] = bytes(words.raw[first : first + 56])
    assert look(segment)[0] == ["C"]


def test_the_epoch_of_a_slot_that_nobody_uses(segment: Segment) -> None:
    words, geometry = segment
    words.ints[geometry.slot_word(9) + S_EPOCH] = BEYOND  # the next one would not fit
    sound, damage = look(segment)
    assert sound == ["A", "B", "C"]
    assert "epoch" in damage


def test_what_is_kept_of_a_word() -> None:
    assert [kept_count(n) for n in (0, 7, BEYOND - 1, BEYOND, -1)] == [
        0,
        7,
        BEYOND - 1,
        0,
        0,
    ]
    now = boot_ns()
    assert [kept_moment(n) for n in (0, now, -1, BEYOND)] == [0, now, 0, 0]


Damage = Callable[[Words, Geometry], None]


def test_a_feeder_goes_on_with_what_is_sound(
    feed_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Made anew under the same readers; the log names file and damage."""
    with create(feed_name, HISTORY, GUARD, 4) as old:
        for names in NAMES:
            fill(old.add_stream(*names))
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
        assert not new.adopted
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
