"""Rows that are dropped at the new or the old end: on a bytearray, in a segment."""

import hypothesis.strategies as st
import pytest
from hypothesis import given
from support.ring_on_bytes import HOUR, bench, prices

import shmfeed
from shmfeed.errors import BadArgumentError, FeedLostError
from shmfeed.memory import swap

pytestmark = pytest.mark.usefixtures("each_core")

KEY = ("BTCUSDT", "1h")


def cut(ring, number, enter_slot=None):
    enter_slot = enter_slot or ring.writer._enter_slot
    return swap.cut_rows(ring.catalog, 0, number * HOUR, enter_slot)


def drop(ring, number, enter_slot=None):
    enter_slot = enter_slot or ring.writer._enter_slot
    return swap.drop_rows(ring.catalog, 0, number * HOUR, enter_slot)


def numbers_of(ring):
    return [time // HOUR for time in ring.reader.view(99).open_time.tolist()]


RUNS = given(
    history=st.integers(1, 6),
    guard=st.integers(1, 3),
    rows=st.integers(0, 12),
    first=st.integers(-1, 13),
    more=st.integers(0, 4),
)


@RUNS
def test_rows_cut_are_those_of_a_list(history, guard, rows, first, more):
    ring = bench(history, guard)
    for number in range(rows):
        ring.writer.append(number * HOUR, *prices(number))
    epoch, count = ring.reader.epoch, ring.reader.count
    dropped = cut(ring, first)
    kept = [number for number in range(rows) if number < first]
    stored = list(range(rows))[-history - guard :]
    assert dropped == len([number for number in stored if number >= first])
    if dropped:
        assert ring.reader.epoch > epoch
        kept = [number for number in stored if number < first]
    assert ring.reader.count == count
    assert numbers_of(ring) == kept[-history:]
    for number in range(max(first, 0), max(first, 0) + more):
        if not kept or number > kept[-1]:
            ring.writer.append(number * HOUR, *prices(number))
            kept.append(number)
    assert numbers_of(ring) == kept[-history:]


@RUNS
def test_rows_dropped_are_those_of_a_list(history, guard, rows, first, more):
    ring = bench(history, guard)
    for number in range(rows):
        ring.writer.append(number * HOUR, *prices(number))
    epoch, count = ring.reader.epoch, ring.reader.count
    seen = list(range(rows))[-history:]
    dropped = drop(ring, first)
    kept = [number for number in seen if number >= first]
    assert dropped == len(seen) - len(kept)
    assert ring.reader.epoch > epoch if dropped else ring.reader.epoch >= epoch
    assert ring.reader.count == count
    assert numbers_of(ring) == kept
    for number in range(rows, rows + more):
        ring.writer.append(number * HOUR, *prices(number))
    assert numbers_of(ring) == (kept + list(range(rows, rows + more)))[-history:]
    assert ring.reader.count == count + more


@pytest.mark.parametrize(("change", "number", "gone"), [(cut, 2, 3), (drop, 3, 3)])
def test_a_slice_stays_as_it_was(change, number, gone):
    ring = bench(5, 2)
    for bar in range(5):
        ring.writer.append(bar * HOUR, *prices(bar))
    held = ring.reader.view(5)
    values = held.values.copy()
    assert change(ring, number) == gone
    assert (held.values == values).all()
    assert held.valid


@pytest.mark.parametrize(("change", "gone", "kept"), [(cut, 2, [0]), (drop, 1, [8, 9])])
def test_a_bar_that_closes_meanwhile_is_treated_as_the_others(change, gone, kept):
    ring = bench(5, 2)
    ring.writer.append(0, *prices(0))
    ring.writer.append(8 * HOUR, *prices(8))

    def enter(*arguments):
        if ring.reader.count == 2:
            ring.writer.append(9 * HOUR, *prices(9))
        return ring.writer._enter_slot(*arguments)

    assert change(ring, 5, enter) == gone
    assert numbers_of(ring) == kept


class TestInASegment:
    @pytest.fixture
    def writer(self, feed_name):
        with shmfeed.create(feed_name, history=10, max_streams=2) as writer:
            yield writer
            writer.close(unlink=True)

    @pytest.fixture
    def ring(self, writer):
        writer.add_stream(*KEY)
        with shmfeed.attach(writer.name) as feed:
            yield feed.ring(*KEY)

    def test_a_forming_bar_is_dropped_with_them(self, writer, ring):
        out = writer.add_stream(*KEY)
        out.append(HOUR, *prices(1))
        out.append(8 * HOUR, *prices(8))
        out.update_forming(9 * HOUR, *prices(9))
        assert writer.cut_rows(*KEY, 5 * HOUR) == 2
        assert ring.forming() is None
        assert ring.latest("open_time") == HOUR
        assert len(ring.snapshot(5, include_now=True)) == 1
        out.update_forming(2 * HOUR, *prices(2))
        assert ring.forming().open_time == 2 * HOUR

    def test_an_only_forming_bar_is_dropped(self, writer, ring):
        out = writer.add_stream(*KEY)
        out.update_forming(9 * HOUR, *prices(9))
        assert writer.cut_rows(*KEY, 5 * HOUR) == 1
        assert ring.forming() is None
        assert ring.count == 0
        assert len(ring.snapshot(5, include_now=True)) == 0

    def test_a_forming_bar_before_them_stays(self, writer, ring):
        out = writer.add_stream(*KEY)
        out.append(HOUR, *prices(1))
        out.update_forming(2 * HOUR, *prices(2))
        assert writer.cut_rows(*KEY, 5 * HOUR) == 0
        assert ring.forming().open_time == 2 * HOUR

    def test_the_forming_bar_stays_and_closes(self, writer, ring):
        out = writer.add_stream(*KEY)
        out.append(HOUR, *prices(1))
        out.update_forming(2 * HOUR, *prices(2))
        assert writer.drop_rows(*KEY) == 1
        assert ring.forming().open_time == 2 * HOUR
        assert (len(ring.view(5)), ring.count) == (0, 1)
        out.append(2 * HOUR, *prices(2))
        assert ring.view(5).open_time.tolist() == [2 * HOUR]
        assert ring.count == 2

    def test_a_waiting_reader_is_not_woken_and_waits_for_the_next_bar(
        self, writer, ring
    ):
        out = writer.add_stream(*KEY)
        out.append(HOUR, *prices(1))
        writer.drop_rows(*KEY)
        count = ring.count
        assert ring.wait(count, timeout=0.05) is None
        out.append(2 * HOUR, *prices(2))
        assert ring.wait(count, timeout=5) == count + 1

    @pytest.mark.parametrize(
        ("change", "more", "keeps_forming"),
        [("cut_rows", [0], False), ("drop_rows", [], True)],
    )
    def test_the_next_writer_finds_the_segment_sound(
        self, writer, ring, change, more, keeps_forming
    ):
        out = writer.add_stream(*KEY)
        out.append(8 * HOUR, *prices(8))
        out.update_forming(9 * HOUR, *prices(9))
        getattr(writer, change)(*KEY, *more)
        writer.close()
        with shmfeed.create(writer.name, history=10, max_streams=2) as successor:
            assert successor.reused
            reader = successor.add_stream(*KEY).reader
            assert reader.last_closed() is None
            assert (reader.forming() is not None) == keeps_forming
        assert ring.count == 1

    @pytest.mark.parametrize(
        ("change", "bad"),
        [
            ("cut_rows", [("ETHUSDT", "1h", 0), (*KEY, "soon"), (*KEY, None)]),
            ("drop_rows", [("ETHUSDT", "1h", 0), (*KEY, "soon")]),
        ],
    )
    def test_bad_arguments_change_nothing(self, writer, ring, change, bad):
        writer.add_stream(*KEY).append(HOUR, *prices(1))
        for arguments in bad:
            with pytest.raises(BadArgumentError):
                getattr(writer, change)(*arguments)
        assert ring.count == len(ring.snapshot(5)) == 1
        writer.close()
        with pytest.raises(FeedLostError):
            getattr(writer, change)(*KEY, 0)
