"""Waiting for a bar: in the kernel by C and by ctypes, and by polling."""

import os
import resource
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Child
from support import forks
from support.sleeping import (
    KERNEL_FORMS,
    STREAMS,
    Form,
    InThread,
    chosen,
    close,
    is_sleeping,
    notify_by,
    stream,
)
from support.waiting import until

from shmfeed import core, waiting
from shmfeed.errors import (
    BadArgumentError,
    FeedNotFoundError,
    StreamNotFoundError,
)
from shmfeed.feed import Ring, attach, wait
from shmfeed.layout import (
    E_WORD,
    H_ALIVE,
    H_TICK,
    H_WAKE,
    S_EPOCH,
    SLOT_BITS,
    SLOT_MASK,
)
from shmfeed.memory import wakeup
from shmfeed.waiting import RECHECK_NS, WaitSet
from shmfeed.writer import FeedWriter, create

pytest_plugins = ["support.waiting_rings"]

PROMPT = 0.3  # seconds, on a busy machine; less than RECHECK_NS


IN_THE_KERNEL = pytest.mark.parametrize("form", KERNEL_FORMS, indirect=True)
SLEEPLESS = pytest.mark.parametrize("form", ["ctypes"], indirect=True)


@pytest.fixture
def sleeps(form: Form, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Record for each sleep whether it ended before its timeout."""
    ended: list[bool] = []

    def watched(original: Callable[..., object]) -> Callable[..., object]:
        def timed(*arguments: object) -> object:
            begun = time.monotonic_ns()
            answer = original(*arguments)
            ended.append(time.monotonic_ns() - begun < arguments[-1])
            return answer

        return timed

    for name in ("wait_any", "sleep_past"):
        monkeypatch.setattr(waiting, name, watched(getattr(waiting, name)))
    return ended


@pytest.mark.usefixtures("form")
class TestOneRing:
    def test_a_closed_bar_ends_the_wait(
        self, ring_writer: FeedWriter, rings: list[Ring]
    ) -> None:
        waiter = InThread(rings[0].wait, 0, 20).asleep(rings[0])
        close(stream(ring_writer), 0)
        assert waiter.result() == 1
        assert waiter.seconds < 10

    def test_a_closed_bar_wakes_promptly(
        self, ring_writer: FeedWriter, rings: list[Ring]
    ) -> None:
        """Not at the next recheck."""
        for number in range(20):
            waiter = InThread(rings[0].wait, number, 20).asleep(rings[0])
            start = time.monotonic()
            close(stream(ring_writer), number)
            assert waiter.result() == number + 1
            assert time.monotonic() - start < PROMPT

    def test_a_bar_that_is_there_ends_the_wait_at_once(
        self, ring_writer, rings, sleeps
    ) -> None:
        close(stream(ring_writer), 0, 1)
        assert rings[0].wait(0) == rings[0].wait(-1, 0) == rings[0].wait(1, 9) == 2
        assert sleeps == [True, False, True]  # the check found the bar

    @pytest.mark.parametrize("timeout", [0, 1e-12, 0.03, 0.7])
    def test_the_deadline_ends_the_wait(
        self, rings: list[Ring], timeout: float
    ) -> None:
        start = time.monotonic()
        assert rings[0].wait(0, timeout) is None
        assert timeout <= time.monotonic() - start < timeout + PROMPT

    def test_an_infinite_deadline_is_accepted(
        self, ring_writer, rings: list[Ring]
    ) -> None:
        waiter = InThread(rings[0].wait, 0, float("inf")).asleep(rings[0])
        close(stream(ring_writer), 0)
        assert waiter.result() == 1

    def test_a_batch_wakes_by_one_wake(self, ring_writer, rings) -> None:
        ring = stream(ring_writer)
        waiter = InThread(rings[0].wait, 0, 20).asleep(rings[0])
        close(ring, 0, 1, 2, wake=False)
        ring_writer.wake([STREAMS[0]])
        assert waiter.result() == 3

    def test_a_bar_without_a_wake_is_found_at_a_recheck(
        self, ring_writer, rings
    ) -> None:
        waiter = InThread(rings[0].wait, 0, 20).asleep(rings[0])
        close(stream(ring_writer), 0, wake=False)
        assert waiter.result() == 1
        assert waiter.seconds < RECHECK_NS / 1e9 + PROMPT


class TestTheFeeder:
    pytestmark = pytest.mark.usefixtures("form")

    def test_a_closed_writer_ends_a_wait(self, ring_writer, rings) -> None:
        waiter = InThread(rings[0].wait, 0).asleep(rings[0])
        start = time.monotonic()
        ring_writer.close()
        assert waiter.result() is None
        assert time.monotonic() - start < PROMPT

    def test_its_last_bar_is_not_missed(self, ring_writer, rings) -> None:
        waiter = InThread(rings[0].wait, 0).asleep(rings[0])
        close(stream(ring_writer), 0, wake=False)
        ring_writer.close(unlink=True)
        assert waiter.result() == 1

    def test_with_a_deadline_a_successor_is_awaited(self, ring_writer, rings) -> None:
        """A successor reuses the segment, or recreates it: both notify."""
        waiter = InThread(rings[0].wait, 0, 20).asleep(rings[0])
        ring_writer.close()
        with create(ring_writer.name, 5, None, 40) as second:
            assert second.reused
            close(second.add_stream(*STREAMS[0]), 0, wake=False)
            second.wake()
            assert waiter.result() == 1
            waiter = InThread(rings[0].wait, 1, 20).asleep(rings[0])
        with create(ring_writer.name, 7, None, 40, streams=STREAMS) as third:
            assert not third.reused
            assert waiter.result() == 1  # the epoch is another
            close(third.add_stream(*STREAMS[0]), 1)
            assert rings[0].wait(1, 20) == 2
        assert rings[0].history == 7

    def test_a_recreation_notifies_both_segments(
        self, ring_writer, feed, rings
    ) -> None:
        """Readers that sleep on the old segment reattach at once."""
        old = feed.current().words
        ring_writer.beat()
        waiter = InThread(rings[0].wait, 0, 20).asleep(rings[0])
        many = InThread(wait, rings[:2], 20).asleep(rings[0])
        ring_writer.close()
        with create(ring_writer.name, 7, None, 40, streams=STREAMS) as second:
            key = old.ints[H_WAKE]
            assert key == 3  # creation, close, successor
            new = attach(ring_writer.name).current().words
            assert new.ints[H_WAKE] == 1
            assert waiter.result() == 0  # the epoch is another
            many.asleep(rings[0])
            assert rings[0]._current_reader().words is not old
            close(stream(second), 0)
            assert many.result() == [rings[0]]

    def test_the_first_bar_of_a_new_numbering_ends_a_wait_for_many(
        self, ring_writer, rings
    ) -> None:
        close(stream(ring_writer), 0, 1, 2)
        waiter = InThread(rings[0].wait, 3, 20).asleep(rings[0])
        many = InThread(wait, [(rings[0], 3), rings[1]], 20).asleep(rings[0])
        ring_writer.close(unlink=True)
        with create(ring_writer.name, 5, None, 40, streams=STREAMS) as second:
            assert waiter.result() == 0  # the epoch is another
            assert not many.is_done
            close(second.add_stream(*STREAMS[0]), 0)
            assert many.result() == [rings[0]]

    @pytest.mark.parametrize("others", [False, True], ids=["alone", "others follow"])
    def test_numbers_began_again_before_the_wait(
        self, ring_writer, rings, others
    ) -> None:
        """While the caller was computing: its number belongs to the old segment."""
        close(stream(ring_writer), 0, 1, 2)
        count = rings[0].count
        ring_writer.close(unlink=True)
        with create(ring_writer.name, 5, None, 40, streams=STREAMS) as second:
            if others:
                assert rings[1].count == 0
            assert rings[0].wait(count, 20) == 0
            # The control: a number of the current segment may be far ahead.
            assert rings[0].wait(count, 0) is None
            close(second.add_stream(*STREAMS[0]), 0)
            assert rings[0].wait(0) == 1

    def test_another_epoch_of_the_stream_ends_the_wait(
        self, ring_writer, rings
    ) -> None:
        """A repair replaced its rows, and closed no bar."""
        ring = stream(ring_writer)
        close(ring, 0, 1)
        waiter = InThread(rings[0].wait, 2, 20).asleep(rings[0])
        many = InThread(wait, [rings[0]], 20).asleep(rings[0])
        raise_epoch(ring_writer, 0)
        ring_writer.wake()
        assert waiter.result() == 2
        with pytest.raises(AssertionError, match="runs longer"):
            many.result(0.2)  # it waits for a bar
        assert rings[0].wait(2, 0) is None
        close(ring, 2)
        assert many.result() == [rings[0]]

    def test_a_successor_without_the_stream(self, ring_writer, rings) -> None:
        waiter = InThread(rings[1].wait, 0, 20).asleep(rings[1])
        ring_writer.close(unlink=True)
        with create(ring_writer.name, 5, None, 40, streams=STREAMS[:1]):
            with pytest.raises(StreamNotFoundError, match="does not carry S1"):
                waiter.result()

    def test_a_closed_attachment_ends_the_wait(self, beats, feed, rings) -> None:
        waiter = InThread(rings[0].wait, 0).asleep(rings[0])
        feed.close()
        with pytest.raises(FeedNotFoundError, match="is closed"):
            waiter.result(RECHECK_NS / 1e9 + 1)

    def test_a_wait_on_a_closed_attachment(self, ring_writer, feed, rings) -> None:
        feed.close()
        with pytest.raises(FeedNotFoundError, match="is closed"):
            rings[0].wait(0, 0)
        with pytest.raises(FeedNotFoundError, match="is closed"):
            wait(rings, 0)


class TestManyRings:
    pytestmark = pytest.mark.usefixtures("form")

    def test_any_of_the_rings_ends_the_wait(self, ring_writer, rings) -> None:
        for number, which in enumerate([3, 0, 33, 3]):
            waiter = InThread(wait, rings, 20).asleep(*rings)
            close(stream(ring_writer, which), number)
            assert waiter.result() == [rings[which]]

    def test_rings_that_closed_are_returned_in_the_order_given(
        self, ring_writer, rings
    ) -> None:
        waiter = InThread(wait, [rings[2], rings[0], rings[1]], 20).asleep(*rings)
        close(stream(ring_writer, 0), 0, wake=False)
        close(stream(ring_writer, 2), 0, wake=False)
        ring_writer.wake([STREAMS[0], STREAMS[2]])
        assert waiter.result() == [rings[2], rings[0]]

    def test_rings_of_several_feeds_are_waited_for(
        self, ring_writer, feed_name, rings
    ) -> None:
        with create(feed_name + "2", 5, None, 40, streams=STREAMS) as other:
            with attach(other.name) as second:
                both = [rings[0], second.ring(*STREAMS[0])]
                for number, (which, of) in enumerate(
                    [(0, ring_writer), (1, other)] * 2
                ):
                    waiter = InThread(wait, both, 20).asleep(*both)
                    start = time.monotonic()
                    close(stream(of), number)
                    assert waiter.result() == [both[which]]
                    assert time.monotonic() - start < PROMPT

    def test_a_pair_waits_for_its_number(self, ring_writer, rings) -> None:
        close(stream(ring_writer, 1), 0, 1)
        assert wait([rings[0], (rings[1], 1)], 20) == [rings[1]]  # it is there
        waiter = InThread(wait, [(rings[2], 0), (rings[1], 3)], 20).asleep(*rings)
        close(stream(ring_writer, 1), 2)
        waiter.asleep(*rings)
        close(stream(ring_writer, 1), 3, 4)
        assert waiter.result() == [rings[1]]

    def test_a_bar_before_the_call_ends_a_wait_for_a_pair_alone(
        self, ring_writer, rings
    ) -> None:
        seen = rings[0].count
        close(stream(ring_writer), 0)
        assert wait([(rings[0], seen)], 20) == [rings[0]]
        assert wait([rings[0]], 0.02) == []  # the control

    @pytest.mark.parametrize(
        "item", [5, "ring", None, (), (0, 0), ("ring", 0), [0, 1, 2]]
    )
    def test_other_items_are_refused(self, rings, item) -> None:
        with pytest.raises(
            BadArgumentError, match=r"rings .*, or pairs \(ring, after\)"
        ):
            wait([rings[0], item], 1)

    def test_a_pair_without_a_list_around_it_is_refused(self, rings) -> None:
        with pytest.raises(BadArgumentError, match=r"rings contains 0; .* or pairs"):
            wait((rings[0], 0), 1)

    @pytest.mark.parametrize("after", [None, 1.5, "3", True])
    def test_other_numbers_are_refused(self, rings, after) -> None:
        with pytest.raises(BadArgumentError, match="after is"):
            wait([(rings[0], after)], 1)

    def test_all_feeders_must_be_dead(self, ring_writer, feed_name, rings) -> None:
        with create(feed_name + "2", 5, None, 40, streams=STREAMS) as other:
            with attach(other.name) as second:
                both = [rings[0], second.ring(*STREAMS[0])]
                waiter = InThread(wait, both).asleep(*both)
                ring_writer.close()
                with pytest.raises(AssertionError, match="runs longer"):
                    waiter.result(0.4)
                other.close()
                assert waiter.result() == []

    def test_a_bar_between_the_check_and_the_sleep(
        self, ring_writer, rings, sleeps, monkeypatch
    ) -> None:
        """The key was loaded before the check: no sleep lasts until the recheck."""
        look = WaitSet.ready

        def ready_after_it(wait_set: WaitSet) -> list[Ring]:
            found = look(wait_set)
            if not stream(ring_writer).reader.count:
                close(stream(ring_writer), 0)
            return found

        monkeypatch.setattr(WaitSet, "ready", ready_after_it)
        assert wait(rings[:2], 20) == [rings[0]]
        assert sleeps == [True]

    def test_without_rings_the_deadline_ends_the_wait(self) -> None:
        assert wait([], 0.02) == []
        assert wait([]) == []


@IN_THE_KERNEL
class TestWakeBits:
    """Each sleep that ends before its timeout is a wake-up."""

    def test_a_reader_of_another_stream_is_not_woken(
        self, form, ring_writer, rings, sleeps
    ) -> None:
        waiter = InThread(rings[0].wait, 0, 20).asleep(rings[0])
        for number in range(50):
            close(stream(ring_writer, 1), number)
            waiter.asleep(rings[0])
        assert True not in sleeps
        close(stream(ring_writer, 0), 0)
        assert waiter.result() == 1
        assert sleeps.count(True) == 1

    def test_a_reader_that_shares_the_bit_is_woken(
        self, form, ring_writer, rings, sleeps
    ) -> None:
        """The control: the count above sees a stream 32 further on."""
        waiter = InThread(rings[0].wait, 0, 20).asleep(rings[0])
        for number in range(50):
            before = len(sleeps)
            close(stream(ring_writer, 32), number)
            until(lambda: len(sleeps) > before, what="it was woken")  # noqa: B023
            waiter.asleep(rings[0])
        assert sleeps.count(True) >= 45
        close(stream(ring_writer, 0), 0)
        assert waiter.result() == 1

    def test_any_bit_of_several_rings_wakes(
        self, form, ring_writer, rings, sleeps
    ) -> None:
        waiter = InThread(wait, [rings[3], rings[5]], 20).asleep(rings[3])
        close(stream(ring_writer, 4), 0)
        waiter.asleep(rings[3])
        assert True not in sleeps
        close(stream(ring_writer, 5), 0)
        assert waiter.result() == [rings[5]]
        assert sleeps[-1]  # it was woken before the recheck

    def test_one_call_wakes_all_readers_of_a_batch(
        self, form, ring_writer, rings, monkeypatch
    ) -> None:
        """64 readers wait for a batch of 34 streams: one system call wakes them."""
        woken: list[int] = []

        def wake(*arguments: object) -> int:
            woken.append(form.wake(*arguments))
            return woken[-1]

        monkeypatch.setattr(wakeup, "futex_wake", wake)
        ring_writer._eventcount = wakeup.Eventcount(ring_writer._words)
        waiters = [
            InThread(rings[number % 34].wait, 0, 30).asleep(rings[0])
            for number in range(64)
        ]
        before = ring_writer._words.ints[H_WAKE]
        for number in range(34):
            close(stream(ring_writer, number), 0, wake=False)
        ring_writer.wake(STREAMS)
        assert [waiter.result() for waiter in waiters] == [1] * 64
        assert max(waiter.seconds for waiter in waiters) < 20
        assert ring_writer._words.ints[H_WAKE] == before + 1
        if form.name == "ctypes":  # where the result of the call is seen
            # Some may be between two sleeps.
            assert len(woken) == 1
            assert 50 <= woken[0] <= 64


def raise_epoch(writer: FeedWriter, index: int) -> None:
    """Give a stream's slot the next epoch."""
    ints, geometry = writer._words.ints, writer.geometry
    at = geometry.entry_word(index) + E_WORD
    word = ints[at] + (1 << SLOT_BITS)
    ints[geometry.slot_word(word & SLOT_MASK) + S_EPOCH] = word >> SLOT_BITS
    ints[at] = word


def sleeps_of(call: Callable[[], object]) -> int:
    """Return how often this thread gave its CPU away to sleep, whatever the load."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    call()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before


@SLEEPLESS
def test_an_idle_wait_sleeps_through(
    form, beats, ring_writer, rings, monkeypatch
) -> None:
    """A wait of 1.5 s on one feed or on two wakes up a few times; the control polls."""
    with create(ring_writer.name + "2", 5, None, 2, streams=STREAMS[:1]) as other:
        with attach(other.name) as second:
            both = [rings[0], second.ring(*STREAMS[0])]
            one = sleeps_of(lambda: rings[0].wait(0, 1.5))
            two = sleeps_of(lambda: wait(both, 1.5))
            notify_by(chosen("poll", monkeypatch), monkeypatch)
            polled = sleeps_of(lambda: rings[0].wait(0, 1.5))
    print(f"sleeps in 1.5 s: {one} {two}, polling {polled}")
    assert max(one, two) <= 12
    assert polled > 100


SIGNALLED = """
import sys, time
import shmfeed
first, second = (shmfeed.attach(name).ring("S0", "1h") for name in sys.argv[1:3])
print("ready", flush=True)
try:
    {wait}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(
    "call",
    [
        "first.wait(0)",
        "first.wait(0, 60)",
        "shmfeed.wait([first, second])",
        "shmfeed.wait([first])",
        "shmfeed.wait([], 60)",
    ],
)
@pytest.mark.parametrize("pure", ["", "1"])
def test_ctrl_c_ends_the_wait(
    beats, ring_writer, child: Child, call: str, pure: str
) -> None:
    with create(ring_writer.name + "2", 5, None, 2, streams=STREAMS[:1]) as other:
        code = SIGNALLED.format(wait=call)
        environ = os.environ | {"SHMFEED_PURE": pure}
        process = child(code, ring_writer.name, other.name, env=environ)
        assert process.stdout.readline() == "ready\n"
        until(lambda: is_sleeping(process.pid), what="it sleeps")
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert time.monotonic() - start < 0.45
        assert process.wait(10) == 0


def hold(name: str, board: memoryview) -> None:
    with create(name, 5, None, 40, streams=STREAMS) as ring_writer:
        board[0] = 1
        while True:
            ring_writer.beat()
            time.sleep(0.1)


@SLEEPLESS
def test_a_killed_feeder_ends_every_wait_without_a_deadline(form, feed_name) -> None:
    board = forks.board()
    with forks.Fork(hold, feed_name, board) as holder:
        forks.wait_until(lambda: board[0], 10, "the feed is there")
        with attach(feed_name) as feed:
            rings = [feed.ring(*key) for key in STREAMS[:2]]
            waiters = [
                InThread(rings[0].wait, 0).asleep(rings[0]),
                InThread(wait, rings).asleep(rings[0]),
            ]
            bounded = InThread(rings[0].wait, 0, 4.5).asleep(rings[0])
            start = time.monotonic()
            holder.kill()
            assert [waiter.result() for waiter in waiters] == [None, []]
            assert 1.8 < time.monotonic() - start < 3
            assert not bounded.is_done
            assert bounded.result() is None
    create(feed_name, 5, None, 40).close(unlink=True)


def test_a_wait_set_reports_another_segment_once(ring_writer, feed, rings) -> None:
    wait_set = WaitSet([(rings[0], 0)], None)
    assert not wait_set.has_moved()
    assert not wait_set.reattach()
    ring_writer.close(unlink=True)
    with create(ring_writer.name, 5, None, 40, streams=STREAMS):
        assert wait_set.has_moved()
        assert wait_set.has_moved()
        assert wait_set.reattach()
        assert not wait_set.has_moved()
        assert not wait_set.reattach()


def test_the_length_of_a_sleep(ring_writer, rings) -> None:
    assert WaitSet([(rings[0], 0)], None).sleep_ns() == RECHECK_NS
    assert WaitSet([(rings[0], 0)], 9).sleep_ns() == RECHECK_NS
    assert 0 < WaitSet([(rings[0], 0)], 0.01).sleep_ns() <= 10_000_000
    assert WaitSet([(rings[0], 0)], 0).sleep_ns() == 0
    ring_writer._words.ints[H_ALIVE] = ring_writer._words.ints[H_TICK] = 1
    assert WaitSet([(rings[0], 0)], None).sleep_ns() == 0
    assert WaitSet([(rings[0], 0)], 9).sleep_ns() == waiting.RECHECK_DEAD_NS


class TestSuspend:
    """An hour of CLOCK_BOOTTIME passes, in which no process runs."""

    @pytest.fixture
    def suspended(self, ring_writer, rings, monkeypatch):
        """Return a waiter without a deadline, and the clock after the suspend."""
        waiter = InThread(rings[0].wait, 0).asleep(rings[0])
        before = waiting.boot_ns
        monkeypatch.setattr(waiting, "boot_ns", lambda: before() + 3600 * 10**9)
        return waiter

    def beat(self, ring_writer) -> None:
        end = time.monotonic() + 0.4
        until(lambda: time.monotonic() > end)
        ring_writer._words.ints[H_ALIVE] = waiting.boot_ns()

    def test_a_feeder_that_beats_again_did_not_die(self, ring_writer, suspended):
        self.beat(ring_writer)
        end = time.monotonic() + 2 * waiting.CONFIRM_SECONDS
        until(lambda: time.monotonic() > end)
        close(stream(ring_writer), 0)
        assert suspended.result() == 1

    def test_one_that_does_not_is_dead(self, suspended):
        assert suspended.result() is None
        assert suspended.seconds > waiting.CONFIRM_SECONDS

    def test_control_without_the_time_it_seems_dead(
        self, ring_writer, rings, monkeypatch
    ):
        monkeypatch.setattr(waiting, "SUSPEND_NS", 1 << 62)
        waiter = InThread(rings[0].wait, 0).asleep(rings[0])
        before = waiting.boot_ns
        monkeypatch.setattr(waiting, "boot_ns", lambda: before() + 3600 * 10**9)
        assert waiter.result() is None
        assert waiter.seconds < waiting.CONFIRM_SECONDS


class TestOneSleep:
    """WaitSet.sleep_once: the index of the one ring that has passed its number."""

    @pytest.mark.parametrize(
        ("closed", "expected"), [([], -1), ([2], 2), ([0], 0), ([1, 33], -1)]
    )
    @pytest.mark.parametrize("sleep", ["chosen", "pure"])
    def test_which_ring_has(
        self, ring_writer, rings, monkeypatch, sleep, closed, expected
    ) -> None:
        if sleep == "pure":
            monkeypatch.setattr(waiting, "sleep_past_any", wakeup.sleep_past_any)
        wait_set = WaitSet([(ring, 0) for ring in rings], 0, epochs=True)
        for number in closed:
            close(stream(ring_writer, number), 0)
        assert wait_set.sleep_once() == expected
        assert wait_set.ready() == [rings[number] for number in closed]

    @pytest.mark.parametrize("sleep", ["chosen", "pure"])
    def test_a_bar_ends_the_sleep(self, ring_writer, rings, monkeypatch, sleep) -> None:
        if sleep == "pure":
            monkeypatch.setattr(waiting, "sleep_past_any", wakeup.sleep_past_any)
        for name in ("RECHECK_NS", "RECHECK_DEAD_NS"):
            monkeypatch.setattr(waiting, name, 20 * 10**9)
        wait_set = WaitSet([(ring, 0) for ring in rings], 20, epochs=True)
        waiter = InThread(wait_set.sleep_once).asleep(rings[0])
        close(stream(ring_writer, 33), 0)
        assert waiter.result() == 33

    def test_another_epoch_ends_it_at_once(self, ring_writer, rings) -> None:
        ring = stream(ring_writer)
        close(ring, 0, 1)
        rows = rings[0].snapshot(2).block
        wait_set = WaitSet([(rings[0], 2)], 20, epochs=True)
        ring_writer.replace_rows(*STREAMS[0], rows)
        assert wait_set.sleep_once() == -1
        assert wait_set.ready() == [rings[0]]
        wait_set.renew([2], [rings[0].epoch], 0)
        assert wait_set.ready() == []

    def test_the_compiled_sleep_refuses_what_it_is_not_made_for(self, rings) -> None:
        sleep: Any = core.sleep_past_any
        if core.build != "C":
            pytest.skip("pure Python trusts its callers")
        readers = [ring._current_reader() for ring in rings[:2]]
        for arguments in (
            (),
            ([], [], 0),
            (readers, [0], 0),
            (tuple(readers), [0, 0], 0),
            ([readers[0], None], [0, 0], 0),
            (readers, [0, "1"], 0),
            (readers, [0, 0], None),
        ):
            with pytest.raises(TypeError):
                sleep(*arguments)
