"""Sleeping on a word and waking the sleepers: in C, through ctypes, and by polling."""

import errno
import mmap
import os
import platform
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Child
from support import forks
from support.sleeping import (
    FORMS,
    IN_C,
    KERNEL_FORMS,
    Form,
    chosen,
    is_asleep,
    poll_instead,
)
from support.waiting import until

from shmfeed import core
from shmfeed.memory import futex
from shmfeed.memory.futex import ALL_BITS, MOST_WORDS

SECOND = 1_000_000_000
AT = 64
LOOKS = [futex.futex_spin, *([core.futex_spin] if IN_C else [])]

Wait = Callable[[list[tuple[object, int, int]], int], bool]

IN_THE_KERNEL = pytest.mark.parametrize("form", KERNEL_FORMS, indirect=True)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Form:
    return chosen(request.param, monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shared"
    path.write_bytes(bytes(4096))
    return path


def mapped(path: Path, access: int) -> memoryview:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=access))


@pytest.fixture
def shared(path: Path) -> memoryview:
    return mapped(path, mmap.ACCESS_WRITE)


@pytest.fixture
def seen(path: Path) -> memoryview:
    """Return the same memory, read-only."""
    return mapped(path, mmap.ACCESS_READ)


def seconds(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


class Sleeper:
    """A thread that sleeps once; `woken` is the result."""

    def __init__(self, form: Form, buffer: memoryview, mask: int) -> None:
        self.woken: bool | None = None
        self._form, self._buffer, self._mask = form, buffer, mask
        self._thread = threading.Thread(target=self._sleep)
        self._thread.start()
        until(lambda: is_asleep(self._thread, buffer, AT), what="the thread sleeps")

    def _sleep(self) -> None:
        expected = self._form.load(self._buffer, AT)
        self.woken = self._form.wait(
            self._buffer, AT, expected, self._mask, 20 * SECOND
        )

    def join(self) -> bool | None:
        self._thread.join(10)
        return self.woken


class TestTheWord:
    def test_the_word_is_loaded_and_bumped(self, form: Form, shared, seen) -> None:
        assert form.load(seen, AT) == 0
        form.bump(shared, AT)
        form.bump(shared, AT)
        assert form.load(seen, AT) == form.load(shared, AT) == 2
        assert bytes(seen[AT - 4 : AT + 8]) == bytes((0,) * 4 + (2,) + (0,) * 7)

    def test_the_word_wraps_at_32_bits(self, form: Form, shared) -> None:
        shared[AT : AT + 4] = b"\xff" * 4
        assert form.load(shared, AT) == ALL_BITS
        form.bump(shared, AT)
        assert bytes(shared[AT : AT + 8]) == bytes(8)

    def test_a_reader_cannot_bump(self, form: Form, seen) -> None:
        with pytest.raises((TypeError, BufferError)):
            form.bump(seen, AT)

    @pytest.mark.parametrize(
        "offset", [-4, 1, 2, 4093, 4096, 1 << 40, (1 << 63) - 4, 1 << 70]
    )
    def test_an_offset_without_a_word_is_refused(
        self, form: Form, shared, offset: int
    ) -> None:
        for verb, rest in (
            (form.load, ()),
            (form.bump, ()),
            (form.wait, (0, ALL_BITS, 0)),
            (form.wake, (ALL_BITS,)),
        ):
            with pytest.raises((ValueError, OverflowError)):
                verb(shared, offset, *rest)
        assert not any(shared)

    @pytest.mark.parametrize("buffer", [None, 7, "text", [1, 2]])
    def test_a_value_that_is_not_a_buffer_is_refused(
        self, form: Form, buffer: object
    ) -> None:
        with pytest.raises((TypeError, ValueError)):
            form.load(buffer, 0)
        with pytest.raises((TypeError, ValueError)):
            form.wake(buffer, 0, ALL_BITS)

    def test_a_small_buffer_is_refused(self, form: Form) -> None:
        with pytest.raises(ValueError, match="offset 0 of 3 bytes"):
            form.load(bytearray(3), 0)

    def test_too_few_arguments_are_refused(self, form: Form, shared) -> None:
        with pytest.raises(TypeError):
            form.wait(shared, AT, 0, ALL_BITS)


class TestSleeping:
    def test_a_changed_word_is_not_slept_on(self, form: Form, seen) -> None:
        assert seconds(lambda: form.wait(seen, AT, 7, ALL_BITS, 20 * SECOND)) < 1
        assert form.wait(seen, AT, 7, ALL_BITS, 0)

    @pytest.mark.parametrize("timeout", [-SECOND, 0, 1, 20_000_000])
    def test_the_timeout_ends_the_sleep(self, form: Form, seen, timeout: int) -> None:
        start = time.monotonic_ns()
        assert form.wait(seen, AT, 0, ALL_BITS, timeout) is False
        assert timeout <= time.monotonic_ns() - start < max(0, timeout) + SECOND

    def test_another_process_wakes_the_sleeper(
        self, form: Form, path: Path, seen
    ) -> None:
        def bump() -> None:
            shared = mapped(path, mmap.ACCESS_WRITE)
            form.bump(shared, AT)
            form.wake(shared, AT, ALL_BITS)

        with forks.Fork(bump) as child:
            start = time.monotonic()
            while not form.load(seen, AT):
                assert form.wait(seen, AT, 0, ALL_BITS, 20 * SECOND)
            assert time.monotonic() - start < 10
            child.result()

    def test_other_threads_run_meanwhile(self, form: Form, seen) -> None:
        done = threading.Event()
        turns = 0

        def work() -> None:
            nonlocal turns
            while not done.is_set():
                turns += 1

        worker = threading.Thread(target=work)
        worker.start()
        try:
            before = turns
            form.wait(seen, AT, 0, ALL_BITS, SECOND // 5)
            assert turns - before > 1000
        finally:
            done.set()
            worker.join()


@IN_THE_KERNEL
class TestWaking:
    """A poller needs no waker, so these have only the kernel forms."""

    def test_a_wake_returns_the_number_of_sleepers(
        self, form: Form, shared, seen
    ) -> None:
        assert form.wake(shared, AT, ALL_BITS) == 0
        sleepers = [Sleeper(form, seen, ALL_BITS) for _ in range(3)]
        assert form.wake(shared, AT, ALL_BITS) == 3
        assert [sleeper.join() for sleeper in sleepers] == [True] * 3

    def test_a_wake_meets_the_sleepers_bits(self, form: Form, shared, seen) -> None:
        other, both = Sleeper(form, seen, 0b10), Sleeper(form, seen, 0b11)
        assert form.wake(shared, AT, 0b100) == 0
        assert form.wake(shared, AT, 0b01) == 1
        assert both.join() is True
        assert other.woken is None
        assert form.wake(shared, AT, 0b10) == 1
        assert other.join() is True

    def test_no_bit_wakes_no_sleeper(self, form: Form, shared, seen) -> None:
        sleeper = Sleeper(form, seen, ALL_BITS)
        assert form.wake(shared, AT, 0) == 0
        assert form.wake(shared, AT, ALL_BITS) == 1
        assert sleeper.join() is True

    def test_the_highest_bit_wakes(self, form: Form, shared, seen) -> None:
        sleeper = Sleeper(form, seen, 1 << 31)
        assert form.wake(shared, AT, ALL_BITS >> 1) == 0
        assert form.wake(shared, AT, 1 << 31) == 1
        assert sleeper.join() is True

    def test_a_wake_of_another_word_wakes_no_sleeper(
        self, form: Form, shared, seen
    ) -> None:
        sleeper = Sleeper(form, seen, ALL_BITS)
        assert form.wake(shared, AT + 4, ALL_BITS) == 0
        assert form.wake(shared, AT, ALL_BITS) == 1
        assert sleeper.join() is True

    def test_a_reader_may_wake(self, form: Form, seen) -> None:
        sleeper = Sleeper(form, seen, ALL_BITS)
        assert form.wake(seen, AT, ALL_BITS) == 1
        assert sleeper.join() is True

    def test_a_signal_handler_ends_the_sleep(self, form: Form, seen, alarm) -> None:
        handled = alarm(0.05, lambda *_: None)
        assert form.wait(seen, AT, 0, ALL_BITS, 20 * SECOND) is True
        assert handled() == 1


@pytest.fixture
def alarm() -> Iterator[Callable[..., Callable[[], int]]]:
    """alarm(seconds, handler) returns a function that counts its calls."""
    calls = []
    old = signal.getsignal(signal.SIGALRM)

    def start(after: float, handler: Callable[..., None]) -> Callable[[], int]:
        def count(*arguments: object) -> None:
            calls.append(1)
            handler(*arguments)

        signal.signal(signal.SIGALRM, count)
        signal.setitimer(signal.ITIMER_REAL, after)
        return lambda: len(calls)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_error_of_a_signal_handler_is_raised(form: Form, seen, alarm) -> None:
    alarm(0.05, interrupt)

    def wait() -> None:
        with pytest.raises(KeyboardInterrupt):
            form.wait(seen, AT, 0, ALL_BITS, 20 * SECOND)

    assert seconds(wait) < 1


class TestFutexWaitAny:
    """Sleeping on several words, in the kernel or by polling."""

    @pytest.fixture(params=FORMS)
    def futex_wait_any(self, request, monkeypatch: pytest.MonkeyPatch) -> Wait:
        if request.param == "C":
            return core.futex_wait_any
        if request.param == "poll":
            poll_instead(monkeypatch)
        elif futex._waitv() is None:
            pytest.skip(f"no futex_waitv here: Linux {platform.release()}")
        return futex.futex_wait_any

    @pytest.fixture
    def buffers(self, tmp_path: Path) -> list[tuple[memoryview, memoryview]]:
        pairs = []
        for number in range(3):
            path = tmp_path / str(number)
            path.write_bytes(bytes(4096))
            pairs.append((mapped(path, mmap.ACCESS_WRITE), mapped(path, 1)))
        return pairs

    def test_one_changed_word_ends_the_sleep(self, futex_wait_any, buffers) -> None:
        words = [(seen, AT, 0) for _, seen in buffers]
        futex.futex_bump(buffers[1][0], AT)
        assert seconds(lambda: futex_wait_any(words, 20 * SECOND)) < 1
        assert futex_wait_any(words, 0)

    def test_the_timeout_ends_the_sleep(self, futex_wait_any, buffers) -> None:
        words = [(seen, AT, 0) for _, seen in buffers]
        start = time.monotonic()
        assert futex_wait_any(words, SECOND // 50) is False
        assert 0.02 <= time.monotonic() - start < 1

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_each_word_wakes(self, futex_wait_any, buffers, which: int) -> None:
        words = [(seen, AT, 0) for _, seen in buffers]

        def bump() -> None:
            futex.futex_bump(buffers[which][0], AT)
            futex.futex_wake(buffers[which][0], AT, 1)

        timer = threading.Timer(0.05, bump)
        timer.start()
        assert seconds(lambda: futex_wait_any(words, 20 * SECOND)) < 5
        timer.join()
        assert futex_wait_any(words, 0)

    def test_more_words_than_the_kernel_takes_are_polled(
        self, futex_wait_any, buffers
    ) -> None:
        words = [(buffers[0][1], AT, 0)] * (MOST_WORDS + 1)
        assert futex_wait_any(words, 1000) is False
        futex.futex_bump(buffers[0][0], AT)
        assert futex_wait_any(words, 20 * SECOND)

    def test_the_most_words_that_the_kernel_takes(
        self, futex_wait_any, buffers
    ) -> None:
        words = [(buffers[0][1], AT + 4 * i, 0) for i in range(MOST_WORDS)]
        assert futex_wait_any(words, 1000) is False

    def test_an_error_of_a_signal_handler_is_raised(
        self, futex_wait_any, buffers, alarm
    ) -> None:
        words = [(seen, AT, 0) for _, seen in buffers]
        alarm(0.05, interrupt)
        with pytest.raises(KeyboardInterrupt):
            futex_wait_any(words, 20 * SECOND)

    @pytest.mark.parametrize(
        "words", [[5], [()], [(b"1234", 0)], [("no", 0, 0)], [(b"1234", "0", 0)], 5]
    )
    def test_odd_words_are_refused(self, futex_wait_any, words) -> None:
        with pytest.raises((TypeError, IndexError, struct.error)):
            futex_wait_any(words, 0)

    @pytest.mark.parametrize("at", [-4, 1, 4096, 1 << 40])
    def test_a_place_outside_is_refused(self, futex_wait_any, buffers, at) -> None:
        good = buffers[0][1]
        with pytest.raises(ValueError, match="there is no 32-bit word"):
            futex_wait_any([(good, 0, 0), (good, at, 0)], 0)


@pytest.mark.parametrize("look", LOOKS, ids=["pure", "C"][: len(LOOKS)])
class TestFutexLook:
    """Looking at words without sleeping."""

    def test_a_changed_word_ends_it(self, look) -> None:
        word = bytearray(4)
        assert seconds(lambda: look([(word, 0, 0), (word, 0, 1)], 20 * SECOND)) < 1
        assert look([(word, 0, 1)], 0)

    def test_the_timeout_ends_it(self, look) -> None:
        word = bytearray(4)
        start = time.monotonic()
        assert look([(word, 0, 0)], SECOND // 50) is False
        assert look([], 0) is False
        assert 0.02 <= time.monotonic() - start < 1

    def test_it_lets_other_threads_run_and_sees_their_store(self, look) -> None:
        word = bytearray(8)
        timer = threading.Timer(0.05, futex.futex_bump, (word, 4))
        timer.start()
        assert seconds(lambda: look([(word, 0, 0), (word, 4, 0)], 20 * SECOND)) < 5
        timer.join()


class TestWhereThereIsNone:
    @pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM])
    def test_a_sandbox_that_refuses_the_call_leaves_polling(
        self, monkeypatch, refusal: int
    ) -> None:
        monkeypatch.setattr(futex, "_system_call", lambda *_: lambda *values: -refusal)
        assert futex._futex.__wrapped__() is None
        # In place of the cached one, which must not remember this refusal.
        monkeypatch.setattr(futex, "_futex", lambda: lambda *_: 0)
        assert futex._waitv.__wrapped__() is None

    def test_an_older_kernel_has_no_waitv(self, monkeypatch) -> None:
        monkeypatch.setattr(futex, "_system_call", lambda *_: lambda *v: -errno.ENOSYS)
        monkeypatch.setattr(futex, "_futex", lambda: lambda *_: 0)
        assert futex._waitv.__wrapped__() is None

    @pytest.mark.parametrize(
        ("where", "value"),
        [("platform.machine", "sparc64"), ("sys.platform", "darwin")],
    )
    def test_another_system_has_no_futex(
        self, monkeypatch, where: str, value: str
    ) -> None:
        module, name = where.split(".")
        fake = (lambda: value) if name == "machine" else value
        monkeypatch.setattr(getattr(futex, module), name, fake)
        assert futex._futex.__wrapped__() is None

    def test_this_system_has_both_calls(self) -> None:
        assert futex._futex() is not None

    def test_an_unexpected_errno_is_an_error(self, monkeypatch, seen) -> None:
        monkeypatch.setattr(futex, "_futex", lambda: lambda *_: -errno.EFAULT)
        with pytest.raises(OSError, match="cannot sleep") as caught:
            futex.futex_wait(seen, AT, 0, ALL_BITS, 0)
        assert caught.value.errno == errno.EFAULT


ASKED = """
import shmfeed.feed
from shmfeed.memory import futex
print(futex._futex.cache_info().currsize, futex._waitv.cache_info().currsize)
"""


def test_ctypes_is_not_loaded_before_the_first_sleep(child: Child) -> None:
    assert child(ASKED).communicate() == ("0 0\n", "")


def test_a_killed_sleeper_leaves_no_trace(form: Form, path: Path, seen) -> None:
    def sleep() -> None:
        form.wait(mapped(path, mmap.ACCESS_READ), AT, 0, ALL_BITS, 60 * SECOND)

    shared = mapped(path, mmap.ACCESS_WRITE)
    with forks.Fork(sleep) as child:
        status = Path(f"/proc/{child.pid}/stat")
        until(lambda: status.read_text().rpartition(")")[2].split()[0] == "S")
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert form.wake(shared, AT, ALL_BITS) == 0
    form.bump(shared, AT)
    assert form.load(seen, AT) == 1
