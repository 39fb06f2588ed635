"""A feeder of a newer layout takes a feed over while processes read it.

The feeder before writes a segment of layout 1 and is killed. Each field of a bar
follows from its number, so a reader knows a wrong row, a lost one and a doubled one.
"""

import random
import signal
from pathlib import Path

import numpy as np
import pytest
from support import payload
from support.feeding import MINUTE, STREAM, T0, managing
from support.forks import Fork, board, wait_until
from support.layouts import old_feed
from support.waiting import until

import shmfeed
from shmfeed.errors import FeedNotFoundError, SegmentFormatError
from shmfeed.layout import VERSION
from shmfeed.segment import recovery
from shmfeed.segment.mapping import open_segment, place
from shmfeed.simulator import Venue

ROUNDS = 8
HISTORY, GUARD, STREAMS = 100, 40, 4
KEY = (payload.SYMBOL, payload.TIMEFRAME)
WRITTEN, READS, ROWS, WRONG, BACK, LAST, SUCCESSOR, EPOCHS = range(8)


def write_old(name, shared):
    """Write a feed of layout 1, until this process is killed."""
    with old_feed(name, HISTORY, GUARD, STREAMS) as old:
        write(old.add(*KEY), shared, old.beat)


def write_new(name, shared):
    """Take the feed over and write on, until this process is killed."""
    with shmfeed.create(name, HISTORY, GUARD, STREAMS) as writer:
        ring = writer.add_stream(*KEY)
        # Bars that the killed feeder has appended, and not yet counted here.
        shared[WRITTEN] = max(shared[WRITTEN], ring.reader.count)
        shared[SUCCESSOR] += 1
        write(ring, shared, writer.beat)


def write(ring, shared, beat):
    while True:
        number = shared[WRITTEN] + 1
        payload.update_forming(ring, number, number % 7)
        payload.append(ring, number)
        shared[WRITTEN] = number
        beat()


def is_whole_row(rows):
    """Return for each row if it is one that was written, and follows the one before."""
    number = rows.open_time // payload.STEP
    good = rows["flags"] == number
    good &= (rows.floats == number * np.arange(1.0, 7.0)[:, None]).all(axis=0)
    good &= np.diff(number, prepend=number[:1] - 1) == 1
    return good


def read(name, shared):
    """Read the feed in every way, until this process is killed."""
    ring, epoch = shmfeed.attach(name, timeout=20).ring(*KEY), 0
    for turn in range(10**9):
        n = 1 + turn % HISTORY
        try:
            rows = ring.snapshot(n) if turn % 2 else copy_of_view(ring, n)
            forming = ring.forming()
        except (FeedNotFoundError, shmfeed.BusyRingError):
            continue
        except SegmentFormatError:  # rows that no feeder writes
            shared[WRONG] += 1
            continue
        good = is_whole_row(rows)
        shared[READS] += 1
        shared[ROWS] += len(rows)
        shared[WRONG] += len(rows) - int(good.sum())
        shared[WRONG] += forming is not None and not payload.is_whole_forming(forming)
        if len(rows):
            shared[BACK] += int(rows.open_time[-1]) < shared[LAST]
            shared[LAST] = int(rows.open_time[-1])
        before, epoch = epoch, ring.epoch
        shared[EPOCHS] += epoch != before


def copy_of_view(ring, n):
    """Return a copy of a view that no row was written over meanwhile."""
    while True:
        view = ring.view(n)
        rows = view.copy()
        if view.valid:
            return rows


def upgrade(name, shared, rng) -> None:
    """Read one feed from its old feeder to the third of the new ones; check it."""
    for word in range(len(shared)):
        shared[word] = 0
    with Fork(write_old, name, shared) as old:
        wait_until(lambda: shared[WRITTEN] > 2 * HISTORY, 20, "a lapped ring")
        assert open_segment(place(name)).geometry.version == 1
        with Fork(read, name, shared):
            wait_until(lambda: shared[READS] > 50, 20, "reads of the old layout")
            old.kill()
            follow(name, shared, rng)


def follow(name, shared, rng) -> None:
    for _ in range(2):  # these are killed on their way
        with Fork(write_new, name, shared) as new:
            _sleep(rng.uniform(0.0, 0.02))
            new.kill()
    first = shared[SUCCESSOR]
    with Fork(write_new, name, shared):
        wait_until(lambda: shared[SUCCESSOR] > first, 20, "the feed is taken over")
        written, reads = shared[WRITTEN], shared[READS]
        beyond = (written + 2 * HISTORY) * payload.STEP
        wait_until(lambda: shared[LAST] > beyond, 20, "its rows are read")
        wait_until(lambda: shared[EPOCHS] >= 2, 20, "the new segment's epoch")
        wait_until(lambda: shared[READS] > reads + 50, 20, "reads of the new layout")
    assert open_segment(place(name)).geometry.version == VERSION


