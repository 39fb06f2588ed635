"""wait_bar: what counts as had, what is ready, and what holds a wait up."""

import asyncio
import inspect
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np
import pytest
from conftest import Child
from support.sleeping import InThread
from support.waiting import until

import wealthdata
from shmfeed import waiting as ring_waiting
from shmfeed.bar import BACKFILLED, duration
from shmfeed.errors import (
    BadArgumentError,
    ContextError,
    MissingBarsWarning,
    StreamNotFoundError,
)
from shmfeed.feed import Ring
from shmfeed.ringbuf import RingWriter
from shmfeed.waiting import WaitSet
from shmfeed.writer import FeedWriter, create
from wealthdata import Context, attachment, handed, wait_bar, waiting

pytest_plugins = ["support.strategy_process"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning"),
    pytest.mark.usefixtures("own_record"),
]

LONG = 20.0
NOON = 1_704_110_400_000  # 2024-01-01 12:00, a Monday


def close(ring: RingWriter, *numbers: int, flags: int = 0) -> None:
    """Close the bars that end these numbers of timeframes after noon."""
    step = duration(ring.timeframe)
    for number in numbers:
        at = NOON + (number - 1) * step
        ring.append(at, 1.0, 1.0, 1.0, 1.0, 1.0, flags=flags)


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
def beats(writer: FeedWriter) -> Iterator[None]:
    """Keep the feeder alive."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(0.2):
            writer.tick()
            writer.beat_alive()

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    end.set()
    thread.join()


@pytest.fixture
def no_recheck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but a closed bar end a sleep: a waiter checks nothing by itself."""
    monkeypatch.setattr(waiting, "_RECHECK_SECONDS", LONG)
    for name in ("RECHECK_NS", "RECHECK_DEAD_NS"):
        monkeypatch.setattr(ring_waiting, name, int(LONG * 1e9))


