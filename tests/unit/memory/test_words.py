"""The words of a buffer, the retry budget, and the latch."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmfeed.errors import BadArgumentError, BusyRingError
from shmfeed.memory.words import READ_LIMIT_NS, Latch, RetryBudget, Words, boot_ns

CELL_WORDS = 2
CELL = CELL_WORDS * 8


class TestWords:
    def test_ints_floats_and_bytes_share_the_buffer(self) -> None:
        buffer = bytearray(32)
        words = Words(buffer)
        words.ints[0] = -2
        words.floats[1] = 0.5
        words.raw[16:24] = b"8 bytes!"
        assert buffer[:8] == (-2).to_bytes(8, "little", signed=True)
        assert words.floats[1] == np.frombuffer(buffer)[1] == 0.5
        assert words.ints[2].to_bytes(8, "little") == b"8 bytes!"
        words.release()

    def test_columns_share_the_buffer(self) -> None:
        words = Words(bytearray(8 * 10))
        columns = words.columns(2, (2, 3))
        words.floats[2 + 4] = 7.0
        assert columns.shape == (2, 3)
        assert columns[1, 1] == 7.0

    def test_columns_keep_the_buffer(self) -> None:
        columns = Words(bytearray(8 * 4)).columns(0, (1, 4))
        assert columns.tolist() == [[0.0] * 4]

    @pytest.mark.parametrize(
        "buffer", [5, None, "text", memoryview(bytearray(64))[::2], [0, 1]]
    )
    def test_other_than_a_contiguous_buffer_is_refused(self, buffer: object) -> None:
        with pytest.raises(BadArgumentError, match=r"the map is .* contiguous buffer"):
            Words(buffer, "the map")

    @pytest.mark.parametrize(("start", "size"), [(0, 0), (0, 12), (4, 16), (1, 8)])
    def test_other_than_whole_aligned_words_is_refused(
        self, start: int, size: int
    ) -> None:
        buffer = memoryview(bytearray(64))[start : start + size]
        with pytest.raises(BadArgumentError, match=f"the map has {size} bytes at"):
            Words(buffer, "the map")

    def test_release_releases_the_buffer(self) -> None:
        buffer = bytearray(16)
        words = Words(buffer)
        with pytest.raises(BufferError):
            buffer.append(0)  # a buffer that is in use cannot be resized
        words.release()
        buffer.append(0)
        with pytest.raises(ValueError, match="released"):
            words.ints[0]

    def test_columns_beyond_the_buffer_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="smaller"):
            Words(bytearray(8 * 4)).columns(2, (1, 4))


def _spend_all(patience: RetryBudget) -> None:
    while True:
        patience.spend()


class TestPatience:
    def test_it_raises_after_the_limit(self) -> None:
        patience = RetryBudget("this read")
        start = time.monotonic_ns()
        with pytest.raises(BusyRingError, match="this read: the writer outran") as busy:
            _spend_all(patience)
        spent = time.monotonic_ns() - start
        assert READ_LIMIT_NS <= spent < 100 * READ_LIMIT_NS
        assert "10 ms" in str(busy.value)

    def test_a_pause_of_the_reader_is_not_counted(self) -> None:
        patience = RetryBudget("this read")
        for _ in range(4):
            patience.spend()
            time.sleep(2 * READ_LIMIT_NS / 1e9)
        patience.spend()

    def test_a_slow_try_costs_its_whole_time(self) -> None:
        patience = RetryBudget("a copy of millions of rows")
        tries = 0
        with pytest.raises(BusyRingError):
            while True:
                end = time.thread_time_ns() + READ_LIMIT_NS
                while time.thread_time_ns() <= end:
                    pass
                patience.spend()
                tries += 1
        assert tries == 1


def test_boot_time_is_not_behind_monotonic_time() -> None:
    monotonic = time.monotonic_ns()
    assert boot_ns() >= monotonic


def _pair() -> tuple[Words, Latch]:
    words = Words(bytearray(8 * (1 + Latch.size(CELL_WORDS) + 1)))
    words.ints[0] = words.ints[-1] = -1  # the neighbours
    return words, Latch(words, 1, CELL_WORDS)


class TestLatch:
    def test_an_unwritten_latch_has_no_value(self) -> None:
        assert _pair()[1].read() is None

    @given(st.lists(st.binary(min_size=CELL, max_size=CELL), min_size=1))
    def test_it_reads_the_last_value(self, values: list[bytes]) -> None:
        words, pair = _pair()
        for value in values:
            pair.write(value)
            assert pair.read() == value
        assert words.ints[0] == words.ints[-1] == -1

    def test_a_writer_killed_while_filling_leaves_the_last_value(self) -> None:
        words, pair = _pair()
        pair.write(b"a" * CELL)
        pair.write(b"b" * CELL)
        # The third write fills the first's cell, and is killed before its counter.
        cell = 8 * (1 + 1 + CELL_WORDS)
        assert bytes(words.raw[cell : cell + CELL]) == b"a" * CELL
        words.raw[cell : cell + CELL // 2] = b"c" * (CELL // 2)
        assert pair.read() == b"b" * CELL
        pair.write(b"d" * CELL)
        assert pair.read() == b"d" * CELL

    def test_a_successor_continues_the_counter(self) -> None:
        words, pair = _pair()
        pair.write(b"a" * CELL)
        Latch(words, 1, CELL_WORDS).write(b"b" * CELL)
        assert pair.read() == b"b" * CELL

    def test_a_value_of_another_size_is_an_error(self) -> None:
        pair = _pair()[1]
        with pytest.raises(ValueError, match="differ"):
            pair.write(b"short")
        assert pair.read() is None

    def test_a_read_that_is_always_outrun_gives_up(self) -> None:
        words, pair = _pair()
        pair.write(b"a" * CELL)
        outrun = Latch(_Moving(words), 1, CELL_WORDS)  # type: ignore[arg-type] # its double
        with pytest.raises(BusyRingError, match="forming cells"):
            outrun.read()


class _Moving:
    """Words that a writer changes before every load."""

    def __init__(self, words: Words) -> None:
        self.raw = words.raw
        self.ints = self
        self._value = 0

    def __getitem__(self, _: int) -> int:
        self._value += 1
        return self._value
