"""The bell on a plain buffer: which word, which bits, in which order."""

import threading
import time

import pytest
from ring_on_bytes import blank
from sleeping import is_asleep
from waiting import until

from shmfeed.layout import H_WAKE, WORD
from shmfeed.memory import bell
from shmfeed.memory.bell import AT, Bell, PureBell, bit, bit_of_entry, heard, sleep
from shmfeed.memory.futex import ALL
from shmfeed.memory.words import Words

SECOND = 1_000_000_000


@pytest.fixture
def words() -> Words:
    return blank(4, max_streams=40)[0]


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the kernel is told: how often the bell was rung by then, and the bits."""
    calls: list[tuple[int, int]] = []

    def wake(raw: memoryview, offset: int, bits: int) -> int:
        assert offset == AT
        calls.append((raw[offset], bits))
        return 0

    monkeypatch.setattr(bell, "futex_wake", wake)
    return calls


@pytest.mark.parametrize("kind", list(dict.fromkeys([PureBell, Bell])))
def test_it_is_the_header_s_word(words: Words, kind: type[Bell]) -> None:
    before = bytes(words.raw)
    kind(words).wake_all()
    after = bytes(words.raw)
    assert [at for at in range(len(after)) if after[at] != before[at]] == [AT]
    assert AT == H_WAKE * WORD
    assert heard(words) == words.ints[H_WAKE] == 1


def test_a_stream_s_ring_has_its_bit(words: Words, woken: list) -> None:
    ring = PureBell(words)
    for index in (0, 1, 31, 32, 39):
        ring(index)
    assert woken == [(1, 1), (2, 2), (3, 1 << 31), (4, 1), (5, 1 << 7)]


def test_several_streams_are_one_ring(words: Words, woken: list) -> None:
    PureBell(words).ring_for([3, 0, 32, 3])
    assert woken == [(1, 0b1001)]


def test_everybody(words: Words, woken: list) -> None:
    PureBell(words).wake_all()
    assert woken == [(1, ALL)]


@pytest.mark.parametrize("index", [0, 1, 31, 32, 39])
def test_an_entry_s_bit_is_its_stream_s(index: int) -> None:
    geometry = blank(4, max_streams=40)[1]
    assert bit_of_entry(geometry.entry_word(index)) == bit(index) == 1 << index % 32


@pytest.mark.parametrize("kind", list(dict.fromkeys([PureBell, Bell])))
class TestArguments:
    def test_a_bell_needs_a_word_to_write(self, kind: type[Bell]) -> None:
        words = blank(4)[0]
        kept = Words(memoryview(words.raw).toreadonly())
        with pytest.raises((TypeError, BufferError)):
            kind(kept)(0)

    @pytest.mark.parametrize("index", ["0", None, 1.0])
    def test_an_index_is_a_whole_number(self, kind: type[Bell], index: object) -> None:
        words = blank(4)[0]
        with pytest.raises((TypeError, ValueError, OverflowError)):
            kind(words)(index)  # type: ignore[arg-type] # on purpose
        assert heard(words) == 0


class TestSleep:
    def test_it_rang_since_it_was_heard(self, words: Words) -> None:
        before = heard(words)
        Bell(words)(0)
        start = time.monotonic()
        assert sleep([(words, before, ALL)], 20 * SECOND)
        assert sleep([(words, before, 0b10)], 20 * SECOND)
        assert time.monotonic() - start < 1

    def test_the_timeout(self, words: Words) -> None:
        assert sleep([(words, heard(words), ALL)], SECOND // 100) is False

    def test_nothing_to_listen_to(self) -> None:
        start = time.monotonic()
        assert sleep([], SECOND // 50) is False
        assert 0.02 <= time.monotonic() - start < 1

    @pytest.mark.parametrize("which", [0, 1])
    def test_one_of_several(self, words: Words, which: int) -> None:
        both = [words, blank(4)[0]]
        timer = threading.Timer(0.05, Bell(both[which]).wake_all)
        timer.start()
        start = time.monotonic()
        assert sleep([(each, heard(each), ALL) for each in both], 20 * SECOND)
        assert time.monotonic() - start < 5
        timer.join()

    def test_another_stream_s_ring_does_not_wake(self, words: Words) -> None:
        """Once the thread sleeps; its own stream's does."""
        came: list[bool] = []
        listening = [(words, heard(words), bit(1))]
        thread = threading.Thread(
            target=lambda: came.append(sleep(listening, 20 * SECOND))
        )
        thread.start()
        until(lambda: bell.futex_wake(words.raw, AT, bit(1)), what="it sleeps")
        thread.join(5)
        assert came == [True]
        thread = threading.Thread(
            target=lambda: came.append(sleep(listening, SECOND // 2))
        )
        thread.start()
        until(lambda: is_asleep(thread, words.raw, AT), what="it sleeps")
        Bell(words)(0)
        Bell(words)(2)
        thread.join(5)
        assert came == [True, False]