def _sleep(seconds: float) -> None:
    signal.sigtimedwait([], seconds)


def test_readers_read_through_an_upgrade(feed_name, seed, record_property) -> None:
    rng, shared, totals = random.Random(seed), board(), np.zeros(8, np.int64)
    for turn in range(ROUNDS):
        name = f"{feed_name}{turn}"
        upgrade(name, shared, rng)
        found = np.array(shared[:8])
        totals += found
        assert found[WRONG] == found[BACK] == 0, (turn, found.tolist())
        place(name).segment.unlink()
    record_property("rows read", int(totals[ROWS]))
    print(f"{totals[ROWS]:,} rows in {totals[READS]:,} reads, {ROUNDS} upgrades")


def copy_wrongly(new, geometry, slot, base, block):
    spoilt = block.copy()
    spoilt[4, len(spoilt[4]) // 2] ^= 1
    fill_rows(new, geometry, slot, base, spoilt)


def copy_shifted(new, geometry, slot, base, block):
    values = np.roll(block[2:8], 1, axis=1)
    fill_rows(new, geometry, slot, base, np.vstack([block[:2], values, block[8:]]))


fill_rows = recovery.fill_rows


@pytest.mark.parametrize("mutant", [copy_wrongly, copy_shifted])
def test_a_wrong_copy_is_seen(feed_name, monkeypatch, mutant) -> None:
    """The control: the reader sees rows that the new feeder has copied wrongly."""
    shared = board()
    monkeypatch.setattr(recovery, "fill_rows", mutant)
    with Fork(write_old, feed_name, shared) as old:
        wait_until(lambda: shared[WRITTEN] > 2 * HISTORY, 20, "a lapped ring")
        with Fork(read, feed_name, shared):
            wait_until(lambda: shared[READS] > 50, 20, "reads of the old layout")
            old.kill()
            assert not shared[WRONG]
            with Fork(take_over, feed_name, shared):
                wait_until(lambda: shared[WRONG], 20, "wrong rows")


def take_over(name, shared):
    """Take the feed over and write nothing, so that the copied rows stay."""
    with shmfeed.create(name, HISTORY, GUARD, STREAMS) as writer:
        writer.add_stream(*KEY)
        while True:
            writer.beat()
            _sleep(0.01)


BARS = 60  # of the old feeder; the venue pushes the next ones

# A strategy, and what it has read: "<newest open time> <rows> <wrong> <ended frames>".
STRATEGY = """
import sys, warnings
import wealthdata
feed, start, minute = sys.argv[1], int(sys.argv[2]), 60_000
wealthdata.use(feed=feed)
held, rows, wrong, ended, told = [], 0, 0, 0, 0
while True:
    frame = wealthdata.get_price("BTCUSDT", count=40, frequency="1m", on_stale="ignore")
    numbers = (frame.index.as_unit("ms").asi8 - minute - start) // minute
    wrong += int((frame["close"].to_numpy() != 100.0 + numbers).sum())
    wrong += int((numbers[1:] - numbers[:-1] != 1).sum())
    rows += len(frame)
    held = [*held[-20:], (frame, frame.copy(deep=True))]
    for kept, copied in held:
        ended += not kept.attrs["shmfeed"].valid
        wrong += not kept.equals(copied)
    if numbers[-1] != told:
        told = int(numbers[-1])
        print(told, rows, wrong, ended, flush=True)
"""


def write_old_bars(name):
    with old_feed(name, HISTORY, GUARD, STREAMS) as old:
        ring = old.add(*STREAM)
        for number in range(BARS):
            ring.append(T0 + number * MINUTE, 100.0, 200.0, 50.0, 100.0 + number, 1.0)
            old.beat()
        Path(place(name).segment.with_suffix(".told")).touch()
        while True:
            old.beat()
            _sleep(0.1)


def test_a_strategy_reads_on_while_a_manager_upgrades_the_feed(
    feed_name, child
) -> None:
    """Real processes: a manager, its feeder, a strategy that keeps frames."""
    told = place(feed_name).segment.with_suffix(".told")
    with Fork(write_old_bars, feed_name) as old:
        until(told.exists)
        told.unlink()
        strategy = child(STRATEGY, feed_name, T0)

        def seen(newest):
            while True:
                found = [int(one) for one in strategy.stdout.readline().split()]
                assert found, strategy.communicate()[1]
                if found[0] >= newest:
                    return found

        assert seen(BARS - 1)[2:] == [0, 0]
        old.kill()
        with Venue(speed=None) as venue:
            with managing(feed_name, venue, history=HISTORY) as manager:
                manager.start(timeout=20)
                assert open_segment(place(feed_name)).geometry.version == VERSION
                for number in range(BARS, BARS + 5):
                    bar = 100.0, 200.0, 50.0, 100.0 + number
                    venue.push_bar(*STREAM, T0 + number * MINUTE, *bar, closed=True)
                    assert seen(number)[2:] == [0, 0]