class Clock:
    """The clock of a wait, which a test moves on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(waiting, "time", made)
    return made


def look(securities: object = ("A", "B"), frequency: object = "1m") -> list[list[str]]:
    """Return what is ready and what is missing, without a wait."""
    return [*map(list, wait_bar(securities, frequency, timeout=0))]


def ring_of(written: str, timeframe: str = "1m") -> Ring:
    symbol, _, name = written.partition("@")
    feed = attachment.attached_feed(name or None)
    assert feed is not None
    return feed.ring((symbol, timeframe))


def asleep(symbols: list[str], timeout: float | None = LONG, **options) -> InThread:
    """Return a wait of another thread, which sleeps by now."""
    waiter = InThread(wait_bar, symbols, "1m", timeout, **options)
    return waiter.asleep(*map(ring_of, symbols))


def asleep_again(symbols: list[str]) -> InThread:
    """Return a wait of another thread with the record of this one."""
    record = handed.current_record()

    def wait() -> object:
        handed._of_thread.record = record
        return wait_bar(symbols, "1m", LONG)

    return InThread(wait).asleep(*map(ring_of, symbols))


class TestWhatIsHad:
    def test_at_first_it_is_what_there_is(self, a, b) -> None:
        assert look() == [[], ["A", "B"]]
        assert look() == [[], ["A", "B"]]

    def test_a_bar_that_closed_since_is_handed_over_once(self, a, b) -> None:
        look()
        close(a, 1)
        close(b, 1, 2)
        assert look() == [["A", "B"], []]
        assert look() == [[], ["A", "B"]]

    def test_a_wait_since_the_call_misses_it(self, a, b, monkeypatch) -> None:
        """The control: what counts is what there is at the call."""
        monkeypatch.setattr(handed.TaskRecord, "had", lambda *given: given[-1])
        look()
        close(a, 1)
        assert look() == [[], ["A", "B"]]

    def test_what_was_not_handed_over_waits(self, a, b) -> None:
        """B closes while the strategy computes on A, which alone was ready."""
        look()
        close(a, 1)
        assert look() == [["A"], ["B"]]
        close(b, 1)
        assert look() == [["B"], ["A"]]

    def test_a_pair_of_which_one_was_read_is_never_a_bar_late(self, a, b) -> None:
        """Both closed before the read: what was read was not handed over."""
        look()
        for number in range(1, 30):
            close(a, number)
            close(b, number)
            wealthdata.get_price("A", frequency="1m", count=1)
            assert look() == [["A", "B"], []]

    def test_before_the_first_wait_it_is_what_the_task_read(self, a, b) -> None:
        wealthdata.get_price("A", frequency="1m", count=2)
        close(a, 1)
        close(b, 1)
        assert look() == [["A"], ["B"]]

    def test_if_what_was_read_counted_the_pair_would_be_late(
        self, a, b, monkeypatch
    ) -> None:
        """The control of the test above."""
        monkeypatch.setattr(
            handed.TaskRecord,
            "had",
            lambda self, stream, newest: max(
                self.handed.get(stream, newest), self.read.get(stream, -1)
            ),
        )
        look()
        close(a, 1)
        close(b, 1)
        wealthdata.get_price("A", frequency="1m", count=1)
        assert look() != [["A", "B"], []]

    def test_each_frequency_counts_by_itself(self, writer, a) -> None:
        close(writer.add_stream("A", "5m"), 0)
        look("A")
        close(a, 1)
        assert look("A", "5m") == [[], ["A"]]
        assert look("A") == [["A"], []]
        assert look("A", "minute") == [[], ["A"]]


def price(security: object = "A", **options: object) -> None:
    """Read twice: the second time the prepared read serves."""
    for _ in range(2):
        wealthdata.get_price(security, frequency="1m", **options)


def bars(security: object = "A", **options: object) -> None:
    for _ in range(2):
        wealthdata.get_bars(security, 2, "1m", **options)


READS = {
    "the usual call": price,
    "by count": lambda: price(count=2),
    "some fields": lambda: price(fields=["close"]),
    "other fields": lambda: price(fields=["flags"]),
    "by range": lambda: price(start_date="2024-01-01"),
    "up to a date": lambda: price(end_date="2025-01-01"),
    "private": lambda: price(copy=True),
    "with a forming bar": lambda: price(include_now=True),
    "a list of one": lambda: price(["A"]),
    "a list": lambda: price(["A", "C"]),
    "an aligned list": lambda: price(["A", "C"], align=True),
    "a wide list by range": lambda: price(
        ["A", "C"], wide=True, start_date="2024-01-01"
    ),
    "get_bars": lambda: bars(),
    "get_bars, an array": lambda: bars(df=False),
    "get_bars of a list": lambda: bars(["A", "C"]),
    "attribute_history": lambda: wealthdata.attribute_history("A", 3, "1m"),
    "history": lambda: wealthdata.history(3, "1m", security_list=["A", "C"]),
    "a context's": lambda: Context().history("A", 2, "1m"),
    "after the choice": lambda: (price(), wealthdata.use(copy=False)),
    "many": lambda: [price(count=n) for n in range(1, 200)],
    "many lists": lambda: [price(["A", *("C",) * n]) for n in range(100)],
}


class TestWhatWasRead:
    """It counts before the first wait of the task that has read it."""

    @pytest.mark.parametrize("read", READS.values(), ids=READS)
    def test_each_way_to_read(self, writer, a, read: Callable[[], object]) -> None:
        other = writer.add_stream("C", "1m")
        close(other, 0)
        a.update_forming(NOON, 1.0, 1.0, 1.0, 1.0, 1.0)
        read()
        close(a, 1)
        assert look("A") == [["A"], []]

    @pytest.mark.parametrize("read", READS.values(), ids=READS)
    def test_the_newest_read_counts(
        self, writer, a, read: Callable[[], object]
    ) -> None:
        close(writer.add_stream("C", "1m"), 0)
        price(count=1)
        close(a, 1)
        close(writer.add_stream("C", "1m"), 1)
        a.update_forming(NOON + 60_000, 1.0, 1.0, 1.0, 1.0, 1.0)
        read()
        price(count=1, end_date=NOON)
        assert look("A") == [[], ["A"]]

    def test_a_read_of_another_thread_does_not_count(self, a) -> None:
        with ThreadPoolExecutor(1) as other:
            for reads in (price, lambda: other.submit(price).result()):
                reads()
                close(a, int(ring_of("A").count) - 2)
        assert look("A") == [["A"], []]
        with ThreadPoolExecutor(1) as other:
            price()
            assert other.submit(look, "A").result() == [[], ["A"]]

    def test_threads_in_turn_keep_their_own(self, a) -> None:
        """The other thread has read the newer bar, by the same prepared read."""
        with ThreadPoolExecutor(1) as other:
            price()
            close(a, 1)
            other.submit(price).result()
            assert look("A") == [["A"], []]
            assert other.submit(look, "A").result() == [[], ["A"]]

    def test_asyncio_tasks_in_turn_keep_their_own(self, a) -> None:
        price()  # the prepared read is there

        async def first(turn: asyncio.Event) -> list[list[str]]:
            price()
            await turn.wait()
            return look("A")

        async def second(turn: asyncio.Event) -> list[list[str]]:
            await asyncio.sleep(0)
            close(a, 1)
            price()
            turn.set()
            return look("A")

        async def third(turn: asyncio.Event) -> list[list[str]]:
            await turn.wait()
            return look("A")

        async def main() -> list[list[list[str]]]:
            turn = asyncio.Event()
            return await asyncio.gather(first(turn), second(turn), third(turn))

        bar, nothing = [["A"], []], [[], ["A"]]
        assert asyncio.run(main()) == [bar, nothing, nothing]

    def test_a_thread_reads_for_its_task(self, a) -> None:
        async def main() -> list[list[str]]:
            await asyncio.sleep(0)
            handed.current_record()
            await asyncio.to_thread(price)
            close(a, 1)
            return await asyncio.to_thread(look, "A")

        assert asyncio.run(main()) == [["A"], []]

    def test_a_backtest_reads_nothing_of_a_feed(self, a) -> None:
        with ThreadPoolExecutor(1) as worker:

            def run() -> None:
                wealthdata.set_context(backtest(-1, now=NOON))
                price()
                wealthdata.clear_context()

            worker.submit(run).result()
            close(a, 1)
            assert worker.submit(look, "A").result() == [[], ["A"]]


class TestTasks:
    """Each thread and each asyncio task has a record of its own."""

    def test_threads(self, a) -> None:
        look("A")
        with ThreadPoolExecutor(1) as other:
            assert other.submit(look, "A").result() == [[], ["A"]]
            close(a, 1)
            assert look("A") == [["A"], []]
            assert other.submit(look, "A").result() == [["A"], []]

    def test_asyncio_tasks(self, a) -> None:
        async def strategy(closed: asyncio.Event) -> list[object]:
            first = look("A")
            await closed.wait()
            return [first, look("A"), look("A")]

        async def main() -> list[list[object]]:
            look("A")  # a task that is started now inherits the record of this one
            closed = asyncio.Event()
            tasks = [asyncio.create_task(strategy(closed)) for _ in range(2)]
            await asyncio.sleep(0)
            close(a, 1)
            closed.set()
            return await asyncio.gather(*tasks)

        nothing, bar = [[], ["A"]], [["A"], []]
        assert asyncio.run(main()) == [[nothing, bar, nothing]] * 2

    def test_a_thread_of_a_task_has_the_record_of_the_task(self, a) -> None:
        async def strategy(number: int) -> list[object]:
            look("A")
            close(a, number)
            return [await asyncio.to_thread(look, "A") for _ in range(2)]

        async def main() -> list[object]:
            return [*await strategy(1), *await asyncio.create_task(strategy(2))]

        assert asyncio.run(main()) == [[["A"], []], [[], ["A"]]] * 2

    @pytest.mark.parametrize("way", ["to_thread", "run_in_executor"])
    def test_tasks_without_a_record_share_one(self, a, way: str) -> None:
        """Whichever thread of the executor serves a call."""

        async def call() -> object:
            if way == "to_thread":
                return await asyncio.to_thread(look, "A")
            return await asyncio.get_running_loop().run_in_executor(None, look, "A")

        async def main() -> list[object]:
            found = [await call()]
            for number in range(1, 20):
                close(a, number)
                found.append(await call())
            return [*found, await call(), look("A")]

        bar, nothing = [["A"], []], [[], ["A"]]
        assert asyncio.run(main()) == [nothing, *[bar] * 19, nothing, nothing]

    def test_a_record_of_a_task_begins_with_the_one_that_is_shared(self, a, b) -> None:
        """Its first call in the task itself is a read of one of the pair."""

        async def main() -> list[object]:
            await asyncio.to_thread(look)
            close(a, 1)
            close(b, 1)
            found = [await asyncio.to_thread(look)]
            wealthdata.get_price("A", frequency="1m")
            close(a, 2)
            close(b, 2)
            return [*found, await asyncio.to_thread(look), look()]

        bar, nothing = [["A", "B"], []], [[], ["A", "B"]]
        assert asyncio.run(main()) == [bar, bar, nothing]

    def test_threads_in_a_copy_of_the_context_have_their_own(self, a) -> None:
        def strategy() -> list[object]:
            found = [look("A")]
            turn.wait(10)
            return [*found, look("A"), look("A")]

        turn = threading.Barrier(3)
        with ThreadPoolExecutor(2) as pool:
            runs = [pool.submit(copy_context().run, strategy) for _ in range(2)]
            until(lambda: turn.n_waiting == 2)
            close(a, 1)
            turn.wait(10)
            bar, nothing = [["A"], []], [[], ["A"]]
            assert [run.result() for run in runs] == [[nothing, bar, nothing]] * 2

    def test_a_task_that_waits_does_not_stop_the_others(self, a) -> None:
        async def main() -> object:
            look("A")
            wait = asyncio.create_task(asyncio.to_thread(wait_bar, "A", "1m", LONG))
            await asyncio.sleep(0.05)
            close(a, 1)
            return await wait

        assert asyncio.run(main()) == (["A"], [])


class TestReturns:
    def test_names_stand_as_written_in_the_order_asked_each_once(
        self, writer, strategy, a, b
    ) -> None:
        names = ["B", f"A@{strategy}", "B", "A"]
        look(names)
        assert look(names) == [[], ["B", f"A@{strategy}", "A"]]
        close(a, 1)
        assert look(names) == [[f"A@{strategy}", "A"], ["B"]]

    @pytest.mark.parametrize("kind", [list, tuple, iter, np.array])
    def test_any_list_will_do(self, a, b, kind) -> None:
        look()
        close(b, 1)
        assert look(kind(["A", "B"]), kind(["1m", "minute"])) == [["B"], ["A"]]

    def test_the_signature(self) -> None:
        parameters = inspect.signature(wait_bar).parameters.values()
        assert [(p.name, p.default) for p in parameters][2:] == [
            ("timeout", None),
            ("feed", None),
            ("spin", 0.0),
        ]
        assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == [
            "feed",
            "spin",
        ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"securities": []}, ["securities is an empty list"]),
        ({"securities": None}, ["securities is None", "list of symbols"]),
        ({"securities": 7}, ["securities is 7"]),
        ({"securities": ["A", 7]}, ["symbol 7"]),
        ({"securities": "A B"}, ["symbol 'A B'"]),
        ({"securities": "A@"}, ["'A@'", "SYMBOL@FEED", "feed name ''"]),
        ({"securities": "A@x/y"}, ["'A@x/y'", "feed name 'x/y'"]),
        ({"frequency": "1min"}, ["frequency '1min'", "1m"]),
        ({"frequency": None}, ["frequency None", "1m"]),
        ({"frequency": []}, ["frequency is an empty list"]),
        ({"frequency": ["1m", "7m"]}, ["frequency '7m'", "1m"]),
        ({"timeout": -1}, ["timeout is -1"]),
        ({"timeout": "1"}, ["timeout is '1'"]),
        ({"timeout": float("nan")}, ["timeout is nan"]),
        ({"feed": 7}, ["feed name 7"]),
        ({"feed": "a b"}, ["feed name 'a b'"]),
        ({"spin": -0.1}, ["spin is -0.1"]),
        ({"spin": 2}, ["spin is 2", "1 s"]),
    ],
)
def test_each_argument_that_is_not_accepted_is_named(a, arguments, words) -> None:
    look("A")
    close(a, 1)
    given = {"securities": ["A"], "frequency": "1m", "timeout": 0} | arguments
    with pytest.raises(BadArgumentError) as error:
        wait_bar(**given)
    for word in words:
        assert word in str(error.value)
    assert look("A") == [["A"], []]  # nothing was handed over


class TestFrequencies:
    @pytest.mark.parametrize(
        ("minutes", "fives", "ready"),
        [
            ([], [], False),
            ([1], [], True),  # 12:01
            ([1, 2, 3, 4], [], True),  # late: all up to 12:04
            ([1, 2, 3, 4, 5], [], False),  # 12:05, and the five minutes are to come
            ([1, 2, 3, 4, 5], [1], True),
            ([1, 2, 3, 4], [1], False),  # the five minutes came first
            ([1, 2, 3, 4, 5, 6], [], True),  # they are late
            ([1, 2, 3, 4, 5, 6], [1], True),
        ],
    )
    def test_each_whose_grid_ends_at_the_instant_has_closed(
        self, writer, a, minutes: list[int], fives: list[int], ready: bool
    ) -> None:
        five = writer.add_stream("A", "5m")
        close(five, 0)
        look("A", ["5m", "1m"])
        close(a, *minutes)
        close(five, *fives)
        assert look("A", ["5m", "1m"]) == ([["A"], []] if ready else [[], ["A"]])

    def test_a_bar_that_was_late_is_handed_over_alone(self, writer, a) -> None:
        five = writer.add_stream("A", "5m")
        close(five, 0)
        look("A", ["1m", "5m"])
        close(a, 1, 2, 3, 4, 5, 6)
        assert look("A", ["1m", "5m"]) == [["A"], []]
        assert look("A", ["1m", "5m"]) == [[], ["A"]]
        close(five, 1)
        assert look("A", ["1m", "5m"]) == [["A"], []]

    def test_a_phase_of_three_days_is_the_streams(self, writer) -> None:
        day, three = writer.add_stream("A", "1d"), writer.add_stream("A", "3d")
        midnight = 20_000 * duration("1d")  # not on the epoch's grid of three days

        def end(ring: RingWriter, days: int) -> None:
            at = midnight + days * duration("1d") - duration(ring.timeframe)
            ring.append(at, 1.0, 1.0, 1.0, 1.0, 1.0)

        end(day, 0)
        end(three, 0)
        look("A", ["1d", "3d"])
        for days in (1, 2):
            end(day, days)
            assert look("A", ["1d", "3d"]) == [["A"], []]
        end(day, 3)
        assert look("A", ["1d", "3d"]) == [[], ["A"]]
        end(three, 3)
        assert look("A", ["1d", "3d"]) == [["A"], []]


class TestRolledUp:
    """A timeframe that the feed does not carry."""

    def test_a_group_whose_last_bar_closes_is_a_bar(self, a) -> None:
        close(a, 1, 2, 3, 4, 5)
        assert look("A", "5m") == [[], ["A"]]
        for number in (6, 7, 8, 9):
            close(a, number)
            assert look("A", "5m") == [[], ["A"]]
        close(a, 10)
        assert look("A", "5m") == [["A"], []]
        assert look("A", "5m") == [[], ["A"]]

    def test_what_was_read_of_it_counts(self, a) -> None:
        for security in ("A", ["A"]):
            wealthdata.get_price(security, count=2, frequency="3m")
        close(a, 1, 2, 3)
        assert look("A", "3m") == [["A"], []]

    def test_a_group_with_a_hole_is_one_when_it_is_filled(self, writer, a) -> None:
        close(a, 1, 2, 3, 5)
        look("A", "5m")
        close(a, 6)
        assert look("A", "5m") == [[], ["A"]]
        writer.replace_rows("A", "1m", with_a_row(ring_of("A"), 4))
        assert look("A", "5m") == [["A"], []]

    def test_it_is_made_of_the_longest_that_divides_it(self, writer, a) -> None:
        three = writer.add_stream("A", "3m")
        close(three, *range(-9, 1))
        look("A", "15m")
        close(a, *range(1, 16))
        assert look("A", "15m") == [[], ["A"]]
        close(three, *range(1, 6))
        assert look("A", "15m") == [["A"], []]

    @pytest.mark.usefixtures("beats", "no_recheck")
    def test_the_last_bar_of_a_group_wakes_it(self, a) -> None:
        close(a, 1, 2, 3, 4)
        waiter = InThread(wait_bar, "A", ["1m", "5m"], LONG).asleep(ring_of("A"))
        close(a, 5)
        assert waiter.result() == (["A"], [])

    def test_the_calendar_counts_months(self, writer) -> None:
        day, length = writer.add_stream("A", "1d"), duration("1d")
        first = NOON - length // 2  # 1 January
        for number in range(-31, 30):
            day.append(first + number * length, 1.0, 1.0, 1.0, 1.0, 1.0)
        look("A", ["1M", "1w"])
        day.append(first + 30 * length, 1.0, 1.0, 1.0, 1.0, 1.0)
        assert look("A", "1M") == [["A"], []]
        assert look("A", "1w") == [[], ["A"]]

    def test_three_days_never_are(self, writer) -> None:
        close(writer.add_stream("A", "1d"), 0)
        with pytest.raises(StreamNotFoundError, match="A 3d"):
            look("A", "3d")


def make_closed(writer: FeedWriter, key: tuple[str, str]) -> None:
    writer.explain(key, "closed", "halted since May")


def make_stale(writer: FeedWriter, key: tuple[str, str]) -> None:
    writer.explain(key, "dropped", "all messages: off the grid")


def unsubscribe(writer: FeedWriter, key: tuple[str, str]) -> None:
    writer.unsubscribe(*key)


STUCK = pytest.mark.parametrize("spoil", [make_closed, make_stale, unsubscribe])


@pytest.mark.usefixtures("beats")
class TestHealth:
    @STUCK
    def test_a_stuck_stream_holds_up_no_other(self, writer, a, b, spoil) -> None:
        spoil(writer, ("B", "1m"))
        waiter = asleep(["B", "A"])
        close(a, 1)
        assert waiter.result() == (["A"], ["B"])
        assert waiter.seconds < LONG / 2

    @STUCK
    def test_nor_one_that_gets_stuck_meanwhile(self, writer, a, b, spoil) -> None:
        look()
        close(a, 1)
        waiter = asleep_again(["A", "B"])
        spoil(writer, ("B", "1m"))
        assert waiter.result() == (["A"], ["B"])

    def test_without_a_reason_it_would_be_waited_for(self, writer, a, b) -> None:
        """The control of both."""
        look()
        close(a, 1)
        start = time.monotonic()
        assert wait_bar(["A", "B"], "1m", 0.7) == (["A"], ["B"])
        assert time.monotonic() - start >= 0.7

    def test_a_stream_without_a_bar_holds_up_no_other(self, writer, a) -> None:
        writer.add_stream("B", "1m")
        look()
        close(a, 1)
        assert wait_bar(["A", "B"], "1m") == (["A"], ["B"])

    def test_a_bar_that_a_stuck_stream_has_closed_is_handed_over(
        self, writer, a, b
    ) -> None:
        look()
        close(a, 1)
        close(b, 1)
        make_stale(writer, ("B", "1m"))
        assert wait_bar(["A", "B"], "1m") == (["A", "B"], [])

    def test_the_first_of_stuck_ones_alone_ends_the_wait(self, writer, a, b) -> None:
        make_stale(writer, ("A", "1m"))
        make_closed(writer, ("B", "1m"))
        waiter = asleep(["A", "B"], None)
        close(b, 1)
        assert waiter.result() == (["B"], ["A"])

    def test_the_first_bar_of_a_stream_ends_the_wait(self, writer) -> None:
        ring = writer.add_stream("A", "1m")
        waiter = asleep(["A"], None)
        close(ring, 1)
        assert waiter.result() == (["A"], [])

    def test_stuck_ones_alone_are_waited_for_as_long_as_they_may_be_silent(
        self, writer, a, b, clock: Clock
    ) -> None:
        for symbol, seconds in (("A", 600.0), ("B", 6000.0)):
            make_stale(writer, (symbol, "1m"))
            writer.set_silence((symbol, "1m"), seconds)
        waiter = asleep(["A", "B"], None)
        clock.ahead = 500
        waiter.thread.join(0.7)
        assert not waiter.is_done
        clock.ahead = 601
        assert waiter.result() == ([], ["A", "B"])

    def test_the_limit_counts_from_the_call(self, writer, a, clock: Clock) -> None:
        """It gets stuck long after its last bar, and late in the wait."""
        writer.set_silence(("A", "1m"), 600.0)
        waiter = asleep(["A"], None)
        clock.ahead = 500
        make_stale(writer, ("A", "1m"))
        waiter.thread.join(0.7)
        assert not waiter.is_done
        clock.ahead = 601
        assert waiter.result() == ([], ["A"])

    def test_the_timeout_counts_though_all_are_stuck(self, writer, a) -> None:
        make_stale(writer, ("A", "1m"))
        assert wait_bar("A", "1m", 0.2) == ([], ["A"])

    def test_a_stuck_timeframe_holds_up_no_other_security(self, writer, a, b) -> None:
        for symbol in ("A", "B"):
            close(writer.add_stream(symbol, "5m"), 0)
        look(["A", "B"], ["1m", "5m"])
        make_stale(writer, ("A", "5m"))
        for ring in (a, b):
            close(ring, 1)
        assert wait_bar(["A", "B"], ["1m", "5m"]) == (["A", "B"], [])
        for ring in (a, b):
            close(ring, 2, 3, 4, 5)
        close(writer.add_stream("B", "5m"), 1)
        assert wait_bar(["A", "B"], ["1m", "5m"]) == (["B"], ["A"])


class TestRepairs:
    def test_a_repair_wakes_nobody(self, writer, a, beats) -> None:
        close(a, 2)
        look("A")
        filled = with_a_row(ring_of("A"), 1)
        waiter = asleep(["A"], 2.0)
        before = ring_of("A").count
        assert writer.replace_rows("A", "1m", filled) == before + 1
        assert waiter.result() == ([], ["A"])
        assert look("A") == [[], ["A"]]
        close(a, 3)
        assert look("A") == [["A"], []]

    def test_if_bars_were_numbered_a_repair_would(self, writer, a) -> None:
        """The control: a wait by number."""
        close(a, 2)
        ring = ring_of("A")
        seen = ring.count
        writer.replace_rows("A", "1m", with_a_row(ring, 1))
        assert ring.wait(seen, 0) is not None

    def test_a_polled_bar_is_a_bar(self, writer, a) -> None:
        """It comes by a repair, and is newer than all others."""
        look("A")
        writer.replace_rows("A", "1m", with_a_row(ring_of("A"), 1))
        assert look("A") == [["A"], []]


def with_a_row(ring: Ring, number: int) -> np.ndarray:
    """Return the ring's rows and the one that ends `number` minutes after noon."""
    rows = ring.snapshot(100).block
    opened = NOON + (number - 1) * 60_000
    at = int(np.searchsorted(rows.view(np.int64)[0], opened))
    rows = np.insert(rows, at, rows[:, at - 1], axis=1)
    rows.view(np.int64)[:2, at] = opened, opened + 60_000
    return rows


