"""The bytes of a segment: its parts are aligned, do not overlap, and fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed import layout
from shmfeed.layout import COLUMNS, WORD, Geometry
from shmfeed.memory.words import Latch

geometries = st.builds(
    Geometry, st.integers(1, 500), st.integers(1, 5000), st.integers(1, 2000)
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
    assert layout.E_NAMES + names <= layout.ENTRY_WORDS
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
    last = geometry.entry_word(geometry.max_streams - 1)
    assert geometry.slot_word(0) == last + layout.ENTRY_WORDS
    end = geometry.slot_word(geometry.slots - 1) + geometry.slot_words
    assert geometry.size == end * WORD


def test_slot_numbers_fit_their_bits() -> None:
    assert Geometry(layout.MAX_STREAMS, 1, 1).slots <= layout.SLOT_MASK
