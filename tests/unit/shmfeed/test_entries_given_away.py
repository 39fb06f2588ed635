"""Entries that are given to other streams: no ring ever serves another stream."""

import gc
from collections.abc import Iterator
from itertools import pairwise

import pytest
from support.cores import Core
from support.ring_on_bytes import HOUR, blank, prices, right_to

import shmfeed
from shmfeed.errors import FeedLostError, SegmentFullError, StreamNotFoundError
from shmfeed.layout import E_EPOCH, E_FORMING, E_GAPS, E_WORD, SLOT_MASK
from shmfeed.memory.catalog import Catalog, entries
from shmfeed.writer import FeedWriter, create

A, B, C, D = ((symbol, "1h") for symbol in "ABCD")


@pytest.fixture
def writer(feed_name: str) -> Iterator[FeedWriter]:
    with create(feed_name, 8, 2, 2) as writer:
        yield writer
        writer.close(unlink=True)
    gc.collect()


def fill(writer: FeedWriter, key, numbers=range(5)) -> None:
    ring = writer.add_stream(*key)
    for number in numbers:
        ring.append(number * HOUR, *prices(number))
    ring.update_forming((numbers[-1] + 1) * HOUR, *prices(99))


def replace(writer: FeedWriter, old, new) -> None:
    writer.unsubscribe(*old)
    fill(writer, new, range(20, 23))


def test_the_stream_unsubscribed_longest_ago_gives_its_entry(writer) -> None:
    fill(writer, A)
    fill(writer, B)
    writer.unsubscribe(*B)
    writer.unsubscribe(*A)
    assert writer.has_capacity_for([C, D])
    writer.add_stream(*C)
    with shmfeed.attach(writer.name) as feed:
        assert feed.streams() == [C]
        assert feed.ring(*A).count == 5  # it is readable until its turn comes
        with pytest.raises(StreamNotFoundError, match=r"not carry B 1h; .*: C 1h"):
            feed.ring(*B)
        writer.add_stream(*D)
        assert feed.streams() == [D, C]
        with pytest.raises(StreamNotFoundError, match="does not carry A 1h"):
            feed.ring(*A)
        with pytest.raises(SegmentFullError, match="max_streams"):
            writer.add_stream(*A)


def test_a_stream_subscribed_again_keeps_its_bars(writer) -> None:
    fill(writer, A)
    fill(writer, B)
    writer.unsubscribe(*A)
    assert writer.add_stream(*A).reader.count == 5
    with pytest.raises(SegmentFullError):
        writer.add_stream(*C)


def test_rings_of_the_old_stream_find_it_gone(writer) -> None:
    fill(writer, A)
    fill(writer, B)
    with shmfeed.attach(writer.name) as feed:
        ring, other = feed.ring(*A), feed.ring(*B)
        held, epoch = ring.view(5), ring.epoch
        closes = held["close"].tolist()
        replace(writer, A, C)
        for read in (
            lambda: ring.count,
            lambda: ring.epoch,
            lambda: ring.view(5),
            lambda: ring.snapshot(5, include_now=True),
            lambda: ring.latest("close"),
            ring.forming,
            ring.status,
            lambda: ring.wait(5, timeout=5),
            lambda: shmfeed.wait([other, ring], timeout=5),
            lambda: shmfeed.cut([other, ring], 2),
        ):
            with pytest.raises(
                StreamNotFoundError, match=r"carry A 1h; .*: C 1h, B 1h"
            ):
                read()
        assert held.valid
        assert held["close"].tolist() == closes
        assert other.count == 5
        assert feed.ring(*C).view(8).open_time.tolist() == [
            n * HOUR for n in (20, 21, 22)
        ]
        # Carried again, the same ring reads it, under a new epoch.
        writer.unsubscribe(*B)
        fill(writer, A, range(2))
        assert (ring.count, ring.epoch > epoch) == (2, True)
        assert ring.forming().open_time == 2 * HOUR
        with pytest.raises(StreamNotFoundError):
            _ = other.count


