"""Contexts: their bars, their time, and backtests that never see a live bar."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from support.numbered_bars import (
    HOUR,
    SYMBOL,
    append,
    from_context,
    listed,
    numbers,
    opens,
    prices,
    raw,
    when,
)

import wealthdata
from shmfeed.errors import (
    BadArgumentError,
    ContextError,
    NoDataError,
    StreamNotFoundError,
)
from shmfeed.ringbuf import RingWriter
from wealthdata import (
    Bar,
    Context,
    ContextDataAdapter,
    context,
    get_price,
    query,
    set_context,
)

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::wealthdata.StaleFeedWarning", "ignore::wealthdata.BehindWarning"
)


def test_without_a_feed_the_context_serves(strategy: str) -> None:
    set_context(Context([listed(*range(30))]))
    found = get_price(SYMBOL, count=3)
    assert numbers(found) == from_context(found) == [27, 28, 29]
    assert found.iloc[-1].tolist() == [*prices(29)[:4], 29.5]
    attrs = found.attrs["shmfeed"]
    assert attrs.source == "context"
    assert attrs.age > 86_400  # since the newest close
    assert attrs.health == "dead"
    assert attrs.valid
    found.iloc[0, 0] = -1.0  # private: the context keeps its own
    assert numbers(get_price(SYMBOL, count=3)) == [27, 28, 29]


def test_ranges_apply_to_the_bars_of_a_context(strategy: str) -> None:
    set_context(Context([listed(*range(30))]))
    assert numbers(get_price(SYMBOL)) == list(range(10, 30))
    found = get_price(SYMBOL, start_date=when(5), end_date=when(7))
    assert numbers(found) == [5, 6, 7]
    assert numbers(get_price(SYMBOL, count=2, end_date=when(7))) == [6, 7]
    assert numbers(get_price(SYMBOL, start_date=when(90))) == []
    assert numbers(get_price(SYMBOL, count=100)) == list(range(30))
    assert numbers(get_price(SYMBOL, count=2, include_now=True)) == [28, 29]
    found = get_price([SYMBOL], count=2, fields=["open_time"])
    assert found["open_time"].tolist() == [opens(28), opens(29)]


def test_bars_are_sorted_and_the_later_of_two_duplicates_counts(strategy: str) -> None:
    later = {**raw(2), "close": 3.0}
    entries = [listed(4, 2, 3), {**listed(), "bars": [later]}]
    set_context(Context(entries))
    found = get_price(SYMBOL)
    assert numbers(found) == [2, 3, 4]
    assert found["close"].iloc[0] == 3.0


def test_bars_may_be_objects_and_numbers_of_any_kind(strategy: str) -> None:
    bars = [
        Bar(opens(0), opens(1), *prices(0)),
        SimpleNamespace(**raw(1)),
        {**raw(2), "open_time": str(opens(2)), "money": "7.5", "extra": object()},
        {**raw(3), "open_time": datetime.fromtimestamp(opens(3) / 1000, UTC)},
    ]
    set_context(Context([{**listed(), "bars": bars}]))
    found = get_price(SYMBOL, fields=["open", "volume", "money", "close_time"])
    assert numbers(found) == [0, 1, 2, 3]
    assert found["money"].iloc[2] == 7.5
    assert found["money"].isna().tolist() == [True, True, False, True]
    assert found["close_time"].tolist() == [opens(n) for n in (1, 2, 3, 4)]


def test_a_close_time_of_999_is_normalised(strategy: str) -> None:
    bar = raw(3)
    assert bar["close_time"] % 1000 == 999
    set_context(Context([{**listed(), "bars": [bar]}]))
    assert get_price(SYMBOL).index[0] == when(3)


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"close": "abc"}, "close is 'abc'"),
        ({"close": None}, "close is None"),
        ({"close": "nan"}, "close is 'nan'"),
        ({"high": float("inf")}, "high is inf"),
        ({"volume": True}, "volume is True"),
        ({"open_time": 1.5}, "open_time is 1.5"),
        ({"open_time": "soon"}, "open_time is 'soon'"),
        ({"open_time": 10**20}, "open_time is 1000"),
        ({"open_time": -1}, "open_time is -1"),
        ({"money": "much"}, "money is 'much'"),
    ],
    ids=str,
)
def test_a_malformed_bar_is_named(broken: dict, named: str) -> None:
    entry = {**listed(), "bars": [raw(1), {**raw(2), **broken}]}
    where = rf"market_data_context\[1\] \(BTCUSDT 1h\) bars\[1\].*{named}"
    with pytest.raises(BadArgumentError, match=where):
        Context([listed(0), entry])


def test_a_bar_that_lacks_a_price_is_named() -> None:
    bar = raw(1)
    del bar["low"]
    with pytest.raises(BadArgumentError, match=r"bars\[0\]: the bar has no low"):
        Context([{**listed(), "bars": [bar]}])


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ([5], r"market_data_context\[0\] is 5"),
        ("abc", "market_data_context is str"),
        ({"symbol": SYMBOL}, "market_data_context is dict"),
        ([{"symbol": SYMBOL, "timeframe": "1h"}], "has no 'bars'"),
        ([{"symbol": SYMBOL, "bars": []}], "has no 'timeframe'"),
        ([{**listed(), "timeframe": "7m"}], "'7m'"),
        ([{**listed(), "symbol": "a b"}], "'a b'"),
        ([{**listed(), "bars": "abc"}], "bars is 'abc'"),
        ([{**listed(), "bars": None}], "bars is None"),
    ],
    ids=str,
)
def test_a_malformed_context_is_named(entries: object, named: str) -> None:
    with pytest.raises(BadArgumentError, match=named):
        Context(entries)


def test_other_arguments_become_attributes() -> None:
    made = Context(portfolio={"cash": 5}, current_dt="2024-01-01")
    assert made.portfolio == {"cash": 5}
    assert made.market_data_context == ()


def test_bars_added_to_a_context_later_are_seen(strategy: str) -> None:
    entry = listed(0, 1)
    made = Context([entry])
    set_context(made)
    assert numbers(get_price(SYMBOL)) == [0, 1]
    entry["bars"].append(raw(2))
    assert numbers(get_price(SYMBOL)) == [0, 1, 2]
    entry["bars"][-1] = {**raw(2), "close": 3.25}
    assert get_price(SYMBOL)["close"].iloc[-1] == 3.25
    made.market_data_context = [listed(7)]
    assert numbers(get_price(SYMBOL)) == [7]


def test_a_stream_that_no_source_has_is_an_error(strategy: str) -> None:
    set_context(Context([listed(0)]))
    with pytest.raises(
        NoDataError, match=r"ETHUSDT 1h; it has: BTCUSDT 1h.*shmfeed run"
    ):
        get_price("ETHUSDT")
    wealthdata.use(context_only=True)
    with pytest.raises(StreamNotFoundError, match=r"ETHUSDT 1h; it has: BTCUSDT 1h"):
        get_price("ETHUSDT")


def test_a_stream_that_only_the_context_has_is_read_from_it(
    ring: RingWriter, strategy: str
) -> None:
    append(ring, 0)
    set_context(Context([listed(5, symbol="ETHUSDT")]))
    found = get_price("ETHUSDT")
    assert from_context(found) == [5]
    assert found.attrs["shmfeed"].source == "context"
    assert found.attrs["shmfeed"].feed == strategy
    both = get_price([SYMBOL, "ETHUSDT"])
    assert both["code"].tolist() == [SYMBOL, "ETHUSDT"]
    assert both.attrs["shmfeed"].source == "mixed"
    with pytest.raises(StreamNotFoundError, match="carries: BTCUSDT 1h"):
        get_price("DOGE")


# A backtest.


class Params:
    type = "backtest"


def by_object(made: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    made.run_params = Params()


def by_dict(made: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    made.run_params = {"type": "backtest"}


def by_use(made: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    wealthdata.use(context_only=True)


def by_environment(made: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHMFEED_FEED", "off")


def by_use_of_off(made: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    wealthdata.use(feed="off")


MARKS = [by_object, by_dict, by_use, by_environment, by_use_of_off]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mark", MARKS)
def test_a_backtest_never_sees_a_live_bar(
    ring: RingWriter, mark, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(ring, *range(5, 30))
    ring.update_forming(opens(30), *prices(30))
    made = Context([listed(*range(8))], current_dt=when(9))
    set_context(made)
    assert numbers(get_price(SYMBOL, on_stale="ignore"))[-1] == 9  # live: the control
    mark(made, monkeypatch)
    for arguments in (
        {},
        {"include_now": True},
        {"end_date": when(30)},
        {"copy": True},
    ):
        found = get_price(SYMBOL, on_stale="raise", **arguments)
        assert numbers(found) == from_context(found) == list(range(8))
        assert found.attrs["shmfeed"].source == "context"
        assert found.attrs["shmfeed"].feed is None
    assert [bar.open_time for bar in made.history(SYMBOL, 3)] == [
        opens(n) for n in (5, 6, 7)
    ]


def test_a_backtest_without_a_context_has_no_data(ring: RingWriter) -> None:
    append(ring, 0)
    wealthdata.use(context_only=True)
    with pytest.raises(NoDataError, match="set_context"):
        get_price(SYMBOL)


def test_another_kind_of_run_reads_live_bars(ring: RingWriter) -> None:
    append(ring, 0)
    for params in (None, {}, {"type": "sim_trade"}, SimpleNamespace(type="live")):
        set_context(Context(run_params=params))
        assert get_price(SYMBOL).attrs["shmfeed"].source == "live"


# No look-ahead.


@pytest.mark.parametrize(
    "moment",
    [when(6), "2024-01-01 07:59:59.999", datetime(2024, 1, 1, 7, tzinfo=UTC), opens(7)],
    ids=repr,
)
@pytest.mark.parametrize("bars", [(), range(20)], ids=["live", "context"])
def test_current_dt_bounds_the_end(ring: RingWriter, moment: object, bars) -> None:
    if not bars:
        append(ring, *range(20))
        ring.update_forming(opens(20), *prices(20))
        get_price(SYMBOL)
    else:
        wealthdata.use(context_only=True)
    set_context(Context([listed(*bars)] if bars else [], current_dt=moment))
    for arguments in (
        {"count": 2},
        {"count": 2, "include_now": True},
        {"count": 2, "end_date": when(15)},
        {"start_date": when(5)},
        {"start_date": when(5), "copy": True},
    ):
        for _ in range(2):
            assert numbers(get_price(SYMBOL, **arguments)) == [5, 6]
    found = get_price([SYMBOL], count=2)
    assert list(found["time"]) == [when(5), when(6)]


def test_control_without_the_bound_later_bars_are_seen(
    ring: RingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(ring, *range(20))
    set_context(Context(current_dt=when(6)))
    assert numbers(get_price(SYMBOL, count=2)) == [5, 6]
    monkeypatch.setattr(query, "strategy_time", lambda views: None)
    assert numbers(get_price(SYMBOL, count=2)) == [18, 19]


def test_the_forming_bar_is_seen_after_its_open_time(ring: RingWriter) -> None:
    append(ring, *range(20))
    ring.update_forming(opens(20), *prices(20))
    made = Context(current_dt=opens(20) + HOUR // 2)
    set_context(made)
    for arguments in ({"count": 2}, {"start_date": when(19)}):
        found = get_price(SYMBOL, include_now=True, **arguments)
        assert numbers(found) == [19, 20]
        assert found.attrs["shmfeed"].forming
    made.current_dt = opens(20)  # before its first trade
    assert numbers(get_price(SYMBOL, count=2, include_now=True)) == [18, 19]


def test_a_bad_current_dt_is_named(ring: RingWriter) -> None:
    append(ring, 0)
    set_context(Context(current_dt="noon"))
    with pytest.raises(BadArgumentError, match="current_dt is 'noon'"):
        get_price(SYMBOL)


# One context per thread and task.


def test_without_a_context_get_context_raises(strategy: str) -> None:
    with pytest.raises(RuntimeError, match="set_context"):
        wealthdata.get_context()
    made = object()
    set_context(made)
    assert wealthdata.get_context() is made
    wealthdata.clear_context()
    with pytest.raises(ContextError):
        wealthdata.get_context()
    with pytest.raises(BadArgumentError, match="None"):
        set_context(None)


def test_each_thread_has_its_own_context(strategy: str) -> None:
    set_context(Context([listed(0)]))
    barrier = threading.Barrier(2)

    def run(number: int) -> list[int]:
        with pytest.raises(RuntimeError):
            wealthdata.get_context()
        set_context(Context([listed(number)]))
        barrier.wait()
        return numbers(get_price(SYMBOL))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, (1, 2))) == [[1], [2]]
    assert numbers(get_price(SYMBOL)) == [0]


def test_each_task_has_its_own_context_and_inherits_one(strategy: str) -> None:
    async def run(number: int, turn: asyncio.Barrier) -> list[int]:
        assert numbers(get_price(SYMBOL)) == [0]  # inherited
        set_context(Context([listed(number)]))
        await turn.wait()
        return numbers(get_price(SYMBOL))

    async def main() -> list[list[int]]:
        set_context(Context([listed(0)]))
        turn = asyncio.Barrier(2)
        found = await asyncio.gather(run(1, turn), run(2, turn))
        assert numbers(get_price(SYMBOL)) == [0]
        return found

    assert asyncio.run(main()) == [[1], [2]]


# Foreign contexts and adapters.


class Foreign:
    """A context with a history function that has the bars up to `last`."""

    def __init__(self, last: int, make=raw) -> None:
        self.last = last
        self.make = make
        self.asked: list[tuple] = []

    def history(self, *arguments: object) -> list[object]:
        self.asked.append(arguments)
        symbol, count, timeframe = arguments
        assert (symbol, timeframe) == (SYMBOL, "1h")
        return [
            self.make(n) for n in range(max(0, self.last + 1 - count), self.last + 1)
        ]


@pytest.mark.parametrize("make", [raw, lambda n: SimpleNamespace(**raw(n))])
def test_a_foreign_context_is_asked_positionally(strategy: str, make) -> None:
    foreign = Foreign(50, make)
    set_context(foreign)
    assert numbers(get_price(SYMBOL, count=3)) == [48, 49, 50]
    assert foreign.asked == [(SYMBOL, 3, "1h")]


def test_a_foreign_context_is_asked_for_more_until_it_reaches_back(
    strategy: str,
) -> None:
    foreign = Foreign(5000)
    foreign.current_dt = when(5000)
    set_context(foreign)
    assert numbers(get_price(SYMBOL, count=3, end_date=when(10))) == [8, 9, 10]
    found = get_price(SYMBOL, start_date=when(10), end_date=when(12))
    assert numbers(found) == [10, 11, 12]
    assert len(foreign.asked) == 2  # each range by one call
    foreign.current_dt = when(20)  # its later bars stay hidden
    assert numbers(get_price(SYMBOL, count=3)) == [18, 19, 20]
    assert numbers(get_price(SYMBOL, count=30)) == list(range(21))


def test_a_foreign_context_may_have_no_bars(ring: RingWriter) -> None:
    append(ring, *range(5))
    for made in (SimpleNamespace(), SimpleNamespace(history=lambda *a: None)):
        set_context(made)
        assert numbers(get_price(SYMBOL)) == list(range(5))
    wealthdata.use(context_only=True)
    assert numbers(get_price("ETHUSDT")) == []
    set_context(SimpleNamespace())
    with pytest.raises(NoDataError):
        get_price("ETHUSDT")


def test_a_foreign_context_may_have_a_list_only(strategy: str) -> None:
    set_context(SimpleNamespace(market_data_context=[listed(1, 2)]))
    assert numbers(get_price(SYMBOL)) == [1, 2]


def test_an_overridden_history_is_asked(strategy: str) -> None:
    class Own(Context):
        def history(self, symbol, count=20, timeframe="1h"):
            return [raw(9)]

    set_context(Own([listed(1)]))
    assert numbers(get_price(SYMBOL)) == [9]


def test_history_returns_the_merged_bars(ring: RingWriter) -> None:
    append(ring, *range(5, 8))
    made = Context([listed(*range(6))])
    for found in (
        made.history(SYMBOL, 5, "1h"),
        ContextDataAdapter(made).get_history(SYMBOL, 5, "60m"),
        ContextDataAdapter(Foreign(5)).get_history(SYMBOL, 5, "1h"),
    ):
        assert all(type(bar) is Bar for bar in found)
        assert [bar.open_time for bar in found] == [opens(n) for n in range(3, 8)]
        assert [bar.volume % 1 for bar in found] == [0.5, 0.5, 0, 0, 0]
        assert found[-1] == Bar(opens(7), opens(8), *prices(7), 700.0, 2)
    with pytest.raises(BadArgumentError, match="count"):
        made.history(SYMBOL, 0)
    with pytest.raises(BadArgumentError, match="timeframe"):
        made.history(SYMBOL, 1, "7m")


def test_history_is_bounded_by_its_own_context(ring: RingWriter) -> None:
    append(ring, *range(5, 8))
    made = Context([listed(*range(6))], current_dt=when(6))
    assert made.history(SYMBOL, 1)[0].open_time == opens(6)
    set_context(Context(current_dt=when(0)))
    assert made.history(SYMBOL, 1)[0].open_time == opens(6)


def test_all_symbols_are_those_of_context_and_feed(ring: RingWriter) -> None:
    adapter = ContextDataAdapter(
        Context([listed(0, symbol="A"), listed(1, symbol="A")])
    )
    assert adapter.get_all_symbols() == ["A", SYMBOL]
    assert ContextDataAdapter(Foreign(1)).get_all_symbols() == [SYMBOL]
    wealthdata.use(context_only=True)
    assert adapter.get_all_symbols() == ["A"]


class Adapter(wealthdata.DataAdapter):
    def get_history(self, symbol, count, timeframe):
        return [raw(n) for n in (1, 2, 3)][-count:]

    def get_all_symbols(self):
        return [SYMBOL]


def test_an_adapter_stands_in_for_the_context(ring: RingWriter) -> None:
    append(ring, *range(4, 8))
    set_context(Context([listed(0, 1, 2, 3)], current_dt=when(6)))
    assert numbers(get_price(SYMBOL)) == list(range(7))
    adapter = Adapter()
    wealthdata.register_data_adapter(adapter)
    assert wealthdata.get_data_adapter() is adapter
    assert numbers(get_price(SYMBOL)) == [1, 2, 3, 4, 5, 6]
    wealthdata.register_data_adapter(ContextDataAdapter(Context([listed(2, 3)])))
    assert numbers(get_price(SYMBOL)) == [2, 3, 4, 5, 6]
    wealthdata.clear_data_adapter()
    assert wealthdata.get_data_adapter() is None
    assert numbers(get_price(SYMBOL)) == list(range(7))


def test_an_adapter_serves_without_context_and_feed(strategy: str) -> None:
    wealthdata.register_data_adapter(Adapter())
    assert numbers(get_price(SYMBOL)) == [1, 2, 3]
    backtest = Context([listed(5)], run_params={"type": "backtest"}, current_dt=when(5))
    wealthdata.register_data_adapter(ContextDataAdapter(backtest))
    found = get_price(SYMBOL)
    assert numbers(found) == [5]
    assert found.attrs["shmfeed"].feed is None


@pytest.mark.parametrize("adapter", [None, 5, SimpleNamespace(get_history=print)])
def test_an_object_without_the_adapter_methods_is_refused(adapter: object) -> None:
    with pytest.raises(BadArgumentError, match="get_all_symbols"):
        wealthdata.register_data_adapter(adapter)


def test_a_view_reads_the_context_at_each_access() -> None:
    made = Context()
    view = context.view_of(made)
    assert (view.is_backtest, view.now) == (False, None)
    made.run_params = {"type": "backtest"}
    made.current_dt = 1_704_067_200_000
    assert (view.is_backtest, view.now) == (True, 1_704_067_200_000)
