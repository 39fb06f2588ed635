"""No wake-up is lost by waits on several feeds, or by waits that spin, in lockstep."""

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from lockstep import HAS, PIECE_NS, OverError, judge, look, run, symbol
from support import forks, payload

import wealthdata
from shmfeed import waiting
from shmfeed.feed import Ring, attach, wait
from shmfeed.spinning import Spinner
from shmfeed.waiting import WaitSet, load_key
from shmfeed.writer import create
from wealthdata import handed
from wealthdata.awaited_stream import NEVER

BARS = int(10_000 * forks.SCALE)
CONTROL_BARS = 50_000  # a loss comes far sooner
LONGEST_LOOK_NS = 30_000

Wait = Callable[[Ring, Ring, int], int]


def wait_for_one(ring: Ring, _: Ring, count: int, **options: float) -> int:
    found = ring.wait(count, 30, **options)
    assert found is not None
    return found


def wait_for_two_feeds(ring: Ring, quiet: Ring, count: int, **options: float) -> int:
    assert wait([(quiet, 0), (ring, count)], 30, **options) == [ring]
    return ring.count


def wait_by_wait_bar(ring: Ring, quiet: Ring, count: int, **options: float) -> int:
    """Wait for both, of which one never has a bar and so holds up no other."""
    named = f"{ring.symbol}@{ring._feed.name}", f"{quiet.symbol}@{quiet._feed.name}"
    stream = ring._feed.name, ring.symbol, ring.timeframe
    handed.current_record().handed.setdefault(stream, NEVER)
    found = wealthdata.wait_bar(named, ring.timeframe, 30, **options)
    assert found == ([named[0]], [named[1]])
    return ring.count


def spin_at_random(_: Spinner, rest_ns: int) -> tuple[bool, int]:
    if random.random() < 0.5:
        return True, random.randrange(1, LONGEST_LOOK_NS)
    return False, rest_ns


def pause() -> None:
    begun = time.monotonic_ns()
    while time.monotonic_ns() < begun + 5000:
        pass


def load_keys_late(self: WaitSet[Any]) -> list[Any]:
    """Load the keys after the counts were checked: a control."""
    while not (ready := self.ready()):
        pause()
        entries = [(words, load_key(words), bits) for words, bits in self.segments]
        waiting.wait_any(entries, PIECE_NS)
    return ready


def follow(
    name: str, board: memoryview, bars: int, which: int, waits: Wait
) -> Counter[str]:
    tally: Counter[str] = Counter()
    count = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def rest(*arguments: Any) -> Any:
            begun = time.monotonic_ns()
            answer = original(*arguments)
            look(board, which, count, begun, PIECE_NS, tally)
            return answer

        return rest

    for each in ("wait_any", "sleep_past", "spin_past", "futex_spin"):
        setattr(waiting, each, counted(getattr(waiting, each)))
    waiting.RECHECK_NS = PIECE_NS
    Spinner.plan = spin_at_random  # type: ignore[method-assign]
    with create(f"{name}-{which}", 5, None, 1) as other, attach(name) as attached:
        other.add_stream("QUIET", payload.TIMEFRAME)
        with attach(other.name) as second, suppress(OverError):
            ring = attached.ring(symbol(which), payload.TIMEFRAME)
            quiet = second.ring("QUIET", payload.TIMEFRAME)
            while count < bars:
                board[HAS + which] = count + 1
                found = waits(ring, quiet, count)
                assert found == count + 1
                count = found
            board[HAS + which] = count + 1
        other.close(unlink=True)
    return tally


ALL = [wait_for_one, wait_for_two_feeds, wait_by_wait_bar]
SPINNING = [partial(one, spin=0.001) for one in ALL]
IDS = ["two feeds", "wait_bar", "one spins", "two feeds, spins", "wait_bar, spins"]


@pytest.mark.parametrize("waits", [*ALL[1:], *SPINNING], ids=IDS)
def test_no_wake_up_is_lost(feed_name: str, seed: int, waits: Wait) -> None:
    both = [partial(follow, waits=waits)] * 2
    judge(run(feed_name, seed, BARS // 4, both), BARS // 4)


def late(*arguments: Any, waits: Wait) -> Counter[str]:
    WaitSet.wait = load_keys_late  # type: ignore[method-assign]
    return follow(*arguments, waits=waits)


@pytest.mark.parametrize("waits", ALL[1:])
def test_keys_loaded_late_lose_wake_ups(feed_name: str, seed: int, waits: Wait) -> None:
    careless = [partial(late, waits=waits)] * 2
    assert run(feed_name, seed, CONTROL_BARS, careless)["lost"] > 0


def sleep_on(*arguments: Any, waits: Wait) -> Counter[str]:
    spin = waiting._spin_or_sleep_past

    def spin_and_sleep(reader: Any, after: int, rest_ns: int, spinner: Spinner) -> int:
        count = spin(reader, after, 1, spinner)
        if count > after:
            return count
        pause()
        entry = reader.words, load_key(reader.words), 1 << reader.index
        waiting.wait_any([entry], rest_ns)
        return int(reader.count)

    waiting._spin_or_sleep_past = spin_and_sleep
    return follow(*arguments, waits=waits)


def test_a_sleep_after_a_look_without_a_check_loses_wake_ups(
    feed_name: str, seed: int
) -> None:
    careless = [partial(sleep_on, waits=SPINNING[0])] * 2
    assert run(feed_name, seed, CONTROL_BARS, careless)["lost"] > 0
