"""follow: each bar once, in order; corrections, gaps; loops that are left early."""

import asyncio
import inspect
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product

import numpy as np
import pytest
from support.followed import (
    MINUTE,
    NOON,
    Bars,
    bars,
    beating,
    close,
    events,
    fill,
    opened,
    replace,
    revise,
    rows_of,
    short,
)
from support.sleeping import InThread

import wealthdata
from shmfeed import waiting
from shmfeed.bar import AFTER_GAP, BACKFILLED, UNCONFIRMED, Bar, duration
from shmfeed.errors import (
    BadArgumentError,
    ContextError,
    FeedChangedError,
    StreamNotFoundError,
)
from shmfeed.ringbuf import RingWriter
from shmfeed.waiting import WaitSet
from shmfeed.writer import FeedWriter, create
from wealthdata import (
    Closed,
    Context,
    Gap,
    Revised,
    follow,
    following,
    handed,
    handed_bars,
)
from wealthdata.followed_stream import FollowedStream

pytest_plugins = ["support.strategy_process"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning"),
    pytest.mark.usefixtures("own_record"),
]

LONG = 20.0


@pytest.fixture
def a(writer: FeedWriter) -> RingWriter:
    ring = writer.add_stream("A", "1m")
    close(ring, -2, -1, 0)
    return ring


@pytest.fixture
def b(writer: FeedWriter) -> RingWriter:
    ring = writer.add_stream("B", "1m")
    close(ring, -2, -1, 0)
    return ring


@pytest.fixture
def small(strategy: str) -> Iterator[FeedWriter]:
    """Create the feed, with ten bars a stream."""
    with create(strategy, history=10, guard=4, max_streams=8) as made:
        yield made
        made.close(unlink=True)


@pytest.fixture
def second(feed_name: str) -> Iterator[FeedWriter]:
    with create(f"{feed_name}2", history=100, max_streams=8) as made:
        yield made
        made.close(unlink=True)


def asleep(call: Callable[..., object], loop: Bars) -> InThread:
    """Return a call of another thread, which sleeps by now."""
    return InThread(call, loop).asleep(*(s.ring for s in loop.loop._streams))


class TestWhatIsHad:
    def test_at_first_it_is_what_there_is(self, a) -> None:
        assert events() == []
        close(a, 1, 2)
        assert short(events()) == [1, 2]
        assert events() == []

    def test_a_bar_has_all_its_values(self, a) -> None:
        loop = bars(timeout=0)
        a.append(NOON, 1.0, 4.0, 0.5, 2.0, 7.0, 14.0, flags=UNCONFIRMED)
        bar = Bar(NOON, NOON + MINUTE, 1.0, 4.0, 0.5, 2.0, 7.0, 14.0, UNCONFIRMED)
        assert list(loop) == [Closed("A", "1m", bar)]

    def test_what_closes_between_the_call_and_the_loop_counts(self, a) -> None:
        loop = bars(timeout=0)
        close(a, 1)
        assert short(loop) == [1]

    def test_what_was_read_was_had(self, a) -> None:
        wealthdata.get_price("A", frequency="1m")
        close(a, 1, 2)
        wealthdata.get_price("A", count=1, frequency="1m", end_date=NOON + MINUTE)
        close(a, 3)
        assert short(events()) == [2, 3]

    def test_what_was_read_later_was_not_handed_over(self, a) -> None:
        events()
        close(a, 1)
        wealthdata.get_price("A", frequency="1m")
        assert short(events()) == [1]

    def test_wait_bar_hands_over_too(self, a) -> None:
        wealthdata.wait_bar("A", "1m", 0)
        close(a, 1)
        assert wealthdata.wait_bar("A", "1m", 0) == (["A"], [])
        close(a, 2)
        assert short(events()) == [2]
        close(a, 3)
        assert wealthdata.wait_bar("A", "1m", 0) == (["A"], [])
        assert wealthdata.wait_bar("A", "1m", 0) == ([], ["A"])
        close(a, 4)
        assert short(events()) == [4]
        assert wealthdata.wait_bar("A", "1m", 0) == ([], ["A"])

    def test_each_thread_and_task_has_its_own(self, a) -> None:
        events()

        async def task() -> list[object]:
            loop = follow("A", "1m", 0)
            close(a, 2)
            found = [event async for event in loop]
            return short(event for event in found if isinstance(event, Closed))

        with ThreadPoolExecutor(1) as other:
            assert other.submit(events).result() == []
            close(a, 1)
            assert short(other.submit(events).result()) == [1]
        assert asyncio.run(task()) == [2]
        assert short(events()) == [1, 2]

    def test_two_loops_of_one_task_get_all(self, a) -> None:
        one, two = bars(), bars()
        close(a, 1)
        assert short([next(one), next(two)]) == [1, 1]
        close(a, 2)
        assert short([next(two), next(one)]) == [2, 2]
        assert short(events()) == []
        three = bars()  # goes on after what `one` has handed over
        close(a, 3)
        assert short([next(three), next(one), next(two)]) == [3, 3, 3]


