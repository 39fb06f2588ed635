"""Waiting readers and a writer in lockstep.

A reader announces that it has a bar and waits for the next one. The writer closes that
some microseconds later: before, while or after the reader falls asleep. A wake-up was
lost if the wait lasted most of a piece although the bar had closed at its beginning.
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
FOUND_NS = 10_000  # a wait that finds its bar at once is shorter

# Words of the board; HAS, CLOSED and AT have one for each reader.
STOP, LOST, READY, HAS, CLOSED, AT = 0, 1, 2, 8, 16, 24

Closing = Callable[[FeedWriter, RingWriter, int], None]
# Arguments: the feed's name, the board, the number of bars, the reader's number.
Following = Callable[[str, memoryview, int, int], object]


class OverError(Exception):
    """A wake-up was lost; the run ends."""


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
    """Count a wait that ends now. Raise OverError if any wait lost its wake-up."""
    lasted = time.monotonic_ns() - begun
    late = lasted >= least_ns
    tally["not woken" if late else "slept" if lasted > FOUND_NS else "found"] += 1
    if late and board[CLOSED + which] > after:
        # A bar of the last moment may have closed as the wait timed out.
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
    """Return the numbers of waits that slept or found, of bars, of lost wake-ups."""
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
    # It was a race: there were some of both.
    assert total["slept"] > bars // 100
    # A writer that is put off the CPU lets a wait end at its deadline.
    assert total["slept"] + total["found"] + total["not woken"] >= bars
