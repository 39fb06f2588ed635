"""Writing a ring on a bytearray: the words it stores, the arguments it refuses."""

import math
from decimal import Decimal

import numpy as np
import pytest
from support.cores import chosen
from support.ring_on_bytes import HOUR, STREAM, Bench, bench, blank, prices, right_to

from shmfeed.bar import TIMEFRAMES, Bar, close_time
from shmfeed.errors import BadArgumentError, FeedLostError
from shmfeed.layout import H_BARS, H_TICK, S_INTENT, S_PUBLISHED, SLOT_HEADER_WORDS
from shmfeed.memory.words import boot_ns

pytestmark = pytest.mark.usefixtures("each_core")

HISTORY, GUARD = 4, 2
CAPACITY = HISTORY + GUARD
VERBS = ["append", "update_forming"]


@pytest.fixture
def ring() -> Bench:
    return bench(HISTORY, GUARD)


def state(ring: Bench) -> tuple[int, object, object]:
    return ring.reader.count, ring.reader.last_closed(), ring.reader.forming()


class TestAppend:
    def test_close_time_follows_from_the_timeframe(self) -> None:
        for timeframe in TIMEFRAMES:
            ring = bench(HISTORY, key=("A", timeframe))
            ring.writer.append(0, *prices(0))
            assert ring.reader.last_closed().close_time == close_time(0, timeframe)

    def test_money_and_flags_are_unknown_unless_given(self, ring: Bench) -> None:
        ring.close(0)
        bar = ring.reader.last_closed()
        assert math.isnan(bar.money)
        assert bar.flags == 0

    def test_each_row_is_written_twice(self, ring: Bench) -> None:
        ring.close(*range(20))
        at = ring.geometry.slot_word(0) + SLOT_HEADER_WORDS
        columns = ring.words.columns(at, (9, 2 * CAPACITY)).view(np.int64)
        assert (columns[:, :CAPACITY] == columns[:, CAPACITY:]).all()
        assert columns[0, 19 % CAPACITY] == 19 * HOUR

    def test_each_close_wakes_once(self, ring: Bench) -> None:
        ring.close(0, 1)
        assert ring.woken == [0, 0]

    def test_it_wakes_after_the_row_is_published(self) -> None:
        ring = bench(HISTORY)
        counts: list[int] = []
        writer = ring.core.RingWriter(
            ring.words,
            ring.geometry,
            0,
            ("BTCUSDT", "1h"),
            lambda _: counts.append(ring.reader.count),
            ring.right,
        )
        writer.append(0, *prices(0))
        assert counts == [1]

    def test_the_result_of_a_wake_is_dropped(self) -> None:
        words, geometry, catalog = blank(HISTORY)
        index = catalog.add(STREAM, 1)
        writer = chosen().RingWriter(
            words, geometry, index, STREAM, lambda _: "woken", right_to(words)
        )
        assert writer.append(0, *prices(0)) is None

    def test_a_close_need_not_wake(self, ring: Bench) -> None:
        ring.writer.append(0, *prices(0), wake=False)
        assert ring.woken == []
        assert ring.reader.count == 1

    def test_it_counts_bars_and_ticks(self, ring: Bench) -> None:
        before = boot_ns()
        ring.close(0, 1, 2)
        assert ring.words.ints[H_BARS] == 3
        assert before <= ring.words.ints[H_TICK] <= boot_ns()

    def test_bars_may_be_missing(self, ring: Bench) -> None:
        ring.close(0, 7)
        assert ring.reader.view(2).open_time.tolist() == [0, 7 * HOUR]

    @pytest.mark.parametrize("number", [5, 4, 0])
    def test_a_bar_not_newer_than_the_last_closed_is_refused(
        self, ring: Bench, number: int
    ) -> None:
        ring.writer.append(5 * HOUR, *prices(5), 0.0)
        before = state(ring)
        for verb in VERBS:
            with pytest.raises(BadArgumentError, match="not newer") as caught:
                getattr(ring.writer, verb)(number * HOUR, *prices(0))
            assert str(number * HOUR) in str(caught.value)
            assert str(5 * HOUR) in str(caught.value)
            assert "BTCUSDT 1h" in str(caught.value)
        assert state(ring) == before
        assert ring.words.ints[ring.geometry.slot_word(0) + S_INTENT] == 1

    def test_a_key_may_be_any_sequence(self, ring: Bench) -> None:
        class StreamKey:
            """A sequence that creates its items on access."""

            def __getitem__(self, place: int) -> str:
                return (b"BTC-USDT", b"1h")[place].decode()

        made = ring.core.RingWriter(
            ring.words, ring.geometry, 0, StreamKey(), print, ring.right
        )
        others = [b"ETH-USDT".decode() for _ in range(100)]
        assert (made.symbol, made.timeframe) == ("BTC-USDT", "1h")
        assert len(others) == 100

    @pytest.mark.parametrize("names", [None, (), ("A",), ("A", "1h", "1h"), 5])
    def test_a_key_of_another_form_is_refused(self, ring: Bench, names: object) -> None:
        with pytest.raises((TypeError, ValueError)):
            ring.core.RingWriter(ring.words, ring.geometry, 0, names, print, ring.right)

    def test_a_successor_continues_the_rows(self, ring: Bench) -> None:
        ring.close(*range(10))
        writer = ring.core.RingWriter(
            ring.words,
            ring.geometry,
            0,
            ("BTCUSDT", "1h"),
            ring.woken.append,
            ring.right,
        )
        with pytest.raises(BadArgumentError, match="not newer"):
            writer.append(9 * HOUR, *prices(9))
        writer.append(10 * HOUR, *prices(10))
        assert ring.reader.count == 11
        assert ring.reader.view(2).open_time.tolist() == [9 * HOUR, 10 * HOUR]

    def test_intent_is_never_behind_published(self, ring: Bench) -> None:
        at = ring.geometry.slot_word(0)
        for number in range(10):
            ring.close(number)
            ints = ring.words.ints
            assert ints[at + S_INTENT] == ints[at + S_PUBLISHED] == number + 1