class TestLoopsThatAreLeft:
    @pytest.mark.parametrize("taken", range(8))
    def test_the_next_loop_goes_on(self, writer, a, taken: int) -> None:
        """Wherever the first one is left: after a gap and before its bar, too."""
        events()
        close(a, 1, 2, 5, 6)
        before = list(islice(bars(timeout=0), min(taken, 5)))
        revise(writer, 1, close=3.0)
        fill(writer, 3, 4)
        after = [event for _ in range(5) for event in islice(bars(timeout=0), 1)]
        found = short(before + after)
        told = {0: [1, 2, 3, 4, 5, 6], 1: [1, ("revised", 1), 2, 3, 4, 5, 6]}
        told[2] = [1, 2, ("revised", 1), 3, 4, 5, 6]
        hole, filled = ("gap", 3, 4), ("filled", 3, 4)
        told[3] = [1, 2, hole, ("revised", 1), filled, 5, 6]
        told[4] = [1, 2, hole, 5, ("revised", 1), filled, 6]
        told[5] = [1, 2, hole, 5, 6, ("revised", 1), filled]
        assert found == told[min(taken, 5)][: len(found)]
        rest = short(events())
        assert found + rest == told[min(taken, 5)]

    def test_if_a_look_counted_as_had_bars_would_be_missed(
        self, a, monkeypatch
    ) -> None:
        """The control: a look hands over what it finds."""
        look = FollowedStream.look

        def taking(stream: FollowedStream) -> list[object]:
            found = look(stream)
            for event in found:
                stream.hand_over(event, handed.current_record())
            return found

        monkeypatch.setattr(FollowedStream, "look", taking)
        follow("A", "1m", 0).close()
        close(a, 1, 2)
        assert short(islice(bars(timeout=0), 1)) == [1]
        assert short(events()) == []

    def test_a_loop_that_was_closed_is_at_its_end(self, a) -> None:
        loop = bars(timeout=0)
        close(a, 1, 2)
        assert short([next(loop)]) == [1]
        for _ in range(2):
            loop.loop.close()
            assert list(loop) == []
        assert short(events()) == [2]

    def test_one_that_has_ended_stays_so(self, a) -> None:
        loop = bars(timeout=0)
        assert list(loop) == []
        close(a, 1)
        assert list(loop) == []

    def test_a_with_block_closes_it(self, a) -> None:
        loop = bars()
        with loop.loop as entered:
            assert entered is loop.loop
            close(a, 1, 2)
            assert short([next(loop)]) == [1]
        assert list(loop) == []


