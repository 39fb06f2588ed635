"""Threads and processes that sleep on a word, and the forms of sleeping."""

import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from support.ring_on_bytes import HOUR, prices
from support.waiting import until

from shmfeed import capacity, core, waiting, writer
from shmfeed.feed import Ring
from shmfeed.memory import futex, wakeup
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter

IN_C = core.build == "C"
FORMS = [*(["C"] if IN_C else []), "ctypes", "poll"]
KERNEL_FORMS = FORMS[:-1]
STREAMS = [(f"S{number}", "1h") for number in range(34)]
# Numbers of system calls on x86-64 and aarch64.
_ONE_WORD = {202, 98}
_MANY_WORDS = 449
_CLOCK_NANOSLEEP = {230, 115}
_SLEEPS = [[number] for number in (*_ONE_WORD, _MANY_WORDS, *_CLOCK_NANOSLEEP)]


class Form(NamedTuple):
    """One set of the four functions.

    C has the two of a sleeper; its waker is the `Eventcount`.
    """

    name: str
    load: Callable[..., int]
    bump: Callable[..., None]
    wait: Callable[..., bool]
    wake: Callable[..., int]


def chosen(name: str, monkeypatch: pytest.MonkeyPatch) -> Form:
    """Return one of the FORMS, in force for this test."""
    if name == "C":
        return _form(name, import_module("shmfeed._ringbuf"))
    if name == "poll":
        poll_instead(monkeypatch)
    return _form(name, futex)


def _form(name: str, module: ModuleType) -> Form:
    return Form(
        name, module.futex_load, futex.futex_bump, module.futex_wait, futex.futex_wake
    )


def poll_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the futex away: sleepers poll."""
    monkeypatch.setattr(futex, "_futex", lambda: None)
    monkeypatch.setattr(futex, "_waitv", lambda: None)


def notify_by(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notify and wait in this form."""
    if form.name == "C":
        return
    for module in (writer, capacity):
        monkeypatch.setattr(module, "Eventcount", wakeup.Eventcount)
    monkeypatch.setattr(waiting, "sleep_past", wakeup.sleep_past)
    monkeypatch.setattr(waiting, "futex_load", form.load)
    monkeypatch.setattr(waiting, "spin_past", wakeup.spin_past)
    monkeypatch.setattr(waiting, "futex_wait", form.wait)
    monkeypatch.setattr(waiting, "futex_wait_any", futex.futex_wait_any)
    monkeypatch.setattr(waiting, "futex_spin", futex.futex_spin)


def is_asleep(thread: threading.Thread, buffer: memoryview, offset: int) -> bool:
    """Return True if the thread sleeps in the kernel on that word of that buffer."""
    call = _call_of(thread)
    return call[:1] != [] and call[0] in _ONE_WORD and call[1] == _at(buffer, offset)


def _at(buffer: memoryview, offset: int) -> int:
    start: int = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return start + offset


def is_sleeping(pid: int) -> bool:
    """Return True if a process's first thread is in a call that sleeps."""
    return _system_call(f"/proc/{pid}")[:1] in _SLEEPS


def _system_call(of: str) -> list[int]:
    """Return a call's number and arguments, nothing if the thread is in none."""
    try:
        words = Path(of, "syscall").read_text().split()
    except OSError:
        return []
    return [int(word, 0) for word in words] if len(words) > 1 else []


def _call_of(thread: threading.Thread) -> list[int]:
    return _system_call(f"/proc/self/task/{thread.native_id}")


class InThread:
    """A call in a thread; `result()` returns its result or raises its error."""

    def __init__(
        self, call: Callable[..., Any], *arguments: object, **options: object
    ) -> None:
        self._call = call, arguments, options
        self._outcome: Any = None
        self._error: BaseException | None = None
        self.seconds = 0.0  # from its start to its end
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        call, arguments, options = self._call
        start = time.monotonic()
        try:
            self._outcome = call(*arguments, **options)
        except BaseException as error:  # noqa: BLE001 # result() raises it
            self._error = error
        self.seconds = time.monotonic() - start

    def asleep(self, *rings: Ring) -> "InThread":
        """Return once the thread sleeps, on the key of one of these rings if given."""
        until(lambda: self._sleeps(rings), timeout=10, what="the thread sleeps")
        return self

    def _sleeps(self, rings: tuple[Ring, ...]) -> bool:
        call = _call_of(self.thread)
        if not call:
            return False
        if call[0] == _MANY_WORDS or call[0] in _CLOCK_NANOSLEEP:
            return True
        words = {
            _at(ring._current_reader().words.raw, wakeup.WAKE_OFFSET) for ring in rings
        }
        return call[0] in _ONE_WORD and call[1] in words

    @property
    def is_done(self) -> bool:
        return not self.thread.is_alive()

    def result(self, seconds: float = 10.0) -> Any:
        self.thread.join(seconds)
        assert not self.thread.is_alive(), f"it runs longer than {seconds} s"
        if self._error is not None:
            raise self._error
        return self._outcome


def stream(feeder: FeedWriter, number: int = 0) -> RingWriter:
    """Return the ring of one of STREAMS."""
    return feeder.add_stream(*STREAMS[number])


def close(ring: RingWriter, *numbers: int, wake: bool = True) -> None:
    for number in numbers:
        ring.append(number * HOUR, *prices(number), wake=wake)
