"""No wake-up of a task is lost: a process with an event loop, in lockstep.

A task that was off the CPU for long has lost no wake-up. One was lost where the wait
thread has slept until its deadline for a task whose bar had closed long before.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from lockstep import AT, CLOSED, HAS, PIECE_NS, OverError, judge, look, run, symbol
from support import forks, payload

from shmfeed import aio
from shmfeed.feed import Ring, attach
from shmfeed.memory.futex import ALL_BITS
from shmfeed.memory.words import Words
from shmfeed.waiting import WaitEntry, WaitSet, load_key, wait_any

BARS = int(10_000 * forks.SCALE)
FEWER = BARS // 10
CONTROL_BARS = 20_000  # a loss comes far sooner


def add_slowly(words: Words, waiter: aio._Waiter) -> None:
    """Let the wait thread see a bar, and sleep again, before the task joins."""
    time.sleep(0.0005)
    ADD(words, waiter)


ADD, WAKE = aio._threads.add, aio._Waiter.wake


async def sleep_without_second_check(wait_set: WaitSet[Ring]) -> None:
    """Lose a bar that closes before the task joins: a control."""
    waiter = aio._Waiter(wait_set)
    for words, _ in wait_set.segments:
        aio._threads.add(words, waiter)
    await waiter.woken


def load_key_late(self: aio._WaitThread) -> None:
    """Load the key after the counts were checked: a control."""
    while aio._threads.is_needed(self):
        self._wake(aio._threads.waiters(self), self._is_recheck_due(True))
        aio.wait_any([(self.words, load_key(self.words), ALL_BITS)], PIECE_NS)


class Sleeps:
    """The sleeps of the wait thread: a stand-in for the `wait_any` that it calls.

    Attributes:
        begun: The time at which the last one began that has ended at its deadline
            although a task waited, in ns; 0 without one.
    """

    begun = 0

    def wait_any(self, entries: Sequence[WaitEntry], timeout_ns: int) -> bool:
        begun = time.monotonic_ns()
        is_notified = wait_any(entries, timeout_ns)
        threads = list(aio._threads._all.values())
        if not is_notified and any(map(aio._threads.waiters, threads)):
            self.begun = begun
        return is_notified


def follow(
    name: str, board: memoryview, bars: int, which: int, mutate=lambda: None
) -> Counter:
    tally: Counter = Counter()
    sleeps = Sleeps()
    aio.wait_any = sleeps.wait_any
    mutate()

    async def main(ring: Ring) -> None:
        count = ring.count
        while count < bars:
            begun = time.monotonic_ns()
            board[HAS + which] = count + 1
            found = await aio.wait_ring(ring, count, 30)
            assert found == count + 1
            # The wait thread's sleep may have begun before.
            slept_through = (
                sleeps.begun + PIECE_NS > begun
                and board[CLOSED + which] > count
                and board[AT + which] < sleeps.begun + 3 * PIECE_NS // 4
            )
            least = PIECE_NS // 2 if slept_through else time.monotonic_ns()
            look(board, which, count, begun, least, tally)
            count = found
        board[HAS + which] = count + 1

    with attach(name) as attached, suppress(OverError):
        asyncio.run(main(attached.ring(symbol(which), payload.TIMEFRAME)))
    return tally


def lose(feed_name: str, seed: int, mutate) -> bool:
    careless = partial(follow, mutate=mutate)
    return run(feed_name, seed, CONTROL_BARS, [careless])["lost"] > 0


def test_no_wake_up_is_lost(feed_name: str, seed: int) -> None:
    judge(run(feed_name, seed, BARS, [follow]), BARS)


def test_a_task_that_joins_slowly_checks_again(feed_name: str, seed: int) -> None:
    def mutate() -> None:
        aio._threads.add = add_slowly

    judge(run(feed_name, seed, FEWER, [partial(follow, mutate=mutate)]), FEWER)


def test_a_task_that_is_off_the_cpu_has_lost_no_wake_up(
    feed_name: str, seed: int
) -> None:
    wakes = itertools.count(1)

    def mutate() -> None:
        aio._Waiter.wake = wake_late

    def wake_late(self: aio._Waiter) -> None:
        if next(wakes) % 50 == 0:
            time.sleep(PIECE_NS * 0.6e-9)
        WAKE(self)

    judge(run(feed_name, seed, 200, [partial(follow, mutate=mutate)]), 200)


def test_without_the_second_check_wake_ups_are_lost(feed_name: str, seed: int) -> None:
    def mutate() -> None:
        aio._threads.add = add_slowly
        aio._sleep = sleep_without_second_check

    assert lose(feed_name, seed, mutate)


def test_a_key_loaded_late_loses_wake_ups(feed_name: str, seed: int) -> None:
    def mutate() -> None:
        aio._WaitThread._run = load_key_late

    assert lose(feed_name, seed, mutate)
