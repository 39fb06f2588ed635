"""Waiting in asyncio: the same results as blocking, for many tasks; no thread stays."""

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable
from pathlib import Path

import pytest
from conftest import Child
from support import forks
from support.sleeping import STREAMS, InThread, close, stream
from support.waiting import until

from shmfeed import aio
from shmfeed.errors import BadArgumentError, FeedNotFoundError, StreamNotFoundError
from shmfeed.feed import Ring, attach
from shmfeed.waiting import RECHECK_NS
from shmfeed.writer import create

pytest_plugins = ["support.waiting_rings"]

PROMPT = 0.3
RECHECK = RECHECK_NS / 1e9


def wait_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "shmfeed-aio"]


def waiting_tasks() -> int:
    return sum(len(each.waiters) for each in aio._threads._all.values())


async def asleep(number: int = 1) -> None:
    """Return when so many tasks wait."""
    async with asyncio.timeout(10):
        while waiting_tasks() != number:
            await asyncio.sleep(0.001)


async def started(call: Awaitable[object], number: int = 1) -> asyncio.Task:
    """Return a task of this call, when it waits as the last of so many."""
    task = asyncio.ensure_future(call)
    await asleep(number)
    return task


@pytest.mark.usefixtures("form")
class TestResults:
    """The same results as those of `ring.wait` and `shmfeed.wait`."""

    def test_a_close_ends_it_at_once(self, ring_writer, rings) -> None:
        async def main() -> None:
            for number in range(10):
                task = await started(aio.wait_ring(rings[0], number, 20))
                start = time.monotonic()
                close(stream(ring_writer), number)
                assert await task == number + 1
                assert time.monotonic() - start < PROMPT

        asyncio.run(main())

    def test_of_many_rings_those_that_closed_are_returned(
        self, ring_writer, rings
    ) -> None:
        async def main() -> None:
            task = await started(aio.wait(iter([rings[2], rings[0], rings[1]])))
            close(stream(ring_writer, 0), 0, wake=False)
            close(stream(ring_writer, 2), 0, wake=False)
            ring_writer.wake([STREAMS[0], STREAMS[2]])
            assert await task == [rings[2], rings[0]]

        asyncio.run(main())

    def test_rings_of_several_feeds_are_waited_for(
        self, ring_writer, feed_name, rings
    ) -> None:
        async def main() -> None:
            for number, (which, of) in enumerate([(0, ring_writer), (1, other)] * 3):
                # It waits at both.
                task = await started(aio.wait(both, 20), number=2)
                close(stream(of), number)
                assert await task == [both[which]]

        with create(feed_name + "2", 5, None, 40, streams=STREAMS) as other:
            with attach(other.name) as second:
                both = [rings[0], second.ring(*STREAMS[0])]
                asyncio.run(main())

    @pytest.mark.parametrize("timeout", [0, 1e-12, 0.03])
    def test_the_deadline_ends_the_wait(self, rings, timeout: float) -> None:
        async def main() -> None:
            start = time.monotonic()
            assert await aio.wait_ring(rings[0], 0, timeout) is None
            assert await aio.wait(rings, timeout) == []
            assert await aio.wait([], timeout) == []
            passed = time.monotonic() - start
            assert 3 * timeout <= passed < 3 * timeout + 3 * PROMPT

        asyncio.run(main())

    def test_an_infinite_deadline_is_accepted(self, ring_writer, rings) -> None:
        async def main() -> None:
            task = await started(aio.wait_ring(rings[0], 0, float("inf")))
            close(stream(ring_writer), 0)
            assert await task == 1

        asyncio.run(main())

    def test_the_end_of_the_feeder_ends_the_wait(self, ring_writer, rings) -> None:
        async def main() -> None:
            first = await started(aio.wait_ring(rings[0], 0))
            second = await started(aio.wait(rings), 2)
            third = await started(aio.wait_ring(rings[0], 0, 1.0), 3)
            start = time.monotonic()
            ring_writer.close()
            assert await first is None
            assert await second == []
            assert time.monotonic() - start < PROMPT
            assert not third.done()
            assert await third is None

        asyncio.run(main())

    def test_a_successor_is_followed(self, ring_writer, rings) -> None:
        async def main() -> None:
            tasks = [await started(aio.wait_ring(rings[0], 0, 20))]
            tasks.append(await started(aio.wait(rings, 20), 2))
            ring_writer.close()
            with create(ring_writer.name, 7, None, 40, streams=STREAMS) as second:
                close(stream(second), 0)
                assert await asyncio.gather(*tasks) == [1, [rings[0]]]

        asyncio.run(main())

    def test_numbers_began_again_before_the_wait(self, ring_writer, rings) -> None:
        close(stream(ring_writer), 0, 1, 2)
        count = rings[0].count
        ring_writer.close(unlink=True)

        async def main() -> None:
            with create(ring_writer.name, 5, None, 40, streams=STREAMS) as second:
                assert await aio.wait_ring(rings[0], count, 20) == 0
                task = await started(aio.wait([(rings[0], count)], 20))
                close(stream(second), 0, 1, 2, 3)
                assert await task == [rings[0]]

        asyncio.run(main())

    def test_a_pair_waits_for_its_number(self, ring_writer, rings) -> None:
        close(stream(ring_writer, 1), 0)

        async def main() -> None:
            assert await aio.wait([rings[0], (rings[1], 0)], 20) == [rings[1]]
            task = await started(aio.wait([rings[0], (rings[1], 2)], 20))
            close(stream(ring_writer, 1), 1)
            assert not task.done()
            close(stream(ring_writer, 1), 2)
            assert await task == [rings[1]]

        asyncio.run(main())

    def test_a_successor_without_the_stream(self, ring_writer, rings) -> None:
        async def main() -> None:
            task = await started(aio.wait_ring(rings[1], 0, 20))
            ring_writer.close(unlink=True)
            with create(ring_writer.name, 5, None, 40, streams=STREAMS[:1]):
                with pytest.raises(StreamNotFoundError, match="does not carry S1"):
                    await task

        asyncio.run(main())

    def test_a_closed_attachment(self, ring_writer, feed, rings) -> None:
        async def main() -> None:
            task = await started(aio.wait_ring(rings[0], 0))
            feed.close()
            with pytest.raises(FeedNotFoundError, match="is closed"):
                await asyncio.wait_for(task, RECHECK + 1)
            with pytest.raises(FeedNotFoundError, match="is closed"):
                await aio.wait(rings, 0)

        asyncio.run(main())


