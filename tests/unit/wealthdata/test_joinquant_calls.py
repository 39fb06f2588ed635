"""get_bars, history, attribute_history: JoinQuant's signatures and shapes."""

import copy
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append, listed, opens, prices, when

import wealthdata
from shmfeed import core
from shmfeed.bar import UNCONFIRMED, close_time
from shmfeed.errors import (
    BadArgumentError,
    GapError,
    NoDataError,
    ShmfeedError,
    ShortError,
    StaleFeedError,
    StaleFeedWarning,
    StreamNotFoundError,
    UnconfirmedError,
)
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter
from wealthdata import (
    Context,
    attribute_history,
    choices,
    freshness,
    get_bars,
    get_price,
    history,
    price_table,
    query,
)
from wealthdata.frame import TIME
from wealthdata.request import ReadArguments

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

OTHER = "ETHUSDT"
KEYWORDS = ["feed", "copy", "label", "max_age"]
KEYWORDS += ["on_stale", "on_gap", "on_short", "on_unconfirmed"]


@pytest.fixture
def two(writer: FeedWriter, ring: RingWriter) -> FeedWriter:
    """Give 30 bars of SYMBOL and the last 10 of them of OTHER, at 1h."""
    writer.set_state("connected")
    append(ring, *range(30))
    append(writer.add_stream(OTHER, "1h"), *range(20, 30))
    return writer


@pytest.mark.parametrize(
    ("call", "expected", "more"),
    [
        (
            get_bars,
            {
                "count": None,
                "unit": "1h",
                "fields": None,
                "include_now": False,
                "end_dt": None,
                "fq_ref_date": None,
                "df": True,
                "start_dt": None,
                "skip_paused": True,
            },
            ["frequency", "align", "wide"],
        ),
        (
            history,
            {
                "unit": "1d",
                "field": "close",
                "security_list": None,
                "df": True,
                "skip_paused": False,
                "fq": "pre",
            },
            ["include_now", "align", "wide"],
        ),
        (
            attribute_history,
            {
                "count": inspect.Parameter.empty,
                "unit": "1d",
                "fields": None,
                "skip_paused": True,
                "df": True,
                "fq": "pre",
            },
            ["include_now", "align", "wide"],
        ),
    ],
)
def test_signatures(
    call: Callable[..., Any], expected: dict[str, object], more: list[str]
) -> None:
    parameters = list(inspect.signature(call).parameters.values())
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert {p.name: p.default for p in positional[1:]} == expected
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert keywords == {*KEYWORDS, *more}


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ({}, {}),
        ({"count": 3}, {"count": 3}),
        ({"count": 3, "end_dt": when(9)}, {"count": 3, "end_date": when(9)}),
        ({"start_dt": when(25)}, {"start_date": when(25)}),
        (
            {"start_dt": when(5), "end_dt": when(7)},
            {"start_date": when(5), "end_date": when(7)},
        ),
        ({"count": 50}, {"count": 50}),
        ({"count": 2, "include_now": True}, {"count": 2, "include_now": True}),
        ({"start_dt": when(40)}, {"start_date": when(40)}),
    ],
)
@pytest.mark.parametrize("unit", ["1h", "60m"])
@pytest.mark.parametrize("forming", [False, True])
def test_bars_are_those_of_get_price(
    two: FeedWriter,
    ring: RingWriter,
    arguments: dict[str, Any],
    asked: dict[str, Any],
    unit: Any,
    forming: bool,
) -> None:
    if forming:
        ring.update_forming(opens(30), *prices(30))
    expected = get_price(SYMBOL, frequency="1h", **asked)
    frame = get_bars(SYMBOL, unit=unit, **arguments)
    assert list(frame.columns) == ["date", *expected.columns]
    assert frame.index.equals(pd.RangeIndex(len(expected)))
    assert type(frame.index) is pd.RangeIndex
    assert frame["date"].dtype == TIME
    assert (frame["date"].to_numpy() == expected.index.to_numpy()).all()
    assert (frame.drop(columns="date").to_numpy() == expected.to_numpy()).all()
    told, wanted = frame.attrs["shmfeed"], expected.attrs["shmfeed"]
    for key in ("source", "feed", "health", "forming", "gaps"):
        assert told[key] == wanted[key]
    array = get_bars(SYMBOL, unit=unit, df=False, **arguments)
    assert array.dtype.names == tuple(frame.columns)
    for name in frame.columns:
        assert array.dtype[name] == frame[name].dtype
        assert (array[name] == frame[name].to_numpy()).all()
    array["close"] = 0.0  # private and writable
    frame.loc[:, "close"] = 0.0
    assert (get_price(SYMBOL, frequency="1h", **asked)["close"] > 0).all()


