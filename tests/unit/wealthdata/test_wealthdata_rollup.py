"""Timeframes that the feed does not carry, made of bars of a shorter one."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.numbered_bars import START, listed, opens, when

import wealthdata
from shmfeed.bar import (
    AFTER_GAP,
    BACKFILLED,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    NO_TRADE,
    POLLED,
    REVISED,
    TIMEFRAMES,
    UNCONFIRMED,
    Bar,
    close_time,
    floor,
    step,
)
from shmfeed.errors import GapError, StaleFeedWarning, StreamNotFoundError
from shmfeed.layout import E_SINCE, E_UPDATED
from shmfeed.simulator import market
from shmfeed.writer import FeedWriter, create
from wealthdata import (
    Context,
    attachment,
    get_price,
    query_cache,
    rolled_ring,
    set_context,
)
from wealthdata.columns import from_bars, to_bars
from wealthdata.rolled_query import CachedRolledQuery
from wealthdata.rollup import SOURCES, roll_up

pytest_plugins = ["support.strategy_process"]

MINUTE, DAY = 60_000, 86_400_000
FIELDS: Any = ["open", "high", "low", "close", "volume", "money", "flags"]


def made_bar(opened: int, timeframe: str, number: int, flags: int = 1) -> Bar:
    """Return a bar with prices of two decimals and a volume of eight."""
    price = 100 + (number * 37 % 101) / 100
    volume, money = number * 101_234_567 / 1e8, number * 17 % 1009 / 8
    end = close_time(opened, timeframe)
    return Bar(
        opened, end, price, price + 2, price - 2, price + 0.5, volume, money, flags
    )


def append(ring: Any, bars: Iterable[Bar]) -> None:
    for bar in bars:
        ring.append(bar.open_time, *bar[2:8], flags=bar.flags)


def plainly_rolled(bars: list[Bar], source: str, timeframe: str) -> list[Bar]:
    """Return whole groups by dicts and decimals: the model."""
    groups: dict[int, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(floor(bar.open_time, timeframe), []).append(bar)
    whole = []
    for start, group in groups.items():
        end = close_time(start, timeframe)
        wanted = [*range(start, end, step(source))]
        if [bar.open_time for bar in group] != wanted:
            continue
        volume, money = (
            sum(round(bar[column] * 10**8) for bar in group) / 10**8
            for column in (6, 7)
        )
        low, high = min(bar.low for bar in group), max(bar.high for bar in group)
        flags = group[-1].flags & 7 | AFTER_GAP * bool(
            whole and whole[-1].close_time != start
        )
        ends = group[0].open, high, low, group[-1].close
        whole.append(Bar(start, end, *ends, volume, money, flags))
    return whole


def rows_of(frame: pd.DataFrame, timeframe: str) -> list[Bar]:
    """Return the bars of a frame with FIELDS."""
    closes = frame.index.astype("M8[ms]").astype("int64")
    found = []
    for closed, row in zip(closes, frame.itertuples(index=False), strict=True):
        *values, flags = row
        start = floor(closed - 1, timeframe)
        found.append(Bar(start, closed, *values, flags))
    return found


PAIRS = [
    ("1m", "3m"),
    ("1m", "5m"),
    ("1s", "1m"),
    ("30m", "2h"),
    ("4h", "8h"),
    ("6h", "12h"),
    ("12h", "1d"),
    ("1d", "1w"),
    ("12h", "1w"),
    ("12h", "1M"),
    ("1d", "1M"),
]


@given(
    pair=st.sampled_from(PAIRS),
    begin=st.integers(0, 80),
    holes=st.sets(st.integers(0, 150), max_size=6),
    parts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    count=st.integers(1, 60),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")
def test_the_rows_are_those_of_a_plain_model(
    strategy: str,
    pair: tuple[Any, Any],
    begin: int,
    holes: set[int],
    parts: list[int],
    count: int,
) -> None:
    source, timeframe = pair
    attachment.detach()
    written: list[Bar] = []
    number = 0
    with create(strategy, history=100) as writer:
        ring = writer.add_stream("A", source)
        for length in parts:
            new = [
                made_bar(START + (begin + n) * step(source), source, n)
                for n in range(number, number + length)
                if n not in holes
            ]
            number += length
            append(ring, new)
            written += new
            expected = plainly_rolled(written, source, timeframe)
            kept = written[-100:]
            oldest = kept[0].open_time if kept else 0
            expected = [bar for bar in expected if bar.open_time >= oldest][-count:]
            frame = get_price("A", frequency=timeframe, count=count, fields=FIELDS)
            found = rows_of(frame, timeframe)
            assert without_first_gap(found) == without_first_gap(expected)
            attrs = frame.attrs["shmfeed"]
            assert (attrs.source, attrs.rolled) == ("live", source)
            assert attrs.gaps == missing(expected, kept, timeframe)
        writer.close(unlink=True)


def without_first_gap(bars: list[Bar]) -> list[Bar]:
    """Leave out the flag that a reader which came late cannot know."""
    return [bar._replace(flags=bar.flags & 7) for bar in bars[:1]] + bars[1:]


def missing(bars: list[Bar], source: list[Bar], timeframe: str) -> int:
    """Count the groups that closed and are not there, from the first row on."""
    if not source:
        return 0
    begin = bars[0].open_time if bars else source[0].open_time
    number, start = 0, floor(begin - 1, timeframe)
    start = close_time(start, timeframe)
    while close_time(start, timeframe) <= source[-1].close_time:
        number += 1
        start = close_time(start, timeframe)
    return number - len(bars)


class TestTheVenuesOwn:
    """The simulator makes longer bars of its own shorter ones."""

    @pytest.mark.parametrize(
        ("source", "timeframe"),
        [("1s", "1m"), ("1m", "1h"), ("1m", "1d"), ("1h", "1w"), ("1h", "1M")],
    )
    def test_to_the_last_bit(self, source: Any, timeframe: Any) -> None:
        first, groups = floor(START, timeframe), []
        for _ in range(4):
            groups.append(first)
            first = close_time(first, timeframe)
        times = np.arange(groups[0], first, step(source))
        made = market.progress(7, "BTCUSDT", source, times)[:, -1]
        bars = [
            Bar(int(t), int(t) + step(source), *row, flags=1)
            for t, row in zip(times, made.T.tolist(), strict=True)
        ]
        found = roll_up(from_bars(bars), source, timeframe).bars
        own = market.rolled_up(
            7, "BTCUSDT", timeframe, source, np.array(groups, np.int64)
        )
        assert found.open_time.tolist() == groups
        np.testing.assert_array_equal(found.floats, own)


class TestSums:
    def rolled(self, volumes: list[float], money: list[float]) -> Bar:
        bars = [
            made_bar(START + k * MINUTE, "1m", k)._replace(volume=v, money=m)
            for k, (v, m) in enumerate(zip(volumes, money, strict=True))
        ]
        groups = roll_up(from_bars(bars), "1m", f"{len(bars)}m").bars
        return to_bars(groups, 0, 1)[0]

    def test_decimals_are_added_as_decimals(self) -> None:
        assert sum([0.1] * 3) != 0.3  # what doubles give
        assert self.rolled([0.1] * 3, [1e8 + 0.1] * 3)[6:8] == (0.3, 3e8 + 0.3)

    @pytest.mark.parametrize("value", [math.nan, math.inf, 1e300, 1e-300, -0.1])
    def test_other_values_are_added_as_they_are(self, value: float) -> None:
        found = self.rolled([value] * 3, [0.0] * 3).volume
        assert found == pytest.approx(3 * value, nan_ok=True)

    def test_money_that_is_not_known_stays_so(self) -> None:
        found = self.rolled([1.0, 2.0, 3.0], [1.0, math.nan, 1.0])
        assert found.volume == 6.0
        assert math.isnan(found.money)


class TestFlags:
    @pytest.mark.parametrize(
        ("flags", "expected"),
        [
            ((1, 1, 1), CLOSED_BY_VENUE),
            ((1, 1, 2), CLOSED_BY_NEXT),
            ((2, 2 | UNCONFIRMED, 1), CLOSED_BY_VENUE | UNCONFIRMED),
            ((1 | BACKFILLED, 1, 1 | REVISED), 1 | BACKFILLED | REVISED),
            ((1 | NO_TRADE, 1 | NO_TRADE, 1), 1),
            ((1 | NO_TRADE,) * 3, 1 | NO_TRADE),
            ((1 | POLLED, 1, 1), 1 | POLLED),
            ((1 | AFTER_GAP, 1, 1), 1 | AFTER_GAP),
        ],
    )
    def test_of_a_group(self, flags: tuple[int, ...], expected: int) -> None:
        bars = [
            made_bar(START + k * MINUTE, "1m", k, flag) for k, flag in enumerate(flags)
        ]
        groups = roll_up(from_bars(bars), "1m", "3m").bars
        assert groups.flags.tolist() == [expected]


class TestSources:
    def test_the_table(self) -> None:
        assert SOURCES["3d"] == SOURCES["1s"] == ()
        assert "3d" not in {s for listed in SOURCES.values() for s in listed}
        assert SOURCES["1M"] == SOURCES["1w"]
        assert SOURCES["1w"][0] == "1d"
        assert SOURCES["8h"][:2] == ("4h", "2h")
        for timeframe, sources in SOURCES.items():
            lengths = [TIMEFRAMES[source] for source in sources]
            assert lengths == sorted(lengths, reverse=True)
            assert all(TIMEFRAMES[timeframe] > length for length in lengths)

    def test_the_longest_is_chosen(self, writer: FeedWriter) -> None:
        for timeframe in ("1m", "6h", "2h", "30m"):
            writer.add_stream("A", timeframe)
        for asked, source in (("4h", "2h"), ("12h", "6h"), ("8h", "2h"), ("1h", "30m")):
            attrs = get_price("A", frequency=asked).attrs["shmfeed"]
            assert attrs.rolled == source

    def test_the_feeds_own_comes_first_whenever_it_comes(
        self, writer: FeedWriter
    ) -> None:
        fill_minutes(writer, 20)
        for _ in range(3):
            frame = get_price("A", frequency="5m")
            assert frame.attrs["shmfeed"].rolled == "1m"
            assert len(frame) == 4
        own = writer.add_stream("A", "5m")
        for _ in range(3):
            frame = get_price("A", frequency="5m")
            assert frame.attrs["shmfeed"].rolled is None
            assert len(frame) == 0
        append(own, [made_bar(START, "5m", 0)])
        assert len(get_price("A", frequency="5m")) == 1

    def test_a_longer_source_that_comes_later_is_used(self, writer: FeedWriter) -> None:
        fill_minutes(writer, 30)
        assert get_price("A", frequency="15m").attrs["shmfeed"].rolled == "1m"
        writer.add_stream("A", "5m")
        for _ in range(2):
            attrs = get_price("A", frequency="15m").attrs["shmfeed"]
            assert attrs.rolled == "5m"

    def test_a_recreated_feed_has_other_sources(self, writer: FeedWriter) -> None:
        writer.add_stream("A", "5m")
        for _ in range(2):
            assert get_price("A", frequency="15m").attrs["shmfeed"].rolled == "5m"
        writer.close(unlink=True)
        with create(writer.name) as other:
            other.add_stream("A", "3m")
            assert get_price("A", frequency="15m").attrs["shmfeed"].rolled == "3m"
            with pytest.raises(StreamNotFoundError, match="A 5m"):
                get_price("A", frequency="5m")
            other.close(unlink=True)

    @pytest.mark.parametrize("asked", ["1m", "1d", "1M"])
    def test_what_nothing_divides_is_not_carried(
        self, writer: FeedWriter, asked: Any
    ) -> None:
        for timeframe in ("3d", "1w"):
            writer.add_stream("A", timeframe)
        for security in ("A", ["A"], ["A", "B"]):
            with pytest.raises(StreamNotFoundError, match=f"A {asked}"):
                get_price(security, frequency=asked)


def fill_minutes(writer: FeedWriter, *numbers: int, symbol: str = "A") -> Any:
    """Append the minutes with these numbers, or the first so many."""
    ring = writer.add_stream(symbol, "1m")
    wanted = range(numbers[0]) if len(numbers) == 1 else numbers
    append(ring, [made_bar(START + k * MINUTE, "1m", k) for k in wanted])
    return ring


@pytest.mark.filterwarnings("ignore::wealthdata.BehindWarning")
class TestWhatARead:
    def test_gives_is_private(self, writer: FeedWriter) -> None:
        fill_minutes(writer, 20)
        for _ in range(2):
            frame = get_price("A", frequency="5m")
            before = frame.copy(deep=True)
            frame.iloc[:, :] = -1.0
            pd.testing.assert_frame_equal(get_price("A", frequency="5m"), before)
        assert frame.attrs["shmfeed"].valid

    def test_shows_no_group_under_way(self, writer: FeedWriter) -> None:
        ring = fill_minutes(writer, 19)
        ring.update_forming(START + 19 * MINUTE, 1.0, 1.0, 1.0, 1.0, 1.0)
        for _ in range(2):
            frame = get_price("A", frequency="5m", include_now=True)
            assert len(frame) == 3
            assert not frame.attrs["shmfeed"].forming
        append(ring, [made_bar(START + 19 * MINUTE, "1m", 19)])
        assert len(get_price("A", frequency="5m", include_now=True)) == 4

    def test_counts_the_groups_with_a_hole(self, writer: FeedWriter) -> None:
        fill_minutes(writer, *(k for k in range(30) if k not in {3, 12, 27}))
        for _ in range(2):
            frame = get_price("A", frequency="5m")
            assert len(frame) == 3  # of the groups 1, 3, 4
            assert frame.attrs["shmfeed"].gaps == 2  # the oldest is before the window
        ends = {"end_date": pd.Timestamp(START + 15 * MINUTE, unit="ms")}
        frame = get_price("A", frequency="5m", **ends)
        assert len(frame) == frame.attrs["shmfeed"].gaps == 1
        since = {"start_date": pd.Timestamp(START + 26 * MINUTE, unit="ms")}
        frame = get_price("A", frequency="5m", **since)
        assert (len(frame), frame.attrs["shmfeed"].gaps) == (0, 1)

    def test_reacts_to_a_hole_behind_its_last_row(self, writer: FeedWriter) -> None:
        fill_minutes(writer, *(k for k in range(30) if k != 27))
        for asked in ({}, {"end_date": "2030-01-01"}):
            with pytest.raises(GapError, match=r"1 bar missing .*T00:25:00Z to 2024"):
                get_price("A", frequency="5m", on_gap="raise", **asked)
        for several in (["A"], ["A", "A@" + writer.name]):
            with pytest.raises(GapError, match="A 5m"):
                get_price(several, frequency="5m", on_gap="raise")

    def test_is_a_range_too(self, writer: FeedWriter) -> None:
        fill_minutes(writer, 60)
        begin, end = (pd.Timestamp(START + k * MINUTE, unit="ms") for k in (10, 31))
        frame = get_price("A", begin, end, "5m")
        assert len(frame) == 5  # the closes at 10, 15, 20, 25 and 30
        assert list(get_price("A", end_date=end, count=2, frequency="5m").index) == [
            pd.Timestamp(START + k * MINUTE, unit="ms") for k in (25, 30)
        ]

    def test_is_a_list_too(self, writer: FeedWriter) -> None:
        fill_minutes(writer, 20)
        fill_minutes(writer, 11, symbol="B")
        own = writer.add_stream("C", "5m")
        append(own, [made_bar(START + k * 5 * MINUTE, "5m", k) for k in range(3)])
        asked: dict[str, Any] = {"security": ["A", "B", "C"], "frequency": "5m"}
        for _ in range(2):
            frame = get_price(**asked)
            assert frame["code"].value_counts().to_dict() == {"A": 4, "C": 3, "B": 2}
            assert frame.attrs["shmfeed"].rolled == "1m"
            assert len(get_price(**asked, align=True)) == 6
            assert get_price(**asked, wide=True, fields="close").shape == (4, 3)
        single = get_price("B", frequency="5m").reset_index(drop=True)
        part = frame[frame["code"] == "B"].reset_index(drop=True)
        pd.testing.assert_frame_equal(part[single.columns], single)

    def test_is_bounded_by_the_strategys_time(self, writer: FeedWriter) -> None:
        fill_minutes(writer, 60)
        now = datetime.fromtimestamp(START / 1000, UTC) + timedelta(minutes=14)
        get_price("A", frequency="5m")
        set_context(Context([], current_dt=now))
        for _ in range(2):
            assert len(get_price("A", frequency="5m")) == 2

    def test_joins_older_bars_of_the_context(self, writer: FeedWriter) -> None:
        half_hours = writer.add_stream("BTCUSDT", "30m")
        bars = [made_bar(START + k * 30 * MINUTE, "30m", k) for k in range(5, 12)]
        append(half_hours, bars)  # the first group is not whole: its hour is 2
        context = Context([listed(0, 1, 2)])
        get_price("BTCUSDT")
        set_context(context)
        for _ in range(2):
            frame = get_price("BTCUSDT")
            assert list(frame.index) == [when(k) for k in range(6)]
            attrs = frame.attrs["shmfeed"]
            assert (attrs.source, attrs.rolled, attrs.gaps) == ("mixed", "30m", 0)
        frame = get_price("BTCUSDT", end_date=when(2))
        attrs = frame.attrs["shmfeed"]
        assert (attrs.source, attrs.rolled) == ("context", None)
        made = context.history("BTCUSDT", 4, "1h")
        assert [bar.open_time for bar in made] == [opens(k) for k in range(2, 6)]

    def test_comes_before_the_context(self, writer: FeedWriter) -> None:
        append(
            writer.add_stream("BTCUSDT", "30m"),
            [made_bar(START + k * 30 * MINUTE, "30m", k) for k in range(4)],
        )
        set_context(Context([listed(0, 1)]))
        frame = get_price("BTCUSDT")
        assert frame["open"].iloc[0] == made_bar(START, "30m", 0).open
        assert frame.attrs["shmfeed"].source == "live"

    def test_of_a_backtest_is_of_its_context_alone(self, writer: FeedWriter) -> None:
        fill_minutes(writer, 60)
        set_context(Context([listed(0, 1)], run_params={"type": "backtest"}))
        with pytest.raises(StreamNotFoundError):
            get_price("A")


def minutes_of_context(*numbers: int, symbol: str = "A") -> dict[str, Any]:
    bars = [made_bar(START + k * MINUTE, "1m", k) for k in numbers]
    return {"symbol": symbol, "timeframe": "1m", "bars": bars}


def backtest(*entries: dict[str, Any], minute: int | None = None) -> Context:
    """Set the context of a backtest, whose time is the close of bar `minute`."""
    made = Context(entries, run_params={"type": "backtest"})
    if minute is not None:
        made.current_dt = START_TIME + timedelta(minutes=minute + 1)
    set_context(made)
    return made


START_TIME = datetime.fromtimestamp(START / 1000, UTC)
SAID = ("rolled", "short", "gaps", "behind", "forming", "unconfirmed")


@pytest.mark.filterwarnings("ignore::wealthdata.BehindWarning")
class TestOfABacktest:
    """A context without the timeframe gives what a feed without it gives."""

    @pytest.mark.parametrize("timeframe", ["3m", "15m", "1h"])
    def test_the_rows_are_those_of_a_feed(
        self, writer: FeedWriter, timeframe: Any
    ) -> None:
        random = np.random.default_rng(5)
        numbers = [k for k in range(7, 90) if random.random() > 0.03]
        asked: list[Any] = [
            {"count": 2},
            {"start_date": START_TIME + timedelta(minutes=15)},
            {"count": 3, "end_date": START_TIME + timedelta(minutes=62)},
            {"count": 3, "fields": FIELDS},
        ]
        ring = writer.add_stream("A", "1m")
        seen = []
        for k in numbers:
            append(ring, [made_bar(START + k * MINUTE, "1m", k)])
            seen.append([get_price("A", frequency=timeframe, **one) for one in asked])
        made = backtest(minutes_of_context(*numbers))
        for k, frames in zip(numbers, seen, strict=True):
            made.current_dt = START_TIME + timedelta(minutes=k + 1)
            for one, expected in zip(asked, frames, strict=True):
                frame = get_price("A", frequency=timeframe, **one)
                pd.testing.assert_frame_equal(frame, expected)
                told, wanted = frame.attrs["shmfeed"], expected.attrs["shmfeed"]
                assert [told[n] for n in SAID] == [wanted[n] for n in SAID], (k, one)
                assert told.source == "context"

    def test_a_list_that_grows_is_made_again(self, strategy: str) -> None:
        entry = minutes_of_context(*range(14))
        backtest(entry)
        assert len(get_price("A", frequency="5m")) == 2
        entry["bars"].append(made_bar(START + 14 * MINUTE, "1m", 14))
        assert len(get_price("A", frequency="5m")) == 3

    def test_a_write_into_a_frame_changes_no_later_one(self, strategy: str) -> None:
        backtest(minutes_of_context(*range(20)))
        frame = get_price("A", frequency="5m")
        before = frame.copy(deep=True)
        frame.iloc[:, :] = -1.0
        pd.testing.assert_frame_equal(get_price("A", frequency="5m"), before)

    def test_its_own_timeframe_comes_first(self, strategy: str) -> None:
        hours = {**listed(0, 1), "symbol": "A"}
        backtest(minutes_of_context(*range(120)), hours)
        frame = get_price("A")
        assert frame.attrs["shmfeed"].rolled is None
        assert frame["open"].iloc[0] != made_bar(START, "1m", 0).open

    def test_a_hole_can_be_an_error(self, strategy: str) -> None:
        backtest(minutes_of_context(*(k for k in range(20) if k != 12)))
        with pytest.raises(GapError, match="A 5m of the context: 1 bar missing"):
            get_price("A", frequency="5m", on_gap="raise")

    def test_the_other_calls_read_them_too(self, strategy: str) -> None:
        backtest(minutes_of_context(*range(20)), minute=14)
        assert list(wealthdata.history(3, "5m").columns) == ["A"]
        assert len(wealthdata.get_bars("A", unit="5m", df=False)) == 3
        assert wealthdata.wait_bar(["A"], "5m") == (["A"], [])
        assert wealthdata.wait_bar(["A"], "1h") == ([], ["A"])
        with pytest.raises(StreamNotFoundError, match="no A 3d"):
            get_price("A", frequency="3d")

    def test_a_history_function_is_asked_for_the_timeframe_itself(
        self, strategy: str
    ) -> None:
        class Foreign:
            run_params = {"type": "backtest"}  # noqa: RUF012
            asked: list[str] = []  # noqa: RUF012

            def history(self, symbol: str, count: int, timeframe: str) -> list[Bar]:
                self.asked.append(timeframe)
                return []

        set_context(Foreign())
        assert len(get_price("A", frequency="5m")) == 0
        assert set(Foreign.asked) == {"5m"}


class TestFreshness:
    def test_is_that_of_the_source_judged_by_the_timeframe_asked(
        self, writer: FeedWriter
    ) -> None:
        ring = writer.add_stream("A", "1s")
        append(ring, [made_bar(START + k * 1000, "1s", k) for k in range(90)])
        get_price("A", frequency="1m", on_stale="raise")
        for word in (E_UPDATED, E_SINCE):
            writer._words.ints[ring.reader.entry + word] -= 200_000_000_000
        for _ in range(2):
            frame = get_price("A", frequency="15m", on_stale="raise")
            assert frame.attrs["shmfeed"].health == "live"
            assert 200 < frame.attrs["shmfeed"].age < 260
        with pytest.warns(StaleFeedWarning, match="A 1m .*limit 180 s"):
            attrs = get_price("A", frequency="1m").attrs["shmfeed"]
        assert attrs.health == "stale"

    def test_a_dead_feed_is_warned_of(self, writer: FeedWriter) -> None:
        fill_minutes(writer, 60)
        get_price("A", frequency="5m")
        writer.close()
        with pytest.warns(StaleFeedWarning, match="A 5m .*dead"):
            attrs = get_price("A", frequency="5m").attrs["shmfeed"]
        assert attrs.health == "dead"


class TestOnlyNewGroupsAreMade:
    @pytest.fixture
    def looked_at(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Record how many bars each roll-up looks at."""
        counts: list[int] = []

        def counting(rows: Any, *rest: Any) -> Any:
            counts.append(len(rows))
            return roll_up(rows, *rest)

        monkeypatch.setattr(rolled_ring, "roll_up", counting)
        return counts

    def test_of_bars_that_have_closed_since(
        self, writer: FeedWriter, looked_at: list[int]
    ) -> None:
        ring = fill_minutes(writer, 93)
        for number in range(93, 98):
            get_price("A", frequency="5m")
            get_price("A", frequency="5m", end_date="2030-01-01")
            append(ring, [made_bar(START + number * MINUTE, "1m", number)])
        assert looked_at == [93, 5]

    def test_all_of_them_after_a_repair(
        self, writer: FeedWriter, looked_at: list[int]
    ) -> None:
        ring = fill_minutes(writer, *(k for k in range(30) if k != 3))
        assert len(get_price("A", frequency="5m")) == 5
        rows = ring.reader.snapshot(29)
        whole = np.empty((9, 30))
        whole[:, :3], whole[:, 4:] = rows.block[:, :3], rows.block[:, 3:]
        repaired = made_bar(START + 3 * MINUTE, "1m", 3)
        whole[:, 3] = np.frombuffer(np.array(repaired[:2]).tobytes() * 4 + b"\0" * 8)
        whole[2:8, 3] = repaired[2:8]
        writer.replace_rows("A", "1m", whole)
        frame = get_price("A", frequency="5m")
        assert len(frame) == 6
        assert frame.attrs["shmfeed"].gaps == 0
        assert looked_at == [29, 30]