class TestOrder:
    def test_by_close_time_then_as_asked_then_the_shortest_first(
        self, writer, a, b
    ) -> None:
        for symbol in ("A", "B"):
            close(writer.add_stream(symbol, "5m"), 0)
        loop = bars(["B", "A"], ["5m", "1m"], 0)
        close(writer.add_stream("B", "5m"), 1)
        close(a, 1, 2, 3, 4, 5, 6)
        close(b, 2, 4, 5)
        close(writer.add_stream("A", "5m"), 1)
        found = [
            (e.symbol, e.timeframe, (e.bar.close_time - NOON) // MINUTE)
            for e in loop
            if isinstance(e, Closed)
        ]
        assert found == [
            ("A", "1m", 1),
            ("B", "1m", 2),
            ("A", "1m", 2),
            ("A", "1m", 3),
            ("B", "1m", 4),
            ("A", "1m", 4),
            ("B", "1m", 5),
            ("B", "5m", 5),
            ("A", "1m", 5),
            ("A", "5m", 5),
            ("A", "1m", 6),
        ]

    def test_names_are_as_written(self, strategy, a, second) -> None:
        other = second.add_stream("A", "1m")
        close(other, 0)
        names = ["A", f"A@{strategy}", f"A@{second.name}"]
        loop = bars(names, "minute", 0)
        close(a, 1)
        close(other, 1)
        assert [event.symbol for event in loop] == names

    def test_a_feed_for_those_that_name_none(self, strategy, a, second) -> None:
        other = second.add_stream("A", "1m")
        close(other, 0)
        loop = bars(["A", f"A@{strategy}"], "1m", 0, feed=second.name)
        close(other, 1, price=2.0)
        close(a, 1)
        found = [event.bar.close for event in loop]
        assert found == [2.0, 1.0]


class TestRevisions:
    def test_a_correction_comes_once(self, writer, a) -> None:
        loop = bars()
        close(a, 1, 2, 3)
        assert short(islice(loop, 3)) == [1, 2, 3]
        revise(writer, 2, money=7.0)
        assert short([next(loop)]) == [("revised", 2)]
        old = rows_of(writer, "A")[-2]
        revise(writer, 2, close=5.0, volume=9.0)
        new = old._replace(close=5.0, volume=9.0)
        assert next(loop) == Revised("A", "1m", old, new)
        revise(writer, 2, low=0.5)
        assert next(loop) == Revised("A", "1m", new, new._replace(low=0.5))
        close(a, 4)
        assert short([next(loop)]) == [4]

    def test_one_that_came_between_two_loops_is_told(self, writer, a) -> None:
        events()
        close(a, 1, 2)
        assert short(events()) == [1, 2]
        revise(writer, 1, close=5.0)
        revise(writer, 2, close=6.0)
        close(a, 3)
        assert short(events()) == [("revised", 1), ("revised", 2), 3]
        assert events() == []

    @pytest.mark.parametrize("number", [-1, 0])
    def test_bars_that_were_not_handed_over_are_not(self, writer, a, number) -> None:
        events()
        revise(writer, number, close=5.0)
        assert events() == []

    def test_nor_one_that_was_corrected_before_it_was_handed_over(
        self, writer, a
    ) -> None:
        loop = bars(timeout=0)
        close(a, 1)
        revise(writer, 1, close=5.0)
        assert [e.bar.close for e in loop] == [5.0]

    @pytest.mark.parametrize(
        ("old", "new", "is_told"),
        [
            ({}, {"flags": UNCONFIRMED}, False),
            ({"money": 1.0}, {"money": math.nan}, True),
            ({"money": math.nan}, {"money": 2.0}, True),
            ({"open": 0.0}, {"open": -0.0, "flags": 1}, False),
            ({}, {"high": 9.0}, True),
        ],
    )
    def test_a_correction_is_another_value(self, writer, a, old, new, is_told) -> None:
        events()
        close(a, 1)
        if old:
            revise(writer, 1, **old, flags=2)
        events()
        revise(writer, 1, **new)
        assert short(events()) == ([("revised", 1)] if is_told else [])

    def test_as_far_back_as_the_ring_goes(self, small) -> None:
        ring = small.add_stream("A", "1m")
        close(ring, 0)
        loop = bars()
        for number in range(1, 41):
            close(ring, number)
            assert short([next(loop)]) == [number]
        rows = rows_of(small, "A")
        assert len(rows) == 10
        replace(small, "A", [bar._replace(close=2.0) for bar in rows])
        revised = [("revised", number) for number in range(31, 41)]
        assert short(islice(loop, 10)) == revised

    def test_if_only_the_newest_were_remembered_it_would_be_missed(
        self, writer, a, monkeypatch
    ) -> None:
        """The control."""
        monkeypatch.setattr(FollowedStream, "_most", lambda _self: 1)
        monkeypatch.setattr(handed_bars, "_MOST_NEW", 0)
        loop = bars(timeout=0)
        close(a, *range(1, 6))
        assert short(islice(loop, 5)) == [1, 2, 3, 4, 5]
        revise(writer, 1, close=5.0)
        assert short(loop) == []


class TestGaps:
    def test_a_hole_comes_before_the_bar_after_it(self, a) -> None:
        events()
        close(a, 1, 4)
        assert events()[1] == Gap("A", "1m", NOON + MINUTE, NOON + 2 * MINUTE, False)
        close(a, 6)
        assert short(events()) == [("gap", 5, 5), 6]

    def test_one_right_at_the_begin_counts(self, a) -> None:
        loop = bars(timeout=0)
        close(a, 3)
        assert short(loop) == [("gap", 1, 2), 3]

    def test_it_is_filled_once_it_is_closed_whole(self, writer, a) -> None:
        loop = bars()
        close(a, 1, 5)
        assert short(islice(loop, 3)) == [1, ("gap", 2, 4), 5]
        fill(writer, 3)
        close(a, 6)
        assert short([next(loop)]) == [6]
        fill(writer, 2, 4, flags=BACKFILLED)
        assert short([next(loop)]) == [("filled", 2, 4)]
        close(a, 7)
        assert short([next(loop)]) == [7]

    def test_one_that_was_filled_between_two_loops(self, writer, a) -> None:
        events()
        close(a, 3, 5)
        assert short(events()) == [("gap", 1, 2), 3, ("gap", 4, 4), 5]
        fill(writer, 1, 2, 4)
        assert short(events()) == [("filled", 1, 2), ("filled", 4, 4)]
        assert events() == []

    def test_a_hole_that_leaves_the_ring_stays_open(self, small) -> None:
        ring = small.add_stream("A", "1m")
        close(ring, 0)
        loop = bars(timeout=0)
        close(ring, 1, 3)
        assert short(islice(loop, 3)) == [1, ("gap", 2, 2), 3]
        close(ring, *range(4, 20))
        found = short(events())
        assert found[-1] == 19
        replace(small, "A", rows_of(small, "A"))
        assert events() == []

    def test_bars_that_were_skipped_are_there(self, small) -> None:
        ring = small.add_stream("A", "1m")
        close(ring, 0)
        loop = bars(timeout=0)
        close(ring, *range(1, 26))
        assert short(loop) == [("filled", 1, 15), *range(16, 26)]

    def test_after_a_repair_too(self, small) -> None:
        ring = small.add_stream("A", "1m")
        close(ring, 0)
        loop = bars(timeout=0)
        close(ring, *range(1, 26))
        rows = rows_of(small, "A")
        replace(small, "A", [bar._replace(close=2.0) for bar in rows])
        assert short(loop) == [("filled", 1, 15), *range(16, 26)]

    def test_a_hole_before_the_oldest_row_is_none_that_was_skipped(self, small) -> None:
        """The rows after it fill the ring, and their flags tell of it."""
        ring = small.add_stream("A", "1m")
        close(ring, 0)
        loop = bars(timeout=0)
        close(ring, 4, flags=AFTER_GAP)
        close(ring, *range(5, 14))
        assert short(loop) == [("gap", 1, 3), *range(4, 14)]

    def test_a_bar_that_closes_amid_a_look_is_not_skipped(self, a, monkeypatch) -> None:
        """A look asks for as many rows as were new, and more have come since."""
        loop = bars(timeout=0)
        close(a, 1)
        assert short(islice(loop, 1)) == [1]
        stream = loop.loop._streams[0]
        ring = stream.ring
        later = iter((3, 4))

        class Slow:
            """A ring on which a bar closes before each snapshot."""

            def __getattr__(self, name: str) -> object:
                return getattr(ring, name)

            def snapshot(self, n: int) -> object:
                close(a, *islice(later, 1))
                return ring.snapshot(n)

        close(a, 2)
        stream.ring = Slow()
        found = short(stream._look_at_bars())
        assert found == [2, 3, 4]

    @pytest.mark.parametrize(
        ("timeframe", "present", "expected"),
        [
            ("1M", ["2024-01", "2024-02", "2024-06"], ("2024-03-01", "2024-05-01")),
            ("1w", ["2024-01-01", "2024-01-08", "2024-01-29"], None),
            ("3d", ["2024-01-02", "2024-01-05", "2024-01-14"], None),
        ],
    )
    def test_grids_of_calendar_and_phase(
        self, writer, timeframe, present, expected
    ) -> None:
        moments = [int(np.datetime64(text, "ms").astype(int)) for text in present]
        ring = writer.add_stream("A", timeframe)
        for at in moments[:1]:
            ring.append(at, 1.0, 1.0, 1.0, 1.0, 1.0)
        loop = bars("A", timeframe, 0)
        for at in moments[1:]:
            ring.append(at, 1.0, 1.0, 1.0, 1.0, 1.0)
        length = duration(timeframe)
        first, last = moments[1] + length, moments[2] - length
        if expected:
            first, last = (int(np.datetime64(t, "ms").astype(int)) for t in expected)
        found = list(loop)
        assert [type(event) for event in found] == [Closed, Gap, Closed]
        assert found[1] == Gap("A", timeframe, first, last, False)


class TestRolledUp:
    """A timeframe that the feed does not carry."""

    def test_a_group_whose_last_bar_closes_is_a_bar(self, a) -> None:
        close(a, 1, 2, 3, 4, 5)
        loop = bars("A", ["5m", "1m"])
        for number in (6, 7, 8, 9):
            close(a, number)
            assert short([next(loop)]) == [number]
        close(a, 10)
        assert short(islice(loop, 2)) == [10, 2]

    def test_it_is_revised_when_one_of_its_bars_is(self, writer, a) -> None:
        loop = bars("A", "5m")
        close(a, *range(1, 6))
        assert short([next(loop)]) == [1]
        revise(writer, 3, high=9.0)
        event = next(loop)
        assert isinstance(event, Revised)
        assert (event.old.high, event.new.high) == (1.0, 9.0)

    def test_a_group_with_a_hole_is_a_gap(self, writer, a) -> None:
        loop = bars("A", "5m")
        close(a, *range(1, 6), *range(7, 16))
        assert short(islice(loop, 3)) == [1, ("gap", 2, 2), 3]
        fill(writer, 6)
        assert short([next(loop)]) == [("filled", 2, 2)]

    def test_groups_that_were_skipped(self, small) -> None:
        ring = small.add_stream("A", "1m")
        close(ring, *range(-4, 1))
        loop = bars("A", "5m", 0)
        close(ring, *range(1, 31))
        assert short(loop) == [("filled", 1, 4), 5, 6]


class TestRecreated:
    """The segment is removed and made again."""

    def again(self, writer: FeedWriter, *numbers: int, **more: float) -> FeedWriter:
        writer.close(unlink=True)
        made = create(writer.name, history=100, guard=16, max_streams=8)
        close(made.add_stream("A", "1m"), *numbers, **more)
        return made

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ([1, 2, 3, 4], [4]),
            ([4, 5], [4, 5]),
            ([6], [("gap", 4, 5), 6]),
            ([1, 2], []),  # a store that lags behind
            ([-9, -8, -7], [-9, -8, -7]),  # other hours
            ([], []),
        ],
    )
    def test_each_bar_comes_once(self, writer, a, rows, expected) -> None:
        loop = bars(timeout=0)
        close(a, 1, 2, 3)
        assert short(islice(loop, 3)) == [1, 2, 3]
        with self.again(writer, *rows) as made:
            assert short(events()) == expected
            assert events() == []
            made.close(unlink=True)

    def test_bars_that_come_again_after_a_lag_are_known(self, writer, a) -> None:
        events()
        close(a, 1, 2, 3)
        assert short(events()) == [1, 2, 3]
        with self.again(writer, 0, 1, 2) as made:
            assert events() == []
            close(made.add_stream("A", "1m"), 3)
            assert events() == []
            close(made.add_stream("A", "1m"), 4)
            assert short(events()) == [4]
            made.close(unlink=True)

    def test_other_values_are_corrections(self, writer, a) -> None:
        events()
        close(a, 1, 2, 3)
        assert short(events()) == [1, 2, 3]
        with self.again(writer, 2, 3, 4, price=7.0) as made:
            assert short(events()) == [("revised", 2), ("revised", 3), 4]
            made.close(unlink=True)

    def test_rows_of_the_future_that_are_cut_off_hold_nothing_up(
        self, writer, a
    ) -> None:
        events()
        close(a, 1, 2, 500)
        assert short(events())[-1] == 500
        writer.cut_rows("A", "1m", opened(500))
        close(a, 3)
        assert short(events()) == [3]
        close(a, 4)
        assert short(events()) == [4]


