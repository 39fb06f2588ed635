"""No wake-up is lost, whenever a bar closes: 10^5 bars, processes in lockstep.

Permitted: a wait finds the bar, or is woken for it.
"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import lockstep
import pytest
from lockstep import HAS, PIECE_NS, OverError, close, judge, run, symbol
from support import forks, payload
from support.sleeping import FORMS, chosen, notify_by

from shmfeed import waiting
from shmfeed.core import RingReader, RingWriter
from shmfeed.feed import attach
from shmfeed.memory.wakeup import wake_bits
from shmfeed.waiting import has_live_writer, load_key, wait_any
from shmfeed.writer import FeedWriter

BARS = int(100_000 * forks.SCALE)
FEWER = BARS // 10
CONTROL_BARS = 100_000  # a loss comes far sooner

Sleep = Callable[[RingReader, int, int], int]


def look_before_the_key(reader: RingReader, after: int, timeout_ns: int) -> int:
    """Load the key after the count and the heartbeats: a control."""
    count = reader.count
    looked = time.monotonic_ns()
    while time.monotonic_ns() < looked + 5000:
        if count > after or not has_live_writer(reader.words):
            return count
    keys = [(reader.words, load_key(reader.words), wake_bits([reader.index]))]
    wait_any(keys, timeout_ns)
    return reader.count


def close_batch(writer: FeedWriter, ring: RingWriter, number: int) -> None:
    payload.append(ring, number, wake=False)
    writer.wake([(ring.symbol, ring.timeframe)])


def notify_before_closing(writer: FeedWriter, ring: RingWriter, number: int) -> None:
    """Wake readers before there is a bar, which they then do not find: a control."""
    writer.wake([(ring.symbol, ring.timeframe)])
    payload.append(ring, number, wake=False)


def follow(
    name: str, board: memoryview, bars: int, which: int, sleeping: Sleep | None = None
) -> Counter:
    tally: Counter = Counter()
    sleeping = sleeping or waiting.sleep_past

    def sleep_and_look(reader: RingReader, after: int, timeout_ns: int) -> int:
        begun = time.monotonic_ns()
        count = sleeping(reader, after, timeout_ns)
        lockstep.look(board, which, after, begun, PIECE_NS, tally)
        return count

    waiting.sleep_past = sleep_and_look
    waiting.RECHECK_NS = PIECE_NS
    with attach(name) as attached:
        ring = attached.ring(symbol(which), payload.TIMEFRAME)
        count = ring.count
        with suppress(OverError):
            while count < bars:
                board[HAS + which] = count + 1
                found = ring.wait(count, 30)
                assert found == count + 1
                count = found
        board[HAS + which] = count + 1
    return tally


TWO = [follow, follow]


@pytest.mark.parametrize("closing", [close, close_batch])
def test_no_wake_up_is_lost(feed_name: str, seed: int, closing) -> None:
    """Two waiting readers, and half of the bars for each way of closing."""
    bars = BARS // 4
    judge(run(feed_name, seed, bars, TWO, closing), bars)


@pytest.mark.parametrize("form", FORMS)
def test_no_wake_up_is_lost_in_any_form(
    feed_name: str, seed: int, form: str, monkeypatch
) -> None:
    notify_by(chosen(form, monkeypatch), monkeypatch)
    bars = FEWER // (10 if form == "poll" else 2)  # a poll takes a millisecond
    judge(run(feed_name, seed, bars, TWO), bars)


def test_the_control_that_looks_before_the_key_loses_a_wake_up(feed_name, seed) -> None:
    careless = [partial(follow, sleeping=look_before_the_key)] * 2
    assert run(feed_name, seed, CONTROL_BARS, careless)["lost"] > 0


def test_the_control_that_notifies_before_closing_loses_a_wake_up(
    feed_name, seed
) -> None:
    assert run(feed_name, seed, CONTROL_BARS, TWO, notify_before_closing)["lost"] > 0