@given(
    numbers=st.lists(st.integers(0, 40), max_size=36, unique=True).map(sorted),
    bounds=st.tuples(*(st.none() | st.integers(-6, 50) for _ in range(2))),
    count=st.none() | st.integers(1, 12),
    label=st.sampled_from(["close", "open"]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings(
    "ignore::wealthdata.StaleFeedWarning", "ignore::wealthdata.BehindWarning"
)
def test_a_prepared_read_gives_what_the_general_one_does(
    strategy: str,
    numbers: list[int],
    bounds: tuple[int | None, int | None],
    count: int | None,
    label: Any,
) -> None:
    start, end = (None if n is None else when(n) for n in bounds)
    if start is not None:
        count = None
        end = None if end is None else max(start, end)
    attachment.detach()
    with create(strategy, history=30) as writer:
        ring = writer.add_stream("A", "1h")
        append(ring, [made_bar(opens(n), "1h", n) for n in numbers])
        asked: Any = {"frequency": "4h", "count": count, "label": label}
        general, prepared = (get_price("A", start, end, **asked) for _ in range(2))
        (query,) = query_cache.queries.values()
        writer.close(unlink=True)
    assert isinstance(query, CachedRolledQuery)
    pd.testing.assert_frame_equal(general, prepared)
    both = [dict(frame.attrs["shmfeed"]) for frame in (general, prepared)]
    assert both[0].pop("age") is not None or not numbers
    both[1].pop("age")
    assert both[0] == both[1]


def test_a_prepared_read_sees_a_stream_that_the_feed_begins_to_carry(
    writer: FeedWriter, ring: Any
) -> None:
    append(ring, [made_bar(opens(n), "1h", n) for n in range(8)])
    for _ in range(2):
        frame = get_price(ring.symbol, frequency="4h", on_stale="ignore")
        assert frame.attrs["shmfeed"].rolled == "1h"
    own = writer.add_stream(ring.symbol, "4h")
    append(own, [made_bar(opens(0), "4h", 3)])
    for _ in range(2):
        frame = get_price(ring.symbol, frequency="4h", on_stale="ignore")
        assert frame.attrs["shmfeed"].rolled is None
        assert frame["open"].tolist() == [made_bar(0, "4h", 3).open]