class TestFirstBars:
    """Of a stream that had none when the task began to follow it."""

    def test_all_that_close_count(self, writer) -> None:
        ring = writer.add_stream("A", "1m")
        loop = bars(timeout=0)
        close(ring, 1, 2, 4)
        assert short(loop) == [1, 2, ("gap", 3, 3), 4]

    def test_history_does_not(self, writer) -> None:
        ring = writer.add_stream("A", "1m")
        loop = bars(timeout=0)
        close(ring, -2, -1, 0, flags=BACKFILLED)
        close(ring, 1, 2)
        assert short(loop) == [1, 2]

    def test_nor_what_closed_before_by_the_venues_clock(self, writer) -> None:
        """Rows of a store have no flag that tells."""
        now = time.time_ns() // 1_000_000 // MINUTE * MINUTE
        ring = writer.add_stream("A", "1m")
        writer.set_clock_offset(3_600_000)
        loop = bars(timeout=0)
        for at in (0, 58, 61, 62):  # minutes from now; the venue is an hour ahead
            ring.append(now + at * MINUTE, 1.0, 1.0, 1.0, 1.0, 1.0)
        found = [e for e in loop if isinstance(e, Closed)]
        assert [(e.bar.open_time - now) // MINUTE for e in found] == [61, 62]


class TestAnotherMarket:
    def test_it_is_refused_until_it_is_chosen(self, writer, a, monkeypatch) -> None:
        loop = bars(timeout=0)
        close(a, 1)
        refused = FeedChangedError("other")

        def check(_feed: object) -> None:
            raise refused

        with monkeypatch.context() as patch:
            patch.setattr(following._KnownFeed, "check", check)
            for _ in range(2):
                with pytest.raises(FeedChangedError):
                    next(loop)
        assert short(loop) == [1]  # what the look found is not lost


def backtest() -> Context:
    return Context([], run_params={"type": "backtest"}, current_dt=NOON)


class TestBacktests:
    def mark(self, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if way == "context":
            wealthdata.set_context(backtest())
        elif way == "use":
            wealthdata.use(context_only=True)
        else:
            monkeypatch.setenv("SHMFEED_FEED", "off")

    @pytest.mark.parametrize("way", ["context", "use", "environment"])
    def test_it_names_the_runner(self, strategy, a, monkeypatch, way) -> None:
        loop = bars(timeout=0)
        close(a, 1, 2)
        next(loop)
        self.mark(way, monkeypatch)
        for call in (lambda: follow("A", "1m", 0, feed=strategy), loop.__next__):
            with pytest.raises(ContextError, match=r"wealthdata run .* --backtest"):
                call()

    def test_a_live_thread_is_not_handed_a_backtests_context(self, a) -> None:
        loop = bars(timeout=0)
        close(a, 1)
        with ThreadPoolExecutor(1) as other:
            other.submit(wealthdata.set_context, backtest()).result()
            with pytest.raises(ContextError, match="has read live bars"):
                next(loop)
            other.submit(wealthdata.clear_context).result()
        assert short(loop) == [1]

    def test_a_live_context_changes_nothing(self, a) -> None:
        wealthdata.set_context(Context(current_dt=NOON, run_params={"type": "live"}))
        loop = bars(timeout=0)
        close(a, 1)
        assert short(loop) == [1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"securities": []}, ["empty list"]),
        ({"securities": None}, ["securities is None", "list of symbols"]),
        ({"securities": ["A", 7]}, ["symbol 7"]),
        ({"securities": "A@"}, ["'A@'", "SYMBOL@FEED"]),
        ({"frequency": "1min"}, ["frequency '1min'", "1m"]),
        ({"frequency": []}, ["frequency is an empty list"]),
        ({"frequency": ["1m", "7m"]}, ["frequency '7m'"]),
        ({"timeout": -1}, ["timeout is -1"]),
        ({"timeout": float("nan")}, ["timeout is nan"]),
        ({"feed": "a b"}, ["feed name 'a b'"]),
    ],
)
def test_each_argument_that_is_not_accepted_is_named(a, arguments, words) -> None:
    events()
    close(a, 1)
    given = {"securities": ["A"], "frequency": "1m", "timeout": 0} | arguments
    with pytest.raises(BadArgumentError) as error:
        follow(**given)
    for word in words:
        assert word in str(error.value)
    assert short(events()) == [1]  # nothing was handed over