def test_a_bar_that_is_there_starts_no_thread(ring_writer, rings) -> None:
    close(stream(ring_writer), 0, 1)

    async def main() -> None:
        assert await aio.wait_ring(rings[0], 0) == 2
        assert await aio.wait_ring(rings[0], 9, 0) is None

    asyncio.run(main())
    assert wait_threads() == []


@pytest.mark.parametrize("timeout", [-1, "1", True, float("nan"), [1]])
def test_bad_timeouts_are_refused(rings, timeout: object) -> None:
    for call in (aio.wait_ring(rings[0], 0, timeout), aio.wait(rings, timeout)):
        with pytest.raises(BadArgumentError, match="timeout is"):
            asyncio.run(call)


def test_bad_rings_and_numbers_are_refused(rings) -> None:
    for call, said in (
        (aio.wait([rings[0], "ring"]), "rings contains 'ring'"),
        (aio.wait(None), "rings contains None"),
        (aio.wait_ring("ring", 0), "rings contains 'ring'"),
        (aio.wait_ring(rings[0], 1.0), "after is 1.0"),
    ):
        with pytest.raises(BadArgumentError, match=said):
            asyncio.run(call)


class TestManyTasks:
    def test_one_thread_waits_for_hundreds_of_tasks(self, ring_writer, rings) -> None:
        async def main() -> None:
            tasks = [
                asyncio.ensure_future(aio.wait_ring(rings[number % 34], 0, 30))
                for number in range(500)
            ]
            await asleep(500)
            assert len(wait_threads()) == 1
            for number in range(33):
                close(stream(ring_writer, number), 0, wake=False)
            start = time.monotonic()
            ring_writer.wake(STREAMS[:33])
            late = [task for n, task in enumerate(tasks) if n % 34 == 33]
            await asyncio.gather(*(task for task in tasks if task not in late))
            assert time.monotonic() - start < 1
            assert not any(task.done() for task in late)
            close(stream(ring_writer, 33), 0)
            assert await asyncio.gather(*tasks) == [1] * 500

        asyncio.run(main())

    def test_only_tasks_of_the_stream_are_woken(
        self, ring_writer, rings, monkeypatch
    ) -> None:
        woken = []
        original = aio._Waiter.wake

        def wake(self: aio._Waiter) -> None:
            woken.append(self)
            original(self)

        monkeypatch.setattr(aio._Waiter, "wake", wake)

        async def main() -> None:
            tasks = [
                await started(aio.wait_ring(ring, 0, 30), number + 1)
                for number, ring in enumerate(rings)
            ]
            close(stream(ring_writer, 7), 0)
            assert await tasks[7] == 1
            assert len(woken) == 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(main())

    def test_no_wake_up_is_lost(self, ring_writer, rings) -> None:
        """Each task follows its stream, while a thread closes bars."""
        bars = 300

        async def follow(ring: Ring) -> int:
            count = 0
            while count < bars:
                start = time.monotonic()
                count = await aio.wait_ring(ring, count, 20)
                # A lost one would have been found at the next recheck.
                assert time.monotonic() - start < RECHECK - 0.05
            return count

        async def main() -> None:
            tasks = [asyncio.ensure_future(follow(ring)) for ring in rings[:10]]
            await asleep(10)
            worker = InThread(feeding)
            assert await asyncio.gather(*tasks) == [bars] * 10
            worker.result()

        def feeding() -> None:
            streams = [stream(ring_writer, number) for number in range(10)]
            for number in range(bars):
                for ring in streams:
                    close(ring, number)
                time.sleep(0.0005)

        asyncio.run(main())

    def test_two_event_loops_share_the_thread(self, ring_writer, rings) -> None:
        async def main() -> int:
            return await aio.wait_ring(rings[0], 0, 20)

        both = [InThread(asyncio.run, main()) for _ in range(2)]
        until(lambda: waiting_tasks() == 2)
        assert len(wait_threads()) == 1
        close(stream(ring_writer), 0)
        assert [each.result() for each in both] == [1, 1]


