"""get_all_securities, get_trade_days, normalize_code; calls without an answer."""

import inspect
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append, listed, when

import wealthdata
from shmfeed.errors import (
    BadArgumentError,
    MissingBarsWarning,
    NoDataError,
    StreamNotFoundError,
)
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create
from wealthdata import (
    Context,
    get_all_securities,
    get_all_trade_days,
    get_trade_days,
    normalize_code,
    unavailable,
)
from wealthdata.frame import TIME

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

FIRST = date(2024, 1, 1)  # of bar 0


def days(first: date, last: date) -> list[date]:
    return [first + timedelta(n) for n in range((last - first).days + 1)]


def today() -> date:
    return datetime.now(UTC).date()


def test_trade_days_from_the_oldest_bar_to_today(
    writer: FeedWriter, ring: RingWriter
) -> None:
    with pytest.raises(NoDataError, match="has no bar yet"):
        get_trade_days()
    append(writer.add_stream("ETHUSDT", "1h"), *range(30, 32))
    append(ring, *range(50, 60))
    found = get_trade_days()
    assert isinstance(found, np.ndarray)
    assert found.dtype == object
    assert found.tolist() == days(date(2024, 1, 2), today())
    assert get_all_trade_days().tolist() == found.tolist()
    wealthdata.set_context(Context([listed(3)]))
    assert get_trade_days()[0] == FIRST


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"start_date": "2024-01-03", "end_date": "2024-01-05"}, (3, 5)),
        ({"start_date": date(2024, 1, 3), "end_date": 20240103}, (3, 3)),
        ({"end_date": "2024-01-05", "count": 3}, (3, 5)),
        ({"end_date": datetime(2024, 1, 5, 23), "count": 1}, (5, 5)),
        ({"end_date": "2024-01-02"}, (1, 2)),
        ({"end_date": "2023-12-31"}, (1, 0)),
    ],
)
def test_a_range_of_trade_days(
    writer: FeedWriter, ring: RingWriter, arguments: dict, expected: tuple[int, int]
) -> None:
    append(ring, *range(5))
    first, last = (date(2023, 12, 31) + timedelta(day) for day in expected)
    assert get_trade_days(**arguments).tolist() == days(first, last)


def test_a_range_needs_no_feed() -> None:
    """The calendar of markets that never close is known."""
    assert get_trade_days(count=3)[-1] == today()
    assert get_trade_days("2030-01-01", "2030-01-02").tolist() == days(
        date(2030, 1, 1), date(2030, 1, 2)
    )
    assert len(get_trade_days(today() + timedelta(3))) == 0


def test_trade_days_of_a_backtest(writer: FeedWriter, ring: RingWriter) -> None:
    append(ring, *range(5))
    context = Context(
        [listed(*range(30, 90))], run_params={"type": "backtest"}, current_dt=when(80)
    )
    wealthdata.set_context(context)
    assert get_trade_days().tolist() == days(date(2024, 1, 2), date(2024, 1, 4))
    assert get_trade_days(count=2).tolist() == days(date(2024, 1, 3), date(2024, 1, 4))
    context.current_dt = when(20)
    with pytest.raises(NoDataError, match="the context has no bar yet"):
        get_trade_days()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "^count is 0"),
        ({"count": 3, "start_date": "2024-01-01"}, "^count 3 and start_date"),
        ({"start_date": "x"}, "^start_date is 'x'"),
        ({"end_date": "x"}, "^end_date is 'x'"),
        ({"start_date": "2024-01-02", "end_date": "2024-01-01"}, "is after end_date"),
        ({"feed": "x y"}, "feed name 'x y'"),
    ],
)
def test_wrong_trade_days(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadArgumentError, match=message):
        get_trade_days(**arguments)


def test_securities(writer: FeedWriter, ring: RingWriter) -> None:
    append(ring, *range(30, 40))
    append(writer.add_stream(SYMBOL, "4h"), 8)
    writer.add_stream("ETHUSDT", "1h")
    wealthdata.set_context(Context([listed(80, symbol="OLD")]))
    frame = get_all_securities()
    assert list(frame.index) == [SYMBOL, "ETHUSDT", "OLD"]
    assert list(frame.columns) == [
        "display_name",
        "name",
        "start_date",
        "end_date",
        "type",
    ]
    assert list(frame["name"]) == list(frame["display_name"]) == list(frame.index)
    assert frame["start_date"].dtype == frame["end_date"].dtype == TIME
    starts = [pd.Timestamp("2024-01-01"), pd.NaT, pd.Timestamp("2024-01-04")]
    assert list(frame["start_date"]) == starts
    assert set(frame["end_date"]) == {pd.Timestamp("2200-01-01")}
    assert list(get_all_securities(date="2024-01-03").index) == [SYMBOL]
    assert list(get_all_securities(date="2023-01-03").index) == []
    assert list(inspect.signature(get_all_securities).parameters)[:2] == [
        "types",
        "date",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"types": "stock"}, "^types has 'stock'"),
        ({"types": ["stock"]}, "^types has 'stock'"),
        ({"types": 7}, "^types is 7"),
        ({"date": "x"}, "^date is 'x'"),
        ({"feed": 7}, "feed name 7"),
    ],
)
def test_wrong_securities(
    writer: FeedWriter, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadArgumentError, match=message):
        get_all_securities(**arguments)


