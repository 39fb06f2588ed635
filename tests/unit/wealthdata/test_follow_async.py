"""follow in asyncio: the same events, other tasks run, and nothing is left behind."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.followed import Event, beating, close, fill, revise, short
from support.waiting import until

from shmfeed import aio
from shmfeed.errors import ContextError
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter
from wealthdata import Health, follow, following

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.usefixtures("own_record")

LONG = 20.0


@pytest.fixture
def a(writer: FeedWriter) -> Iterator[RingWriter]:
    ring = writer.add_stream("A", "1m")
    close(ring, -1, 0)
    with beating(writer):
        yield ring
    until(lambda: wait_threads() == [], what="the wait threads have ended")


def wait_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "shmfeed-aio"]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def take(loop: AsyncIterator[Event], count: int) -> list[object]:
    """Return the next events of bars, in their short form."""
    found: list[Event] = []
    while len(found) < count:
        event = await anext(loop)
        found += [] if isinstance(event, Health) else [event]
    return short(found)


async def asleep() -> None:
    """Return once a task waits for the next event."""
    for _ in range(2000):
        if any(thread.waiters for thread in aio._threads._all.values()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no task waits")


def test_the_events_are_those_of_a_for_loop(writer, a) -> None:
    async def main() -> list[object]:
        loop = follow("A", "1m", LONG)
        close(a, 1, 4)
        found = await take(loop, 3)
        revise(writer, 1, close=2.0)
        fill(writer, 2, 3)
        close(a, 5)
        return found + await take(loop, 3)

    told = [1, ("gap", 2, 3), 4, ("revised", 1), ("filled", 2, 3), 5]
    assert asyncio.run(main()) == told


def test_it_ends_after_the_timeout(writer, a) -> None:
    async def main() -> list[object]:
        close_it = follow("A", "1m", 0.1)
        close(a, 1)
        return short([e async for e in close_it if not isinstance(e, Health)])

    assert asyncio.run(main()) == [1]


def test_a_bar_that_closes_later_is_awaited(writer, a) -> None:
    async def main() -> list[object]:
        loop = follow("A", "1m")
        task = asyncio.create_task(take(loop, 2))
        await asleep()
        close(a, 1, 2)
        return await asyncio.wait_for(task, LONG)

    assert asyncio.run(main()) == [1, 2]


async def turns_of_others(a: RingWriter) -> int:
    """Return how often another task runs while a loop works off 100 bars."""
    turns, loop = [], follow("A", "1m", 0)
    close(a, *range(1, 101))

    async def other() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert len(await take(loop, 100)) == 100
    task.cancel()
    return len(turns)


def test_a_backlog_lets_other_tasks_run(writer, a) -> None:
    assert asyncio.run(turns_of_others(a)) >= 2


def test_without_pauses_they_run_once_it_is_worked_off(writer, a, monkeypatch) -> None:
    """The control."""
    monkeypatch.setattr(following, "_PAUSE", 1000)
    assert asyncio.run(turns_of_others(a)) == 0


def test_a_cancelled_wait_loses_nothing(writer, a) -> None:
    async def main() -> list[object]:
        loop, found = follow("A", "1m"), []
        for number in range(1, 4):
            task = asyncio.create_task(take(loop, 1))
            await asleep()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            close(a, number)
            found += await take(loop, 1)
        return found

    before = open_files()
    assert asyncio.run(main()) == [1, 2, 3]
    assert open_files() <= before + 1  # the attached segment's


def test_tasks_have_records_of_their_own(writer, a) -> None:
    async def strategy(turns: int) -> list[object]:
        found: list[object] = []
        for _ in range(turns):  # a loop a bar
            found += await take(follow("A", "1m"), 1)
        return found

    async def main() -> list[list[object]]:
        tasks = [asyncio.create_task(strategy(turns)) for turns in (2, 3)]
        await asyncio.sleep(0)
        for number in (1, 2, 3):
            close(a, number)
            await asyncio.sleep(0.05)
        return await asyncio.wait_for(asyncio.gather(*tasks), LONG)

    assert asyncio.run(main()) == [[1, 2], [1, 2, 3]]


def test_two_tasks_cannot_share_a_loop(writer, a) -> None:
    async def main() -> None:
        loop = follow("A", "1m")
        task = asyncio.create_task(take(loop, 1))
        await asleep()
        with pytest.raises(ContextError, match="another thread or task"):
            await anext(loop)
        close(a, 1)
        assert await task == [1]

    asyncio.run(main())


def test_close_ends_a_wait(writer, a) -> None:
    async def main() -> list[Event]:
        async with follow("A", "1m") as loop:
            task = asyncio.create_task(collect(loop))
            await asleep()
        return await task

    async def collect(loop: following.Follow) -> list[Event]:
        return [event async for event in loop]

    assert asyncio.run(main()) == []