@pytest.fixture
def second(feed_name: str) -> Iterator[FeedWriter]:
    with create(f"{feed_name}2", history=100, max_streams=8) as made:
        yield made
        made.close(unlink=True)


class TestFeeds:
    @pytest.mark.usefixtures("beats")
    def test_several_feeds(self, a, second) -> None:
        other = second.add_stream("A", "1m")
        close(other, 0)
        names = [f"A@{second.name}", "A"]
        waiter = InThread(wait_bar, names, "1m", LONG).asleep()
        close(other, 1)
        waiter.thread.join(0.1)
        assert not waiter.is_done
        second.beat()
        close(a, 1)
        assert waiter.result() == (names, [])

    def test_a_feed_for_those_that_name_none(self, a, second) -> None:
        other = second.add_stream("A", "1m")
        close(other, 0)
        assert wait_bar("A", "1m", 0, feed=second.name) == ([], ["A"])
        close(other, 1)
        assert wait_bar("A", "1m", 0, feed=second.name) == (["A"], [])
        assert look("A") == [[], ["A"]]

    @pytest.mark.usefixtures("beats")
    def test_a_feed_that_is_not_there_holds_up_no_other(self, a, feed_name) -> None:
        names = ["A", f"A@{feed_name}-none"]
        look(names)
        close(a, 1)
        assert wait_bar(names, "1m") == (["A"], [names[1]])

    def test_a_feed_that_appears_is_found(self, strategy) -> None:
        waiter = InThread(wait_bar, "A", "1m", LONG).asleep()
        with create(strategy, history=10) as made:
            ring = made.add_stream("A", "1m")
            until(lambda: _has_attached(strategy))
            close(ring, 1)
            assert waiter.result() == (["A"], [])
            made.close(unlink=True)

    def test_streams_that_no_feed_carries_are_an_error(self, a) -> None:
        with pytest.raises(StreamNotFoundError, match=r"X.*A 1m"):
            look(["X", "Y"])
        with pytest.raises(StreamNotFoundError, match=r"; did you mean A\?$"):
            look(["a", "Y"])
        with pytest.raises(StreamNotFoundError, match="3d"):
            look("A", "3d")

    def test_a_refused_wait_notes_nothing(self, writer, a) -> None:
        with pytest.raises(StreamNotFoundError):
            look("X")
        ring = writer.add_stream("X", "1m")
        close(ring, 1)
        assert look("X") == [[], ["X"]]  # the first wait: that is what there is
        close(ring, 2)
        assert look("X") == [["X"], []]

    def test_one_among_others_is_missing_and_warned_of_once(self, a) -> None:
        waiting._warned.clear()
        with pytest.warns(MissingBarsWarning, match="does not carry X 1m") as caught:
            assert look(["X", "A"]) == [[], ["X", "A"]]
        assert caught[0].filename == __file__
        close(a, 1)
        assert look(["X", "A"]) == [["A"], ["X"]]
        hint = r"not carry a 1m \(did you mean A\?\); wait_bar"
        with pytest.warns(MissingBarsWarning, match=hint):
            assert look(["a", "A"]) == [[], ["a", "A"]]

    def test_a_stream_that_is_added_is_found(self, writer, a, beats) -> None:
        waiting._warned.clear()
        with pytest.warns(MissingBarsWarning):
            look(["X", "A"])
        wait_bar(["A"], "1m", 0.1)
        close(writer.add_stream("X", "1m"), 1)
        assert look(["X", "A"]) == [["X"], ["A"]]


