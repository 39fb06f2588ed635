"""Bytes of flushes, states and rings: what comes back, and what is refused."""

import numpy as np
import pytest
from support.relay_flushes import HEAD, MINUTES, rows, same_rows, whole

from shmfeed.memory.holes import HoleRecord
from shmfeed.relay import blobs
from shmfeed.relay.blobs import (
    State,
    pack_answer,
    pack_catalog,
    pack_flush,
    pack_head,
    pack_state,
    pack_streams,
    unpack_answer,
    unpack_catalog,
    unpack_flush,
    unpack_head,
    unpack_state,
    unpack_streams,
)
from shmfeed.relay.engine import Answer, EngineRefusedError
from shmfeed.relay.flush import Catalog, Flush, StreamMarks
from shmfeed.relay.rows import pack_ring, unpack_ring

KEY = "{shmfeed:f}:live"
HOLES = (HoleRecord(0, 60_000, 2, "given_up", "refused"),)
MARKS = StreamMarks(False, 1, 2, 3, 4, 5, True, 6, True, "refused", "words", HOLES)
FLUSH = Flush(
    7,
    rows((0, 5, 1.5), (0, 6, np.nan), (2, 9, 2.5)),
    rows((1, 7, 3.5)),
    (2,),
    {1: MARKS},
    Catalog(MINUTES, 10),
    HEAD._replace(clock_offset=1.25, last_error="é"),
)


def test_a_flush_comes_back() -> None:
    flush, made = unpack_flush(pack_flush(FLUSH, 12.5), KEY)
    assert made == 12.5
    assert same_rows(flush.closed, FLUSH.closed)
    assert same_rows(flush.forming, FLUSH.forming)
    assert flush[3:] == FLUSH[3:]


def test_an_empty_flush_comes_back() -> None:
    flush, _ = unpack_flush(pack_flush(Flush(1), 0.0), KEY)
    assert same_rows(flush.closed, Flush(1).closed)
    assert flush[3:] == Flush(1)[3:]


def test_numbers_out_of_arrays_are_taken() -> None:
    marks = StreamMarks(silence=np.int64(5))
    flush, _ = unpack_flush(pack_flush(Flush(1, marks={0: marks}), 0.0), KEY)
    assert flush.marks == {0: marks}


def test_other_values_come_back() -> None:
    assert unpack_head(pack_head(HEAD, 2.5), KEY) == (HEAD, 2.5)
    assert unpack_catalog(pack_catalog(FLUSH.catalog), KEY) == FLUSH.catalog
    state = State(3.5, "run", 7, {1: (4, MARKS)}, FLUSH.forming)
    back = unpack_state(pack_state(state), KEY)
    assert (back.made, back.run_id, back.head_ms) == (3.5, "run", 7)
    assert back.marks == {1: (4, MARKS)}
    assert same_rows(back.forming, FLUSH.forming)
    assert unpack_streams(pack_streams(MINUTES), KEY) == MINUTES
    answer = Answer(MINUTES[:1], {MINUTES[1]: "no such symbol"})
    assert unpack_answer(pack_answer(MINUTES, answer), KEY) == (MINUTES, answer)


UNPACK = {
    "flush": (pack_flush(FLUSH, 0.0), unpack_flush),
    "head": (pack_head(HEAD, 0.0), unpack_head),
    "catalog": (pack_catalog(Catalog(MINUTES, 3)), unpack_catalog),
    "state": (pack_state(State(0.0, "", 0, {}, FLUSH.forming)), unpack_state),
    "request": (pack_streams(MINUTES), unpack_streams),
    "answer": (pack_answer(MINUTES, Answer((), {})), unpack_answer),
    "ring": (
        pack_ring(np.zeros((0, 9), np.int64), "1m", 4),
        lambda blob, key: unpack_ring(blob, "1m", key),
    ),
}


@pytest.mark.parametrize("kind", UNPACK)
class TestRefused:
    def refusal(self, kind: str, blob: bytes) -> str:
        with pytest.raises(EngineRefusedError) as caught:
            UNPACK[kind][1](blob, KEY)
        assert KEY in str(caught.value)
        return str(caught.value)

    def test_each_truncation(self, kind: str) -> None:
        blob = UNPACK[kind][0]
        UNPACK[kind][1](blob, KEY)  # control
        for length in range(len(blob)):
            text = self.refusal(kind, blob[:length])
            assert ("truncated" in text) == (length >= 4)

    def test_more_bytes(self, kind: str) -> None:
        assert "truncated" in self.refusal(kind, UNPACK[kind][0] + b"x")

    @pytest.mark.parametrize("blob", [b"", b"hello", b"\x80" * 100])
    def test_foreign_bytes(self, kind: str, blob: bytes) -> None:
        assert "did not write" in self.refusal(kind, blob)

    def test_another_version(self, kind: str) -> None:
        blob = bytearray(UNPACK[kind][0])
        blob[4] = 9
        text = self.refusal(kind, bytes(blob))
        assert "version 9" in text
        assert f"version {blobs.VERSION}" in text

    def test_another_kind(self, kind: str) -> None:
        other = "head" if kind != "head" else "state"
        assert "of kind" in self.refusal(kind, UNPACK[other][0])


def test_each_damaged_byte_is_refused_or_read() -> None:
    """No byte makes an unpacking fail in another way."""
    blob = pack_flush(FLUSH, 12.5)
    refused = 0
    for at in range(len(blob)):
        damaged = bytearray(blob)
        damaged[at] ^= 0xFF
        try:
            unpack_flush(bytes(damaged), KEY)
        except EngineRefusedError:
            refused += 1
    assert refused > 50


def test_a_timeframe_that_is_not_known_is_refused() -> None:
    blob = pack_catalog(Catalog((("A", "1m"), ("A", "7x")), 3))
    with pytest.raises(EngineRefusedError, match=r"damaged value .*'7x'"):
        unpack_catalog(blob, KEY)


def test_a_whole_flush_needs_no_rows() -> None:
    flush, _ = unpack_flush(pack_flush(whole(), 0.0), KEY)
    assert flush.is_whole