class TestTheEnd:
    def test_the_thread_ends_after_the_last_task(self, ring_writer, rings) -> None:
        async def main() -> None:
            await started(aio.wait_ring(rings[0], 0, 0.1))

        asyncio.run(main())
        (thread,) = wait_threads()
        assert thread.daemon
        thread.join(2 * RECHECK + PROMPT)
        assert not thread.is_alive()
        assert aio._threads._all == {}

    def test_it_ends_while_bars_close(self, ring_writer, rings) -> None:
        async def main() -> None:
            await aio.wait_ring(rings[0], 0, 0.01)

        asyncio.run(main())
        (thread,) = wait_threads()
        until(
            lambda: (
                close(stream(ring_writer, 1), stream(ring_writer, 1).reader.count)
                or not thread.is_alive()
            ),
            timeout=2,
        )

    def test_the_next_task_uses_the_same_thread(self, ring_writer, rings) -> None:
        async def main() -> None:
            await aio.wait_ring(rings[0], 0, 0.01)
            (thread,) = wait_threads()
            await aio.wait_ring(rings[1], 0, 0.01)
            assert wait_threads() == [thread]

        asyncio.run(main())

    def test_the_tasks_raise_an_error_of_the_thread(
        self, ring_writer, rings, monkeypatch
    ) -> None:
        """Else no thread would wake them, nor the tasks that wait later."""
        told = threading.Event()

        def refused(*_: object) -> bool:
            told.wait(10)
            raise OSError("no one may sleep")

        async def main() -> None:
            with monkeypatch.context() as patched:
                patched.setattr(aio, "wait_any", refused)
                tasks = [await started(aio.wait_ring(rings[0], 0))]
                tasks.append(await started(aio.wait(rings), 2))
                told.set()
                for task in tasks:
                    with pytest.raises(OSError, match="no one may sleep"):
                        await task
            later = await started(aio.wait_ring(rings[0], 0))
            close(stream(ring_writer), 0)
            assert await later == 1

        asyncio.run(main())

    def test_a_cancelled_task_is_removed_at_once(self, ring_writer, rings) -> None:
        async def main() -> None:
            task = await started(aio.wait_ring(rings[0], 0))
            start = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - start < 0.1
            assert waiting_tasks() == 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await aio.wait(rings)
            assert waiting_tasks() == 0

        asyncio.run(main())

    def test_an_event_loop_that_is_closed_meanwhile(self, ring_writer, rings) -> None:
        """With a bar for its task or without, the thread goes on, and ends."""
        for closes in (True, False):
            loop = asyncio.new_event_loop()
            task = loop.create_task(aio.wait_ring(rings[0], 0))
            loop.run_until_complete(asleep())
            loop.close()
            if closes:
                close(stream(ring_writer), 0)
            # Its feeder lives, so the thread ended for want of tasks.
            until(
                lambda: ring_writer.beat() or waiting_tasks() == 0, timeout=RECHECK + 1
            )
            until(lambda: wait_threads() == [], timeout=2 * RECHECK + 1)
            task._log_destroy_pending = False
            task._coro.close()
            if closes:
                rings = rings[1:]

    def test_a_killed_feeder_ends_the_wait(self, feed_name) -> None:
        board = forks.board()

        async def main() -> None:
            first = await started(aio.wait_ring(ring, 0))
            second = await started(aio.wait([ring]), 2)
            start = time.monotonic()
            holder.kill()
            assert await first is None
            assert await second == []
            assert 1.8 < time.monotonic() - start < 3

        with forks.Fork(hold, feed_name, board) as holder:
            forks.wait_until(lambda: board[0], 10, "the feed is there")
            with attach(feed_name) as feed:
                ring = feed.ring(*STREAMS[0])
                asyncio.run(main())
        create(feed_name, 5, None, 40).close(unlink=True)

    def test_idle_costs_next_to_nothing(self, ring_writer, rings) -> None:
        """500 tasks wait for a second; the control polls for each of them."""

        async def main() -> float:
            tasks = [
                asyncio.ensure_future(aio.wait_ring(rings[number % 34], 0, 30))
                for number in range(500)
            ]
            await asleep(500)
            ring_writer.beat()
            start = time.process_time()
            await asyncio.sleep(1)
            spent = time.process_time() - start
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return spent

        assert asyncio.run(main()) < 0.05