def _has_attached(name: str) -> bool:
    return attachment.attached_feed(name) is not None


class TestRestarts:
    def test_what_closed_meanwhile_is_handed_over(self, writer, strategy, a) -> None:
        look("A")
        writer.close()
        with create(strategy, history=100, guard=16, max_streams=8) as again:
            close(again.add_stream("A", "1m"), 1)
            assert look("A") == [["A"], []]

    def test_a_recreated_feed_with_the_same_bars_has_none_that_is_new(
        self, writer, strategy, a
    ) -> None:
        look("A")
        writer.close(unlink=True)
        with create(strategy, history=50) as again:
            ring = again.add_stream("A", "1m")
            assert look("A") == [[], ["A"]]
            close(ring, -1, 0, flags=BACKFILLED)
            assert look("A") == [[], ["A"]]
            close(ring, 1)
            assert look("A") == [["A"], []]
            again.close(unlink=True)

    def test_history_that_is_not_complete_is_not_new(self, writer, strategy, a) -> None:
        look("A")
        writer.close(unlink=True)
        with create(strategy, history=50) as again:
            ring = again.add_stream("A", "1m")
            close(ring, -2, -1, flags=BACKFILLED)
            assert look("A") == [[], ["A"]]
            close(ring, 0)
            assert look("A") == [[], ["A"]]
            close(ring, 1)
            assert look("A") == [["A"], []]
            again.close(unlink=True)

    @pytest.mark.parametrize("before", [[], [-100]])
    def test_a_feed_that_plays_earlier_hours_is_waited_for(
        self, writer, strategy, a, before: list[int]
    ) -> None:
        look("A")
        writer.close(unlink=True)
        with create(strategy, history=50) as again:
            ring = again.add_stream("A", "1m")
            close(ring, *before)
            waiter = asleep_again(["A"])
            close(ring, -99)
            assert waiter.result() == (["A"], [])
            again.close(unlink=True)

    def test_bars_of_the_future_that_were_cut_off_silence_nothing(
        self, writer, a
    ) -> None:
        look("A")
        close(a, 1, 9999)
        assert look("A") == [["A"], []]
        writer.cut_rows("A", "1m", NOON + 100 * 60_000)
        assert look("A") == [[], ["A"]]
        close(a, 2)
        assert look("A") == [["A"], []]


