"""The catalog on a bytearray: entries, slots and epochs."""

import pytest
from support.ring_on_bytes import blank

from shmfeed.errors import BadArgumentError, SegmentFormatError, SegmentFullError
from shmfeed.layout import (
    E_FORMING,
    E_NAMES,
    E_SINCE,
    E_SUBSCRIBED,
    E_WORD,
    H_STREAMS,
    S_BASE,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    SLOT_BITS,
    SLOT_MASK,
    SYMBOL_BYTES,
    WORD,
)
from shmfeed.memory.catalog import Catalog, Entry, entries, known_streams

A, B, C = ("A", "1h"), ("B", "1m"), ("C" * 48, "15m")


def test_a_new_segment_has_no_entry() -> None:
    words, geometry, catalog = blank(4, max_streams=3)
    assert entries(words, geometry) == []
    assert catalog.index == {}


def test_entries_come_in_the_order_of_adding() -> None:
    words, geometry, catalog = blank(4, max_streams=3)
    assert [catalog.add(names, now=1) for names in (B, A, C)] == [0, 1, 2]
    assert entries(words, geometry) == [
        Entry(0, *B, True),
        Entry(1, *A, True),
        Entry(2, *C, True),
    ]


def test_a_stream_added_again_keeps_its_entry() -> None:
    words, geometry, catalog = blank(4, max_streams=3)
    assert catalog.add(A, now=1) == catalog.add(A, now=2) == 0
    assert len(entries(words, geometry)) == 1
    assert words.ints[geometry.entry_word(0) + E_SINCE] == 1


def test_a_full_catalog_refuses_another_stream() -> None:
    words, geometry, catalog = blank(4, max_streams=2)
    catalog.add(A, now=1)
    catalog.add(B, now=1)
    with pytest.raises(SegmentFullError, match=r"capacity for 2 streams.*max_streams"):
        catalog.add(C, now=1)
    assert catalog.add(A, now=1) == 0
    assert len(entries(words, geometry)) == 2


def test_an_unsubscribed_stream_keeps_its_entry() -> None:
    words, geometry, catalog = blank(4, max_streams=2)
    catalog.add(A, now=1)
    catalog.add(B, now=1)
    word = words.ints[geometry.entry_word(0) + E_WORD]
    catalog.unsubscribe(A, now=5)
    assert [entry.subscribed for entry in entries(words, geometry)] == [False, True]
    assert words.ints[geometry.entry_word(0) + E_SINCE] == 5
    assert catalog.add(A, now=7) == 0
    assert words.ints[geometry.entry_word(0) + E_SINCE] == 7
    assert words.ints[geometry.entry_word(0) + E_WORD] == word
    assert all(entry.subscribed for entry in entries(words, geometry))


def test_an_unknown_stream_cannot_be_unsubscribed() -> None:
    _, _, catalog = blank(4, max_streams=2)
    with pytest.raises(BadArgumentError, match="no stream A 1h"):
        catalog.unsubscribe(A, now=1)


def test_each_stream_has_a_slot_and_an_epoch_of_its_own() -> None:
    words, geometry, catalog = blank(4, max_streams=8)
    for number in range(8):
        catalog.add((f"S{number}", "1h"), now=1)
    found = [words.ints[geometry.entry_word(i) + E_WORD] for i in range(8)]
    assert len({word & SLOT_MASK for word in found}) == 8
    epochs = [word >> SLOT_BITS for word in found]
    assert epochs == sorted(set(epochs))
    for word in found:
        at = geometry.slot_word(word & SLOT_MASK)
        assert words.ints[at + S_EPOCH] == word >> SLOT_BITS


def test_epochs_begin_at_the_first_epoch() -> None:
    words, geometry, _ = blank(4)
    Catalog(words, geometry, 1 << 40).add(A, now=1)
    assert words.ints[geometry.entry_word(0) + E_WORD] >> SLOT_BITS == 1 << 40


def test_a_successor_knows_the_streams_and_raises_the_epochs() -> None:
    words, geometry, catalog = blank(4, max_streams=3)
    catalog.add(A, now=1)
    catalog.add(B, now=1)
    successor = Catalog(words, geometry, 1)
    assert successor.index == {A: 0, B: 1}
    assert successor.add(C, now=2) == 2
    assert words.ints[geometry.entry_word(2) + E_WORD] >> SLOT_BITS == 3


