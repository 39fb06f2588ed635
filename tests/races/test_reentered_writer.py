"""A writer that is interrupted by signal handlers and threads that write too.

Every bar that was accepted is in the ring, once, as it was given. Permitted for a bar:
it is refused as not newer, because a handler's or a thread's bar came first.
"""

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support import cores, forks, unguarded
from support.ring_on_bytes import HOUR, Bench, bench, prices

from shmfeed.errors import BadArgumentError
from shmfeed.layout import E_FORMING
from shmfeed.memory.words import Latch, Words

HISTORY, GUARD = 256, 800
LONGEST = 20e-6  # seconds until the handler interrupts
DEEPEST = 3
HANDLED = int(5000 * forks.SCALE)  # calls of the handler
MOST_SECONDS = 60 * forks.SCALE
CELL = 8  # words of a latch's cell

Append = Callable[..., None]


def interrupted(
    work: Callable[[], None], check: Callable[[], None] = lambda: None
) -> None:
    """Repeat `work` while a timer's handler does the same, HANDLED times at least.

    The handler is interrupted in turn, up to DEEPEST deep. `check` is not.
    """
    calls, chance = [0], random.Random(7)
    active: list[int] = []
    checking: list[bool] = []

    def arm() -> None:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, LONGEST))

    def on_signal(number: int, frame: object) -> None:
        if checking:  # the timer fired just before it was stopped
            return
        calls[0] += 1
        active.append(number)
        if len(active) < DEEPEST:
            arm()
        work()
        active.pop()

    signal.signal(signal.SIGALRM, on_signal)
    deadline = time.monotonic() + MOST_SECONDS
    while calls[0] < HANDLED and time.monotonic() < deadline:
        for _ in range(20):
            arm()
            for _ in range(20):
                work()
        signal.setitimer(signal.ITIMER_REAL, 0)
        checking.append(True)
        check()
        checking.clear()


class Bars:
    """Numbered bars for a ring; `wrong` counts those that it does not show as given."""

    def __init__(self, ring: Bench, append: Append) -> None:
        self.ring = ring
        self.accepted: list[int] = []
        self.wrong = 0
        self._append = append
        self._numbers = itertools.count(1)

    def close_one(self) -> None:
        number = next(self._numbers)
        try:
            self._append(number * HOUR, *prices(number), flags=number)
        except BadArgumentError:
            return
        self.accepted.append(number)

    def check(self) -> None:
        """Compare the newest rows with the bars that were accepted."""
        rows = self.ring.reader.snapshot(HISTORY)
        expected = sorted(self.accepted[-2 * HISTORY :])[-len(rows) :]
        self.wrong += rows["flags"].tolist() != expected
        self.wrong += self.ring.reader.count != len(self.accepted)
        values = [prices(number) for number in expected]
        self.wrong += rows.values.T.tolist() != [list(bar) for bar in values]


def storm(core: cores.Core, mutant: bool) -> dict[str, int]:
    ring = bench(HISTORY, GUARD, core=core)
    append = ring.writer.append
    if mutant:
        append = lambda *bar, **more: unguarded.append(ring.writer, *bar, **more)  # noqa: E731
    bars = Bars(ring, append)
    interrupted(bars.close_one, bars.check)
    return {"bars": len(bars.accepted), "wrong": bars.wrong}


@pytest.mark.parametrize("core", cores.EACH, ids=str)
def test_handlers_that_append_lose_and_change_no_bar(core):
    with forks.Fork(storm, core, False) as child:
        found = child.result(2 * MOST_SECONDS)
    print(found)
    assert found["bars"] > HANDLED
    assert found["wrong"] == 0


def test_without_the_test_before_the_stores_bars_are_lost():
    """The control."""
    with forks.Fork(storm, cores.PURE, True) as child:
        found = child.result(2 * MOST_SECONDS)
    print(found)
    assert found["wrong"] > 0


def forming_storm(core: cores.Core) -> list[int]:
    ring = bench(HISTORY, GUARD, core=core)
    written = itertools.count()

    def update() -> None:
        ring.writer.update_forming(HOUR, *prices(7))
        next(written)

    interrupted(update)
    counter = ring.words.ints[ring.reader.entry + E_FORMING]
    return [counter, next(written)]


@pytest.mark.parametrize("core", cores.EACH, ids=str)
def test_each_forming_update_counts_once(core):
    """A counter that is stored twice would show readers a cell that is being filled."""
    with forks.Fork(forming_storm, core) as child:
        counter, written = child.result(2 * MOST_SECONDS)
    assert counter == written > HANDLED


def latch_storm(mutant: bool) -> list[int]:
    words = Words(bytearray(8 * Latch.size(CELL)))
    latch = Latch(words, 0, CELL)
    written = itertools.count()
    write: Any = unguarded.write if mutant else Latch.write

    def replace() -> None:
        write(latch, bytes(8 * CELL))
        next(written)

    interrupted(replace)
    return [words.ints[0], next(written)]


def test_each_value_of_a_latch_counts_once():
    with forks.Fork(latch_storm, False) as child:
        counter, written = child.result(2 * MOST_SECONDS)
    assert counter == written > HANDLED


def test_a_counter_that_was_loaded_before_a_call_is_seen():
    """The control."""
    with forks.Fork(latch_storm, True) as child:
        counter, written = child.result(2 * MOST_SECONDS)
    assert counter < written


def crowd(core: cores.Core) -> dict[str, int]:
    """Let threads append to one stream, which is not allowed, and harms no bar."""
    ring = bench(HISTORY, GUARD, core=core)
    bars = Bars(ring, ring.writer.append)
    done = threading.Event()

    def close_many() -> None:
        while not done.is_set():
            bars.close_one()

    threads = [threading.Thread(target=close_many) for _ in range(3)]
    for thread in threads:
        thread.start()
    forks.wait_until(lambda: len(bars.accepted) > 20 * HANDLED, 60, "many bars")
    done.set()
    for thread in threads:
        thread.join()
    bars.check()
    return {"bars": len(bars.accepted), "wrong": bars.wrong}


@pytest.mark.parametrize("core", cores.EACH, ids=str)
def test_threads_that_append_lose_and_change_no_bar(core):
    with forks.Fork(crowd, core) as child:
        found = child.result(120)
    print(found)
    assert found["wrong"] == 0