def test_the_signature() -> None:
    parameters = inspect.signature(follow).parameters.values()
    assert [p.name for p in parameters] == [
        "securities",
        "frequency",
        "timeout",
        "feed",
    ]
    assert [p.default for p in parameters][2:] == [None, None]
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == ["feed"]


def test_streams_that_no_feed_carries_are_an_error(a) -> None:
    with pytest.raises(StreamNotFoundError, match=r"X.*A 1m"):
        follow(["X", "Y"], "1m")
    assert handed.current_record().followed == {}


def test_two_threads_cannot_share_a_loop(writer, a) -> None:
    loop = bars()
    with beating(writer):
        waiter = asleep(next, loop)
        with pytest.raises(ContextError, match="another thread or task"):
            next(loop)
        close(a, 1)
        assert short([waiter.result()]) == [1]
    close(a, 2)
    assert short([next(loop)]) == [2]


class TestTimeouts:
    def test_it_counts_from_the_begin_of_a_wait(self, writer, a) -> None:
        loop = bars(timeout=0.3)
        close(a, 1)
        with beating(writer):
            assert short([next(loop)]) == [1]
            time.sleep(0.35)
            start = time.monotonic()
            assert list(loop) == []
            assert time.monotonic() - start >= 0.3

    def test_a_loop_that_another_thread_closes_ends(self, writer, a) -> None:
        loop = bars()
        with beating(writer):
            waiter = asleep(list, loop)
            loop.loop.close()
            assert waiter.result() == []

    def test_it_wakes_for_a_bar(self, writer, a, b, monkeypatch) -> None:
        """Not at the next recheck, which is far."""
        monkeypatch.setattr(following, "_RECHECK_SECONDS", LONG)
        monkeypatch.setattr(waiting, "RECHECK_NS", int(LONG * 1e9))
        monkeypatch.setattr(WaitSet, "seconds_alive", lambda _self: math.inf)
        loop = bars(["A", "B"])
        with beating(writer):
            for number, ring in product(range(1, 6), (a, b)):
                waiter = asleep(next, loop)
                close(ring, number)
                event = waiter.result(LONG / 2)
                assert event.symbol == ring.symbol

    def test_it_uses_no_cpu(self, writer, a, b) -> None:
        used: list[float] = []

        def wait() -> None:
            loop = follow(["A", "B"], "1m", 2.0)
            start = time.thread_time()
            list(loop)
            used.append(time.thread_time() - start)

        with beating(writer):
            InThread(wait).result()
        assert used[0] < 0.02