@pytest.mark.parametrize(
    "fields",
    ["close", "date", ["flags", "date", "close"], ("open_time",), ["close", "close"]],
)
def test_columns_come_as_asked(two: FeedWriter, fields: Any) -> None:
    names = [fields] if isinstance(fields, str) else list(dict.fromkeys(fields))
    frame = get_bars(SYMBOL, 3, fields=fields)
    assert list(frame.columns) == names
    assert len(frame) == 3
    array = get_bars(SYMBOL, 3, fields=fields, df=False)
    assert list(array.dtype.names or ()) == names
    for name in names:
        whole = name in ("flags", "open_time")
        assert frame[name].dtype == (
            TIME if name == "date" else "int64" if whole else "float64"
        )
        assert (frame[name].to_numpy() == array[name]).all()


def test_bars_of_a_list(two: FeedWriter) -> None:
    two.add_stream("EMPTY", "1h")
    listed = [OTHER, SYMBOL, "EMPTY", OTHER]
    frame = get_bars(listed, 15)
    assert frame.index.names == ["code", "i"]
    assert list(frame.index) == [
        *((OTHER, i) for i in range(10)),
        *((SYMBOL, i) for i in range(15)),
    ]
    assert frame.attrs["shmfeed"].absent == ["EMPTY"]
    arrays = get_bars(listed, 15, df=False)
    assert list(arrays) == [OTHER, SYMBOL]
    for symbol, array in arrays.items():
        one = get_bars(symbol, 15)
        assert frame.loc[symbol].reset_index(drop=True).equals(one)
        assert (array == get_bars(symbol, 15, df=False)).all()
    aligned = get_bars([OTHER, SYMBOL], 15, align=True)
    assert aligned["date"].tolist() == 2 * [when(i) for i in range(20, 30)]
    wide = get_bars([OTHER, SYMBOL], 15, fields="close", wide=True)
    assert wide.equals(get_price([OTHER, SYMBOL], count=15, fields="close", wide=True))
    none = get_bars([OTHER, SYMBOL], start_dt=when(40))
    assert len(none) == 0
    assert list(none.columns) == list(frame.columns)
    assert get_bars([OTHER, SYMBOL], start_dt=when(40), df=False) == {}


def test_an_empty_range_has_columns(two: FeedWriter) -> None:
    frame = get_bars(SYMBOL, start_dt=when(40))
    assert len(frame) == 0
    assert frame.dtypes.tolist() == [TIME] + ["float64"] * 5
    array = get_bars(SYMBOL, start_dt=when(40), df=False)
    assert array.dtype.names == ("date", "open", "high", "low", "close", "volume")
    assert len(array) == 0


@pytest.mark.parametrize("label", ["close", "open", "date"])
def test_dates_hold_the_label(writer: FeedWriter, label: Any) -> None:
    """Two daily bars: JoinQuant's date is the day that has passed, not the close's."""
    writer.set_state("connected")
    daily = writer.add_stream(SYMBOL, "1d")
    for day in range(3):
        daily.append(opens(24 * day), *prices(day))
    expected = get_price(SYMBOL, frequency="1d", label=label).index
    first = {"close": "2024-01-02", "open": "2024-01-01", "date": "2024-01-01"}[label]
    assert expected[0] == pd.Timestamp(first)
    for choice in (label, None):  # None: the process's choice
        for _ in range(2):
            frame = get_bars(SYMBOL, unit="1d", label=choice)
            array = get_bars(SYMBOL, unit="1d", label=choice, df=False)
            several = get_bars([SYMBOL], unit="1d", label=choice)
            for dates in (frame["date"], array["date"], several["date"]):
                assert (np.asarray(dates) == expected.to_numpy()).all()
            assert history(5, label=choice).index.equals(expected)
            assert attribute_history(SYMBOL, 5, label=choice).index.equals(expected)
            assert wealthdata.get_current_data()[SYMBOL].last_price == prices(2)[3]
        wealthdata.use(label=label)


