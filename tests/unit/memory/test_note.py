"""The note: the feeder's text facts in a cell of fixed size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.layout import NOTE_BYTES, NOTE_WORDS, WORD
from shmfeed.memory.note import pack_note, unpack_note

texts = st.text(max_size=60)


def test_a_note_that_was_never_written_is_empty() -> None:
    assert unpack_note(None) == {}


@given(st.dictionaries(texts, st.none() | st.integers() | texts, max_size=2))
def test_facts_come_back(facts: dict[str, object]) -> None:
    cell = pack_note(facts)
    assert len(cell) == NOTE_WORDS * WORD
    assert unpack_note(cell) == facts


def test_the_longest_value_is_cut() -> None:
    long = "x" * 5000
    facts = unpack_note(pack_note({"endpoint": "wss://a", "last_error": long}))
    assert facts["endpoint"] == "wss://a"
    assert long.startswith(facts["last_error"])
    assert len(facts["last_error"]) > NOTE_BYTES // 4


@pytest.mark.parametrize("text", ["x" * NOTE_BYTES, "ä" * NOTE_BYTES, "\0" * 2000])
def test_any_text_fits(text: str) -> None:
    facts = unpack_note(pack_note({"a": text, "b": text, "c": 1}))
    assert facts["c"] == 1
    assert text.startswith(facts["a"])


def test_keys_that_do_not_fit_are_left_out() -> None:
    cell = pack_note({f"{number:0100}": "" for number in range(100)})
    assert len(cell) == NOTE_WORDS * WORD
    assert 0 < len(unpack_note(cell)) < 100


def test_a_damaged_note_says_so() -> None:
    for text in (b"[]", b"{", b"\xff", b"", b"[" * 1000, b"1" * 1000):
        facts = unpack_note(len(text).to_bytes(WORD, "little") + text)
        assert facts.keys() == {"last_error"}
        assert "note in the segment is damaged" in facts["last_error"]