KILLED = """
import sys, time
from shmfeed.writer import create
with create(sys.argv[1], history=10) as writer:
    ring = writer.add_stream("A", "1m")
    ring.append(int(sys.argv[2]), 1.0, 1.0, 1.0, 1.0, 1.0)
    print("ready", flush=True)
    while True:
        writer.tick()
        time.sleep(0.2)
"""


def test_a_killed_feeder_holds_up_no_other(a, beats, feed_name, child: Child) -> None:
    """Its death ends the wait for it, within the time of a heartbeat."""
    feeder = child(KILLED, f"{feed_name}3", NOON)
    assert feeder.stdout is not None
    assert feeder.stdout.readline() == "ready\n"
    names = ["A", f"A@{feed_name}3"]
    look(names)
    close(a, 1)
    waiter = asleep_again(names)
    waiter.thread.join(0.6)
    assert not waiter.is_done  # it lives, and may close a bar
    os.kill(feeder.pid, signal.SIGKILL)
    assert waiter.result() == (["A"], [names[1]])
    feeder.wait()
    start = time.monotonic()
    assert wait_bar(names[1], "1m", 0.3) == ([], [names[1]])
    assert time.monotonic() - start >= 0.3  # a loop around it does not spin


class TestSleeping:
    @pytest.mark.usefixtures("beats", "no_recheck")
    def test_a_closed_bar_ends_it(self, a, b) -> None:
        """The first and the last of a pair: no recheck does."""
        look()
        for number in range(1, 11):
            waiter = asleep_again(["A", "B"])
            close(a, number)
            waiter.asleep(ring_of("B"))
            close(b, number)
            assert waiter.result() == (["A", "B"], [])

    @pytest.mark.usefixtures("beats")
    def test_it_uses_no_cpu(self, a, b) -> None:
        """One thread's own time, of a wait for two feeds' streams."""
        used: list[float] = []

        def wait() -> None:
            wait_bar(["A", "B"], "1m", 0)
            start = time.thread_time()
            wait_bar(["A", "B"], "1m", 2.0)
            used.append(time.thread_time() - start)

        InThread(wait).result()
        assert used[0] < 0.02

    @pytest.mark.usefixtures("beats")
    @pytest.mark.parametrize("late", [False, True])
    def test_a_bar_that_closes_before_the_sleep_ends_it(
        self, a, monkeypatch, late: bool
    ) -> None:
        """With the control: a wait that counts from when it falls asleep misses it."""
        look("A")
        original = WaitSet

        class Closing:
            def __init__(self, wanted, seconds, **options) -> None:
                if not woken:
                    close(a, 1)
                if late:
                    wanted = [(ring, ring.count) for ring, _ in wanted]
                self.set = original(wanted, seconds, **options)

            def wait(self) -> object:
                found = self.set.wait()
                woken.append(bool(found))
                return found

        woken: list[bool] = []
        monkeypatch.setattr(waiting, "WaitSet", Closing)
        assert wait_bar("A", "1m", LONG) == (["A"], [])
        assert woken == [not late]

    @pytest.mark.usefixtures("beats")
    def test_a_wait_that_spins(self, a, b) -> None:
        look()
        for number in range(1, 4):
            waiter = asleep(["A", "B"], spin=0.01)
            close(a, number)
            close(b, number)
            assert waiter.result() == (["A", "B"], [])


