"""Free slots: which is used next, by the test's clock."""

import pytest
from support.ring_on_bytes import HOUR, blank

from shmfeed.errors import SegmentFullError
from shmfeed.layout import COUNT_LIMIT, S_EPOCH, S_PUBLISHED, S_RESTED
from shmfeed.memory import slots
from shmfeed.memory.slots import SlotPool

REST = 3600 * 10**9


class Bench:
    """A pool whose first slots hold rows."""

    def __init__(self, monkeypatch, used=2):
        self.words, self.geometry, _ = blank(4, 2, max_streams=2)
        self.now = 10**9
        monkeypatch.setattr(slots, "boot_ns", lambda: self.now)
        self.pool = self.successor(())
        self.in_use = [self.use() for _ in range(used)]

    def successor(self, used, **how):
        return SlotPool(self.words, self.geometry, used, 1, **how)

    def use(self):
        slot, self.epoch = self.pool.free()
        self.pool.take(slot)
        at = self.geometry.slot_word(slot)
        self.words.ints[at + S_EPOCH], self.words.ints[at + S_PUBLISHED] = self.epoch, 1
        return slot

    def retire(self, slot, rest=REST):
        self.pool.stamp(slot, self.epoch, rest)
        self.pool.release(slot)

    def rested(self, slot):
        return self.words.ints[self.geometry.slot_word(slot) + S_RESTED]


@pytest.fixture
def bench(monkeypatch):
    return Bench(monkeypatch)


def test_a_slot_rests_before_it_is_used_again(bench):
    bench.retire(0)
    assert bench.use() == 2  # it was never used
    bench.now += REST - 1
    assert bench.use() == 3
    bench.now += 1
    assert bench.use() == 0
    assert bench.pool.unrested == 0


def test_without_another_the_one_retired_longest_ago_is_used(bench):
    for _ in range(bench.geometry.slots - 2):
        bench.use()
    bench.retire(5)
    bench.retire(1)
    assert (bench.use(), bench.use()) == (5, 1)
    assert bench.pool.unrested == 2
    with pytest.raises(SegmentFullError):
        bench.use()


def test_a_slot_that_has_rested_goes_before_one_that_was_retired_earlier(bench):
    bench.retire(0, rest=24 * REST)
    bench.retire(1)
    bench.now += REST
    assert bench.use() == 1


def test_a_slot_without_rows_needs_no_rest(bench):
    bench.words.ints[bench.geometry.slot_word(1) + S_PUBLISHED] = 0
    bench.retire(1)
    assert bench.use() == 1
    assert bench.pool.unrested == 0


def test_a_successor_knows_which_slots_rest(bench):
    bench.retire(0)
    bench.retire(1, rest=2 * REST)
    bench.now += REST - 1
    assert bench.successor(()).free()[0] == 2
    bench.now += 1
    assert bench.successor(()).free()[0] == 0


def test_where_there_is_no_room_a_slot_rests_shorter(bench):
    def full(first, count):
        raise SegmentFullError("full")

    bench.retire(0)
    bench.pool = bench.successor((1,), reserve=full)
    assert bench.use() == 0
    assert bench.pool.unrested == 1


def test_no_rest_is_beyond_what_a_segment_holds(bench):
    bench.retire(0, rest=COUNT_LIMIT * 2)
    assert bench.rested(0) < COUNT_LIMIT


def test_a_stream_rests_for_its_guard(monkeypatch):
    _, geometry, catalog = blank(4, 3)
    index = catalog.add(("BTCUSDT", "1h"), now=1)
    assert catalog.rest_of(index) == geometry.guard * HOUR * 10**6
