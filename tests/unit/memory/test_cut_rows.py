"""Rows that are dropped at the new end: on a bytearray, and in a segment."""

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


def numbers_of(ring):
    return [time // HOUR for time in ring.reader.view(99).open_time.tolist()]


@given(
    history=st.integers(1, 6),
    guard=st.integers(1, 3),
    rows=st.integers(0, 12),
    first=st.integers(-1, 13),
    more=st.integers(0, 4),
)
def test_rows_are_those_of_a_list(history, guard, rows, first, more):
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


def test_a_slice_stays_as_it_was():
    ring = bench(5, 2)
    for number in range(5):
        ring.writer.append(number * HOUR, *prices(number))
    held = ring.reader.view(5)
    values = held.values.copy()
    cut(ring, 2)
    assert (held.values == values).all()
    assert held.valid


def test_a_bar_that_closes_meanwhile_is_cut_too():
    ring = bench(5, 2)
    ring.writer.append(0, *prices(0))
    ring.writer.append(8 * HOUR, *prices(8))

    def enter(*arguments):
        if ring.reader.count == 2:
            ring.writer.append(9 * HOUR, *prices(9))
        return ring.writer._enter_slot(*arguments)

    assert cut(ring, 5, enter) == 2
    assert numbers_of(ring) == [0]


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

    def test_the_next_writer_finds_the_segment_sound(self, writer, ring):
        out = writer.add_stream(*KEY)
        out.append(8 * HOUR, *prices(8))
        out.update_forming(9 * HOUR, *prices(9))
        writer.cut_rows(*KEY, 0)
        writer.close()
        with shmfeed.create(writer.name, history=10, max_streams=2) as successor:
            assert successor.reused
            assert successor.add_stream(*KEY).reader.last_closed() is None
            assert successor.add_stream(*KEY).reader.forming() is None
        assert ring.count == 1

    def test_bad_arguments_change_nothing(self, writer, ring):
        writer.add_stream(*KEY).append(HOUR, *prices(1))
        for arguments in (("ETHUSDT", "1h", 0), (*KEY, "soon"), (*KEY, None)):
            with pytest.raises(BadArgumentError):
                writer.cut_rows(*arguments)
        assert ring.count == len(ring.snapshot(5)) == 1
        writer.close()
        with pytest.raises(FeedLostError):
            writer.cut_rows(*KEY, 0)
