"""The cut: the newest bars of many rings as of one instant, on each core."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cores import PURE, Core
from support.cutting import FIELDS, Rings, expected, values_of
from support.ring_on_bytes import HOUR

import shmfeed
from shmfeed import cutting
from shmfeed.cuts import cut
from shmfeed.errors import (
    BadArgumentError,
    BusyRingError,
    FeedNotFoundError,
    SegmentFormatError,
    StreamNotFoundError,
)
from shmfeed.feed import Feed, Ring, attach
from shmfeed.layout import S_BASE, S_EPOCH, S_INTENT, S_PUBLISHED
from shmfeed.memory import bound_entry, integrity
from shmfeed.memory.words import Words
from shmfeed.writer import FeedWriter, create

HISTORY = 5


def check_equal(found: Any, wanted: Any) -> None:
    values, times, missing = found
    assert values.dtype == np.float64
    assert times.dtype == np.int64
    assert values.flags.owndata
    assert times.flags.owndata
    np.testing.assert_array_equal(values, wanted[0])
    np.testing.assert_array_equal(times, wanted[1])
    assert missing == wanted[2]


# Numbers of bars, increasing, with holes and starts of their own.
NUMBERS = st.lists(st.integers(0, 12), max_size=10, unique=True).map(sorted)


class TestOfQuietRings:
    @given(
        held=st.lists(NUMBERS, min_size=1, max_size=5),
        n=st.integers(1, 2 * HISTORY),
        align=st.booleans(),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_it_is_what_sets_give(
        self, each_core: Core, held: list[list[int]], n: int, align: bool
    ) -> None:
        rings = Rings(each_core, len(held), HISTORY)
        for k, numbers in enumerate(held):
            rings.close(k, *numbers)
        check_equal(rings.cut(n, align), expected(held, HISTORY, n, align))

    @given(
        held=st.lists(NUMBERS, min_size=2, max_size=4),
        swapped=st.lists(NUMBERS, min_size=1, max_size=2),
        align=st.booleans(),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_it_follows_a_swap(
        self,
        each_core: Core,
        held: list[list[int]],
        swapped: list[list[int]],
        align: bool,
    ) -> None:
        rings = Rings(each_core, len(held), HISTORY)
        for k, numbers in enumerate(held):
            rings.close(k, *numbers)
        rings.cut(HISTORY, align)
        for k, numbers in enumerate(swapped):
            held[k] = numbers[-HISTORY:]
            rings.swap(k, held[k], slot=len(held) + k)
        check_equal(rings.cut(HISTORY, align), expected(held, HISTORY, HISTORY, align))

    @pytest.mark.parametrize("align", [True, False])
    def test_fields_come_in_the_order_asked(self, each_core: Core, align: bool) -> None:
        rings = Rings(each_core, 2, HISTORY)
        for k in range(2):
            rings.close(k, 0, 1)
        values = rings.cut(2, align, ("close", "money", "open"))[0]
        whole = rings.cut(2, align)[0]
        np.testing.assert_array_equal(values[[0, 2]], whole[[3, 0]])
        assert np.isnan(values[1]).all()

    def test_a_ring_may_be_given_twice(self, each_core: Core) -> None:
        rings = Rings(each_core, 1, HISTORY)
        rings.close(0, 0, 1)
        values, _, _ = rings.read_cut(rings.rings * 2, 2, FIELDS, True)
        np.testing.assert_array_equal(values[:, 0], values[:, 1])

    def test_more_rows_than_any_segment_has(self, each_core: Core) -> None:
        rings = Rings(each_core, 2, HISTORY)
        for k in range(2):
            rings.close(k, *range(20))
        for n in (HISTORY, 10**18, 10**30):
            assert rings.cut(n, True)[0].shape == (5, 2, HISTORY)

    def test_it_is_private(self, each_core: Core) -> None:
        rings = Rings(each_core, 1, HISTORY)
        rings.close(0, 0)
        values, times, _ = rings.cut(1, True)
        rings.close(0, *range(1, 20))
        assert values[0, 0, 0] == values_of(0, 0)[0]
        values[:] = times[:] = 0
        assert rings.cut(1, True)[0].all()

    def test_rings_of_two_segments_are_left_to_the_caller(
        self, each_core: Core
    ) -> None:
        rings = Rings(each_core, 2, HISTORY)
        other = rings.over(Words(bytearray(rings.words.raw)))
        pairs: list[tuple] = [(rings.rings[0], other[1]), (), (rings.rings[0], None)]
        for pair in pairs:
            assert rings.read_cut(pair, 1, FIELDS, True) is None


ANY_BOUND = st.integers(-1, 14)


class TestOfAList:
    @given(
        held=st.lists(NUMBERS, min_size=1, max_size=5),
        n=st.integers(1, 2 * HISTORY),
        bounds=st.none() | st.tuples(ANY_BOUND, ANY_BOUND),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_it_is_what_sets_give(
        self,
        each_core: Core,
        held: list[list[int]],
        n: int,
        bounds: tuple[int, int] | None,
    ) -> None:
        rings = Rings(each_core, len(held), HISTORY)
        for k, numbers in enumerate(held):
            rings.close(k, *numbers)
        seen = [numbers[-HISTORY:] for numbers in held]
        times = None
        if bounds is not None:
            first, last = bounds
            seen = [[i for i in numbers if first <= i <= last] for numbers in seen]
            times = (first + 1) * HOUR, (last + 1) * HOUR
        found = rings.listed(n, times)
        values, closes, _ = expected(seen, HISTORY, n, align=False)
        np.testing.assert_array_equal(found.values, values)
        np.testing.assert_array_equal(found.close_time, closes)
        newest = [(ns[-1] + 1) * HOUR if ns else 0 for ns in held]
        assert found.newest.tolist() == newest
        assert found.epochs.tolist() == [ring.epoch for ring in rings.rings]
        kept = [numbers[-n:] for numbers in seen]
        assert found.is_even == (kept[0] != [] and all(k == kept[0] for k in kept))
        assert (found.age, found.lost) == (None, 0)  # no feeder lives

    @pytest.mark.parametrize("bounds", [None, (0, 100 * HOUR)])
    def test_it_follows_a_swap(self, each_core: Core, bounds: Any) -> None:
        rings = Rings(each_core, 2, HISTORY)
        for k in range(2):
            rings.close(k, *range(8))
        before = rings.listed(2, bounds)
        rings.swap(0, range(20, 23), slot=2)
        after = rings.listed(2, bounds)
        assert (after.close_time // HOUR).tolist() == [[22, 23], [7, 8]]
        assert after.epochs[0] > before.epochs[0]
        assert after.epochs[1] == before.epochs[1]

    def test_rings_of_two_segments_are_left_to_the_caller(
        self, each_core: Core
    ) -> None:
        rings = Rings(each_core, 2, HISTORY)
        other = rings.over(Words(bytearray(rings.words.raw)))
        pairs: list[tuple] = [(rings.rings[0], other[1]), (), (rings.rings[0], None)]
        for pair in pairs:
            assert rings.read_list(pair, 1, FIELDS, None, 0) is None


class TestDamage:
    @pytest.mark.parametrize("align", [True, False])
    @pytest.mark.parametrize(
        ("word", "value"),
        [(S_EPOCH, 99), (S_INTENT, 1 << 40), (S_PUBLISHED, -5), (S_BASE, 7)],
    )
    def test_a_damaged_slot_is_refused(
        self, each_core: Core, word: int, value: int, align: bool
    ) -> None:
        rings = Rings(each_core, 3, HISTORY)
        for k in range(3):
            rings.close(k, 0, 1)
        rings.words.ints[rings.geometry.slot_word(1) + word] = value
        with pytest.raises((SegmentFormatError, BusyRingError)):
            rings.cut(2, align)


class TestArguments:
    @pytest.mark.parametrize("n", [0, -1, True, 1.0, "1", None])
    def test_n(self, each_core: Core, n: Any) -> None:
        rings = Rings(each_core, 1, HISTORY)
        with pytest.raises(BadArgumentError, match=r"^n is .*of at least 1$"):
            rings.cut(n, True)

    @pytest.mark.parametrize(
        "fields",
        [
            (),
            ("open", "open"),
            ("open_time",),
            ("flags",),
            ("opne",),
            (3,),
            (("open",),),
            ("open", "high", "low", "close", "volume", "money", "open"),
        ],
    )
    def test_fields(self, each_core: Core, fields: Any) -> None:
        rings = Rings(each_core, 1, HISTORY)
        with pytest.raises(BadArgumentError, match=r"it must be some of: open .*once"):
            rings.cut(1, True, fields)

    @pytest.mark.parametrize("align", [2, "yes", None])
    def test_align(self, each_core: Core, align: Any) -> None:
        rings = Rings(each_core, 1, HISTORY)
        with pytest.raises(BadArgumentError, match=r"^align is "):
            rings.cut(1, align)


def test_large_cuts_are_copied_without_the_gil(each_core: Core) -> None:
    """Rows are right; C releases the GIL from 2^18 words on."""
    count = 4000
    rings = Rings(each_core, 2, count)
    for k in range(2):
        rings.swap(k, range(count), slot=2 + k)
    for align in (True, False):
        found = rings.read_cut(rings.rings * 8, count, FIELDS, align)
        values, times, _ = found
        assert values.size > 1 << 18
        assert times.shape[-1] == count
        assert (np.diff(values, axis=2) == 10.0).all()
        assert (values[:, 1::2] - values[:, ::2] == 1 / 16).all()


class Between:
    """Code that runs between the reads of two rings: a reader binds a new slot there.

    Ring 1 of three was swapped, and its reader finds that out in C1.
    """

    def __init__(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rings = Rings(core, 3, HISTORY)
        for k in range(3):
            self.rings.close(k, 0, 1)
        self.rings.swap(1, [0, 1], slot=4)
        self.calls = 0
        self.happens: Callable[[], None] = lambda: None
        self._checked_word = integrity.checked_word
        for module in (integrity, bound_entry):
            monkeypatch.setattr(module, "checked_word", self._look)

    def _look(self, *arguments: Any) -> int:
        self.calls += 1
        if self.calls == 1:
            self.happens()
        return self._checked_word(*arguments)


@pytest.fixture
def between(each_core: Core, monkeypatch: pytest.MonkeyPatch) -> Between:
    return Between(each_core, monkeypatch)


class TestAsOfOneInstant:
    def test_a_bar_that_closes_between_two_reads(self, between: Between) -> None:
        """Ring 0 was read before, ring 2 is read after both close bar 2."""

        def close() -> None:
            between.rings.close(0, 2)
            between.rings.close(2, 2)

        between.happens = close
        found = between.rings.cut(HISTORY, False)
        check_equal(found, expected([[0, 1, 2], [0, 1], [0, 1, 2]], 5, 5, False))

    def test_an_aligned_cut_is_not_disturbed_by_it(self, between: Between) -> None:
        between.happens = lambda: between.rings.close(2, 2)
        found = between.rings.cut(HISTORY, True)
        check_equal(found, expected([[0, 1]] * 3, 5, 5, True))

    @pytest.mark.parametrize("align", [True, False])
    def test_a_ring_that_is_swapped_after_it_was_read(
        self, between: Between, align: bool
    ) -> None:
        between.happens = lambda: between.rings.swap(0, [1], slot=5)
        found = between.rings.cut(HISTORY, align)
        check_equal(found, expected([[1], [0, 1], [0, 1]], 5, 5, align))

    @pytest.mark.parametrize("align", [True, False])
    def test_rows_that_are_overwritten_after_they_were_read(
        self, between: Between, align: bool
    ) -> None:
        def lap() -> None:
            for k in (0, 2):
                between.rings.close(k, *range(2, 20))

        between.happens = lap
        found = between.rings.cut(HISTORY, align)
        held = [[*range(20)], [0, 1], [*range(20)]]
        check_equal(found, expected(held, HISTORY, HISTORY, align))

    def test_without_the_second_look_it_is_torn(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control of the first test above."""
        between = Between(PURE, monkeypatch)
        monkeypatch.setattr(cutting._Window, "held", lambda window, counted: True)
        between.happens = lambda: [between.rings.close(k, 2) for k in (0, 2)]
        _, times, _ = between.rings.cut(HISTORY, False)
        assert times[:, -1].tolist() == [2 * HOUR, 2 * HOUR, 3 * HOUR]

    def test_a_ring_that_never_rests(
        self, each_core: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rings = Rings(each_core, 2, HISTORY)
        for k in range(2):
            rings.close(k, 0, 1)
        turn = iter(range(10**9))

        def swap_again(*arguments: Any) -> int:
            word = checked_word(*arguments)
            rings.swap(0, [0, 1], slot=3 + next(turn) % 2)
            return word

        checked_word = integrity.checked_word
        for module in (integrity, bound_entry):
            monkeypatch.setattr(module, "checked_word", swap_again)
        rings.swap(0, [0, 1], slot=5)
        with pytest.raises(BusyRingError, match=r"^cut: the writer outran this read"):
            rings.cut(2, True)


@pytest.fixture
def writer(feed_name: str) -> Iterator[FeedWriter]:
    with create(feed_name, history=HISTORY) as writer:
        for symbol in ("A", "B", "C"):
            writer.add_stream(symbol, "1h")
        yield writer


@pytest.fixture
def feed(writer: FeedWriter) -> Iterator[Feed]:
    with attach(writer.name) as feed:
        yield feed


@pytest.fixture
def rings(feed: Feed) -> list[Ring]:
    return [feed.ring(symbol, "1h") for symbol in ("A", "B", "C")]


def close_bars(writer: FeedWriter, *numbers: int) -> None:
    for number in numbers:
        for k, symbol in enumerate(("A", "B")):
            ring = writer.add_stream(symbol, "1h")
            ring.append(number * HOUR, *values_of(k, number))


class TestOfAFeed:
    def test_a_ring_without_bars_keeps_its_place(
        self, writer: FeedWriter, rings: list[Ring]
    ) -> None:
        close_bars(writer, 0, 1)
        found = cut([rings[2], rings[0], rings[1]], 5)
        assert found.missing == [rings[2]]
        assert found.close_time.tolist() == [HOUR, 2 * HOUR]
        assert np.isnan(found.values[:, 0]).all()
        assert found.values[:, 1, 1].tolist() == [*values_of(0, 1)]
        assert cut(iter(rings), 5, align=False).close_time[2].tolist() == [0, 0]

    def test_no_ring_has_bars(self, rings: list[Ring]) -> None:
        for align, times in ((True, (0,)), (False, (3, 0))):
            found = cut(rings, 5, align=align)
            assert found.values.shape == (5, 3, 0)
            assert found.close_time.shape == times
            assert found.missing == rings

    def test_one_ring_and_one_field(
        self, writer: FeedWriter, rings: list[Ring]
    ) -> None:
        close_bars(writer, 0)
        one: Any = rings[0]
        assert shmfeed.cut(one, 1, "close").values.tolist() == [[[values_of(0, 0)[3]]]]
        assert shmfeed.cut([one], 1, ["close"], align=False).values.shape == (1, 1, 1)

    def test_a_recreated_feed_is_followed(
        self, writer: FeedWriter, rings: list[Ring]
    ) -> None:
        close_bars(writer, 0)
        cut(rings, 1)
        writer.close(unlink=True)
        with create(writer.name, history=7) as other:
            for symbol in ("C", "B", "A"):
                other.add_stream(symbol, "1h")
            close_bars(other, 1, 2)
            assert cut(rings, 9).close_time.tolist() == [2 * HOUR, 3 * HOUR]
            other.close(unlink=True)
        with create(writer.name, history=HISTORY) as last:
            last.add_stream("A", "1h")
            with pytest.raises(StreamNotFoundError):
                cut(rings, 1)
            last.close(unlink=True)

    def test_of_a_dead_feed_it_has_what_is_there(
        self, writer: FeedWriter, rings: list[Ring]
    ) -> None:
        close_bars(writer, 0)
        writer.close()
        assert cut(rings, 1).close_time.tolist() == [HOUR]

    def test_rings_of_a_closed_feed(self, feed: Feed, rings: list[Ring]) -> None:
        feed.close()
        with pytest.raises(FeedNotFoundError, match="is closed; attach again"):
            cut(rings, 1)

    def test_rings_of_two_feeds(self, feed: Feed, rings: list[Ring]) -> None:
        name = f"{feed.name}2"
        with create(name) as writer, attach(name) as other:
            writer.add_stream("A", "1h")
            mixed = [rings[0], other.ring("A", "1h")]
            with pytest.raises(BadArgumentError, match="from 2 feeds: '"):
                cut(mixed, 1)
            writer.close(unlink=True)

    def test_rings_of_two_attachments_to_one_feed(
        self, feed: Feed, rings: list[Ring], writer: FeedWriter
    ) -> None:
        close_bars(writer, 0)
        with attach(feed.name) as other:
            mixed = [rings[0], other.ring(rings[1].symbol, rings[1].timeframe)]
            assert np.array_equal(cut(mixed, 1).values, cut(rings[:2], 1).values)

    @pytest.mark.parametrize("given", [[], (), iter([])])
    def test_no_rings(self, given: Any) -> None:
        with pytest.raises(BadArgumentError, match=r"^rings is empty"):
            cut(given, 1)

    @pytest.mark.parametrize("given", ["ab", None, 3, [None], [[]], {"a": 1}])
    def test_what_is_no_ring(self, rings: list[Ring], given: Any) -> None:
        with pytest.raises(BadArgumentError, match=r"must contain rings of Feed.ring"):
            cut(given, 1)
        if isinstance(given, list):
            with pytest.raises(BadArgumentError, match="must contain rings"):
                cut(rings + given, 1)

    @pytest.mark.parametrize("fields", [3, None, "opne", {"open"}, ["open"] * 2, []])
    def test_fields(self, rings: list[Ring], fields: Any) -> None:
        if fields == {"open"}:
            assert cut(rings, 1, fields).values.shape[0] == 1
            return
        with pytest.raises(BadArgumentError, match=r"^fields is .* once$"):
            cut(rings, 1, fields)
