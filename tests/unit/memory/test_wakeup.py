"""The eventcount on a plain buffer: its word, its bits, and the order of its steps."""

import threading
import time

import pytest
from support.ring_on_bytes import Bench, bench, blank
from support.sleeping import IN_C, InThread, is_asleep
from support.waiting import until

from shmfeed import core
from shmfeed.layout import E_WORD, H_WAKE, S_EPOCH, SLOT_BITS, SLOT_MASK, WORD
from shmfeed.memory import wakeup
from shmfeed.memory.futex import ALL_BITS
from shmfeed.memory.wakeup import (
    WAKE_OFFSET,
    Eventcount,
    sleep_past,
    spin_past,
    wake_bits,
)
from shmfeed.memory.words import Words
from shmfeed.waiting import load_key, wait_any

SECOND = 1_000_000_000


@pytest.fixture
def words() -> Words:
    return blank(4, max_streams=40)[0]


EVENTCOUNTS = [Eventcount, *([core.Eventcount] if IN_C else [])]
LOOKS = [spin_past, *([core.spin_past] if IN_C else [])]
SLEEPS = [sleep_past, *([core.sleep_past] if IN_C else [])]


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the calls of the kernel: the key at that time, and the bits."""
    calls: list[tuple[int, int]] = []

    def wake(raw: memoryview, offset: int, bits: int) -> int:
        assert offset == WAKE_OFFSET
        calls.append((raw[offset], bits))
        return 0

    monkeypatch.setattr(wakeup, "futex_wake", wake)
    return calls


def test_the_key_is_the_header_s_wake_word(words: Words) -> None:
    before = bytes(words.raw)
    Eventcount(words).notify(ALL_BITS)
    after = bytes(words.raw)
    assert [at for at in range(len(after)) if after[at] != before[at]] == [WAKE_OFFSET]
    assert WAKE_OFFSET == H_WAKE * WORD
    assert load_key(words) == words.ints[H_WAKE] == 1


def test_a_stream_s_notification_has_its_bit(words: Words, woken: list) -> None:
    ring = Eventcount(words)
    for index in (0, 1, 31, 32, 39):
        ring(index)
    assert woken == [(1, 1), (2, 2), (3, 1 << 31), (4, 1), (5, 1 << 7)]


def test_several_streams_are_one_notification(words: Words, woken: list) -> None:
    Eventcount(words).notify(wake_bits([3, 0, 32, 3]))
    assert woken == [(1, 0b1001)]


def test_all_bits_are_one_notification(words: Words, woken: list) -> None:
    Eventcount(words).notify(ALL_BITS)
    assert woken == [(1, ALL_BITS)]


@pytest.mark.parametrize("index", [0, 1, 31, 32, 39])
def test_an_entry_has_the_bit_of_its_stream(index: int) -> None:
    assert wake_bits([index]) == 1 << index % 32


class TestSleep:
    def test_a_notification_since_the_key_ends_the_wait(self, words: Words) -> None:
        before = load_key(words)
        Eventcount(words)(0)
        start = time.monotonic()
        assert wait_any([(words, before, ALL_BITS)], 20 * SECOND)
        assert wait_any([(words, before, 0b10)], 20 * SECOND)
        assert time.monotonic() - start < 1

    def test_the_timeout(self, words: Words) -> None:
        assert wait_any([(words, load_key(words), ALL_BITS)], SECOND // 100) is False

    def test_a_wait_for_no_segment_times_out(self) -> None:
        start = time.monotonic()
        assert wait_any([], SECOND // 50) is False
        assert 0.02 <= time.monotonic() - start < 1

    @pytest.mark.parametrize("which", [0, 1])
    def test_one_of_several_segments_ends_the_wait(
        self, words: Words, which: int
    ) -> None:
        both = [words, blank(4)[0]]
        timer = threading.Timer(0.05, Eventcount(both[which]), (0,))
        timer.start()
        start = time.monotonic()
        assert wait_any(
            [(each, load_key(each), ALL_BITS) for each in both], 20 * SECOND
        )
        assert time.monotonic() - start < 5
        timer.join()

    def test_another_stream_s_notification_does_not_wake(self, words: Words) -> None:
        """The notification of its own stream wakes the thread once it sleeps."""
        came: list[bool] = []
        listening = [(words, load_key(words), wake_bits([1]))]
        thread = threading.Thread(
            target=lambda: came.append(wait_any(listening, 20 * SECOND))
        )
        thread.start()
        until(
            lambda: wakeup.futex_wake(words.raw, WAKE_OFFSET, wake_bits([1])),
            what="it sleeps",
        )
        thread.join(5)
        assert came == [True]
        thread = threading.Thread(
            target=lambda: came.append(wait_any(listening, SECOND // 2))
        )
        thread.start()
        until(lambda: is_asleep(thread, words.raw, WAKE_OFFSET), what="it sleeps")
        Eventcount(words)(0)
        Eventcount(words)(2)
        thread.join(5)
        assert came == [True, False]


@pytest.mark.parametrize("make", EVENTCOUNTS, ids=["pure", "C"][: len(EVENTCOUNTS)])
class TestEachEventcount:
    def test_a_notification_changes_the_key_by_one(
        self, words: Words, make: type[Eventcount]
    ) -> None:
        ring = make(words)
        assert ring(0) is None
        assert ring.notify(ALL_BITS) is None
        ring(39)
        assert load_key(words) == 3
        words.raw[WAKE_OFFSET : WAKE_OFFSET + 4] = b"\xff" * 4
        ring(0)
        assert words.ints[H_WAKE] == 0

    @pytest.mark.parametrize("index", [3, 35])
    def test_it_wakes_the_readers_of_its_bits(
        self, words, make: type[Eventcount], index: int
    ) -> None:
        listening = [(words, load_key(words), 0b1000)]
        other = InThread(wait_any, [(words, load_key(words), 0b0100)], SECOND)
        for ring in (lambda: make(words)(index), lambda: make(words).notify(0b1011)):
            listening = [(words, load_key(words), 0b1000)]
            sleeper = InThread(wait_any, listening, 20 * SECOND)
            until(lambda: is_asleep(sleeper.thread, words.raw, WAKE_OFFSET))  # noqa: B023
            ring()
            assert sleeper.result() is True
            assert sleeper.seconds < 10
        assert other.result() is False

    def test_a_reader_cannot_notify(self, words, make: type[Eventcount]) -> None:
        seen = Words(bytes(words.raw))
        with pytest.raises((TypeError, BufferError)):
            make(seen)(0)

    @pytest.mark.parametrize("index", ["a", None, 1.5])
    def test_odd_indices_are_refused(
        self, words, make: type[Eventcount], index: object
    ) -> None:
        with pytest.raises(TypeError):
            make(words)(index)
        with pytest.raises(TypeError):
            make(words)()
        with pytest.raises(TypeError):
            make(words)(0, 1)


@pytest.fixture
def ring() -> Bench:
    return bench(8)


@pytest.fixture
def reader(ring: Bench) -> core.RingReader:
    return core.RingReader(ring.words, ring.geometry, 0)


BOTH = [*SLEEPS, *LOOKS]


@pytest.mark.parametrize("call", BOTH, ids=lambda call: call.__name__)
class TestPast:
    """On a plain buffer; `test_waiting` tests them on a mapping."""

    def test_a_row_that_is_there_needs_no_sleep(
        self, ring: Bench, reader, call
    ) -> None:
        ring.close(0, 1)
        for after in (-1, 0, 1, -(1 << 70)):
            assert call(reader, after, 20 * SECOND) == 2

    @pytest.mark.parametrize("after", [2, 3, 1 << 70])
    @pytest.mark.parametrize("timeout", [0, -SECOND, SECOND // 100])
    def test_the_timeout(self, ring, reader, call, after: int, timeout: int) -> None:
        ring.close(0, 1)
        start = time.monotonic_ns()
        assert call(reader, after, timeout) == 2
        assert timeout <= time.monotonic_ns() - start < max(0, timeout) + SECOND

    def test_odd_arguments_are_refused(self, reader, call) -> None:
        for arguments in ((), (reader,), (reader, 0), (reader, 0, 0, 0)):
            with pytest.raises(TypeError):
                call(*arguments)
        for arguments in ((reader, "a", 0), (reader, 0, "a")):
            with pytest.raises(TypeError):
                call(*arguments)
        with pytest.raises((TypeError, AttributeError)):
            call("reader", 0, 0)


@pytest.mark.parametrize("call", SLEEPS, ids=["pure", "C"][: len(SLEEPS)])
class TestSleepPast:
    def test_a_notification_ends_the_sleep(self, ring: Bench, reader, call) -> None:
        sleeper = InThread(call, reader, 0, 20 * SECOND)
        until(lambda: is_asleep(sleeper.thread, ring.words.raw, WAKE_OFFSET))
        ring.close(0)
        core.Eventcount(ring.words)(0)
        assert sleeper.result() == 1
        assert sleeper.seconds < 10

    def test_another_stream_s_notification_does_not(
        self, ring: Bench, reader, call
    ) -> None:
        sleeper = InThread(call, reader, 0, SECOND // 2)
        until(lambda: is_asleep(sleeper.thread, ring.words.raw, WAKE_OFFSET))
        core.Eventcount(ring.words)(1)
        assert sleeper.result() == 0
        assert sleeper.seconds >= 0.5


@pytest.mark.parametrize("call", LOOKS, ids=["pure", "C"][: len(LOOKS)])
class TestLookPast:
    def test_a_published_row_ends_it_without_a_notification(
        self, ring: Bench, reader, call
    ) -> None:
        looker = InThread(call, reader, 0, 20 * SECOND)
        timer = threading.Timer(0.05, ring.close, (0,))
        timer.start()
        assert looker.result() == 1
        assert 0.04 < looker.seconds < 10
        timer.join()

    def test_another_epoch_ends_it(self, ring: Bench, reader, call) -> None:
        ring.close(0)
        looker = InThread(call, reader, 1, 20 * SECOND)
        timer = threading.Timer(0.05, raise_epoch, (ring,))
        timer.start()
        assert looker.result() == 1
        assert looker.seconds < 10
        timer.join()

    def test_another_stream_s_rows_do_not(self, ring: Bench, reader, call) -> None:
        ring.words.ints[H_WAKE] += 1
        assert call(reader, 0, SECOND // 20) == 0


def raise_epoch(ring: Bench) -> None:
    ints, geometry = ring.words.ints, ring.geometry
    at = geometry.entry_word(0) + E_WORD
    word = ints[at] + (1 << SLOT_BITS)
    ints[geometry.slot_word(word & SLOT_MASK) + S_EPOCH] = word >> SLOT_BITS
    ints[at] = word
