"""Waiters and a writer in lockstep: a waiter says that it has a bar and waits for the
next one; the writer closes that some microseconds later, before, while or after the
waiter falls asleep.

A wake-up was lost where a wait lasted most of a piece, and the bar had closed in its
beginning.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from support import forks, payload

from shmfeed.core import RingWriter
from shmfeed.writer import FeedWriter, create

LONGEST_PAUSE_NS = 30_000
PIECE_NS = 500_000_000
FOUND_NS = 10_000  # so long lasts a wait that has nothing to wait for

# Words of the board; the last three: one for each waiter.
STOP, LOST, READY, HAS, CLOSED, AT = 0, 1, 2, 8, 16, 24

Closing = Callable[[FeedWriter, RingWriter, int], None]
# Of a feed's name, the board, how many bars, which waiter it is.
Following = Callable[[str, memoryview, int, int], object]


class OverError(Exception):
    """A wake-up was lost: all is told."""


def close(writer: FeedWriter, ring: RingWriter, number: int) -> None:
    payload.append(ring, number)


def symbol(which: int) -> str:
    return f"S{which}"


def feed_in_lockstep(
    name: str, board: memoryview, bars: int, waiters: int, closing: Closing, seed: int
) -> int:
    chance = random.Random(seed)
    number = 0
    with create(name, 64, 16) as writer:
        rings = [
            writer.add_stream(symbol(n), payload.TIMEFRAME) for n in range(waiters)
        ]
        board[READY] = 1
        while number < bars:
            number += 1
            for which, ring in enumerate(rings):
                while board[HAS + which] != number:
                    if board[STOP] or board[LOST]:
                        return number
                moment = time.monotonic_ns() + chance.randrange(LONGEST_PAUSE_NS)
                while time.monotonic_ns() < moment:
                    pass
                closing(writer, ring, number)
                board[AT + which] = time.monotonic_ns()
                board[CLOSED + which] = number
        forks.wait_until(
            lambda: board[STOP] or all(board[HAS + n] > number for n in range(waiters)),
            20,
            "the last bars are read",
        )
    return number


def look(
    board: memoryview, which: int, after: int, begun: int, least_ns: int, tally: Counter
) -> None:
    """Say whether a wait that ends now has lost its wake-up; OverError if any has."""
    lasted = time.monotonic_ns() - begun
    late = lasted >= least_ns
    tally["not woken" if late else "slept" if lasted > FOUND_NS else "found"] += 1
    if late and board[CLOSED + which] > after:
        # A bar of the last moment may have come as it gave up waiting.
        board[LOST] |= board[AT + which] < begun + PIECE_NS // 4
    if board[LOST]:
        raise OverError


def run(
    name: str,
    seed: int,
    bars: int,
    following: Sequence[Following],
    closing: Closing = close,
) -> Counter:
    """How many waits slept or found their bar, how many bars there were, and how many
    wake-ups were lost."""
    board = forks.board()
    total: Counter = Counter()
    told = name, board, bars, len(following), closing, seed
    with forks.Fork(feed_in_lockstep, *told) as writer:
        forks.wait_until(lambda: board[READY], 10, "the feed is there")
        waiters = [
            forks.Fork(follow, name, board, bars, which)
            for which, follow in enumerate(following)
        ]
        try:
            for waiter in waiters:
                total.update(waiter.result(150))
        finally:
            board[STOP] = 1
            for waiter in waiters:
                waiter.__exit__(None, None, None)
        total["bars"], total["lost"] = writer.result(), board[LOST]
    create(name, 64, 16).close(unlink=True)
    print(dict(total))
    return total


def judge(total: Counter, bars: int) -> None:
    assert total["bars"] == bars
    assert total["lost"] == 0
    # The race was run: there were some of both.
    assert total["slept"] > bars // 100
    assert total["slept"] + total["found"] >= bars