def test_history(two: FeedWriter) -> None:
    both = [SYMBOL, OTHER]
    expected = get_price(both, count=12, fields="close", wide=True)
    frame = history(12, "1h")  # all that the feed carries
    assert frame.equals(expected)
    assert np.isnan(frame[OTHER].iloc[:2]).all()
    assert history(12, "60m", "volume", [OTHER]).equals(
        get_price([OTHER], count=12, fields="volume", wide=True)
    )
    assert list(history(2, "1h", security_list=OTHER).columns) == [OTHER]
    arrays = history(12, "1h", df=False)
    assert list(arrays) == both
    for symbol, array in arrays.items():
        np.testing.assert_array_equal(array, frame[symbol].to_numpy())
    assert list(history(12, "1h", align=True).index) == list(frame.index[2:])


def test_history_of_all_symbols_that_have_the_timeframe(two: FeedWriter) -> None:
    """No warning about a symbol that the call does not name."""
    two.add_stream("DAILY", "1d")
    short = two.add_stream("SHORT", "30m")
    for half in range(60):
        opened = opens(0) + half * 1_800_000
        short.append(opened, *prices(half))
    assert list(history(5, "1h").columns) == [SYMBOL, OTHER, "SHORT"]
    assert list(history(5, "30m").columns) == ["SHORT"]
    with pytest.raises(StreamNotFoundError, match="carries no symbol at 1m; its symb"):
        history(5, "1m")
    context = Context(
        [listed(*range(3)), listed(*range(3), symbol="OLD")],
        run_params={"type": "backtest"},
    )
    wealthdata.set_context(context)
    assert list(history(5, "1h").columns) == [SYMBOL, "OLD"]
    with pytest.raises(StreamNotFoundError, match="the context carries no symbol"):
        history(5, "30m")


def test_attribute_history(two: FeedWriter) -> None:
    frame = attribute_history(SYMBOL, 4, "1h", ["volume", "open"])
    assert frame.equals(get_price(SYMBOL, count=4, fields=["volume", "open"]))
    default = attribute_history(SYMBOL, 4, "1h")
    assert list(default.columns) == ["open", "high", "low", "close", "volume"]
    arrays = attribute_history(SYMBOL, 4, "1h", ["volume", "open"], df=False)
    assert list(arrays) == ["volume", "open"]
    arrays["open"][:] = 0.0  # private
    assert (frame["open"] > 0).all()


CALLS: list[Callable[..., Any]] = [
    lambda **given: get_bars(SYMBOL, 3, **given),
    lambda **given: get_bars(SYMBOL, 3, df=False, **given),
    lambda **given: get_bars([SYMBOL], 3, **given),
    lambda **given: history(3, "1h", **given),
    lambda **given: history(3, "1h", df=False, **given),
    lambda **given: attribute_history(SYMBOL, 3, "1h", **given),
    lambda **given: attribute_history(SYMBOL, 3, "1h", df=False, **given),
    lambda **given: wealthdata.get_current_data(**given)[SYMBOL].last_price,
]


@pytest.mark.parametrize("call", CALLS)
def test_each_call_reacts_to_stale_bars(
    two: FeedWriter, call: Callable[..., Any]
) -> None:
    with pytest.raises(StaleFeedError):
        call(max_age=0.0, on_stale="raise")
    with pytest.warns(StaleFeedWarning):
        call(max_age=1e-9)
    call(max_age=0.0, on_stale="ignore")
    wealthdata.use(max_age=0.0, on_stale="raise")
    with pytest.raises(StaleFeedError):
        call()
    call(on_stale="ignore")


@pytest.mark.parametrize("call", CALLS)
def test_each_call_takes_a_feed(two: FeedWriter, call: Callable[..., Any]) -> None:
    with pytest.raises((NoDataError, StreamNotFoundError), match="elsewhere"):
        call(feed="elsewhere")


