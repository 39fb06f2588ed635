"""The forming bar beside a writer that never pauses, or updates it each millisecond.

Permitted: a bar that was written, and BusyRingError after 10 ms of retries.
"""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from racing import READY, SHARE, STOP, Track
from support import cores, forks, payload
from support.compiling import NEEDS_BUILD, mutant_core

from shmfeed.errors import BusyRingError
from shmfeed.memory.words import READ_LIMIT_NS, Latch, RetryBudget

READS = int(1_000_000 * forks.SCALE)  # of the core in use; a tenth of other pairs
BATCH = 1000  # checked together
MILLISECOND = 1_000_000  # ns


def write_at_full_speed(track: Track, ring) -> None:
    """Write updates that were prepared before."""
    bars = [
        payload.forming_values(1 + update // 100, update % 100)
        for update in range(BATCH)
    ]
    update = ring.update_forming
    while not track.board[STOP]:
        for values in bars:
            update(*values)
        track.board[READY] = 1


def write_at_1_khz(track: Track, ring) -> None:
    due, update = time.monotonic_ns(), 0
    while not track.board[STOP]:
        payload.update_forming(ring, 1 + update // 100, update % 100)
        update += 1
        due += MILLISECOND
        time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        track.board[READY] = update > 1


@pytest.fixture
def retried(monkeypatch) -> Callable[[], int]:
    """Return the number of latch reads that needed more than one try."""
    tally: Counter = Counter()
    make = RetryBudget.__init__

    def counted(self, what, *look) -> None:
        tally[what] += 1
        make(self, what, *look)

    monkeypatch.setattr(RetryBudget, "__init__", counted)
    return lambda: tally["forming cells"]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Disable the garbage collector: a collection inside a read takes up to 30 ms."""
    gc.disable()
    yield
    gc.enable()


def read_forming(ring, wanted: int) -> Counter:
    """Read until enough bars were accepted; time each read by the thread's clock."""
    tally: Counter = Counter()
    longest, clock = 0, time.thread_time_ns
    while tally["accepted"] < wanted:
        bars = []
        while len(bars) < BATCH:
            begun = clock()
            try:
                bar = ring.forming_cell()
            except BusyRingError:
                tally["busy"] += 1
            else:
                bars.append(bar)
            taken = clock() - begun
            if taken > longest:
                longest = taken
        tally["accepted"] += len(bars)
        tally["torn"] += payload.bad_forming_bars(bars)
        tally["different"] += len(set(bars))
    tally["longest us"] = longest // 1000
    return tally


@pytest.mark.parametrize(("writes", "reads"), cores.PAIRS, ids=str)
@pytest.mark.parametrize("write", [write_at_full_speed, write_at_1_khz])
@pytest.mark.timeout(600)
def test_no_torn_bar_is_accepted(uncollected, retried, write, writes, reads):
    track = Track(10, 4)
    wanted = READS if writes is reads is cores.SERVING else int(1_000_000 * SHARE)
    with track.race(writes, write):
        tally = read_forming(track.reader(reads), wanted)
    tally["retried"] = retried()
    print(dict(tally))
    assert tally["torn"] == 0
    assert tally["different"] > 10
    assert tally["longest us"] * 1000 < READ_LIMIT_NS + MILLISECOND
    if write is write_at_1_khz:
        # A pure read takes longer and meets an update more often.
        assert tally["retried"] <= wanted / (1000 if reads.name == "C" else 500)
        assert not tally["busy"]


def read_once(latch: Latch) -> bytes:
    """Read without F3 and F4."""
    start = latch._first + (latch._words.ints[latch._counter] & 1) * latch._bytes
    return bytes(latch._words.raw[start : start + latch._bytes])


@pytest.fixture(params=["pure", pytest.param("C", marks=NEEDS_BUILD)])
def unchecked(request, monkeypatch, tmp_path) -> cores.Core:
    """Return a core whose readers accept each copy."""
    if request.param == "C":
        return mutant_core("F3 and F4", tmp_path)
    monkeypatch.setattr(Latch, "read", read_once)
    return cores.PURE


def test_without_the_reload_bars_are_torn(uncollected, unchecked):
    """The control: the same race at full speed."""
    track = Track(10, 4)
    tally: Counter = Counter()
    deadline = time.monotonic() + 60
    fastest = cores.EACH[-1]
    with track.race(fastest, write_at_full_speed):
        ring = track.reader(unchecked)
        while not tally["torn"] and time.monotonic() < deadline:
            bars = [ring.forming_cell() for _ in range(BATCH)]
            tally["reads"] += BATCH
            tally["torn"] += payload.bad_forming_bars(bars)
    print(dict(tally))
    assert tally["torn"] > 0