def backtest(*numbers: int, now: object = None, **attributes: object) -> Context:
    """Return a context with bars that end these numbers of minutes after noon."""
    bars = [
        {"open_time": NOON + (n - 1) * 60_000, "close_time": NOON + n * 60_000}
        | dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
        for n in numbers
    ]
    listed = [{"symbol": "A", "timeframe": "1m", "bars": bars}]
    made = Context(listed, run_params={"type": "backtest"}, **attributes)
    if now is not None:
        made.current_dt = now
    return made


class TestBacktests:
    @pytest.mark.parametrize(
        ("now", "ready"), [(0, True), (1, True), (2, False), (0.5, False), (3, True)]
    )
    def test_ready_are_those_with_a_bar_at_that_time(self, a, now, ready) -> None:
        """At once, again and again, whatever the feed does."""
        wealthdata.set_context(backtest(-1, 0, 1, 3, now=int(NOON + now * 60_000)))
        close(a, 1, 2, 3)
        expected = (["A"], ["B"]) if ready else ([], ["A", "B"])
        start = time.monotonic()
        for _ in range(3):
            assert wait_bar(["A", "B"], "1m") == expected
        assert time.monotonic() - start < LONG  # a live wait would be longer

    def test_no_live_bar_makes_one_ready(self, a) -> None:
        close(a, 1)
        wealthdata.set_context(backtest(0, now=NOON + 60_000))
        assert wait_bar("A", "1m") == ([], ["A"])

    def test_without_a_time_it_cannot_be_told(self, a) -> None:
        wealthdata.set_context(backtest(0))
        with pytest.raises(ContextError, match="current_dt"):
            wait_bar("A", "1m")

    def test_a_process_that_reads_no_feed(self, a, monkeypatch) -> None:
        monkeypatch.setenv("SHMFEED_FEED", "off")
        with pytest.raises(ContextError, match="current_dt"):
            wait_bar("A", "1m")
        wealthdata.set_context(backtest(0, now=NOON))
        assert wait_bar(["A", "B"], "1m", feed="any") == (["A"], ["B"])

    def test_a_live_context_changes_nothing(self, a) -> None:
        wealthdata.set_context(Context(current_dt=NOON, run_params={"type": "live"}))
        look("A")
        close(a, 1)
        assert look("A") == [["A"], []]
