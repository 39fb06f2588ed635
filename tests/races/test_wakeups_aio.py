"""No wake-up of a task is lost: a process with an event loop, in lockstep."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from functools import partial

from lockstep import HAS, PIECE_NS, OverError, judge, look, run, symbol
from support import forks, payload

from shmfeed import aio
from shmfeed.feed import Ring, attach
from shmfeed.memory.futex import ALL_BITS
from shmfeed.memory.words import Words
from shmfeed.waiting import Watch, load_key, wait_any

BARS = int(10_000 * forks.SCALE)
FEWER = BARS // 10
CONTROL_BARS = 20_000  # a loss comes far sooner


def join_slowly(words: Words, sleeper: aio._Sleeper) -> None:
    """Long enough for the listener to have heard of a bar and to sleep again."""
    time.sleep(0.0005)
    JOIN(words, sleeper)


JOIN = aio._listeners.join


async def news_without_a_second_look(watch: Watch[Ring]) -> None:
    """The control: a bar that closes before it joins is nobody's."""
    sleeper = aio._Sleeper(watch)
    for words, _ in watch.segments:
        aio._listeners.join(words, sleeper)
    await sleeper.news


def hear_late(self: aio._Listener) -> None:
    """The control: the bell is heard after the tasks were asked."""
    while aio._listeners.needs(self):
        self._hand_over(aio._listeners.sleepers(self), self._is_to_look(True))
        wait_any([(self.words, load_key(self.words), ALL_BITS)], PIECE_NS)


def follow(
    name: str, board: memoryview, bars: int, which: int, mutate=lambda: None
) -> Counter:
    tally: Counter = Counter()
    mutate()

    async def main(ring: Ring) -> None:
        count = ring.count
        while count < bars:
            begun = time.monotonic_ns()
            board[HAS + which] = count + 1
            found = await aio.wait_ring(ring, count, 30)
            assert found == count + 1
            # Its listener's piece may have begun before.
            look(board, which, count, begun, PIECE_NS // 2, tally)
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


def test_who_joins_slowly_looks_again(feed_name: str, seed: int) -> None:
    def mutate() -> None:
        aio._listeners.join = join_slowly

    judge(run(feed_name, seed, FEWER, [partial(follow, mutate=mutate)]), FEWER)


def test_the_control_who_does_not_look_again(feed_name: str, seed: int) -> None:
    def mutate() -> None:
        aio._listeners.join = join_slowly
        aio._news = news_without_a_second_look

    assert lose(feed_name, seed, mutate)


def test_the_control_a_listener_that_hears_late(feed_name: str, seed: int) -> None:
    def mutate() -> None:
        aio._Listener._run = hear_late

    assert lose(feed_name, seed, mutate)