def hold(name: str, board: memoryview) -> None:
    with create(name, 5, None, 40, streams=STREAMS) as ring_writer:
        board[0] = 1
        while True:
            ring_writer.beat()
            time.sleep(0.1)


def wait_in_child(ring: Ring, board: memoryview) -> int | None:
    async def main() -> int | None:
        task = await started(aio.wait_ring(ring, 0, 20))
        board[0] = 1
        return await task

    return asyncio.run(main())


def test_a_forked_child_can_wait(ring_writer, rings) -> None:
    """The child inherits neither the threads nor the waiting tasks."""
    board = forks.board()

    async def main() -> None:
        task = await started(aio.wait_ring(rings[0], 0, 20))
        # A thread that the child does not have may hold its lock.
        with aio._threads._lock:
            child = forks.Fork(wait_in_child, rings[0], board)
        with child:
            async with asyncio.timeout(10):
                while not board[0]:
                    await asyncio.sleep(0.001)
            close(stream(ring_writer), 0)
            assert await task == 1
            assert child.result() == 1

    asyncio.run(main())


INTERRUPTED = """
import asyncio, sys
import shmfeed, shmfeed.aio
ring = shmfeed.attach(sys.argv[1]).ring("S0", "1h")
async def main():
    print("ready", flush=True)
    await shmfeed.aio.{call}
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("call", ["wait_ring(ring, 0)", "wait([ring], 60)"])
def test_ctrl_c_ends_the_wait(ring_writer, child: Child, call: str) -> None:
    process = child(INTERRUPTED.format(call=call), ring_writer.name)
    assert process.stdout.readline() == "ready\n"
    threads = Path(f"/proc/{process.pid}/task")
    until(lambda: len(list(threads.iterdir())) > 1, what="its listener sleeps")
    ring_writer.beat()
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    assert time.monotonic() - start < 0.45
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0


def test_shmfeed_alone_loads_no_asyncio(child: Child) -> None:
    code = "import sys, shmfeed.feed; print('asyncio' in sys.modules)"
    assert child(code).communicate() == ("False\n", "")
