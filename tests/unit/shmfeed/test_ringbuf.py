"""Reading a ring on a bytearray: the result of each verb, and its retries."""

import math
import mmap
import time
from collections.abc import Callable

import numpy as np
import pytest
from support import cores
from support.ring_on_bytes import HOUR, STREAM, Bench, bench, prices

from shmfeed.bar import Bar, StreamKey, close_time
from shmfeed.errors import BadArgumentError, BusyRingError, SegmentFormatError
from shmfeed.layout import (
    AHEAD_NS,
    COLUMNS,
    CONNECTED,
    E_FORMING,
    E_RECOVERING,
    E_SINCE,
    E_SUBSCRIBED,
    E_UPDATED,
    E_WORD,
    FORMING_WORDS,
    H_ALIVE,
    H_STATE,
    H_TAKEN,
    H_TICK,
    S_BASE,
    S_EPOCH,
    S_INTENT,
    S_PUBLISHED,
    SLOT_BITS,
    SLOT_HEADER_WORDS,
    Geometry,
)
from shmfeed.memory import bound_entry, integrity
from shmfeed.memory.words import RetryBudget, Words, boot_ns
from shmfeed.ringbuf import RingReader
from shmfeed.segment.stream_check import check_reader, describe_closed_damage

pytestmark = pytest.mark.usefixtures("each_core")

HISTORY, GUARD = 4, 2
CAPACITY = HISTORY + GUARD


@pytest.fixture
def ring() -> Bench:
    return bench(HISTORY, GUARD)


def slot_word(ring: Bench) -> int:
    return ring.geometry.slot_word(0)


def bind(ring: Bench, key: StreamKey) -> RingReader:
    return check_reader(ring.core.RingReader(ring.words, ring.geometry, 0), key)


def forming(number: int, *rest: float) -> tuple[float, ...]:
    return (number * HOUR, *prices(number), *rest)


class TestCounts:
    def test_count_is_the_number_of_the_next_bar(self, ring: Bench) -> None:
        for count in range(3 * CAPACITY):
            assert ring.reader.count == count
            ring.close(count)

    def test_a_view_has_fewer_rows_where_there_are_fewer(self, ring: Bench) -> None:
        ring.close(0, 1)
        assert len(ring.reader.view(3)) == len(ring.reader.snapshot(3)) == 2

    def test_a_view_has_at_most_history_rows(self, ring: Bench) -> None:
        ring.close(*range(20))
        for n in (HISTORY, HISTORY + 1, CAPACITY, 10**30):
            assert len(ring.reader.view(n)) == HISTORY
            assert len(ring.reader.snapshot(n)) == HISTORY

    @pytest.mark.parametrize("n", [0, -1, True, False, 1.0, "1", None, math.nan, [1]])
    def test_bad_counts_are_refused(self, ring: Bench, n: int) -> None:
        for read in (ring.reader.view, ring.reader.snapshot):
            with pytest.raises(BadArgumentError) as caught:
                read(n)
            assert repr(n) in str(caught.value)

    def test_no_view_reaches_below_the_base(self) -> None:
        ring = bench(HISTORY, GUARD, base=100)
        assert ring.reader.count == 100
        assert len(ring.reader.view(HISTORY)) == 0
        ring.close(0, 1)
        rows = ring.reader.view(HISTORY)
        assert (rows.first, rows.last) == (100, 102)
        assert rows.open_time.tolist() == [0, HOUR]

    def test_epoch_is_the_catalog_words(self, ring: Bench) -> None:
        assert ring.reader.epoch == 1

    def test_updated_is_the_boot_time_of_the_last_bar(self, ring: Bench) -> None:
        assert ring.reader.updated == 0
        ring.close(0)
        closed = ring.reader.updated
        ring.writer.update_forming(*forming(1))
        assert 0 < closed < ring.reader.updated