class TestForming:
    def test_a_forming_bar_is_not_a_closed_bar(self, ring: Bench) -> None:
        ring.writer.update_forming(0, *prices(0))
        assert ring.reader.count == 0
        assert ring.words.ints[H_BARS] == 0
        assert ring.reader.forming()[:7] == (0, HOUR, *prices(0))

    def test_an_update_never_wakes(self, ring: Bench) -> None:
        ring.writer.update_forming(0, *prices(0))
        ring.writer.update_forming(0, *prices(0), wake=True)
        assert ring.woken == []

    def test_an_update_ticks(self, ring: Bench) -> None:
        before = boot_ns()
        ring.writer.update_forming(0, *prices(0))
        assert before <= ring.words.ints[H_TICK] <= boot_ns()

    def test_a_forming_bar_survives_its_writer(self, ring: Bench) -> None:
        ring.close(0)
        ring.writer.update_forming(HOUR, *prices(1))
        writer = ring.core.RingWriter(
            ring.words,
            ring.geometry,
            0,
            ("BTCUSDT", "1h"),
            ring.woken.append,
            ring.right,
        )
        assert writer.reader.forming().open_time == HOUR
        writer.append(HOUR, *prices(1))
        assert ring.reader.forming() is None


@pytest.mark.parametrize("verb", VERBS)
class TestArguments:
    @pytest.mark.parametrize(
        "time", [True, 1.0, "0", None, math.nan, [0], np.float64(0), b"0"]
    )
    def test_times_other_than_ints_are_refused(
        self, ring: Bench, verb: str, time: int
    ) -> None:
        with pytest.raises(BadArgumentError, match="open_time is") as caught:
            getattr(ring.writer, verb)(time, *prices(0))
        assert repr(time) in str(caught.value)
        assert state(ring) == (0, None, None)

    @pytest.mark.parametrize("time", [-1, -(10**30), 1 << 62, 1 << 63, 10**30])
    @pytest.mark.parametrize("timeframe", ["1h", "1M"])
    def test_times_out_of_range_are_refused(
        self, verb: str, time: int, timeframe: str
    ) -> None:
        ring = bench(HISTORY, key=("A", timeframe))
        with pytest.raises(BadArgumentError, match="out of range"):
            getattr(ring.writer, verb)(time, *prices(0))
        assert state(ring) == (0, None, None)

    def test_months_end_with_the_calendar(self, verb: str) -> None:
        ring = bench(HISTORY, key=("A", "1M"))
        for time in (1 << 48, 1 << 61):  # beyond the year 9999
            with pytest.raises(BadArgumentError, match="out of range"):
                getattr(ring.writer, verb)(time, *prices(0))
        assert state(ring) == (0, None, None)

    @pytest.mark.parametrize("timeframe", ["1h", "1M"])
    @pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint64])
    def test_numpy_ints_are_accepted_as_times(
        self, verb: str, timeframe: str, kind: type[np.integer]
    ) -> None:
        ring = bench(HISTORY, key=("A", timeframe))
        getattr(ring.writer, verb)(kind(0), *prices(0))
        bar = ring.reader.last_closed() or ring.reader.forming()
        assert bar[:2] == (0, close_time(0, timeframe))

    @pytest.mark.parametrize("kind", [int, np.float64, np.float32, Decimal])
    def test_numbers_of_any_kind_are_accepted_as_values(
        self, ring: Bench, verb: str, kind: type
    ) -> None:
        getattr(ring.writer, verb)(0, *map(kind, (5, 9, 1, 7, 3, 4)), np.int64(2))
        bar = ring.reader.last_closed() or ring.reader.forming()
        assert bar == Bar(0, HOUR, 5.0, 9.0, 1.0, 7.0, 3.0, 4.0, 2)

    @pytest.mark.parametrize("place", range(6))
    @pytest.mark.parametrize(
        "value", ["1", None, b"1", [1.0], 1j, pytest.param(10**400, id="huge")]
    )
    def test_values_other_than_numbers_are_refused(
        self, ring: Bench, verb: str, place: int, value: float
    ) -> None:
        ring.writer.append(0, *prices(0), 0.0)
        before = state(ring)
        words = bytes(ring.words.raw)
        values = [5.0, 9.0, 1.0, 7.0, 3.0, 4.0]
        values[place] = value
        with pytest.raises(BadArgumentError, match="must be numbers"):
            getattr(ring.writer, verb)(HOUR, *values)
        assert state(ring) == before
        assert bytes(ring.words.raw) == words
        ring.close(1)
        assert ring.reader.view(2).open_time.tolist() == [0, HOUR]

    @pytest.mark.parametrize("flags", [1.5, "1", None, 1 << 63, -(1 << 64)])
    def test_flags_beyond_a_word_are_refused(
        self, ring: Bench, verb: str, flags: int
    ) -> None:
        with pytest.raises(BadArgumentError, match="flags an int"):
            getattr(ring.writer, verb)(0, *prices(0), math.nan, flags)
        assert state(ring) == (0, None, None)

    def test_a_value_may_fail_to_convert(self, ring: Bench, verb: str) -> None:
        class Failing:
            def __float__(self) -> float:
                raise ValueError("no")

            def __index__(self) -> int:
                raise ValueError("no")

        for values in ([Failing()], [0.0, Failing()]):
            with pytest.raises(BadArgumentError, match="must be numbers") as caught:
                getattr(ring.writer, verb)(0, *prices(0), *values)
            assert caught.value.__cause__.__traceback__ is not None
        assert state(ring) == (0, None, None)

    def test_other_errors_of_a_value_are_raised_as_they_are(
        self, ring: Bench, verb: str
    ) -> None:
        class Interrupted:
            def __float__(self) -> float:
                raise KeyboardInterrupt

            __index__ = __float__

        for values in ([Interrupted()], [0.0, Interrupted()]):
            with pytest.raises(KeyboardInterrupt):
                getattr(ring.writer, verb)(0, *prices(0), *values)
        assert state(ring) == (0, None, None)

    def test_a_value_may_use_the_writer(self, ring: Bench, verb: str) -> None:
        """A row that the value's own code closes is published and stays as it was."""

        class Writing:
            def __float__(self) -> float:
                ring.writer.append(2 * HOUR, *prices(2), 0.0)
                return 1.0

        for time in (HOUR, 2 * HOUR):
            ring = bench(HISTORY, GUARD)
            with pytest.raises(BadArgumentError, match="not newer"):
                getattr(ring.writer, verb)(time, *prices(1), Writing())
            bar = Bar(2 * HOUR, 3 * HOUR, *prices(2), 0.0, 0)
            assert state(ring) == (1, bar, None)
        ring = bench(HISTORY, GUARD)
        getattr(ring.writer, verb)(3 * HOUR, *prices(3), Writing())
        newest = Bar(3 * HOUR, 4 * HOUR, *prices(3), 1.0, 0)
        both = (2, newest, None), (1, bar, newest)
        assert state(ring) == both[verb == "update_forming"]

    def test_a_value_may_close_the_writer(self, ring: Bench, verb: str) -> None:
        class Closing:
            def __float__(self) -> float:
                ring.writer.close()
                return 1.0

        before = bytes(ring.words.raw)
        with pytest.raises(FeedLostError, match="BTCUSDT 1h is closed"):
            getattr(ring.writer, verb)(HOUR, *prices(1), Closing())
        assert bytes(ring.words.raw) == before

    def test_values_are_written_as_they_are(self, ring: Bench, verb: str) -> None:
        values = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308)
        getattr(ring.writer, verb)(0, *values)
        bar = ring.reader.last_closed() or ring.reader.forming()
        written = np.array(values).view(np.int64).tolist()
        assert np.array(bar[2:8]).view(np.int64).tolist() == written

    @pytest.mark.parametrize("time", [0, HOUR, 1 << 62, 10**30])
    def test_a_closed_writer_writes_nothing(
        self, ring: Bench, verb: str, time: int
    ) -> None:
        ring.close(0)
        ring.writer.close()
        before = bytes(ring.words.raw)
        with pytest.raises(FeedLostError, match="BTCUSDT 1h is closed"):
            getattr(ring.writer, verb)(time, *prices(1))
        assert bytes(ring.words.raw) == before


def test_a_bad_wake_writes_nothing() -> None:
    ring = bench(HISTORY, GUARD)
    with pytest.raises(BadArgumentError, match="wake is 'no'"):
        ring.writer.append(0, *prices(0), wake="no")
    assert ring.reader.count == 0
