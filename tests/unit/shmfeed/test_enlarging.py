"""A segment that is made larger while its feed runs: everything is kept."""

import threading
from functools import partial

import numpy as np
import pytest
from support.waiting import until

import shmfeed
from shmfeed.errors import BadArgumentError, FeedLostError, SegmentFullError
from shmfeed.identity import parse_identity
from shmfeed.segment.mapping import place
from shmfeed.writer import create

MINUTE = 60_000
KEYS = [(f"S{number}", "1m") for number in range(4)]


@pytest.fixture
def writer(feed_name):
    identity = parse_identity("wealthai/binance-testnet/127.0.0.1")
    with create(feed_name, 100, 16, 4, identity=identity) as made:
        for number, key in enumerate(KEYS):
            fill(made.add_stream(*key), 50 * number)
        yield made
        made.close(unlink=True)


def fill(ring, count, first=0):
    for number in range(first, first + count):
        values = 100.0 + number, 200.0, 50.0, 120.0 + number, 5.0
        ring.append(number * MINUTE, *values)


def seen(feed_name):
    """Return all that readers see of each stream, and of the feed."""
    with shmfeed.attach(feed_name) as feed:
        found = {}
        for key in feed.streams():
            ring = feed.ring(*key)
            rows = ring.snapshot(100)
            columns = [rows[name].tolist() for name in ("open_time", "close", "flags")]
            found[key] = ring.count, columns, rows.first, str(ring.forming())
        status = feed.status()
    for row in [status, *status["streams"]]:
        for changing in "uptime", "age", "last_message_age", "next_attempt_in":
            row.pop(changing, None)
        if row["health"] == "waiting":  # since when, in words
            row.pop("why", None)
    return found, status


def test_all_that_readers_see_is_kept(writer, feed_name):
    writer.add_stream(*KEYS[1]).update_forming(51 * MINUTE, 1, 2, 0.5, 1.5, 3)
    writer.mark_stream(KEYS[2], gaps=3, recovering=False)
    writer.explain(KEYS[3], "refused", "the venue does not know it")
    writer.note({"endpoint": "ws://venue", "last_error": "none yet"})
    writer.set_text("wants", [])
    writer.count("malformed", 7)
    writer.mark_message()
    writer.set_clock_offset(-12.0)
    before, epoch = seen(feed_name), writer.epoch
    writer.enlarge(32)
    assert seen(feed_name) == before
    assert writer.epoch == epoch
    assert writer.geometry.max_streams == 32
    for number in range(4, 32):
        writer.add_stream(f"S{number}", "1m")
    with shmfeed.attach(feed_name) as feed:
        assert len(feed.streams()) == 32
    with pytest.raises(SegmentFullError):
        writer.add_stream("S32", "1m")


def test_bars_go_on_after_it(writer, feed_name):
    writer.enlarge(8)
    ring = writer.add_stream(*KEYS[3])
    fill(ring, 10, 150)
    with shmfeed.attach(feed_name) as feed:
        rows = feed.ring(*KEYS[3]).view(20)
        assert rows.open_time.tolist() == [n * MINUTE for n in range(140, 160)]
        assert rows.last == 160
    writer.replace_rows(*KEYS[3], ring.reader.snapshot(100).block)
    writer.beat()


def test_readers_follow_and_their_slices_stay(writer, feed_name):
    with shmfeed.attach(feed_name) as feed:
        ring = feed.ring(*KEYS[3])
        rows, count, epoch = ring.view(50), ring.count, ring.epoch
        values = rows["close"].copy()
        writer.enlarge(8)
        fill(writer.add_stream(*KEYS[3]), 200, 150)
        assert rows.valid
        assert np.array_equal(rows["close"], values)
        assert ring.count == count + 200
        assert ring.epoch > epoch
        assert ring.status().health == "live"


def test_a_waiting_reader_has_the_next_bar(writer, feed_name):
    with shmfeed.attach(feed_name) as feed:
        ring, ready, found = feed.ring(*KEYS[1]), threading.Event(), []

        def wait():
            ready.set()
            found.append(shmfeed.wait([ring], timeout=60))

        thread = threading.Thread(target=wait)
        thread.start()
        ready.wait(60)
        writer.enlarge(8)
        ring_of_writer, number = writer.add_stream(*KEYS[1]), 50
        while thread.is_alive():  # it may not have begun to wait yet
            fill(ring_of_writer, 1, number)
            number += 1
            thread.join(0.01)
        assert found == [[ring]]