class TestBetween:
    """The closed bars of a range of close times; bar i closes at (i + 1) * HOUR."""

    @pytest.mark.parametrize("count", [0, 1, 4, 5, 9])
    def test_a_range_has_the_rows_of_a_scan(self, ring: Bench, count: int) -> None:
        ring.close(*range(0, 2 * count, 2))  # with holes
        held = ring.reader.view(HISTORY).close_time.tolist()
        newest = held[-1] if held else 0
        edges = [k * HOUR + near for k in range(2 * count + 2) for near in (0, 1)]
        edges += [-(1 << 63), -1, (1 << 63) - 1]
        for start in edges:
            for end in edges:
                for n in (2, 100):
                    rows, last = ring.reader.between(start, end, n)
                    wanted = [t for t in held if start <= t <= end][-n:]
                    assert rows.close_time.tolist() == wanted
                    assert rows["close"].tolist() == [
                        prices(t // HOUR - 1)[3] for t in wanted
                    ]
                    assert (last, rows.valid) == (newest, True)

    def test_no_range_reaches_below_the_base(self) -> None:
        ring = bench(HISTORY, GUARD, base=100)
        assert len(ring.reader.between(0, 1 << 60, 9)[0]) == 0
        ring.close(0, 1)
        rows, newest = ring.reader.between(0, 1 << 60, 9)
        assert (rows.first, rows.last, newest) == (100, 102, 2 * HOUR)

    def test_a_range_is_a_slice_that_tells_of_overwritten_rows(
        self, ring: Bench
    ) -> None:
        ring.close(*range(HISTORY))
        rows, _ = ring.reader.between(HOUR, 2 * HOUR, 9)
        assert rows.valid
        ring.close(*range(HISTORY, HISTORY + CAPACITY))
        assert not rows.valid
        del rows
        assert ring.reader.lapped == 1

    @pytest.mark.parametrize("n", [0, -1, True, 1.0, None])
    def test_bad_counts_are_refused(self, ring: Bench, n: int) -> None:
        with pytest.raises(BadArgumentError, match="n is"):
            ring.reader.between(0, HOUR, n)


class TestLatest:
    @pytest.mark.parametrize("field", COLUMNS)
    def test_an_empty_ring_gives_nan(self, ring: Bench, field: str) -> None:
        assert math.isnan(ring.reader.latest(field))

    @pytest.mark.parametrize("field", COLUMNS)
    def test_the_last_closed_bars_value(self, ring: Bench, field: str) -> None:
        ring.close(0)
        ring.writer.append(*forming(1, 8.0, 5))
        bar = Bar(HOUR, 2 * HOUR, *prices(1), 8.0, 5)
        assert ring.reader.latest(field) == getattr(bar, field)

    @pytest.mark.parametrize("field", COLUMNS)
    def test_the_forming_bars_value_if_there_is_one(
        self, ring: Bench, field: str
    ) -> None:
        ring.close(0)
        ring.writer.update_forming(*forming(1, 8.0, 5))
        bar = Bar(HOUR, 2 * HOUR, *prices(1), 8.0, 5)
        assert ring.reader.latest(field) == getattr(bar, field)

    def test_the_forming_alone(self, ring: Bench) -> None:
        ring.writer.update_forming(*forming(1))
        assert ring.reader.latest("close") == prices(1)[3]

    def test_not_the_value_of_a_forming_bar_that_has_closed(self, ring: Bench) -> None:
        ring.writer.update_forming(*forming(0))
        ring.writer.append(0, 1.0, 2.0, 0.5, 1.5, 9.0)
        assert ring.reader.latest("close") == 1.5

    @pytest.mark.parametrize("field", ["", "Close", "time", None, 3])
    def test_unknown_fields_are_refused(self, ring: Bench, field: str) -> None:
        with pytest.raises(BadArgumentError, match="open_time close_time open high"):
            ring.reader.latest(field)


class TestForming:
    def test_there_is_none_at_first(self, ring: Bench) -> None:
        assert ring.reader.forming() is None
        assert ring.reader.last_closed() is None

    def test_it_has_the_newest_values(self, ring: Bench) -> None:
        ring.writer.update_forming(*forming(0))
        ring.writer.update_forming(0, 1.0, 4.0, 0.5, 2.0, 9.0, 3.0, 1)
        assert ring.reader.forming() == Bar(0, HOUR, 1.0, 4.0, 0.5, 2.0, 9.0, 3.0, 1)

    @pytest.mark.parametrize("closed", [1, 2])
    def test_it_is_gone_once_it_or_a_newer_one_has_closed(
        self, ring: Bench, closed: int
    ) -> None:
        ring.writer.update_forming(*forming(1))
        ring.close(closed)
        assert ring.reader.forming() is None
        assert ring.reader.last_closed().open_time == closed * HOUR

    def test_it_stays_when_an_older_one_closes(self, ring: Bench) -> None:
        ring.writer.update_forming(*forming(1))
        ring.close(0)
        assert ring.reader.forming().open_time == HOUR


class TestIncludeNow:
    def test_the_forming_is_the_last_of_the_rows(self, ring: Bench) -> None:
        ring.close(0, 1, 2)
        ring.writer.update_forming(*forming(3, 8.0, 5))
        rows = ring.reader.snapshot(2, include_now=True)
        assert rows.forming
        assert rows.open_time.tolist() == [2 * HOUR, 3 * HOUR]
        assert rows.values.T.tolist() == [list(prices(2)), list(prices(3))]
        assert rows.bar(-1) == ring.reader.forming()
        assert (rows.first, rows.last) == (2, 4)

    def test_the_forming_alone(self, ring: Bench) -> None:
        ring.close(0)
        ring.writer.update_forming(*forming(1))
        rows = ring.reader.snapshot(1, include_now=True)
        assert rows.open_time.tolist() == [HOUR]
        assert (rows.first, rows.last) == (1, 2)

    def test_a_snapshot_of_an_empty_ring_is_empty(self, ring: Bench) -> None:
        ring.writer.update_forming(*forming(1))
        rows = ring.reader.snapshot(3, include_now=True)
        assert rows.open_time.tolist() == [HOUR]
        assert rows.forming

    def test_a_snapshot_has_at_most_history_rows_in_all(self, ring: Bench) -> None:
        ring.close(*range(10))
        ring.writer.update_forming(*forming(10))
        rows = ring.reader.snapshot(100, include_now=True)
        assert rows.open_time.tolist() == [i * HOUR for i in range(7, 11)]

    def test_closed_rows_alone_when_there_is_none(self, ring: Bench) -> None:
        ring.writer.update_forming(*forming(0))
        ring.close(0, 1)
        rows = ring.reader.snapshot(2, include_now=True)
        assert not rows.forming
        assert rows.open_time.tolist() == [0, HOUR]

    def test_without_include_now_closed_rows_alone(self, ring: Bench) -> None:
        ring.close(0)
        ring.writer.update_forming(*forming(1))
        assert ring.reader.snapshot(5).open_time.tolist() == [0]

    def test_the_rows_are_writable(self, ring: Bench) -> None:
        ring.writer.update_forming(*forming(1))
        rows = ring.reader.snapshot(1, include_now=True)
        rows["close"][0] = rows["flags"][0] = 1


class TestDeadWriter:
    """A writer killed between any two steps of an append leaves readers whole."""

    def test_a_death_after_the_intent_leaves_the_rows(self, ring: Bench) -> None:
        ring.close(*range(10))
        rows = ring.reader.view(HISTORY)
        ring.words.ints[slot_word(ring) + S_INTENT] += 1
        assert ring.reader.count == 10
        assert rows.valid
        assert ring.reader.view(HISTORY).open_time.tolist() == rows.open_time.tolist()
        assert ring.reader.last_closed().open_time == 9 * HOUR

    def test_its_successor_writes_the_row_again(self, ring: Bench) -> None:
        ring.close(*range(10))
        ring.words.ints[slot_word(ring) + S_INTENT] += 1
        ring.close(10)
        assert ring.reader.view(2).open_time.tolist() == [9 * HOUR, 10 * HOUR]
        assert ring.words.ints[slot_word(ring) + S_INTENT] == 11


class TestReuse:
    """A reused slot is known by its epoch."""

    def test_an_old_slice_is_reported(self, ring: Bench) -> None:
        ring.close(0, 1)
        rows = ring.reader.view(2)
        ring.words.ints[slot_word(ring) + S_EPOCH] += 1
        assert not rows.valid

    def test_a_new_catalog_word_is_followed(self) -> None:
        ring = bench(HISTORY, GUARD)
        ring.close(0, 1)
        old = ring.reader.view(2)
        ints, geometry = ring.words.ints, ring.geometry
        slot, epoch = 3, 9
        other = geometry.slot_word(slot)
        here = slot_word(ring)
        ints[other : other + geometry.slot_words] = ints[
            here : here + geometry.slot_words
        ]
        ints[other + S_EPOCH] = epoch
        ints[H_TAKEN] = slot + 1
        ints[geometry.entry_word(0) + E_WORD] = epoch << SLOT_BITS | slot
        assert ring.reader.epoch == epoch
        new = ring.reader.view(2)
        assert new.values.tolist() == old.values.tolist()
        assert not np.shares_memory(new["close"], old["close"])
        assert new.valid
        assert old.valid  # until its slot is reused

    def test_a_catalog_word_of_an_older_epoch_is_never_read(self, ring: Bench) -> None:
        ring.close(0, 1)
        ring.words.ints[slot_word(ring) + S_EPOCH] += 1
        for read in (ring.reader.view, ring.reader.snapshot):
            with pytest.raises(SegmentFormatError, match="of epoch 2, not of 1"):
                read(1)
        with pytest.raises(SegmentFormatError, match="of epoch 2, not of 1"):
            print(ring.reader.count)


class TestBusy:
    """A writer that is always a lap ahead."""

    @pytest.fixture
    def outrun(self, ring: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
        ring.close(*range(10))
        ring.words.ints[slot_word(ring) + S_INTENT] = 1 << 61
        # A check of the catalog would call it damage.
        for module in (bound_entry, integrity):  # each core takes it from one of them
            monkeypatch.setattr(
                module, "retry_budget", lambda what, *_: RetryBudget(what)
            )
        return ring

    @pytest.mark.parametrize(
        "read",
        [
            lambda reader: reader.view(1),
            lambda reader: reader.between(0, HOUR, 1),
            lambda reader: reader.snapshot(1),
            lambda reader: reader.snapshot(1, include_now=True),
            lambda reader: reader.latest("close"),
            lambda reader: reader.forming(),
            lambda reader: reader.last_closed(),
        ],
        ids=["view", "between", "snapshot", "now", "latest", "forming", "last_closed"],
    )
    def test_a_read_gives_up_soon(self, outrun: Bench, read: object) -> None:
        start = time.monotonic()
        with pytest.raises(BusyRingError, match="10 ms"):
            read(outrun.reader)  # type: ignore[operator] # a lambda
        assert time.monotonic() - start < 1.0

    def test_a_copy_that_is_lapped_each_time_gives_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ring = bench(HISTORY, GUARD, core=cores.PURE)  # C's is a mutant of races/
        ring.close(*range(10))
        monkeypatch.setattr(
            "shmfeed.memory.rows.Slice.valid", property(lambda _: False)
        )
        with pytest.raises(BusyRingError):
            ring.reader.snapshot(1)


class TestBuffers:
    """Memory that cannot hold a ring is refused before a word of it is read."""

    @pytest.mark.parametrize("missing", [1, 8, 1000])
    def test_a_small_buffer_is_refused(self, ring: Bench, missing: int) -> None:
        size = (ring.geometry.size - missing) // 8 * 8
        words = Words(bytearray(size), "the buffer")
        for make in (ring.core.RingReader, writer_of(ring)):
            with pytest.raises(BadArgumentError, match=f"the buffer has {size} bytes"):
                make(words, ring.geometry, 0)

    @pytest.mark.parametrize("sizes", [(0, 0), (-1, 1), (4, -1), (4, None)])
    def test_a_geometry_without_rows_is_refused(
        self, ring: Bench, sizes: tuple[int, int]
    ) -> None:
        geometry = Geometry(1, *sizes)
        for make in (ring.core.RingReader, writer_of(ring)):
            with pytest.raises(BadArgumentError, match=r"history is|guard is"):
                make(ring.words, geometry, 0)

    @pytest.mark.parametrize("index", [-1, 1, 10**30, True, "0", None, 0.0])
    def test_an_entry_that_is_not_there_is_refused(
        self, ring: Bench, index: object
    ) -> None:
        for make in (ring.core.RingReader, writer_of(ring)):
            with pytest.raises(BadArgumentError, match="index is"):
                make(ring.words, ring.geometry, index)

    def test_a_writer_on_a_read_only_buffer_is_refused(self, ring: Bench) -> None:
        words = Words(memoryview(ring.words.raw).toreadonly(), "the map")
        assert ring.core.RingReader(words, ring.geometry, 0).count == 0
        with pytest.raises(BadArgumentError, match="the map is read-only"):
            writer_of(ring)(words, ring.geometry, 0)

    def test_a_reader_keeps_the_buffer_and_slices_their_rows(self, ring: Bench) -> None:
        ring.close(0, 1)
        buffer = mmap.mmap(-1, ring.geometry.size)
        buffer[:] = ring.words.raw
        words = Words(buffer)
        reader = ring.core.RingReader(words, ring.geometry, 0)
        rows = reader.view(2)
        values = rows.values
        with pytest.raises(BufferError):
            buffer.close()
        del reader, words
        buffer.close()
        del rows
        assert values.T.tolist() == [list(prices(0)), list(prices(1))]

    def test_arguments_of_another_kind_are_refused(self, ring: Bench) -> None:
        core = ring.core
        for arguments in ((), (ring.words,), (ring.words, ring.geometry)):
            with pytest.raises(TypeError):
                core.RingReader(*arguments)
        for words in (None, b"", 5):
            with pytest.raises((TypeError, AttributeError)):
                core.RingReader(words, ring.geometry, 0)


class TestLiveAge:
    """The age of a stream that is live, and None for any other."""

    SECOND = 1_000_000_000

    @pytest.fixture
    def live(self, ring: Bench) -> Bench:
        """Return a live stream whose last update is a minute old."""
        now, ints = boot_ns(), ring.words.ints
        at = ring.geometry.entry_word(0)
        ints[H_STATE] = CONNECTED
        ints[H_TICK] = ints[H_ALIVE] = now
        ints[at + E_UPDATED] = now - 60 * self.SECOND
        ints[at + E_SINCE] = now - 3600 * self.SECOND
        return ring

    def age(self, ring: Bench) -> float | None:
        return ring.reader.live_age(90 * self.SECOND)

    def test_a_live_stream_has_its_age(self, live: Bench) -> None:
        assert 60 <= self.age(live) < 80
        assert live.reader.live_age(59 * self.SECOND) is None

    @pytest.mark.parametrize(
        ("word", "value"),
        [
            (H_STATE, CONNECTED + 1),
            (H_STATE, -1),
            (H_TICK, -6 * SECOND),
            (H_TICK, 2 * AHEAD_NS),
        ],
    )
    def test_none_unless_the_feeder_is_well(
        self, live: Bench, word: int, value: int
    ) -> None:
        live.words.ints[word] = value + (boot_ns() if word == H_TICK else 0)
        assert self.age(live) is None

    def test_either_sign_of_life_will_do(self, live: Bench) -> None:
        ints = live.words.ints
        ints[H_TICK] -= 3 * self.SECOND
        assert self.age(live) is not None
        for sign in (-3 * self.SECOND, 2 * AHEAD_NS):
            ints[H_ALIVE] = boot_ns() + sign
            assert self.age(live) is None

    @pytest.mark.parametrize(
        ("word", "value"),
        [
            (E_SUBSCRIBED, 0),
            (E_RECOVERING, 1),
            (E_UPDATED, 0),
            (E_UPDATED, 1 << 62),
            (E_UPDATED, -1),
            (E_SINCE, 1 << 62),
        ],
    )
    def test_none_unless_the_stream_is_well(
        self, live: Bench, word: int, value: int
    ) -> None:
        live.words.ints[live.geometry.entry_word(0) + word] = value
        assert self.age(live) is None

    def test_no_update_soon_after_the_boot(self, live: Bench) -> None:
        live.words.ints[live.geometry.entry_word(0) + E_UPDATED] = 0
        assert live.reader.live_age(1 << 62) is None


def writer_of(ring: Bench) -> Callable[..., object]:
    return lambda *where: ring.core.RingWriter(
        *where, STREAM, ring.woken.append, ring.right
    )


class TestDamage:
    """Damaged words under a reader that is bound already."""

    READS = ("view", "snapshot", "latest", "forming", "last_closed")

    def refused(self, reader: RingReader, name: str, said: str) -> None:
        arguments = {"view": (1,), "snapshot": (1,), "latest": ("close",)}
        with pytest.raises(SegmentFormatError, match=said):
            getattr(reader, name)(*arguments.get(name, ()))

    @pytest.mark.parametrize("name", READS)
    @pytest.mark.parametrize(
        ("word", "value"), [(S_INTENT, 1 << 62), (S_INTENT, 99), (S_EPOCH, 9)]
    )
    def test_a_read_that_never_holds_names_the_damage(
        self, ring: Bench, name: str, word: int, value: int
    ) -> None:
        ring.close(0, 1)
        ring.words.ints[slot_word(ring) + word] = value
        self.refused(ring.reader, name, "slot 0 ")

    @pytest.mark.parametrize(
        ("word", "value"),
        [(S_BASE, 7), (S_BASE, -1), (S_PUBLISHED, -1), (S_PUBLISHED, 1 << 62)],
    )
    def test_counts_in_the_wrong_order_are_damage(
        self, ring: Bench, word: int, value: int
    ) -> None:
        ring.close(0, 1)
        ring.words.ints[slot_word(ring) + word] = value
        with pytest.raises(SegmentFormatError, match="slot 0 has base"):
            ring.core.RingReader(ring.words, ring.geometry, 0)

    @pytest.mark.parametrize("published", [(1 << 63) - 1, (1 << 63) - 2])
    def test_the_largest_numbers_do_not_overflow(
        self, ring: Bench, published: int
    ) -> None:
        ring.close(0, 1)
        ring.writer.update_forming(*forming(2, 8.0))
        ring.words.ints[slot_word(ring) + S_PUBLISHED] = published
        for n in (1, 3):
            rows = ring.reader.snapshot(n, include_now=True)
            assert len(rows) == n
            assert rows.bar(-1) == ring.reader.forming_cell()
            assert rows.copy().values.tolist() == rows.values.tolist()

    @pytest.mark.parametrize("name", READS)
    @pytest.mark.parametrize(
        ("word", "said"),
        [
            (0, "slot 0 of 9"),
            (-1, "slot 65535 of 9"),
            (1 << SLOT_BITS | 9, "catalog word 0x10009 names slot 9 of 9"),
            (1 << 62 | 3, "names slot 3, only 1 are in use"),
            (1 << 62, "slot 0 is of epoch 1"),
        ],
    )
    def test_damaged_catalog_words_are_named(
        self, ring: Bench, name: str, word: int, said: str
    ) -> None:
        ring.close(0, 1)
        ring.words.ints[ring.geometry.entry_word(0) + E_WORD] = word
        self.refused(ring.reader, name, said)
        with pytest.raises(SegmentFormatError, match=said):
            ring.core.RingReader(ring.words, ring.geometry, 0)

    def test_times_are_checked_when_a_ring_is_bound(self, ring: Bench) -> None:
        ring.close(*range(12))
        names = "BTCUSDT", "1h"
        assert bind(ring, names).count == 12
        opens = ring.reader.view(HISTORY).open_time
        row = slot_word(ring) + SLOT_HEADER_WORDS + 11 % CAPACITY
        good = ring.words.ints[row]
        assert good == opens[-1]
        for wrong in (good - HOUR, good + 1, -1, 1 << 62, -1 << 63, (1 << 63) - 1):
            ring.words.ints[row] = ring.words.ints[row + CAPACITY] = wrong
            with pytest.raises(SegmentFormatError, match="BTCUSDT 1h: bar 11 opens"):
                bind(ring, names)
        ring.words.ints[row] = ring.words.ints[row + CAPACITY] = good
        ring.writer.update_forming(12 * HOUR, *prices(12))
        assert bind(ring, names).forming() is not None
        cell = ring.geometry.entry_word(0) + E_FORMING + 1 + FORMING_WORDS
        assert ring.words.ints[cell] == 12 * HOUR
        ring.words.ints[cell] = 1 << 62
        with pytest.raises(SegmentFormatError, match="a bar opens at"):
            bind(ring, names)

    def test_a_month_may_have_any_of_its_lengths(self) -> None:
        ring = bench(HISTORY, GUARD, ("BTCUSDT", "1M"))
        start = 0
        for _ in range(24):
            ring.writer.append(start, *prices(0))
            start = close_time(start, "1M")
        ring.writer.update_forming(start, *prices(0))
        bind(ring, ("BTCUSDT", "1M"))

    def test_a_state_within_an_append_is_not_damage(self, ring: Bench) -> None:
        ring.close(*range(12))
        ring.words.ints[slot_word(ring) + S_INTENT] += 1
        assert (
            describe_closed_damage(
                ring.core.RingReader(ring.words, ring.geometry, 0), "1h"
            )
            is None
        )