@pytest.mark.parametrize("read", [True, False], ids=["read", "control"])
def test_a_read_of_a_stream_that_is_gone_sets_its_rows_aside(writer, read) -> None:
    fill(writer, A)
    fill(writer, B)
    with shmfeed.attach(writer.name) as feed:
        ring = feed.ring(*A)
        held = ring.view(5)
        closes = held["close"].tolist()
        keys = [A, *((f"S{number}", "1h") for number in range(20))]
        for old, new in pairwise(keys):  # until the slot is used again
            replace(writer, old, new)
            if read:
                with pytest.raises(StreamNotFoundError):
                    _ = ring.count
        assert held.valid == read
        assert (held["close"].tolist() == closes) == read


def test_the_new_stream_begins_with_nothing_of_the_old(writer) -> None:
    fill(writer, A)
    writer.mark_stream(A, gaps=7, recovering=True)
    fill(writer, B)
    old = writer._words.ints[writer.geometry.entry_word(0) + E_WORD]
    writer.unsubscribe(*A)
    ring = writer.add_stream(*C)
    at = writer.geometry.entry_word(0)
    assert ring.reader.count == 0
    assert ring.reader.forming() is None
    assert ring.reader.updated == 0
    assert writer._words.ints[at + E_GAPS] == writer._words.ints[at + E_FORMING] == 0
    word = writer._words.ints[at + E_WORD]
    assert word > old
    assert word & SLOT_MASK != old & SLOT_MASK
    with shmfeed.attach(writer.name) as feed:
        (_, new) = feed.status()["streams"][::-1]
        assert (new["symbol"], new["gaps"], new["count"]) == ("C", 0, 0)


def test_the_old_stream_s_writer_is_closed(writer) -> None:
    ring = writer.add_stream(*A)
    writer.add_stream(*B)
    writer.unsubscribe(*A)
    new = writer.add_stream(*C)
    with pytest.raises(FeedLostError):
        ring.append(0, 1, 1, 1, 1, 1)
    new.append(0, 1, 1, 1, 1, 1)


def test_a_bound_reader_of_each_core(each_core: Core) -> None:
    words, geometry, catalog = blank(4, max_streams=1)
    index = catalog.add(A, 1)
    right = right_to(words)
    place = words, geometry, index
    ring = each_core.RingWriter(*place, A, lambda _: None, right)
    ring.append(0, 1, 2, 0, 1, 1)
    ring.update_forming(HOUR, 1, 2, 0, 1, 1)
    reader = each_core.RingReader(*place)
    catalog.unsubscribe(A, 2)
    assert reader.is_carried
    assert reader.count == 1
    catalog.add(B, 3)
    assert not reader.is_carried
    assert reader.live_age(1 << 60) is None
    for read in (
        lambda: reader.count,
        lambda: reader.epoch,
        lambda: reader.updated,
        lambda: reader.view(1),
        lambda: reader.snapshot(1),
        lambda: reader.latest("close"),
        reader.forming,
        reader.forming_cell,
        reader.last_closed,
        reader.check_carried,
    ):
        with pytest.raises(StreamNotFoundError, match="was given to another stream"):
            read()
    assert each_core.RingReader(*place).count == 0


def test_an_entry_of_a_writer_that_was_killed_meanwhile(each_core: Core) -> None:
    words, geometry, catalog = blank(4, max_streams=2)
    catalog.add(A, 1)
    catalog.add(B, 1)
    words.ints[geometry.entry_word(0) + E_EPOCH] += 1  # E1
    with pytest.raises(StreamNotFoundError):
        each_core.RingReader(words, geometry, 0)
    assert [entry.key for entry in entries(words, geometry)] == [B]
    successor = Catalog(words, geometry, 1)
    assert successor.index == {B: 1}
    assert successor.displaced_by(C) is None
    assert successor.add(C, 2) == 0
    assert each_core.RingReader(words, geometry, 0).count == 0
    assert [entry.key for entry in entries(words, geometry)] == [C, B]


def test_an_adopted_segment_remembers_the_order(feed_name) -> None:
    with create(feed_name, 8, 2, 2) as writer:
        fill(writer, A)
        fill(writer, B)
        writer.unsubscribe(*B)
        writer.unsubscribe(*A)
    with create(feed_name, 8, 2, 2) as writer:
        assert writer.reused
        writer.add_stream(*C)
        with shmfeed.attach(feed_name) as feed:
            assert feed.ring(*A).count == 5
        writer.close(unlink=True)