def test_an_unsubscribed_stream_keeps_its_rows_and_its_turn(writer, feed_name):
    writer.unsubscribe(*KEYS[2])
    writer.unsubscribe(*KEYS[1])
    with shmfeed.attach(feed_name) as feed:
        ring = feed.ring(*KEYS[2])
        writer.enlarge(5)
        assert ring.count == 100
        assert KEYS[2] not in feed.streams()
        writer.add_stream("NEW", "1m")  # the vacant place
        writer.add_stream("NEWER", "1m")
        with pytest.raises(shmfeed.StreamNotFoundError):
            ring.view(5)
        assert feed.ring(*KEYS[1]).count == 50
    writer.add_stream(*KEYS[1])
    assert seen(feed_name)[0][KEYS[1]][0] == 50


def test_writers_of_the_old_segment_write_no_more(writer):
    ring = writer.add_stream(*KEYS[1])
    writer.enlarge(8)
    with pytest.raises(FeedLostError):
        ring.append(60 * MINUTE, 1, 2, 0.5, 1.5, 3)
    with pytest.raises(FeedLostError):
        ring.update_forming(60 * MINUTE, 1, 2, 0.5, 1.5, 3)


def test_it_may_be_made_larger_again_and_is_reused(writer, feed_name):
    for capacity in 5, 9, 40:
        writer.enlarge(capacity)
    before = seen(feed_name)[0]
    writer.close()
    with create(feed_name, 100, 16, 40) as successor:
        assert successor.reused
        assert seen(feed_name)[0] == before


def test_the_beat_thread_never_sees_a_loss(writer):
    """Control: without the lock of `enlarge` it finds a file that is not its own."""
    ending, losses = threading.Event(), []

    def beat():
        while not ending.is_set():
            try:
                writer.beat_alive()
            except FeedLostError as error:
                losses.append(error)
                return

    thread = threading.Thread(target=beat)
    thread.start()
    for capacity in range(5, 45):
        writer.enlarge(capacity)
    ending.set()
    thread.join()
    assert losses == []


@pytest.mark.parametrize("capacity", [3, 4, 10_001, "5", True])
def test_bad_capacities_change_nothing(writer, feed_name, capacity):
    before = seen(feed_name)
    with pytest.raises(BadArgumentError, match="max_streams"):
        writer.enlarge(capacity)
    assert seen(feed_name) == before


@pytest.mark.parametrize(
    ("step", "failure", "error"),
    [
        (
            "creation.reserve",
            partial(OSError, 28, "No space left on device"),
            SegmentFullError,
        ),
        ("enlarging._copy_header", KeyboardInterrupt, KeyboardInterrupt),
    ],
    ids=["without room", "half way"],
)
def test_a_failure_changes_nothing(
    writer, feed_name, monkeypatch, step, failure, error
):
    before = seen(feed_name)

    def fail(*_):
        raise failure()

    monkeypatch.setattr(f"shmfeed.segment.{step}", fail)
    with pytest.raises(error):
        writer.enlarge(8)
    monkeypatch.undo()
    assert seen(feed_name) == before
    assert not place(feed_name).successor.exists()
    fill(writer.add_stream(*KEYS[3]), 1, 150)
    writer.beat()
    writer.enlarge(8)


def test_a_segment_that_was_removed_is_not_replaced(writer, feed_name):
    place(feed_name).segment.unlink()
    with pytest.raises(FeedLostError):
        writer.enlarge(8)
    assert not place(feed_name).segment.exists()


def test_an_attached_feed_with_many_rings_follows(writer, feed_name):
    with shmfeed.attach(feed_name) as feed:
        rings = [feed.ring(*key) for key in KEYS[1:]]
        writer.enlarge(8)
        cut = shmfeed.cut(rings, 10, align=False)
        assert cut.values.shape[1:] == (3, 10)
        until(lambda: [ring.count for ring in rings] == [50, 100, 150])