@pytest.mark.parametrize("call", CALLS)
def test_a_backtest_reads_the_context_alone(
    two: FeedWriter, call: Callable[..., Any]
) -> None:
    """The ring has bars 0 to 29; the context ends at 12, its time at 10."""
    context = Context(
        [listed(*range(13))], run_params={"type": "backtest"}, current_dt=when(10)
    )
    wealthdata.set_context(context)
    seen = call()
    newest = float(prices(10)[3])
    if isinstance(seen, dict):
        column = next(iter(seen.values())) if SYMBOL in seen else seen["close"]
        assert column[-1] == newest
    elif isinstance(seen, float):
        assert seen == newest
    elif isinstance(seen, np.ndarray):
        assert seen["close"][-1] == newest
    else:
        assert seen.iloc[-1].to_numpy()[-1 if SYMBOL in seen else -2] == newest


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: get_bars(SYMBOL, unit="1min"), "^unit '1min'"),
    (lambda: get_bars(SYMBOL, frequency="1min"), "^frequency '1min'"),
    (lambda: get_bars(SYMBOL, 5, "1d", frequency="1h"), "^unit '1d' and frequency"),
    (lambda: get_bars(SYMBOL, 0), "^count is 0"),
    (lambda: get_bars(SYMBOL, end_dt="soon"), "^end_dt is 'soon'"),
    (lambda: get_bars(SYMBOL, start_dt="soon"), "^start_dt is 'soon'"),
    (lambda: get_bars(SYMBOL, 5, start_dt=when(1)), "^count 5 and start_dt"),
    (lambda: get_bars(SYMBOL, fields="clsoe"), "^fields is .*date open"),
    (lambda: get_bars(SYMBOL, fields=[]), "^fields is"),
    (lambda: get_bars(SYMBOL, df="no"), "^df is 'no'"),
    (lambda: get_bars(SYMBOL, copy=7), "^copy is 7"),
    (lambda: get_bars([SYMBOL], df=False, wide=True), "df=False and wide=True"),
    (lambda: get_bars(7), "symbol"),
    (lambda: get_bars([]), "^security is an empty list"),
    (lambda: history(SYMBOL, 5), "^count is"),
    (lambda: history(None), "^count is"),
    (lambda: history(5, "1min"), "^unit '1min'"),
    (lambda: history(5, "1h", ["close"]), "^field is"),
    (lambda: history(5, "1h", "clsoe"), "^field is 'clsoe'"),
    (lambda: history(5, "1h", security_list=7), "^security_list is 7"),
    (lambda: history(5, "1h", security_list=[]), "^security_list is an empty list"),
    (lambda: attribute_history([SYMBOL], 5), "^security is .*one symbol"),
    (lambda: attribute_history(SYMBOL, 0), "^count is 0"),
    (lambda: attribute_history(SYMBOL, 5, "1h", "x"), "^fields is"),
    (lambda: attribute_history(SYMBOL, 5, "1h", on_stale="x"), "^on_stale"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_a_wrong_argument_names_itself(
    two: FeedWriter, call: Callable[[], Any], message: str
) -> None:
    with pytest.raises(BadArgumentError, match=message):
        call()


def test_an_error_that_is_not_about_an_argument_keeps_its_words(
    two: FeedWriter,
) -> None:
    """A context's own words, which hold `frequency`, are not the call's."""
    wealthdata.set_context(Context(current_dt="count the frequency"))
    with pytest.raises(BadArgumentError, match="count the frequency"):
        get_bars(SYMBOL)


def test_nothing_says_what_the_flags_of_a_row_say_not(
    two: FeedWriter, ring: RingWriter
) -> None:
    ring.append(opens(30), *prices(30), flags=UNCONFIRMED)
    assert get_bars(SYMBOL, 2, fields="flags", df=False)["flags"].tolist() == [
        2,
        UNCONFIRMED,
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda: get_bars(SYMBOL, 3),
        lambda: get_bars(SYMBOL, 3, df=False, on_stale="raise"),
        lambda: get_bars(SYMBOL, 3, include_now=True),
        lambda: get_price(SYMBOL, count=3, include_now=True),
        lambda: get_price(SYMBOL, count=3, copy=True),
        lambda: get_price(SYMBOL, count=3, frequency="4h"),
        lambda: get_price(SYMBOL, when(3), when(9), frequency="4h"),
        lambda: get_price([OTHER, SYMBOL], when(23)),
        lambda: history(3, "1h"),
        lambda: attribute_history(SYMBOL, 3, "1h", df=False),
    ],
)
def test_a_repeated_read_is_prepared(
    two: FeedWriter, call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Private rows come from the ring as fast as shared ones do."""
    call()
    monkeypatch.setattr(query, "run", lambda asked: pytest.fail("not prepared"))
    call()


def test_without_any_source() -> None:
    for call in (lambda: get_bars("A"), lambda: history(5), lambda: history(5, "1h")):
        with pytest.raises(ShmfeedError):
            call()


@pytest.mark.skipif(core.build != "C", reason="only the C core has a table")
class TestTheUsualArray:
    """The C core serves `get_bars(.., df=False)` of the newest bars by itself."""

    @pytest.fixture
    def prepared(self, two: FeedWriter) -> Iterator[FeedWriter]:
        freshness.outages.clear()
        get_bars(SYMBOL, df=False)
        yield two
        freshness.outages.clear()

    @staticmethod
    def served(writer: FeedWriter, count: object = None, **given: object) -> Any:
        """Return what the C core alone gives, of a feed that is alive."""
        writer.beat()
        with suppress(BadArgumentError):
            choices.current_choices()  # pytest changes the environment between phases
        given = {"security": SYMBOL, **given}
        asked = ReadArguments(limit=count, **given)
        return price_table.array_table().read(tuple(asked[:-2]))

    def test_it_is_the_array_of_the_frame(
        self, prepared: FeedWriter, ring: RingWriter
    ) -> None:
        names = ("flags", "date", "money", "open_time", "close_time", "high")
        get_bars(SYMBOL, fields=names, df=False)
        append(ring, *range(30, 200))
        for count in (None, 1, 7, 100, 5000):
            for fields in (None, names):
                array = self.served(prepared, count, fields=fields)
                frame = get_bars(SYMBOL, count, fields=fields)
                assert list(array.dtype.names) == list(frame.columns)
                assert len(array) == len(frame)
                for name in frame.columns:
                    assert array[name].dtype == frame[name].dtype
                    assert (array[name] == frame[name].to_numpy()).all()
        assert str(array.flags) == str(np.empty(5, array.dtype).flags)
        array["high"] = 0.0  # private and writable
        assert (get_price(SYMBOL)["high"] > 0).all()

    @pytest.mark.parametrize("unit", ["1h", "1d", "1M"])
    def test_it_is_that_of_the_frame_for_any_dates(
        self, prepared: FeedWriter, unit: Any
    ) -> None:
        ring = prepared.add_stream("DATED", unit)
        times = [0]
        while len(times) < 60:
            times.append(close_time(times[-1], unit))
        missing = {times[20], times[21]}
        for opened in sorted({*times[:-1]} - missing):
            ring.append(opened, *prices(opened))
        ring.update_forming(times[-1], *prices(3))
        end, start = (np.datetime64(times[k], "ms") for k in (25, 15))
        for given in (
            {},
            {"include_now": True},
            {"copy": True},
            {"end_dt": end},
            {"end_dt": str(end)[:10], "include_now": True},
            {"start_dt": start, "end_dt": end},
            {"start_dt": start},
        ):
            count = None if "start_dt" in given else 7
            for label in (None, "close", "open", "date"):
                asked: dict[str, Any] = {"unit": unit, "label": label, **given}
                names = ["close", "date", "flags", "close_time"]
                for _ in range(2):  # the second one is prepared
                    array = get_bars("DATED", count, fields=names, df=False, **asked)
                frame = get_bars("DATED", count, fields=names, **asked)
                for name in names:
                    assert array[name].tolist() == frame[name].to_numpy().tolist()
        assert (
            self.served(
                prepared, 7, security="DATED", frequency=unit, fields=tuple(names)
            )
            is not None
        )

    def test_it_keeps_no_reference(self, prepared: FeedWriter) -> None:
        dtype = self.served(prepared).dtype
        before = sys.getrefcount(dtype)
        for _ in range(100):
            copy.copy(self.served(prepared, 5))
        assert sys.getrefcount(dtype) == before

    @pytest.mark.parametrize(
        "given",
        [
            {"count": 0},
            {"count": True},
            {"count": "3"},
            {"include_now": None},
            {"copy": 1},
            {"wide": True},
            {"label": "opens"},
            {"on_gap": "rasie"},
            {"fields": "close"},
            {"frequency": "1m"},
            {"feed": "other"},
        ],
    )
    def test_other_calls_are_pythons(
        self, prepared: FeedWriter, given: dict[str, Any]
    ) -> None:
        assert self.served(prepared) is not None
        assert self.served(prepared, **given) is None

    def test_a_careful_call_is_served_while_nothing_is_wrong(
        self, prepared: FeedWriter, ring: RingWriter
    ) -> None:
        careful: dict[str, Any] = dict.fromkeys(
            ("on_stale", "on_gap", "on_short", "on_unconfirmed"), "raise"
        )
        append(ring, 30, 32)
        ring.append(opens(33), *prices(33), flags=UNCONFIRMED)
        get_bars(SYMBOL, df=False)
        assert self.served(prepared, 2, on_stale="raise", max_age=60.0) is not None
        assert self.served(prepared, 2, on_gap="raise", on_short="raise") is not None
        assert self.served(prepared, 2, on_unconfirmed="raise") is None
        assert self.served(prepared, 3, on_gap="raise") is None
        assert self.served(prepared, 50, on_short="raise") is None
        assert self.served(prepared, 2, on_stale="raise", max_age=0.0) is None
        for error, count, name in (
            (GapError, 3, "on_gap"),
            (ShortError, 50, "on_short"),
            (UnconfirmedError, 2, "on_unconfirmed"),
        ):
            choice: dict[str, Any] = {name: "raise"}
            with pytest.raises(error):
                get_bars(SYMBOL, count, df=False, **choice)
        append(ring, *range(34, 40))
        assert self.served(prepared, 5, **careful) is not None

    @pytest.mark.parametrize(
        "change",
        [
            lambda: wealthdata.use(label="open"),
            lambda: wealthdata.use(on_stale="raise"),
            lambda: wealthdata.use(context_only=True),
            lambda: wealthdata.use(feed="other"),
            lambda: os.environ.update(SHMFEED_FEED="off"),
            lambda: wealthdata.set_context(Context([])),
        ],
    )
    def test_a_change_ends_it(
        self, prepared: FeedWriter, monkeypatch: pytest.MonkeyPatch, change: Any
    ) -> None:
        monkeypatch.setenv("SHMFEED_FEED", prepared.name)
        choices.current_choices()
        get_bars(SYMBOL, df=False)
        assert self.served(prepared) is not None
        change()
        array = price_table.array_table().read(
            tuple(ReadArguments(SYMBOL, limit=None)[:-2])
        )
        assert array is None

    def test_a_dead_or_disconnected_feed_is_pythons(self, prepared: FeedWriter) -> None:
        assert self.served(prepared) is not None
        prepared.set_state("reconnecting")
        assert self.served(prepared) is None
        with pytest.raises(StaleFeedError):
            get_bars(SYMBOL, df=False, on_stale="raise")

    def test_a_live_context_bounds_and_completes_it(
        self, prepared: FeedWriter, ring: RingWriter
    ) -> None:
        """The ring has bars 0 to 29; the context has none, then an older one."""
        context = Context([])
        wealthdata.set_context(context)
        for _ in range(3):
            assert get_bars(SYMBOL, 5, df=False)["close"][-1] == prices(29)[3]
        context.current_dt = when(12)
        for _ in range(3):
            assert get_bars(SYMBOL, 5, df=False)["close"][-1] == prices(12)[3]
        context.current_dt = None
        context.market_data_context = [listed(-1)]
        for _ in range(3):
            assert get_bars(SYMBOL, 31, df=False)["close"][0] == prices(-1)[3]
        context.market_data_context = [listed(3)]
        context.run_params = {"type": "backtest"}
        for _ in range(3):
            assert get_bars(SYMBOL, 5, df=False)["close"].tolist() == [prices(3)[3]]
