"""The bytes of a segment: its parts are aligned, do not overlap, and fit."""

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed import layout
from shmfeed.layout import COLUMNS, WORD, Geometry
from shmfeed.memory.words import Latch

geometries = st.builds(
    Geometry,
    st.integers(1, 500),
    st.integers(1, 5000),
    st.integers(1, 2000),
    st.sampled_from([1, 2]),
)


def test_header_words_do_not_overlap() -> None:
    words = [value for name, value in vars(layout).items() if name.startswith("H_")]
    rooms = {"H_COUNTERS_ROOM", "H_HISTOGRAM_ROOM"}
    starts = [
        getattr(layout, name)
        for name in vars(layout)
        if name.startswith("H_") and name not in rooms and name != "H_BARS"
    ]
    assert len(starts) == len(set(starts)) == len(words) - 3
    assert len(layout.COUNTERS) <= layout.H_COUNTERS_ROOM
    assert layout.H_COUNTERS + layout.H_COUNTERS_ROOM <= layout.H_HISTOGRAM
    assert layout.H_HISTOGRAM + layout.H_HISTOGRAM_ROOM <= layout.H_NOTE
    end = layout.H_NOTE + Latch.size(layout.NOTE_WORDS)
    assert end <= min(layout.H_ENTRY_START, layout.V1_HEADER_WORDS)
    assert 2 * layout.HISTOGRAM_WORDS <= layout.H_HISTOGRAM_ROOM
    assert layout.H_IDENTITY + Latch.size(layout.IDENTITY_WORDS) <= layout.H_TAKEN
    assert layout.H_TAKEN < layout.H_TEXT
    end = layout.H_TEXT + Latch.size(layout.TEXT_WORDS)
    assert end <= layout.HEADER_WORDS


def test_the_version_is_in_the_first_word() -> None:
    # A reader of another layout can still tell the versions.
    assert layout.H_READY == 0
    assert divmod(layout.READY, 1 << layout.MAGIC_SHIFT) == (
        layout.MAGIC,
        layout.VERSION,
    )


def test_entry_words_do_not_overlap() -> None:
    assert layout.E_FORMING + Latch.size(layout.FORMING_WORDS) <= layout.E_NAMES
    names = (layout.SYMBOL_BYTES + layout.TIMEFRAME_BYTES) // WORD
    assert layout.E_NAMES + names <= min(layout.E_COUNTERS, layout.V1_ENTRY_WORDS)
    forming_end = layout.E_FORMING + Latch.size(layout.FORMING_WORDS)
    assert forming_end <= layout.E_EPOCH < layout.E_SILENCE < layout.E_REASON
    assert layout.E_REASON < layout.E_NAMES
    assert layout.E_COUNTERS + layout.E_COUNTERS_ROOM <= layout.E_HOLES
    holes = Latch.size(1 + layout.HOLES * layout.HOLE_WORDS)
    assert layout.E_HOLES + holes <= layout.E_WHY
    assert layout.E_WHY + Latch.size(layout.WHY_WORDS) <= layout.ENTRY_WORDS
    assert len(COLUMNS) == layout.FORMING_WORDS


def test_bars_are_the_first_counter() -> None:
    assert layout.COUNTERS[layout.H_BARS - layout.H_COUNTERS] == "bars"


@pytest.mark.parametrize(
    "name", ["bars", "messages", "malformed", "ignored", "late", "gaps", "reconnects"]
)
def test_counters_of_the_status(name: str) -> None:
    assert name in layout.COUNTERS


@given(geometries)
def test_spare_slots(geometry: Geometry) -> None:
    spares = geometry.slots - geometry.max_streams
    assert spares >= 8
    assert 8 * spares >= geometry.max_streams


@given(geometries)
def test_pieces_adjoin(geometry: Geometry) -> None:
    end = geometry.entry_word(geometry.max_streams)
    assert geometry.entry_word(0) == geometry.header_words
    padding = geometry.slot_word(0) - end
    assert 0 <= padding * WORD < (mmap.PAGESIZE if geometry.version > 1 else 1)
    end = geometry.slot_word(geometry.slots - 1) + geometry.slot_words
    assert geometry.size == end * WORD


@given(geometries, st.integers(0, 20))
def test_slots_begin_on_pages_and_entries_on_cache_lines(
    geometry: Geometry, number: int
) -> None:
    if geometry.version == 1:
        return  # it has no padding
    slot, entry = geometry.slot_word(number), geometry.entry_word(number)
    assert slot * WORD % mmap.PAGESIZE == 0
    assert geometry.slot_words * WORD % mmap.PAGESIZE == 0
    assert entry * WORD % 64 == geometry.entry_words * WORD % 64 == 0


def test_layout_1_has_its_own_sizes() -> None:
    old = Geometry(2, 5, 3, version=1)
    assert (old.header_words, old.entry_words) == (512, 48)
    assert old.slot_words == 8 + 9 * 2 * 8
    assert old.size == 8 * (512 + 2 * 48 + 10 * old.slot_words)


def test_slot_numbers_fit_their_bits() -> None:
    assert Geometry(layout.MAX_STREAMS, 1, 1).slots <= layout.SLOT_MASK