def test_a_new_slot_begins_at_its_base() -> None:
    words, geometry, catalog = blank(4)
    catalog.add(A, now=1, base=77)
    at = geometry.slot_word(0)
    found = [words.ints[at + word] for word in (S_BASE, S_INTENT, S_PUBLISHED)]
    assert found == [77, 77, 77]


def test_an_entry_that_was_not_counted_is_written_again() -> None:
    # A writer killed while it made one.
    words, geometry, catalog = blank(4, max_streams=2)
    catalog.add(A, now=1)
    words.ints[H_STREAMS] = 0
    words.ints[geometry.entry_word(0) + E_FORMING] = 9
    successor = Catalog(words, geometry, 1)
    assert entries(words, geometry) == []
    successor.add(B, now=1)
    assert entries(words, geometry) == [Entry(0, *B, True)]
    assert words.ints[geometry.entry_word(0) + E_FORMING] == 0
    assert words.ints[geometry.entry_word(0) + E_WORD] >> SLOT_BITS == 2


@pytest.mark.parametrize("count", [-1, 3, 1 << 40, -1 << 63])
def test_an_impossible_count_is_damage(count: int) -> None:
    words, geometry, catalog = blank(4, max_streams=2)
    catalog.add(A, now=1)
    words.ints[H_STREAMS] = count
    with pytest.raises(
        SegmentFormatError, match=f"counts {count} streams of at most 2"
    ):
        entries(words, geometry)


@pytest.mark.parametrize(
    ("where", "written", "said"),
    [
        (0, b"\0", "stream 1: its symbol is ''"),
        (0, b" B", "stream 1: its symbol is ' B'"),
        (0, "\u00e9".encode(), "stream 1: its symbol is"),
        (0, b"A" + bytes(47) + b"1h", "the same key"),
        (SYMBOL_BYTES, b"7m", "stream 1: its timeframe is '7m'"),
        (SYMBOL_BYTES, b"1H", "stream 1: its timeframe is '1H'"),
        (SYMBOL_BYTES, b"60m", "stream 1: its timeframe is '60m'"),
        (SYMBOL_BYTES, bytes(2), "stream 1: its timeframe is ''"),
    ],
)
def test_impossible_names_are_damage(where: int, written: bytes, said: str) -> None:
    words, geometry, catalog = blank(4, max_streams=2)
    catalog.add(A, now=1)
    catalog.add(B, now=1)
    start = (geometry.entry_word(1) + E_NAMES) * WORD + where
    words.raw[start : start + len(written)] = written
    with pytest.raises(SegmentFormatError, match=said):
        entries(words, geometry)


def test_two_streams_in_one_slot_are_damage() -> None:
    words, geometry, catalog = blank(4, max_streams=2)
    catalog.add(A, now=1)
    catalog.add(B, now=1)
    first, second = (geometry.entry_word(i) + E_WORD for i in range(2))
    words.ints[second] = words.ints[first]
    with pytest.raises(SegmentFormatError, match="the same slot"):
        entries(words, geometry)


CHANGES = {
    "unsubscribe": lambda catalog: catalog.unsubscribe(A, now=3),
    "subscribe again": lambda catalog: catalog.add(B, now=3),
    "add": lambda catalog: catalog.add(C, now=3),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("room", [2, 3])
def test_a_reader_sees_a_change_whose_writer_died(change, room: int, monkeypatch):
    words, geometry, catalog = blank(4, max_streams=room)
    catalog.add(A, now=1)
    catalog.add(B, now=1)
    catalog.unsubscribe(B, now=2)
    known = known_streams(words, geometry, None)

    def die(_: Catalog) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as death:
        death.setattr(Catalog, "_changed", die)
        with pytest.raises(KeyboardInterrupt):
            change(catalog)
    seen = known_streams(words, geometry, known)
    fresh = known_streams(words, geometry, None)
    assert seen == fresh
    assert seen[1:] != known[1:]
    # A stream found in the middle of a change is looked for again.
    words.ints[geometry.entry_word(1) + E_SUBSCRIBED] ^= 1
    assert known_streams(words, geometry, seen)[1:] != seen[1:]
    Catalog(words, geometry, 9)
    known = known_streams(words, geometry, seen)
    assert known_streams(words, geometry, known) is known
