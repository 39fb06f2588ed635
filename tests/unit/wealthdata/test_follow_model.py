"""follow against a model: any interleaving of closes, repairs, re-creations and loops.

The model keeps what the feed has published. Whatever happens in between:

- a bar comes once, and as it was published
- a correction names the values that were told before
- what a task was told, with its corrections, is what the ring has
- each bar that is there was told, or lies in a gap that is filled
- each hole was told, and none that was filled is open
"""

from collections.abc import Iterable
from contextlib import ExitStack
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.followed import MINUTE, NOON, Bars, Event, bars, replace, rows_of

import wealthdata
from shmfeed.bar import Bar
from shmfeed.writer import create
from wealthdata import Closed, Gap, Revised, handed
from wealthdata.followed_stream import FollowedStream

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

HISTORY = 12
START = NOON - MINUTE
Operation = tuple[str, int]

NUMBER = st.integers(0, HISTORY - 1)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("close"), st.integers(1, 4)),
        st.tuples(st.just("close"), st.integers(1, 2 * HISTORY)),
        st.tuples(st.just("hole"), st.integers(1, 3)),
        st.tuples(st.just("revise"), NUMBER),
        st.tuples(st.just("fill"), NUMBER),
        st.tuples(st.just("recreate"), NUMBER),
        st.tuples(st.just("take"), st.integers(0, 5)),
        st.tuples(st.just("end"), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 5)),
    ),
    min_size=4,
    max_size=25,
)


