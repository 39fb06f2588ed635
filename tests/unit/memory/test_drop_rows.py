"""Rows that are dropped at the old end: on a bytearray, and in a segment."""

import hypothesis.strategies as st
import pytest
from hypothesis import given
from support.ring_on_bytes import HOUR, bench, prices

import shmfeed
from shmfeed.errors import BadArgumentError, FeedLostError
from shmfeed.memory import swap

pytestmark = pytest.mark.usefixtures("each_core")

KEY = ("BTCUSDT", "1h")


def drop(ring, number, enter_slot=None):
    enter_slot = enter_slot or ring.writer._enter_slot
    return swap.drop_rows(ring.catalog, 0, number * HOUR, enter_slot)


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


def test_a_slice_stays_as_it_was():
    ring = bench(5, 2)
    for number in range(5):
        ring.writer.append(number * HOUR, *prices(number))
    held = ring.reader.view(5)
    values = held.values.copy()
    assert drop(ring, 3) == 3
    assert (held.values == values).all()
    assert held.valid


def test_a_bar_that_closes_meanwhile_is_kept():
    ring = bench(5, 2)
    ring.writer.append(0, *prices(0))
    ring.writer.append(8 * HOUR, *prices(8))

    def enter(*arguments):
        if ring.reader.count == 2:
            ring.writer.append(9 * HOUR, *prices(9))
        return ring.writer._enter_slot(*arguments)

    assert drop(ring, 5, enter) == 1
    assert numbers_of(ring) == [8, 9]


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

    def test_the_next_writer_finds_the_segment_sound(self, writer, ring):
        out = writer.add_stream(*KEY)
        out.append(8 * HOUR, *prices(8))
        out.update_forming(9 * HOUR, *prices(9))
        writer.drop_rows(*KEY)
        writer.close()
        with shmfeed.create(writer.name, history=10, max_streams=2) as successor:
            assert successor.reused
            assert successor.add_stream(*KEY).reader.last_closed() is None
        assert ring.count == 1

    def test_bad_arguments_change_nothing(self, writer, ring):
        writer.add_stream(*KEY).append(HOUR, *prices(1))
        for arguments in (("ETHUSDT", "1h", 0), (*KEY, "soon")):
            with pytest.raises(BadArgumentError):
                writer.drop_rows(*arguments)
        assert ring.count == len(ring.snapshot(5)) == 1
        writer.close()
        with pytest.raises(FeedLostError):
            writer.drop_rows(*KEY)
