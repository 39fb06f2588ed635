"""Waits that spin: the same results, and each way in which a look ends."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import Child
from support import forks
from support.sleeping import STREAMS, InThread, close, stream
from support.waiting import until

from shmfeed import spinning, waiting
from shmfeed.errors import BadArgumentError
from shmfeed.feed import Ring, attach, wait
from shmfeed.layout import DEAD_NS
from shmfeed.memory.words import boot_ns
from shmfeed.spinning import Arrivals
from shmfeed.writer import create

pytest_plugins = ["support.waiting_rings"]

HOUR_NS = 3600 * 10**9
DEAD = DEAD_NS / 1e9


def expect(ring: Ring, seconds: float) -> None:
    """Let the ring's next bar be expected in so many seconds."""
    ring._arrivals = Arrivals(ring.timeframe)
    ring._arrivals.note(boot_ns() + int(seconds * 1e9) - HOUR_NS)


def wait_for_one(ring: Ring, after: int, **options: float | None) -> object:
    return ring.wait(after, **options)


def wait_for_many(ring: Ring, after: int, **options: float | None) -> object:
    return wait([(ring, after)], **options)


EITHER = pytest.mark.parametrize("call", [wait_for_one, wait_for_many])


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record how long each look was to last at most, in ns."""
    asked: list[int] = []

    def watched(original: Callable[..., object]) -> Callable[..., object]:
        def look(*arguments: int) -> object:
            asked.append(arguments[-1])
            return original(*arguments)

        return look

    for name in ("spin_past", "futex_spin"):
        monkeypatch.setattr(waiting, name, watched(getattr(waiting, name)))
    return asked


@pytest.mark.usefixtures("form")
@EITHER
class TestResults:
    def test_a_bar_in_the_window_ends_the_look(
        self, ring_writer, rings, looks, call
    ) -> None:
        expect(rings[0], 0.2)
        waiter = InThread(call, rings[0], 0, timeout=20, spin=1)
        until(lambda: looks, what="it looks")
        close(stream(ring_writer), 0)
        assert waiter.result() in (1, [rings[0]])
        assert waiter.seconds < 10

    @pytest.mark.parametrize(
        "expected", [-600, 0.6, 600], ids=["late", "early", "never"]
    )
    def test_a_bar_outside_the_window_ends_the_sleep(
        self, ring_writer, rings, looks, call, expected
    ) -> None:
        expect(rings[0], expected)
        waiter = InThread(call, rings[0], 0, timeout=20, spin=0.001).asleep(rings[0])
        close(stream(ring_writer), 0)
        assert waiter.result() in (1, [rings[0]])
        assert looks == []

    @pytest.mark.parametrize("timeout", [0, 1e-12, 0.03, 0.3])
    def test_the_deadline_ends_a_look(self, rings, call, timeout) -> None:
        expect(rings[0], 0.1)
        start = time.monotonic()
        assert not call(rings[0], 0, timeout=timeout, spin=1)
        assert timeout <= time.monotonic() - start < timeout + 0.3

    def test_a_look_that_sees_no_bar_is_followed_by_sleep(
        self, ring_writer, rings, looks, call
    ) -> None:
        expect(rings[0], 0.1)
        ends = time.monotonic() + 0.15
        waiter = InThread(call, rings[0], 0, timeout=20, spin=0.1)
        until(lambda: looks and time.monotonic() > ends, what="it has looked")
        waiter.asleep(rings[0])
        close(stream(ring_writer), 0)
        assert waiter.result() in (1, [rings[0]])

    def test_the_first_bar_teaches(self, ring_writer, rings, looks, call) -> None:
        waiter = InThread(call, rings[0], 0, timeout=20, spin=0.002).asleep(rings[0])
        close(stream(ring_writer), 0)
        waiter.result()
        assert looks == []
        window = rings[0]._arrivals.window(boot_ns(), 2_000_000)
        assert abs(window.start + 1_000_000 - HOUR_NS - boot_ns()) < 5e9

    def test_a_bar_between_two_looks_teaches_too(
        self, ring_writer, rings, monkeypatch, call
    ) -> None:
        """A bar that comes while the waiter plans, and one that was there before."""
        plan = spinning.Spinner.plan

        def plan_late(spinner: spinning.Spinner, rest_ns: int) -> tuple[bool, int]:
            planned = plan(spinner, rest_ns)
            close(stream(ring_writer), 0)
            return planned

        monkeypatch.setattr(spinning.Spinner, "plan", plan_late)
        assert call(rings[0], 0, timeout=20, spin=0.002) in (1, [rings[0]])
        assert rings[0]._arrivals.newest
        rings[0]._arrivals = Arrivals(rings[0].timeframe)
        assert call(rings[0], 0, timeout=20, spin=0.002) in (1, [rings[0]])
        assert not rings[0]._arrivals.newest

    def test_a_closed_writer_ends_a_look(self, ring_writer, rings, looks, call) -> None:
        expect(rings[0], 0.3)
        waiter = InThread(call, rings[0], 0, timeout=None, spin=1)
        until(lambda: looks, what="it looks")
        ring_writer.close()
        assert waiter.result() in (None, [])
        assert waiter.seconds < 1

    def test_a_recreation_ends_a_look(self, ring_writer, rings, looks, call) -> None:
        expect(rings[0], 0.3)
        waiter = InThread(call, rings[0], 0, timeout=20, spin=1)
        until(lambda: looks, what="it looks")
        ring_writer.close()
        with create(ring_writer.name, 7, None, 40, streams=STREAMS) as second:
            close(stream(second), 0)
            assert waiter.result() in (0, 1, [rings[0]])

    def test_without_spin_it_never_looks(self, rings, looks, call) -> None:
        expect(rings[0], 0.02)
        assert not call(rings[0], 0, timeout=0.1)
        assert not call(rings[0], 0, timeout=0.05, spin=0)
        assert looks == []

    @pytest.mark.parametrize("spin", [-0.1, 1.1, "1", None, float("nan")])
    def test_a_bad_spin_is_refused(self, rings, call, spin) -> None:
        with pytest.raises(BadArgumentError, match="spin is"):
            call(rings[0], 0, timeout=1, spin=spin)


class TestManyRings:
    def test_the_ring_that_is_expected_first_is_looked_for(
        self, ring_writer, rings, looks
    ) -> None:
        for number, ring in enumerate(rings[:5]):
            expect(ring, 0.4 * (5 - number))
        waiter = InThread(wait, rings[:5], 20, spin=0.3)
        until(lambda: looks, what="it looks")
        close(stream(ring_writer, 1), 0)
        assert waiter.result() == [rings[1]]
        assert waiter.seconds < 1.5

    def test_rings_of_two_feeds(self, ring_writer, rings, looks) -> None:
        with create(ring_writer.name + "2", 5, None, 2, streams=STREAMS[:1]) as other:
            with attach(other.name) as second:
                both = [rings[0], second.ring(*STREAMS[0])]
                expect(both[0], 0.3)
                waiter = InThread(wait, both, 20, spin=1)
                until(lambda: looks, what="it looks")
                close(stream(other), 0)
                assert waiter.result() == [both[1]]

    def test_without_rings(self) -> None:
        assert wait([], 0.02, spin=0.01) == []


def waited() -> float:
    """Return the seconds for which this thread was ready to run and had no CPU."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def cpu(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of CPU that this thread spends, and those it waits for one."""
    before = time.thread_time(), waited()
    call()
    return time.thread_time() - before[0], waited() - before[1]


