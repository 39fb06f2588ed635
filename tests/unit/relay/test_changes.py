"""The changes of a segment: told once, whole, and never torn."""

import time

import numpy as np
import pytest
from support.memory_engine import MemoryServer

import shmfeed
from shmfeed.errors import BusyRingError, SegmentFormatError
from shmfeed.identity import FeedIdentity
from shmfeed.layout import E_COMPARED, H_READY, MAGIC, MAGIC_SHIFT, UNCOMPARED
from shmfeed.memory.holes import HoleRecord
from shmfeed.memory.words import boot_ns
from shmfeed.relay.changes import ChangeReader, StreamNumbers
from shmfeed.relay.flush import NEVER, Head
from shmfeed.relay.segment_rows import SegmentRows, difference

MINUTE = 60_000
HISTORY = 40
HEAD = Head(FeedIdentity("p", "m"), "here:1", 1, "connected")


def append(ring, *numbers, close=None):
    for number in numbers:
        last = number + 0.5 if close is None else close
        ring.append(number * MINUTE, number, number + 1, number, last, 10 * number)


def update(ring, number, close=0.5):
    ring.update_forming(number * MINUTE, number, number + 1, number, close, 7)


class Told:
    """A reader of changes, and what a follower has of its flushes."""

    def __init__(self, name):
        self.feed = shmfeed.attach(name)
        self.numbers = StreamNumbers()
        self.server = MemoryServer()
        self.reader = ChangeReader(self.feed.current(), self.numbers)

    def take(self, everything=True):
        """Read the changes once, as a leader does; return the flush."""
        flush = self.reader.read(everything)
        if flush is not None:
            self.server.take(1, flush._replace(head=HEAD))
        return flush

    def rows(self, key):
        """Return the closed rows that a follower has, at most HISTORY."""
        rows = self.server.rows[key]
        return [rows[opened] for opened in sorted(rows)[-HISTORY:]]


@pytest.fixture
def writer(feed_name):
    with shmfeed.create(feed_name, history=HISTORY, guard=10, max_streams=4) as writer:
        yield writer


@pytest.fixture
def told(writer):
    told = Told(writer.name)
    yield told
    told.feed.close()


@pytest.fixture
def ring(writer):
    return writer.add_stream("A", "1m")


def rows_in(feed, key):
    block = feed.ring(*key).snapshot(HISTORY).block
    return [tuple(row) for row in block.view(np.int64).T.tolist()]