class Feed:
    """A feed with one stream, A 1m, and all that it has published."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next = NOON
        self._values = 0.0
        self.published: set[Bar] = set()
        self._create([])
        self.close(1)

    def _create(self, rows: list[Bar]) -> None:
        self.writer = create(self._name, history=HISTORY, guard=4, max_streams=2)
        self._ring = self.writer.add_stream("A", "1m")
        for bar in rows:
            self._append(bar)

    def _append(self, bar: Bar) -> None:
        self._ring.append(bar.open_time, *bar[2:])
        self.published.add(bar)

    def _bar(self, opened: int) -> Bar:
        self._values += 1.0
        values = (self._values,) * 6
        return Bar(opened, opened + MINUTE, *values)

    @property
    def rows(self) -> list[Bar]:
        return rows_of(self.writer, "A")

    def close(self, count: int) -> None:
        for _ in range(count):
            self._append(self._bar(self._next))
            self._next += MINUTE

    def hole(self, count: int) -> None:
        self._next += count * MINUTE
        self.close(1)

    def _replace(self, rows: list[Bar]) -> None:
        replace(self.writer, "A", rows)
        self.published.update(rows)

    def revise(self, number: int) -> None:
        rows = self.rows
        number %= len(rows)
        rows[number] = self._bar(rows[number].open_time)
        self._replace(rows)

    def fill(self, number: int) -> None:
        """Fill the first holes: as many bars as `number` says."""
        rows = self.rows
        there = {bar.open_time for bar in rows}
        grid = range(rows[0].open_time, rows[-1].open_time, MINUTE)
        missing = [at for at in grid if at not in there][: number + 1]
        if missing:
            self._replace(sorted([*rows, *map(self._bar, missing)]))

    def recreate(self, number: int) -> None:
        """Remove the segment; the new one has all rows but the oldest ones."""
        rows = self.rows
        self.writer.close(unlink=True)
        self._create(rows[number % len(rows) :])


class Told:
    """The events that a strategy was told, each checked."""

    def __init__(self, feed: Feed, begin: int) -> None:
        self._feed = feed
        self._begin = begin  # the open time of the first bar that is to come
        self.bars: dict[int, Bar] = {}
        self.open: list[tuple[int, int]] = []
        self.filled: list[tuple[int, int]] = []

    def take(self, found: Iterable[Event]) -> None:
        for event in found:
            match event:
                case Closed(bar=bar):
                    assert bar.open_time >= self._begin
                    assert bar.open_time > max(self.bars, default=0)
                    assert bar in self._feed.published
                    self.bars[bar.open_time] = bar
                case Revised(old=old, new=new):
                    assert self.bars.get(old.open_time) == old != new
                    assert new in self._feed.published
                    self.bars[old.open_time] = new
                case Gap(start=start, end=end, filled=filled):
                    assert self._begin <= start <= end
                    self._note((start, end), filled)

    def _note(self, hole: tuple[int, int], filled: bool) -> None:
        if filled and hole in self.open:
            self.open.remove(hole)
        if filled:
            self.filled.append(hole)
            return
        assert hole[0] > max(self.bars, default=0)
        assert hole not in self.open
        self.open.append(hole)

    def agrees(self) -> None:
        """Check what was told against the ring, once all events were taken."""
        rows = {bar.open_time: bar for bar in self._feed.rows}
        oldest, newest = min(rows), max(rows)
        for at in range(max(oldest, self._begin), newest + 1, MINUTE):
            is_open = any(first <= at <= last for first, last in self.open)
            is_filled = any(first <= at <= last for first, last in self.filled)
            if at not in rows:
                assert is_open
            elif at in self.bars:
                assert rows[at] == self.bars[at]
            else:
                assert is_filled or is_open  # a hole is filled once it is whole
        for first, last in self.open:
            if first >= oldest:
                assert set(range(first, last + 1, MINUTE)) - set(rows)


def play(name: str, operations: list[Operation]) -> None:
    """Play operations, and check all that a strategy is told."""
    handed._of_thread.record = handed.TaskRecord()
    wealthdata.use(feed=name)
    feed = Feed(name)
    with ExitStack() as end:
        end.callback(lambda: feed.writer.close(unlink=True))
        loop: Bars = bars(timeout=0)
        told = Told(feed, feed.rows[-1].close_time)
        for what, number in operations:
            if what == "take":
                found = list(islice(loop, number))
                told.take(found)
                loop = loop if len(found) == number else bars(timeout=0)
            elif what == "end":
                told.take(loop)
                told.agrees()
                loop = bars(timeout=0)
            elif what == "leave":
                loop = bars(timeout=0)
                told.take(list(islice(loop, number)))
                loop = bars(timeout=0)
            else:
                getattr(feed, what)(number)
        told.take(loop)
        told.agrees()


MANY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@MANY
@given(operations=OPERATIONS)
def test_a_strategy_is_told_all_that_happens_once(strategy, operations) -> None:
    play(strategy, operations)


def had_by_the_look(patch: pytest.MonkeyPatch) -> None:
    """Let what a look finds count as handed over."""
    look = FollowedStream.look

    def taking(stream: FollowedStream) -> list[Event]:
        found = look(stream)
        for event in found:
            stream.hand_over(event, handed.current_record())
        return found

    patch.setattr(FollowedStream, "look", taking)


def corrections_unseen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FollowedStream, "_revised", lambda *_: iter(()))


def fills_unseen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FollowedStream, "_filled", lambda *_: iter(()))


def epochs_unseen(patch: pytest.MonkeyPatch) -> None:
    """Let the rows of another epoch be read as new ones, by their number."""
    read = FollowedStream._read

    def by_number(stream: FollowedStream, ring: object) -> object:
        if stream.seen > 0:
            stream.epoch = ring.epoch
        return read(stream, ring)

    patch.setattr(FollowedStream, "_read", by_number)


def doubled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FollowedStream, "hand_over", lambda *_: None)


@pytest.mark.parametrize(
    "mutate",
    [
        had_by_the_look,
        corrections_unseen,
        fills_unseen,
        epochs_unseen,
        doubled,
    ],
)
def test_the_model_sees_each_mutant(strategy, monkeypatch, mutate) -> None:
    """The control of the test above."""
    operations = [
        *[("close", 4), ("take", 2), ("leave", 1), ("hole", 2), ("take", 3)],
        *[("revise", 3), ("fill", 1), ("end", 0), ("recreate", 2), ("close", 2)],
        *[("take", 1), ("revise", 7), ("end", 0), ("close", 1), ("take", 1)],
        *[("revise", 7), ("hole", 1), ("fill", 2)],
    ]
    play(strategy, operations)
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        play(strategy, operations)
