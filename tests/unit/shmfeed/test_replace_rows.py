"""`FeedWriter.replace_rows`: a repair of a feed that readers have attached to."""

from types import SimpleNamespace

import numpy as np
import pytest
from support import payload

import shmfeed
from shmfeed.errors import BadArgumentError, FeedLostError
from shmfeed.feed import attach
from shmfeed.memory import slots
from shmfeed.writer import create

HISTORY, GUARD = 8, 4
STREAM = payload.SYMBOL, payload.TIMEFRAME


@pytest.fixture
def writer(feed_name):
    with create(feed_name, HISTORY, GUARD, 2) as made:
        yield made
        made.close(unlink=True)


def fill(writer, *numbers):
    ring = writer.add_stream(*STREAM)
    for number in numbers:
        payload.append(ring, number)
    return ring


def numbered(feed_rows) -> list[int]:
    return (feed_rows.open_time // payload.STEP).tolist()


def test_attached_readers_go_on_with_the_new_rows(writer):
    written = fill(writer, 1, 2, 3, 5, 6)
    payload.update_forming(written, 7, 1)
    with attach(writer.name) as feed:
        ring = feed.ring(*STREAM)
        epoch, old = ring.epoch, ring.view(HISTORY)
        before = old.copy().block
        rows = np.insert(before, 3, before[:, 2], axis=1)
        rows.view(np.int64)[:2, 3] += payload.STEP
        assert writer.replace_rows(*STREAM, rows) == ring.count == 6
        assert ring.epoch > epoch
        assert numbered(ring.view(HISTORY)) == [1, 2, 3, 4, 5, 6]
        assert ring.snapshot(3, include_now=True).block[0].size == 3
        assert ring.forming().flags == 7 * payload.REVISIONS + 1
        assert old.valid
        assert old.copy().block.tobytes() == before.tobytes()
        payload.append(written, 7)
        assert ring.forming() is None
        assert numbered(ring.view(2)) == [6, 7]


def test_a_waiting_reader_counts_what_was_inserted(writer):
    fill(writer, 1, 3)
    with attach(writer.name) as feed:
        ring = feed.ring(*STREAM)
        seen = ring.count
        rows = ring.snapshot(2).block
        rows = np.insert(rows, 1, rows[:, 0], axis=1)
        rows.view(np.int64)[:2, 1] += payload.STEP
        writer.replace_rows(*STREAM, rows)
        assert ring.wait(seen, timeout=5) == seen + 1


def test_a_repair_is_no_sign_of_life(writer):
    ring = fill(writer, 1, 2)
    updated = ring.reader.updated
    writer.replace_rows(*STREAM, ring.reader.snapshot(2).block)
    assert ring.reader.updated == updated


def test_the_next_feeder_goes_on_from_the_new_rows(writer, feed_name):
    fill(writer, 1, 2, 3)
    rows = writer.add_stream(*STREAM).reader.snapshot(3).block
    rows[2:8, 1] = 9.0
    writer.replace_rows(*STREAM, rows)
    writer.close()
    with create(feed_name, HISTORY, GUARD, 2) as successor:
        ring = fill(successor, 4)
        assert ring.reader.count == 4
        assert ring.reader.view(HISTORY)["close"].tolist() == [4.0, 9.0, 12.0, 16.0]
        assert successor.replace_rows(*STREAM, ring.reader.snapshot(4).block) == 4


def test_a_stream_without_a_writer_is_refused(writer):
    fill(writer, 1)
    rows = writer.add_stream(*STREAM).reader.snapshot(1).block
    with pytest.raises(BadArgumentError, match="no stream ETHUSDT 1m to repair; there"):
        writer.replace_rows("ETHUSDT", "1m", rows)


def test_a_closed_writer_replaces_nothing(writer):
    fill(writer, 1)
    rows = writer.add_stream(*STREAM).reader.snapshot(1).block
    with attach(writer.name) as feed:
        epoch = feed.ring(*STREAM).epoch
        writer.close()
        with pytest.raises(FeedLostError, match="closed"):
            writer.replace_rows(*STREAM, rows)
        assert feed.ring(*STREAM).epoch == epoch


def test_other_streams_are_left_alone(writer):
    fill(writer, 1, 2)
    other = writer.add_stream("ETHUSDT", "1m")
    payload.append(other, 1)
    with attach(writer.name) as feed:
        ring = feed.ring("ETHUSDT", "1m")
        held, epoch = ring.view(1), ring.epoch
        rows = feed.ring(*STREAM).snapshot(2).block
        for _ in range(3 * writer.geometry.slots):
            writer.replace_rows(*STREAM, rows)
        assert held.valid
        assert ring.epoch == epoch
        assert payload.bad_rows(held) == 0


def test_a_slice_outlives_its_slot_in_a_process_that_reads_on(writer):
    fill(writer, *range(1, 9))
    with attach(writer.name) as feed:
        ring = feed.ring(*STREAM)
        held = ring.view(HISTORY)
        array, before = held.values, held.values.copy()
        for turn in range(3 * writer.geometry.slots):
            rows = payload.block(range(1, 9), mark=1000 * (turn + 1))
            writer.replace_rows(*STREAM, rows)
            assert ring.latest("flags") == 1000 * (turn + 1) + 8
        assert held.valid
        assert (array == before).all()


def test_a_cut_sees_the_new_rows(writer):
    fill(writer, 1, 2, 3)
    other = writer.add_stream("ETHUSDT", "1m")
    for number in (1, 2, 3):
        payload.append(other, number)
    with attach(writer.name) as feed:
        rings = [feed.ring(*STREAM), feed.ring("ETHUSDT", "1m")]
        assert shmfeed.cut(rings, 3).values[0].tolist() == [[1, 2, 3], [1, 2, 3]]
        writer.replace_rows(*STREAM, payload.block((1, 3), mark=100))
        cut = shmfeed.cut(rings, 3)
        assert cut.values[0].tolist() == [[101, 103], [1, 3]]


SECOND, HOUR = 10**9, 3600 * 10**9
NAMES = [f"S{number:02}USDT" for number in range(24)]


class Repairs:
    """Repairs of all streams of a feed, and a reader that reads at its own times."""

    def __init__(self, writer, feed, clock):
        self.writer, self.clock, self.mark = writer, clock, 0
        self.rings = [feed.ring(name, payload.TIMEFRAME) for name in NAMES]
        self.frames = []

    def read(self):
        for ring in self.rings:
            rows = ring.view(1)
            self.frames.append((rows, rows.values.copy()))

    def repair(self):
        self.mark += 100
        for name in NAMES:
            rows = payload.block([1], self.mark)
            self.writer.replace_rows(name, payload.TIMEFRAME, rows)
        self.clock.now += 10 * SECOND

    def lost(self):
        """Return how many frames are not valid; check that the others are as read."""
        lost = 0
        for rows, values in self.frames:
            lost += not rows.valid
            assert not rows.valid or (rows.values == values).all()
        return lost


@pytest.fixture
def repairs(feed_name, monkeypatch):
    clock = SimpleNamespace(now=SECOND)
    monkeypatch.setattr(slots, "boot_ns", lambda: clock.now)
    with create(feed_name, HISTORY, GUARD, len(NAMES)) as writer:
        for name in NAMES:
            payload.append(writer.add_stream(name, payload.TIMEFRAME), 1)
        clock.now += HOUR
        with attach(feed_name) as feed:
            yield Repairs(writer, feed, clock)
        writer.close(unlink=True)


def test_slices_of_all_streams_stay_while_each_is_repaired_once(repairs):
    """A reader has no time for a verb between two of the repairs."""
    repairs.read()
    repairs.repair()
    assert repairs.lost() == 0
    assert repairs.writer.unrested_slots == 0


def test_a_reader_that_reads_between_repairs_loses_none(repairs):
    for _ in range(4):
        repairs.read()
        repairs.repair()
    repairs.read()
    assert repairs.lost() == 0


def test_without_a_read_between_two_repairs_each_frame_says_that_it_is_lost(repairs):
    repairs.read()
    repairs.repair()
    assert repairs.lost() == 0
    repairs.repair()  # no slot has rested
    assert repairs.writer.unrested_slots == len(NAMES)
    assert repairs.lost() == len(NAMES)
    repairs.read()  # sets them aside, as they are
    assert repairs.lost() == len(NAMES)
    assert [ring.lapped for ring in repairs.rings] == [1] * len(NAMES)
    assert [ring.latest("flags") for ring in repairs.rings] == [201] * len(NAMES)


def test_after_its_rest_a_slot_is_used_again_without_a_loss(repairs):
    repairs.read()
    repairs.repair()
    repairs.read()
    repairs.clock.now += GUARD * 60 * SECOND
    repairs.repair()
    assert repairs.writer.unrested_slots == 0
    assert repairs.lost() == 0


def test_control_frames_change_where_their_slots_are_used_again(repairs):
    repairs.read()
    repairs.repair()
    repairs.repair()
    changed = [(rows.values != values).any() for rows, values in repairs.frames]
    assert all(changed)