def opens(rows):
    return (rows.block[0].view(np.int64) // MINUTE).tolist()


def test_the_first_read_tells_all_and_the_next_one_nothing(told, ring, writer):
    append(ring, 1, 2, 3)
    update(ring, 4)
    writer.add_stream("B", "5m")
    flush = told.take()
    assert flush.is_whole
    assert flush.catalog.streams == (("A", "1m"), ("B", "5m"))
    assert flush.catalog.history == HISTORY
    assert flush.whole == (0, 1)
    assert opens(flush.closed) == [1, 2, 3]
    assert opens(flush.forming) == [4]
    assert told.take() is None
    assert told.rows(("A", "1m")) == rows_in(told.feed, ("A", "1m"))


def test_a_new_row_is_told_alone_with_its_streams_marks(told, ring, writer):
    other = writer.add_stream("B", "1m")
    append(ring, 1)
    told.take()
    append(ring, 2, 3)
    update(other, 1)
    flush = told.take(everything=False)
    assert opens(flush.closed) == [2, 3]
    assert flush.closed.numbers.tolist() == [0, 0]
    assert not len(flush.forming.numbers)
    assert list(flush.marks) == [0]
    assert flush.whole == ()
    assert flush.catalog is None
    later = told.take()
    assert opens(later.forming) == [1]
    assert list(later.marks) == [1]


def test_nothing_closed_is_no_flush_at_once(told, ring):
    told.take()
    update(ring, 1)
    assert told.take(everything=False) is None
    assert opens(told.take().forming) == [1]


def test_of_several_updates_the_newest_forming_bar_is_told(told, ring):
    told.take()
    for close in (0.1, 0.2, 0.3):
        update(ring, 1, close)
    assert told.take().forming.block[5].tolist() == [0.3]
    assert told.take() is None


def test_a_forming_bar_that_has_closed_is_not_told(told, ring):
    told.take()
    update(ring, 1)
    append(ring, 1)
    flush = told.take()
    assert not len(flush.forming.numbers)
    assert opens(flush.closed) == [1]


def test_rows_of_a_swap_are_compared_with_those_before(told, ring, writer):
    append(ring, *range(1, 11), *range(12, 31))
    told.take()
    rows = ring.reader.snapshot(HISTORY).block
    rows[5, 3] = 99.0
    missing = rows[:, 10:11].copy()
    missing[:2].view(np.int64)[:] -= MINUTE
    filled = np.concatenate([rows[:, :10], missing, rows[:, 10:]], axis=1)
    append(ring, 31)
    told.take()
    filled = np.concatenate([filled, ring.reader.snapshot(1).block], axis=1)
    writer.replace_rows("A", "1m", filled)
    append(ring, 32)
    flush = told.take(everything=False)
    assert opens(flush.closed) == [4, 11, 32]
    assert flush.whole == ()
    assert told.rows(("A", "1m")) == rows_in(told.feed, ("A", "1m"))


def test_a_stream_of_which_much_differs_is_told_whole(told, ring, writer):
    append(ring, *range(20, 31))
    told.take()
    new = ring.reader.snapshot(HISTORY).block
    older = new.copy()
    older[:2].view(np.int64)[:] -= 11 * MINUTE
    writer.replace_rows("A", "1m", np.concatenate([older, new], axis=1))
    flush = told.take()
    assert flush.whole == (0,)
    assert told.rows(("A", "1m")) == rows_in(told.feed, ("A", "1m"))


@pytest.mark.parametrize("drop", ["cut", "drop", "all"])
def test_a_stream_that_has_lost_rows_is_told_whole(told, ring, writer, drop):
    append(ring, *range(1, 21))
    update(ring, 21)
    told.take()
    if drop == "cut":
        writer.cut_rows("A", "1m", 15 * MINUTE)
    else:
        writer.drop_rows("A", "1m", 5 * MINUTE if drop == "drop" else None)
    flush = told.take()
    assert flush.whole == (0,)
    assert told.rows(("A", "1m")) == rows_in(told.feed, ("A", "1m"))
    assert (("A", "1m") in told.server.forming) == (drop != "cut")


def test_a_stream_whose_old_rows_are_gone_is_told_whole(told, ring, writer):
    append(ring, *range(1, 21))
    told.take()
    rows = ring.reader.snapshot(HISTORY).block
    before = told.feed.current().words.ints
    for close in range(60):  # until the slot that was told is used again
        rows[5, 0] = float(close)
        writer.replace_rows("A", "1m", rows)
    assert before is told.feed.current().words.ints
    flush = told.take()
    assert flush.whole == (0,)
    assert told.rows(("A", "1m")) == rows_in(told.feed, ("A", "1m"))


def test_more_rows_than_the_history_are_told_whole(told, ring):
    append(ring, 1)
    told.take()
    append(ring, *range(2, 2 + HISTORY + 5))
    flush = told.take(everything=False)
    assert flush.whole == (0,)
    assert told.rows(("A", "1m")) == rows_in(told.feed, ("A", "1m"))


def test_rows_that_are_overwritten_during_a_read_are_never_told(
    told, ring, monkeypatch
):
    append(ring, *range(1, 41))
    told.take()
    append(ring, *range(41, 61))
    read, laps = SegmentRows.rows, [range(61, 101)]

    def lapped(self, slots, first, last):
        append(ring, *(laps.pop() if laps else ()))
        return read(self, slots, first, last)

    monkeypatch.setattr(SegmentRows, "rows", lapped)
    assert told.take(everything=False) is None
    flush = told.take(everything=False)
    assert flush.whole == (0,)
    assert told.rows(("A", "1m")) == rows_in(told.feed, ("A", "1m"))


def test_a_reader_that_trusts_each_read_tells_torn_rows(told, ring, monkeypatch):
    # The control of the test above: without step R5 a wrong row is told.
    append(ring, *range(1, 41))
    told.take()
    append(ring, *range(41, 61))
    read = SegmentRows.rows

    def lapped(self, slots, first, last):
        append(ring, *range(61, 101))
        return read(self, slots, first, last)

    monkeypatch.setattr(SegmentRows, "rows", lapped)
    monkeypatch.setattr(
        SegmentRows, "are_whole", lambda _self, slots, _first: slots.are_sound
    )
    assert opens(told.take(everything=False).closed) != list(range(41, 61))


def test_a_first_read_that_the_writer_outruns_is_busy_and_tells_all_later(
    told, ring, monkeypatch
):
    append(ring, 1, 2)
    sound = SegmentRows.are_whole
    monkeypatch.setattr(
        SegmentRows, "are_whole", lambda _self, slots, _first: ~slots.are_sound
    )
    with pytest.raises(BusyRingError, match="outran the read of 1 streams"):
        told.take()
    monkeypatch.setattr(SegmentRows, "are_whole", sound)
    flush = told.take()
    assert flush.is_whole
    assert opens(flush.closed) == [1, 2]


def test_start_again_tells_all_with_the_same_numbers(told, ring, writer):
    writer.add_stream("B", "1m")
    append(ring, 1)
    told.take()
    told.reader.start_again()
    flush = told.take()
    assert flush.is_whole
    assert flush.catalog.streams == (("A", "1m"), ("B", "1m"))
    assert opens(flush.closed) == [1]


def test_a_new_stream_and_one_that_is_unsubscribed_are_told(told, ring, writer):
    append(ring, 1)
    told.take()
    append(writer.add_stream("B", "1m"), 5)
    flush = told.take(everything=False)
    assert flush.catalog.streams == (("A", "1m"), ("B", "1m"))
    assert flush.whole == (1,)
    assert flush.marks[1].subscribed
    writer.unsubscribe("A", "1m")
    flush = told.take()
    assert not flush.marks[0].subscribed
    assert flush.catalog is None
    assert told.server.rows["A", "1m"]


def test_an_entry_that_another_stream_takes_is_another_number(told, writer):
    for symbol in "ABCD":
        append(writer.add_stream(symbol, "1m"), 1)
    told.take()
    writer.unsubscribe("B", "1m")
    append(writer.add_stream("E", "1m"), 2)
    flush = told.take()
    assert [key[0] for key in flush.catalog.streams] == [*"ABCDE"]
    assert flush.whole == (4,)
    assert not flush.marks[1].subscribed
    assert opens(flush.closed) == [2]
    told.reader.start_again()
    flush = told.take()  # the one without an entry is told to be empty
    assert flush.whole == (0, 1, 2, 3, 4)
    assert not flush.marks[1].subscribed
    assert told.server.rows["B", "1m"] == {}


def test_an_entrys_next_stream_has_no_holes_of_the_one_before(told, writer):
    hole = HoleRecord(5 * MINUTE, 6 * MINUTE, 2)
    for symbol in "ABCD":
        writer.add_stream(symbol, "1m")
    writer.set_holes(("B", "1m"), [hole])
    writer.explain(("B", "1m"), "muted", "silent")
    told.take()
    writer.unsubscribe("B", "1m")
    writer.add_stream("E", "1m")
    writer.set_holes(("E", "1m"), [])
    writer.explain(("E", "1m"), "", "")
    marks = told.take().marks
    assert marks[4].holes == ()
    assert marks[4].why == ""


def test_marks_are_told_as_ages_that_are_never_too_small(told, ring, writer):
    append(ring, 1)
    writer.mark_connection([("A", "1m")], False)
    writer.explain(("A", "1m"), "muted", "silent since noon")
    writer.set_silence(("A", "1m"), 90)
    writer.mark_stream(("A", "1m"), gaps=0, recovering=True)
    writer.set_compared(("A", "1m"), 0)
    hole = HoleRecord(5 * MINUTE, 6 * MINUTE, 2, "given_up", "absent")
    writer.set_holes(("A", "1m"), [hole])
    entry = told.feed.current().geometry.entry_word(0)
    assert told.feed.current().words.ints[entry + E_COMPARED] == UNCOMPARED
    updated = ring.reader.updated
    before = (boot_ns() - updated) / 1e6
    marks = told.take().marks[0]
    after = (boot_ns() - updated) / 1e6
    assert before <= marks.updated <= after + 1
    assert 0 <= marks.away <= after + 1000
    assert marks.back == NEVER
    assert (marks.compared, marks.is_uncompared) == (0, True)
    assert (marks.reason, marks.why) == ("muted", "silent since noon")
    assert marks.silence == 90_000
    assert marks.recovering
    assert marks.holes == (hole,)
    writer.set_holes(("A", "1m"), [])
    writer.explain(("A", "1m"), "", "")
    marks = told.take().marks[0]
    assert (marks.holes, marks.reason, marks.why) == ((), "", "")


def test_a_segment_of_layout_1_is_refused(told):
    version_1 = told.feed.current()
    geometry = version_1.geometry._replace(version=1)
    with pytest.raises(SegmentFormatError, match="layout version 1"):
        ChangeReader(version_1._replace(geometry=geometry), StreamNumbers())
    assert version_1.words.ints[H_READY] >> MAGIC_SHIFT == MAGIC


def test_random_changes_leave_a_follower_with_the_same_rows(told, writer, rng):
    keys = [(symbol, "1m") for symbol in "ABCDEF"]
    rings, newest = {}, dict.fromkeys(keys, 0)

    def add(key):
        if len(rings) == 4:
            gone = [*rings][rng.integers(4)]
            writer.unsubscribe(*gone)
            del rings[gone]
        rings[key] = writer.add_stream(*key)
        last = rings[key].reader.last_closed()
        newest[key] = 0 if last is None else last.open_time // MINUTE

    def close(key):
        for _ in range(int(rng.choice([1, 2, 3, 30]))):
            newest[key] += int(rng.choice([1, 1, 1, 2]))
            append(rings[key], newest[key], close=float(rng.random()))

    def form(key):
        update(rings[key], newest[key] + 1, float(rng.random()))

    def revise(key):
        rows = rings[key].reader.snapshot(HISTORY).block
        if rows.shape[1]:
            rows[5, rng.integers(rows.shape[1])] = rng.random()
            writer.replace_rows(*key, rows)

    def drop(key):
        if rng.random() < 0.5:
            writer.cut_rows(*key, (newest[key] - 3) * MINUTE)
            last = rings[key].reader.last_closed()
            newest[key] = newest[key] if last is None else last.open_time // MINUTE
        else:
            writer.drop_rows(*key, (newest[key] - 10) * MINUTE)

    acts = [close, close, close, form, form, revise, revise, drop]
    for _ in range(600):
        key = keys[rng.integers(len(keys))]
        if key not in rings:
            if rng.random() < 0.1 or len(rings) < 4:
                add(key)
            continue
        acts[rng.integers(len(acts))](key)
        if rng.random() < 0.4:
            told.take(everything=bool(rng.random() < 0.5))
        if rng.random() < 0.02:
            told.reader.start_again()
    told.take()
    told.take()  # forming bars follow a stream that was told whole
    assert told.take() is None
    assert len(told.server.flushes) > 100
    for key, ring in rings.items():
        assert told.rows(key) == rows_in(told.feed, key), key
        forming = ring.reader.forming()
        found = told.server.forming.get(key)
        assert (None if found is None else found[0]) == (forming and forming.open_time)


def block(*bars):
    found = np.zeros((9, len(bars)))
    for at, (number, close) in enumerate(bars):
        found[0].view(np.int64)[at] = number
        found[5, at] = close
    return found


@pytest.mark.parametrize(
    ("sent", "rows", "differing", "has_lost"),
    [
        ([], [], [], False),
        ([], [(1, 1)], [1], False),
        ([(1, 1)], [], [], True),
        ([(1, 1), (2, 2)], [(1, 1), (2, 2)], [], False),
        ([(1, 1), (2, 2)], [(1, 1), (2, 3)], [2], False),
        ([(1, 1), (3, 3)], [(1, 1), (2, 2), (3, 3)], [2], False),
        ([(1, 1), (2, 2)], [(2, 2)], [], True),
        ([(1, 1), (2, 2), (3, 3)], [(2, 2), (3, 3), (4, 4)], [4], False),
        ([(1, 1), (2, 2), (3, 3)], [(1, 1), (3, 3), (4, 4)], [4], True),
        ([(1, np.nan)], [(1, np.nan)], [], False),
    ],
)
def test_a_difference_names_new_rows_and_whether_some_are_lost(
    sent, rows, differing, has_lost
):
    found = difference(block(*sent), block(*rows), history=3)
    assert found.rows[0].view(np.int64).tolist() == differing
    assert found.has_lost == has_lost


def test_a_look_at_a_feed_without_changes_is_cheap(feed_name):
    streams = [(f"S{number}", "1m") for number in range(500)]
    with (
        shmfeed.create(feed_name, 20, max_streams=500, streams=streams),
        shmfeed.attach(feed_name) as feed,
    ):
        reader = ChangeReader(feed.current(), StreamNumbers())
        reader.read()
        best = min(_seconds(reader.read) for _ in range(20))
    assert best < 0.005  # about 0.0001


def _seconds(call):
    began = time.thread_time()
    call()
    return time.thread_time() - began