def test_codes(writer: FeedWriter, ring: RingWriter) -> None:
    writer.add_stream("ethUSDT", "1m")
    assert normalize_code("btcusdt") == SYMBOL
    assert normalize_code(["ETHUSDT", "BtcUsdt"]) == ["ethUSDT", SYMBOL]
    assert normalize_code(("BTCUSDT",)) == [SYMBOL]
    assert normalize_code([]) == []
    assert normalize_code(f"btcusdt@{writer.name}") == f"{SYMBOL}@{writer.name}"
    with create(f"{writer.name}2", history=20) as other:
        other.add_stream("solUSD", "1m")
        assert normalize_code(["SOLUSD"], feed=other.name) == ["solUSD"]
        assert normalize_code(["btcusdt", f"SOLUSD@{other.name}"]) == [
            SYMBOL,
            f"solUSD@{other.name}",
        ]
        other.close(unlink=True)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("btcusd", StreamNotFoundError, "did you mean BTCUSDT?"),
        (["BTCUSDT", "xyz"], StreamNotFoundError, "does not carry xyz; its symbols"),
        (7, BadArgumentError, "^code is 7"),
        (["x y"], BadArgumentError, "'x y'"),
        ([7], BadArgumentError, "7"),
    ],
)
def test_wrong_codes(
    writer: FeedWriter, ring: RingWriter, code: Any, kind: type, message: str
) -> None:
    with pytest.raises(kind, match=message):
        normalize_code(code)


def test_codes_of_a_backtest(writer: FeedWriter, ring: RingWriter) -> None:
    wealthdata.set_context(
        Context([listed(1, symbol="ABC")], run_params={"type": "backtest"})
    )
    assert normalize_code("abc") == "ABC"
    with pytest.raises(StreamNotFoundError, match="the context does not carry"):
        normalize_code(SYMBOL)


def test_an_adapter_that_lists_no_symbols_is_read(writer: FeedWriter) -> None:
    class Adapter:
        def get_history(self, _symbol: str, _count: int, _timeframe: str) -> list[Any]:
            return []

        def get_all_symbols(self) -> list[str]:
            raise NotImplementedError

    append(writer.add_stream(SYMBOL, "1h"), 0)
    wealthdata.register_data_adapter(Adapter())
    with pytest.warns(MissingBarsWarning, match="does not carry btcusdt at 1h"):
        found = wealthdata.get_price(["btcusdt", SYMBOL])
    assert list(found["code"]) == [SYMBOL]


def test_symbols_of_an_adapter(strategy: str) -> None:
    class Adapter:
        def get_history(self, symbol: str, count: int, timeframe: str) -> list[dict]:
            return listed(*range(3))["bars"]

        def get_all_symbols(self) -> list[str]:
            return ["ABC"]

    wealthdata.use(context_only=True)
    wealthdata.register_data_adapter(Adapter())
    assert normalize_code(["abc", "other"]) == ["ABC", "other"]  # it may have others
    assert list(get_all_securities().index) == ["ABC"]
    assert list(wealthdata.history(2, "1h").columns) == ["ABC"]
    wealthdata.use(context_only=False)


UNANSWERED = [
    name
    for name, value in vars(unavailable).items()
    if name.startswith(("get_", "order", "cancel"))
]


@pytest.mark.parametrize("name", UNANSWERED)
def test_calls_without_an_answer(name: str) -> None:
    with pytest.raises(NoDataError, match=rf"^{name}\(\) has no answer here.*; \w+"):
        getattr(wealthdata, name)("000300.XSHG", date=None)


def test_a_star_import_brings_the_calls_but_no_orders() -> None:
    names: dict[str, Any] = {}
    exec("from wealthdata import *", names)
    for name in ("get_bars", "history", "get_current_data", "get_fundamentals"):
        assert name in names
    assert "order" in UNANSWERED
    assert not {name for name in names if "order" in name}
