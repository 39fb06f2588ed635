"""A slice that was written over says so, always; one that was not, never does.

Each verdict is bracketed by what the writer has published and announced: overwritten
for sure before the question, or untouched for sure after the answer. Permitted for the
few in between: either.
"""

from collections import Counter, deque

import cores
import forks
import payload

from shmfeed.feed import Ring, attach
from shmfeed.layout import S_EPOCH, S_INTENT
from shmfeed.memory.rows import Slice
from shmfeed.writer import create

WANTED = int(10_000 * forks.SCALE)
HISTORY, GUARD = 64, 16
HELD = 32  # views in hand at once: the oldest are lapped, the newest not
STOP, READY = 0, 1


def write_until_stopped(name, board):
    with create(name, HISTORY, GUARD) as writer:
        ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
        number = 0
        while not board[STOP]:
            number += 1
            payload.append(ring, number)
            board[READY] = number > HISTORY
    return number


def judge(ring: Ring, view: Slice, capacity: int, tally: Counter) -> None:
    """Ask a view between two looks at the writer's own words."""
    lapped_before = ring.count > view.first + capacity
    bad = payload.bad_rows(view) > 0
    valid = view.valid
    words, at = cores.slot_of(ring)
    intent = words[at + S_INTENT]
    touched_after = intent > view.first + capacity
    truth = "lapped" if lapped_before else "between" if touched_after else "whole"
    tally[truth, valid] += 1
    tally[truth, "changed"] += bad


def test_each_lapped_view_is_reported_and_no_other(feed_name):
    board = forks.board()
    tally: Counter = Counter()
    held: deque[Slice] = deque()
    with forks.Fork(write_until_stopped, feed_name, board) as writer:
        forks.wait_until(lambda: board[READY], 10, "the ring is full")
        with attach(feed_name) as feed:
            ring = feed.ring(payload.SYMBOL, payload.TIMEFRAME)
            turn = 0
            while min(tally["lapped", False], tally["whole", True]) < WANTED:
                turn += 1
                held.append(ring.view(1 + turn % HISTORY))
                judge(ring, held[-1], ring.capacity, tally)
                if len(held) > HELD:
                    judge(ring, held.popleft(), ring.capacity, tally)
        board[STOP] = 1
        writer.result()
    held.clear()
    create(feed_name, HISTORY, GUARD).close(unlink=True)
    print(dict(tally))
    assert tally["lapped", True] == 0
    assert tally["whole", False] == 0
    assert tally["whole", "changed"] == 0
    # The control: without `valid` these would have been taken for what they were.
    assert tally["lapped", "changed"] > WANTED / 2


def test_the_first_row_overwritten_ends_a_slice(feed_name):
    with create(feed_name, HISTORY, GUARD) as writer:
        ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
        for number in range(1, HISTORY + 1):
            payload.append(ring, number)
        with attach(feed_name) as feed:
            view = feed.ring(payload.SYMBOL, payload.TIMEFRAME).view(HISTORY)
            for number in range(HISTORY + 1, HISTORY + GUARD + 1):
                payload.append(ring, number)
                assert view.valid
            assert payload.bad_rows(view) == 0
            assert payload.bad_rows(view.copy()) == 0
            payload.append(ring, HISTORY + GUARD + 1)
            assert not view.valid
            assert payload.bad_rows(view) == 1
        writer.close(unlink=True)


def test_a_slot_that_becomes_anothers_ends_its_slices(feed_name):
    with create(feed_name, HISTORY, GUARD) as writer:
        ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
        payload.append(ring, 1)
        with attach(feed_name) as feed:
            reading = feed.ring(payload.SYMBOL, payload.TIMEFRAME)
            view = reading.view(1)
            assert view.valid
            at = cores.slot_of(reading)[1]
            writer._words.ints[at + S_EPOCH] += 1  # as its next owner begins
            assert not view.valid
        writer.close(unlink=True)