def test_a_look_costs_a_core_for_as_long_as_it_may_and_no_longer(rings) -> None:
    """The control, a long spin, shows that the measure sees it."""
    spent = []
    for spin in (0.003, 0.2):
        expect(rings[0], 0.3)
        spent.append(cpu(partial(rings[0].wait, 0, 0.7, spin=spin)))
    print(f"CPU of a wait of 0.7 s: {spent}")
    (least, _), (most, delayed) = spent
    assert least < 0.02
    assert most + delayed > 0.05  # other programs may have had its core


INTERRUPTED = """
import sys, time
import shmfeed
from shmfeed.memory.words import boot_ns
from shmfeed.spinning import Arrivals
ring = shmfeed.attach(sys.argv[1]).ring("S0", "1h")
ring._arrivals = Arrivals("1h")
ring._arrivals.note(boot_ns() + 600_000_000 - 3600 * 10**9)
print("ready", flush=True)
try:
    {wait}
except KeyboardInterrupt:
    print("interrupted", time.process_time(), flush=True)
"""


def cpu_of(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    "call", ["ring.wait(0, 60, spin=1)", "shmfeed.wait([ring], 60, spin=1)"]
)
@pytest.mark.parametrize("pure", ["", "1"])
def test_ctrl_c_ends_a_look(
    beats, ring_writer, child: Child, call: str, pure: str
) -> None:
    environ = os.environ | {"SHMFEED_PURE": pure}
    process = child(INTERRUPTED.format(wait=call), ring_writer.name, env=environ)
    assert process.stdout.readline() == "ready\n"
    before = cpu_of(process.pid)
    until(lambda: cpu_of(process.pid) > before + 0.1, what="it looks")
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline().startswith("interrupted")
    assert time.monotonic() - start < 0.4
    assert process.wait(10) == 0


def hold(name: str, board: memoryview) -> None:
    with create(name, 5, None, 40, streams=STREAMS) as ring_writer:
        board[0] = 1
        while True:
            ring_writer.beat()
            time.sleep(0.1)


def seconds_past_a_kill(name: str, call: Callable[..., object]) -> tuple[float, float]:
    """Return how long a wait lasts that expects a bar as its killed feeder dies.

    The second number is the share of it for which the thread was put off the CPU.
    """
    board = forks.board()
    with forks.Fork(hold, name, board) as holder:
        forks.wait_until(lambda: board[0], 10, "the feed is there")
        with attach(name) as feed:
            ring = feed.ring(*STREAMS[0])
            holder.kill()
            start, delayed = time.monotonic(), waited()
            expect(ring, DEAD + 0.3)
            assert not call(ring, 0, timeout=None, spin=1)
            took, delayed = time.monotonic() - start, waited() - delayed
    create(name, 5, None, 40).close(unlink=True)
    return took, delayed


@EITHER
def test_a_look_ends_when_the_killed_feeder_counts_as_dead(
    feed_name, looks, call
) -> None:
    took, delayed = seconds_past_a_kill(feed_name, call)
    assert looks
    assert DEAD - 0.3 < took < DEAD + 0.2 + delayed


def test_without_the_check_a_look_outlasts_its_feeder(feed_name, monkeypatch) -> None:
    """The control: one look until the next recheck."""
    monkeypatch.setattr(spinning, "SLICE_NS", 10**9)
    took, _ = seconds_past_a_kill(feed_name, wait_for_one)
    assert took > DEAD + 0.2


def test_threads_run_while_another_looks(rings) -> None:
    """In C without the GIL; in pure Python between two looks."""
    expect(rings[0], 0.3)
    waiter = InThread(rings[0].wait, 0, 0.7, spin=1)
    turns = 0
    while not waiter.is_done:
        turns += 1
        time.sleep(0)
    assert turns > 100
