"""Waiting for closed bars in asyncio: `await shmfeed.aio.wait_ring(ring, after)`.

One thread for each attached segment waits on its eventcount for all tasks, and wakes
those whose rings have closed a bar. A thread without tasks ends within a second. A
cancelled task is removed immediately.

Import it explicitly: asyncio loads the socket library, which other readers do not need.
"""

import asyncio
import math
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from shmfeed.errors import ShmfeedError
from shmfeed.feed import Ring, Waited, check_ring, make_wait_set
from shmfeed.forks import after_fork_in_child
from shmfeed.memory.futex import ALL_BITS
from shmfeed.memory.words import Words
from shmfeed.validation import check_int, check_timeout
from shmfeed.waiting import (
    RECHECK_DEAD_NS,
    RECHECK_NS,
    WaitSet,
    has_live_writer,
    load_key,
    wait_any,
)

__all__ = ["wait", "wait_ring"]


async def wait(rings: Iterable[Waited], timeout: float | None = None) -> list[Ring]:
    """Wait in a task until one of these rings closes a bar.

    Arguments, results and errors are those of `shmfeed.wait`. It never spins: other
    tasks run meanwhile.

    Thread safety: any task of any event loop.
    """
    return await wait_ready(make_wait_set(rings, timeout))


async def wait_ring(ring: Ring, after: int, timeout: float | None = None) -> int | None:
    """Wait in a task until `ring.count` is past `after`, or its epoch changed.

    Arguments, results and errors are those of `ring.wait`. It never spins: other tasks
    run meanwhile.

    Thread safety: any task of any event loop.
    """
    timeout = check_timeout("timeout", timeout)
    wanted = [(check_ring(ring), check_int("after", after, None))]
    wait_set = WaitSet(wanted, timeout, epochs=True)
    return ring.count if await wait_ready(wait_set) else None


async def wait_ready(wait_set: WaitSet[Ring]) -> list[Ring]:
    """Wait in a task until rings are `ready`, as `WaitSet.wait` does in a thread."""
    while not (ready := wait_set.ready()):
        if wait_set.reattach():
            continue
        if not wait_set.sleep_ns():
            return wait_set.ready()
        await _sleep(wait_set)
    return ready


class _Waiter:
    """A task that waits. Setting `woken` in its event loop makes it check again."""

    __slots__ = ("loop", "wait_set", "woken")

    def __init__(self, wait_set: WaitSet[Ring]) -> None:
        self.wait_set = wait_set
        self.loop = asyncio.get_running_loop()
        self.woken: asyncio.Future[None] = self.loop.create_future()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.woken.done():
            self.woken.set_exception(error)


async def _sleep(wait_set: WaitSet[Ring]) -> None:
    waiter = _Waiter(wait_set)
    left = wait_set.deadline.left()
    timer = None if math.isinf(left) else waiter.loop.call_later(left, waiter.wake)
    try:
        for words, _ in wait_set.segments:
            _threads.add(words, waiter)
        # The threads see each bar that closes from now on. One may have closed before.
        if not wait_set.ready():
            await waiter.woken
    finally:
        if timer is not None:
            timer.cancel()
        for words, _ in wait_set.segments:
            _threads.discard(words, waiter)


class _WaitThread:
    """A thread that waits on one segment's eventcount for tasks of any event loop."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.waiters: set[_Waiter] = set()  # guarded by the lock of `_threads`
        self.needed_ns = time.monotonic_ns()  # when it last had a waiter
        self._checked_ns = self.needed_ns

    def start(self) -> None:
        threading.Thread(target=self._run, name="shmfeed-aio", daemon=True).start()

    def _run(self) -> None:
        try:
            self._wait()
        except Exception as error:  # noqa: BLE001 # each task raises it, none hangs
            for waiter in _threads.remove(self):
                with suppress(RuntimeError):  # its event loop is closed
                    waiter.loop.call_soon_threadsafe(waiter.fail, error)

    def _wait(self) -> None:
        notified = True
        while _threads.is_needed(self):
            # Step 1 of the protocol: the key, before the counts are checked.
            key = load_key(self.words)
            alive = has_live_writer(self.words)
            recheck = self._is_recheck_due(notified and alive)
            self._wake(_threads.waiters(self), recheck)
            entry = self.words, key, ALL_BITS
            notified = wait_any([entry], RECHECK_NS if alive else RECHECK_DEAD_NS)

    def _is_recheck_due(self, well: bool) -> bool:
        # A feeder's death or a closed attachment may notify no eventcount.
        now = time.monotonic_ns()
        if well and now - self._checked_ns < RECHECK_NS:
            return False
        self._checked_ns = now
        return True

    def _wake(self, waiters: Iterable[_Waiter], recheck: bool) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[_Waiter]] = {}
        for waiter in waiters:
            if _has_reason_to_wake(waiter.wait_set, recheck):
                loops.setdefault(waiter.loop, []).append(waiter)
            elif recheck and waiter.loop.is_closed():
                _threads.discard(self.words, waiter)
        for loop, woken in loops.items():
            with suppress(RuntimeError):  # it is closed, and its tasks are gone
                loop.call_soon_threadsafe(_wake_all, woken)
            for waiter in woken:
                _threads.discard(self.words, waiter)


def _has_reason_to_wake(wait_set: WaitSet[Ring], recheck: bool) -> bool:
    try:
        if wait_set.ready():
            return True
        return recheck and (wait_set.has_moved() or not wait_set.sleep_ns())
    except ShmfeedError:
        return True  # the task will raise it by itself


def _wake_all(waiters: Iterable[_Waiter]) -> None:
    for waiter in waiters:
        waiter.wake()


class _WaitThreads:
    """The wait threads of this process, by the identity of their segment's words."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[int, _WaitThread] = {}

    def add(self, words: Words, waiter: _Waiter) -> None:
        with self._lock:
            thread = self._all.get(id(words))
            if thread is None:
                thread = _WaitThread(words)
                thread.start()
                self._all[id(words)] = thread
            thread.waiters.add(waiter)

    def discard(self, words: Words, waiter: _Waiter) -> None:
        with self._lock:
            thread = self._all.get(id(words))
            if thread is not None:
                thread.waiters.discard(waiter)

    def waiters(self, thread: _WaitThread) -> list[_Waiter]:
        with self._lock:
            return list(thread.waiters)

    def remove(self, thread: _WaitThread) -> set[_Waiter]:
        """Remove a thread that failed. Return the waiters that it leaves asleep."""
        with self._lock:
            self._all.pop(id(thread.words), None)
            return thread.waiters

    def is_needed(self, thread: _WaitThread) -> bool:
        """Return True if a thread still has work. Remove it otherwise."""
        now = time.monotonic_ns()
        with self._lock:
            if thread.waiters:
                thread.needed_ns = now
            elif now - thread.needed_ns >= RECHECK_NS:
                del self._all[id(thread.words)]
                return False
        return True


_threads = _WaitThreads()


# A forked child has none of the threads, and one of them may hold the lock.
after_fork_in_child(_threads.__init__)  # type: ignore[misc] # a reset
