"""Waiting for a closed bar in asyncio: `await shmfeed.aio.wait_ring(ring, after)`.

One thread an attached segment, a listener, sleeps on its bell for all tasks that wait
for rings of it, and hands over to their loops what has closed. It is there while tasks
wait, and half a second longer. A task that is cancelled is out at once.

Imported by whoever uses it: asyncio brings the socket library along.
"""

import asyncio
import math
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from shmfeed.errors import ShmfeedError
from shmfeed.feed import Ring, check_ring, watch_rings
from shmfeed.forks import after_fork_in_child
from shmfeed.memory.futex import ALL_BITS
from shmfeed.memory.words import Words
from shmfeed.validation import check_int, check_timeout
from shmfeed.waiting import GONE_NS, PIECE_NS, Watch, is_fed, load_key, wait_any


async def wait(rings: Iterable[Ring], timeout: float | None = None) -> list[Ring]:
    """`shmfeed.wait` for a task: the same results and errors."""
    return await _wait(watch_rings(rings, timeout))


async def wait_ring(ring: Ring, after: int, timeout: float | None = None) -> int | None:
    """`ring.wait(after, timeout)` for a task: the same results and errors."""
    timeout = check_timeout("timeout", timeout)
    watch = Watch([(check_ring(ring), check_int("after", after, None))], timeout)
    return ring.count if await _wait(watch) else None


async def _wait(watch: Watch[Ring]) -> list[Ring]:
    while not (closed := watch.closed()):
        if watch.follow():
            continue
        if not watch.piece_ns():
            return watch.closed()
        await _news(watch)
    return closed


class _Sleeper:
    """A task that waits. `news` is set, in its loop, when it is to look again."""

    __slots__ = ("loop", "news", "watch")

    def __init__(self, watch: Watch[Ring]) -> None:
        self.watch = watch
        self.loop = asyncio.get_running_loop()
        self.news: asyncio.Future[None] = self.loop.create_future()

    def wake(self) -> None:
        if not self.news.done():
            self.news.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.news.done():
            self.news.set_exception(error)


async def _news(watch: Watch[Ring]) -> None:
    """Return when a bar may have closed, a segment may have moved, or time is up."""
    sleeper = _Sleeper(watch)
    left = watch.deadline.left()
    timer = None if math.isinf(left) else sleeper.loop.call_later(left, sleeper.wake)
    try:
        for words, _ in watch.segments:
            _listeners.join(words, sleeper)
        # What closes from here on is heard by them.
        if not watch.closed():
            await sleeper.news
    finally:
        if timer is not None:
            timer.cancel()
        for words, _ in watch.segments:
            _listeners.leave(words, sleeper)


class _Listener:
    """A thread that sleeps on one segment's bell for the tasks of any loops."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.sleepers: set[_Sleeper] = set()  # under the listeners' lock
        self.needed_ns = time.monotonic_ns()  # when there were any
        self._looked_ns = self.needed_ns

    def start(self) -> None:
        threading.Thread(target=self._run, name="shmfeed-aio", daemon=True).start()

    def _run(self) -> None:
        try:
            self._listen()
        except Exception as error:  # noqa: BLE001 # the tasks raise it: none sleeps on
            for sleeper in _listeners.end(self):
                with suppress(RuntimeError):  # its loop is closed
                    sleeper.loop.call_soon_threadsafe(sleeper.fail, error)

    def _listen(self) -> None:
        rang = True
        while _listeners.needs(self):
            # Before the tasks are asked: see `bell`.
            rung = load_key(self.words)
            fed = is_fed(self.words)
            self._hand_over(_listeners.sleepers(self), self._is_to_look(rang and fed))
            rang = wait_any(
                [(self.words, rung, ALL_BITS)], PIECE_NS if fed else GONE_NS
            )

    def _is_to_look(self, all_is_well: bool) -> bool:
        """Whether to look for what rings no bell: a death, an attachment closed."""
        now = time.monotonic_ns()
        if all_is_well and now - self._looked_ns < PIECE_NS:
            return False
        self._looked_ns = now
        return True

    def _hand_over(self, sleepers: Iterable[_Sleeper], look: bool) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[_Sleeper]] = {}
        for sleeper in sleepers:
            if _has_news(sleeper.watch, look):
                loops.setdefault(sleeper.loop, []).append(sleeper)
            elif look and sleeper.loop.is_closed():
                _listeners.leave(self.words, sleeper)
        for loop, woken in loops.items():
            with suppress(RuntimeError):  # closed: nobody is there to be told
                loop.call_soon_threadsafe(_wake_all, woken)
            for sleeper in woken:
                _listeners.leave(self.words, sleeper)


def _has_news(watch: Watch[Ring], look: bool) -> bool:
    try:
        if watch.closed():
            return True
        return look and (watch.moved() or not watch.piece_ns())
    except ShmfeedError:
        return True  # the task meets the error itself


def _wake_all(sleepers: Iterable[_Sleeper]) -> None:
    for sleeper in sleepers:
        sleeper.wake()


class _Listeners:
    """The listeners of this process, each by the identity of its segment's words."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[int, _Listener] = {}

    def join(self, words: Words, sleeper: _Sleeper) -> None:
        with self._lock:
            listener = self._all.get(id(words))
            if listener is None:
                listener = _Listener(words)
                listener.start()
                self._all[id(words)] = listener
            listener.sleepers.add(sleeper)

    def leave(self, words: Words, sleeper: _Sleeper) -> None:
        with self._lock:
            listener = self._all.get(id(words))
            if listener is not None:
                listener.sleepers.discard(sleeper)

    def sleepers(self, listener: _Listener) -> list[_Sleeper]:
        with self._lock:
            return list(listener.sleepers)

    def end(self, listener: _Listener) -> set[_Sleeper]:
        """Forget one that can go on no more; whom it leaves asleep."""
        with self._lock:
            self._all.pop(id(listener.words), None)
            return listener.sleepers

    def needs(self, listener: _Listener) -> bool:
        """Whether its thread is to go on; else it is forgotten."""
        now = time.monotonic_ns()
        with self._lock:
            if listener.sleepers:
                listener.needed_ns = now
            elif now - listener.needed_ns >= PIECE_NS:
                del self._all[id(listener.words)]
                return False
        return True


_listeners = _Listeners()


# A forked child has none of the threads, and one of them may hold the lock.
after_fork_in_child(_listeners.__init__)  # type: ignore[misc] # to begin again
