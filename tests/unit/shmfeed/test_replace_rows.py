"""`FeedWriter.replace_rows`: a repair of a feed that readers have attached to."""

import numpy as np
import pytest
from support import payload

import shmfeed
from shmfeed.errors import BadArgumentError, FeedLostError
from shmfeed.feed import attach
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


def test_slices_of_all_streams_stay_while_each_is_repaired_once(feed_name):
    """A reader has no time for a verb between two of the repairs."""
    names = [f"S{number:02}USDT" for number in range(24)]
    with create(feed_name, HISTORY, GUARD, len(names)) as writer:
        for name in names:
            payload.append(writer.add_stream(name, payload.TIMEFRAME), 1)
        with attach(feed_name) as feed:
            held = [feed.ring(name, payload.TIMEFRAME).view(1) for name in names]
            before = [rows.copy().block.tobytes() for rows in held]
            for name in names:
                writer.replace_rows(name, payload.TIMEFRAME, payload.block([1], 100))
            assert all(rows.valid for rows in held)
            assert [rows.copy().block.tobytes() for rows in held] == before
            for name in names:  # at once again: no slot has rested
                writer.replace_rows(name, payload.TIMEFRAME, payload.block([1], 200))
            assert not any(rows.valid for rows in held)
            assert writer.unrested_slots == len(names)
        writer.close(unlink=True)
