"""No wake-up is lost, whenever a bar closes: processes in lockstep, 10^5 bars.

A waiter says that it has a bar and waits for the next one; the writer closes it some
microseconds later, before, while or after the waiter falls asleep. Permitted: a wait
that finds the bar, or is woken for it. A sleep that lasted its whole piece although
the bar had long closed is a wake-up lost.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import forks
import payload
import pytest
from sleeping import FORMS, chosen, ring_by

from shmfeed import waiting
from shmfeed.feed import attach
from shmfeed.memory.bell import bits_of_entry
from shmfeed.memory.core import RingReader, RingWriter
from shmfeed.memory.listening import heard, sleep
from shmfeed.waiting import is_fed
from shmfeed.writer import FeedWriter, create

BARS = int(100_000 * forks.SCALE)
FEWER = BARS // 10
CONTROL_BARS = 20_000  # a loss comes far sooner
WAITERS = 2
LONGEST_PAUSE_NS = 30_000
PIECE_NS = 500_000_000

STOP, LOST, HAS, CLOSED, AT = 0, 1, 8, 16, 24  # the last three: one for each waiter


Sleep = Callable[[RingReader, int, int], int]


class OverError(Exception):
    """A wake-up was lost: all is told."""


def looks_first(reader: RingReader, after: int, timeout_ns: int) -> int:
    """The control: it hears the bell after it has looked at the count."""
    count = reader.count
    if count > after or not is_fed(reader.words):
        return count
    ears = [(reader.words, heard(reader.words), bits_of_entry(reader.entry))]
    sleep(ears, timeout_ns)
    return reader.count


def close(writer: FeedWriter, ring: RingWriter, number: int) -> None:
    payload.append(ring, number)


def close_batch(writer: FeedWriter, ring: RingWriter, number: int) -> None:
    payload.append(ring, number, wake=False)
    writer.wake([(ring.symbol, ring.timeframe)])


def close_after_ringing(writer: FeedWriter, ring: RingWriter, number: int) -> None:
    """The control: whoever is woken, or hears the bell now, finds nothing."""
    writer.wake([(ring.symbol, ring.timeframe)])
    payload.append(ring, number, wake=False)


def feed_in_lockstep(
    name: str, board: memoryview, bars: int, closing: Callable[..., None], seed: int
) -> int:
    chance = random.Random(seed)
    number = 0
    with create(name, 64, 16) as writer:
        rings = [writer.add_stream(f"S{n}", payload.TIMEFRAME) for n in range(WAITERS)]
        board[CLOSED + WAITERS] = 1
        while number < bars and not board[STOP] and not board[LOST]:
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
            lambda: board[STOP] or all(board[HAS + n] > number for n in range(WAITERS)),
            20,
            "the last bars are read",
        )
    return number


def follow(
    name: str, board: memoryview, bars: int, which: int, sleeping: Sleep | None
) -> Counter:
    tally: Counter = Counter()
    sleeping = sleeping or waiting.sleep_past

    def sleep_and_look(reader: RingReader, after: int, timeout_ns: int) -> int:
        begun = time.monotonic_ns()
        count = sleeping(reader, after, timeout_ns)
        whole = time.monotonic_ns() - begun >= PIECE_NS
        tally["not woken" if whole else "woken"] += 1
        if whole and board[CLOSED + which] > after:
            # A bar of the last moment may have come as it gave up waiting.
            board[LOST] |= board[AT + which] < begun + PIECE_NS // 4
        if board[LOST]:
            raise OverError
        return count

    waiting.sleep_past = sleep_and_look
    waiting.PIECE_NS = PIECE_NS
    with attach(name) as attached:
        ring = attached.ring(f"S{which}", payload.TIMEFRAME)
        count = ring.count
        with suppress(OverError):
            while count < bars:
                board[HAS + which] = count + 1
                found = ring.wait(count, 30)
                assert found == count + 1
                count = found
        board[HAS + which] = count + 1
    return tally


def run(
    name: str,
    seed: int,
    bars: int,
    closing: Callable[..., None] = close,
    sleeping: Sleep | None = None,
) -> Counter:
    board = forks.board()
    total: Counter = Counter()
    with forks.Fork(feed_in_lockstep, name, board, bars, closing, seed) as writer:
        forks.wait_until(lambda: board[CLOSED + WAITERS], 10, "the feed is there")
        with (
            forks.Fork(follow, name, board, bars, 0, sleeping) as first,
            forks.Fork(follow, name, board, bars, 1, sleeping) as second,
        ):
            try:
                for waiter in (first, second):
                    total.update(waiter.result(150))
            finally:
                board[STOP] = 1
        total["bars"], total["lost"] = writer.result(), board[LOST]
    create(name, 64, 16).close(unlink=True)
    print(dict(total))
    return total


def judge(total: Counter, bars: int) -> None:
    assert total["bars"] == bars
    assert total["lost"] == 0
    # The race was run: they did sleep, and were woken.
    assert total["woken"] > bars // 10


@pytest.mark.parametrize("closing", [close, close_batch])
def test_no_wake_up_is_lost(feed_name: str, seed: int, closing) -> None:
    """Each of two waiters, half of the bars for each way of closing."""
    bars = BARS // WAITERS // 2
    judge(run(feed_name, seed, bars, closing), bars)


@pytest.mark.parametrize("form", FORMS)
def test_in_each_form(feed_name: str, seed: int, form: str, monkeypatch) -> None:
    ring_by(chosen(form, monkeypatch), monkeypatch)
    judge(run(feed_name, seed, FEWER // WAITERS), FEWER // WAITERS)


def test_the_control_who_looks_first_sleeps_over_a_bar(feed_name, seed) -> None:
    assert run(feed_name, seed, CONTROL_BARS, sleeping=looks_first)["lost"] > 0


def test_the_control_who_rings_first_wakes_for_nothing(feed_name, seed) -> None:
    assert run(feed_name, seed, CONTROL_BARS, close_after_ringing)["lost"] > 0
