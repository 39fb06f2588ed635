"""get_current_data: last price, the day's open, and the values that raise."""

import math
from typing import Any

import pytest
from support.numbered_bars import (
    HOUR,
    START,
    SYMBOL,
    append,
    listed,
    opens,
    prices,
    when,
)

import wealthdata
from shmfeed.bar import AFTER_GAP, UNCONFIRMED
from shmfeed.errors import (
    BadArgumentError,
    NoDataError,
    StaleFeedError,
    StreamNotFoundError,
    UnconfirmedError,
)
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter
from wealthdata import Context, get_current_data

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

MINUTE = 60_000
DAY = 24 * HOUR


@pytest.fixture
def live(writer: FeedWriter, ring: RingWriter) -> FeedWriter:
    writer.set_state("connected")
    return writer


def minute(ring: RingWriter, number: int, price: float, flags: int = 2) -> None:
    ring.append(START + number * MINUTE, *([price] * 4), 1.0, flags=flags)


def test_the_forming_bar_has_the_last_price(live: FeedWriter, ring: RingWriter) -> None:
    current = get_current_data()[SYMBOL]
    assert math.isnan(current.last_price)
    append(ring, 0, 1)
    assert current.last_price == prices(1)[3]
    ring.update_forming(opens(2), *prices(2))
    assert current.last_price == prices(2)[3]
    append(ring, 2)
    ring.update_forming(opens(3), *prices(7))
    assert current.last_price == prices(7)[3]


@pytest.mark.parametrize("order", [["1m", "4h"], ["4h", "1m"]])
def test_the_newest_price_of_several_timeframes(
    live: FeedWriter, ring: RingWriter, order: list[Any]
) -> None:
    rings = {name: live.add_stream(SYMBOL, name) for name in order}
    append(ring, 0)  # closes at 01:00
    current = get_current_data()[SYMBOL]
    assert current.last_price == prices(0)[3]
    minute(rings["1m"], 59, 70.0)  # the same instant: the shorter timeframe
    assert current.last_price == 70.0
    minute(rings["1m"], 60, 71.0)
    assert current.last_price == 71.0
    rings["4h"].update_forming(START, *([72.0] * 4), 1.0)
    assert current.last_price == 72.0  # updated just now
    ring.update_forming(opens(1), *([73.0] * 4), 1.0)
    assert current.last_price == 73.0  # later still
    minute(rings["1m"], 61, 74.0)
    rings["4h"].update_forming(START, *([75.0] * 4), 1.0)
    assert current.last_price == 75.0


def test_the_day_opens_with_its_first_bar(live: FeedWriter, ring: RingWriter) -> None:
    current = get_current_data()[SYMBOL]
    assert math.isnan(current.day_open)
    append(ring, 21, 22)
    assert math.isnan(current.day_open)  # the day began before the ring
    append(ring, 23)
    ring.update_forming(opens(24), *prices(24))
    assert current.day_open == prices(24)[0]
    append(ring, 24, 25, 26)
    assert current.day_open == prices(24)[0]


def test_a_longer_bar_knows_the_open_of_the_day(
    live: FeedWriter, ring: RingWriter
) -> None:
    append(ring, 26, 27)
    current = get_current_data()[SYMBOL]
    assert math.isnan(current.day_open)
    daily, weekly = live.add_stream(SYMBOL, "1d"), live.add_stream(SYMBOL, "1w")
    weekly.update_forming(START, *([5.0] * 4), 1.0)
    assert math.isnan(current.day_open)  # the week's open is not the day's
    daily.update_forming(START + DAY, *([9.0] * 4), 1.0)
    assert current.day_open == 9.0


@pytest.mark.parametrize(("flags", "expected"), [(2, 8.0), (2 | AFTER_GAP, math.nan)])
def test_a_day_that_begins_without_a_trade(
    live: FeedWriter, ring: RingWriter, flags: int, expected: float
) -> None:
    """A venue sends no bar where nothing traded; lost bars are another case."""
    append(ring, 22, 23)
    ring.append(opens(26), *([8.0] * 4), 1.0, flags=flags)
    append(ring, 27)
    assert get_current_data()[SYMBOL].day_open == pytest.approx(expected, nan_ok=True)


def test_a_backtest_has_the_prices_of_its_context(
    live: FeedWriter, ring: RingWriter
) -> None:
    append(ring, *range(40))
    ring.update_forming(opens(40), *prices(40))
    context = Context(
        [listed(*range(30))], run_params={"type": "backtest"}, current_dt=when(26)
    )
    wealthdata.set_context(context)
    current = get_current_data()[SYMBOL]
    assert current.last_price == prices(26)[3]
    assert current.day_open == prices(24)[0]
    context.current_dt = when(12)
    assert current.last_price == prices(12)[3]
    assert current.day_open == prices(0)[0]
    context.current_dt = when(31)
    assert current.last_price == prices(29)[3]
    context.current_dt = when(80)  # a later day, of which there is no bar
    assert math.isnan(current.day_open)


def test_a_context_that_cannot_list_its_streams(strategy: str) -> None:
    def bars(symbol: str, count: int, timeframe: str) -> list[dict[str, Any]]:
        if timeframe != "1h":
            raise LookupError(timeframe)
        return listed(*range(30))["bars"][-count:]

    class Foreign:
        history = staticmethod(bars)
        run_params = {"type": "backtest"}  # noqa: RUF012
        current_dt = when(26)

    wealthdata.set_context(Foreign())
    current = get_current_data()["ANY"]
    assert current.last_price == prices(26)[3]
    assert current.day_open == prices(24)[0]


def test_a_history_function_that_never_answers(strategy: str) -> None:
    class Foreign:
        run_params = {"type": "backtest"}  # noqa: RUF012

        def history(self, symbol: str, count: int, timeframe: str) -> list[Any]:
            raise LookupError(f"no {symbol}")

    wealthdata.set_context(Foreign())
    with pytest.raises(LookupError, match="no ANY"):
        _ = get_current_data()["ANY"].last_price


def test_it_is_a_mapping(live: FeedWriter, ring: RingWriter) -> None:
    live.add_stream("ETHUSDT", "1m")
    current = get_current_data()
    assert list(current) == list(current.keys()) == [SYMBOL, "ETHUSDT"]
    assert len(current) == 2
    assert SYMBOL in current
    assert f"{SYMBOL}@{live.name}" in current
    assert [name in current for name in ("XRPUSDT", "x y", 7)] == [False] * 3
    assert current.get("XRPUSDT") is None
    assert current[SYMBOL].name == SYMBOL
    assert repr(current[SYMBOL]) == f"<CurrentSecurity {SYMBOL}>"
    with pytest.raises(StreamNotFoundError, match="did you mean BTCUSDT"):
        current["btcusdt"]
    wealthdata.set_context(Context([listed(1, symbol="OLD")]))
    assert list(current) == [SYMBOL, "ETHUSDT", "OLD"]


@pytest.mark.parametrize(
    "name", ["paused", "high_limit", "low_limit", "is_st", "industry_code"]
)
def test_what_no_feed_knows_raises(live: FeedWriter, name: str) -> None:
    """`getattr(.., False)` and hasattr must not take it for a no."""
    with pytest.raises(NoDataError, match=f"^{name} has no answer"):
        getattr(get_current_data()[SYMBOL], name, False)


@pytest.mark.parametrize("name", ["last_price", "day_open"])
def test_each_price_heeds_the_reactions(
    live: FeedWriter, ring: RingWriter, name: str
) -> None:
    append(ring, 23, 24)
    security = get_current_data(on_stale="raise", on_unconfirmed="raise")[SYMBOL]
    live.beat()
    assert getattr(security, name) > 0
    live.set_state("reconnecting")
    with pytest.raises(StaleFeedError):
        getattr(security, name)
    live.set_state("connected")
    ring.append(opens(25), *prices(25), flags=UNCONFIRMED)
    with pytest.raises(UnconfirmedError):
        getattr(security, name)
    wealthdata.use(on_stale="raise")
    live.set_state("reconnecting")
    with pytest.raises(StaleFeedError):
        getattr(get_current_data()[SYMBOL], name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"feed": "x y"}, "feed name 'x y'"),
        ({"on_stale": "rasie"}, "on_stale is 'rasie'"),
        ({"max_age": -1}, "max_age is -1"),
    ],
)
def test_a_wrong_argument_names_itself(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadArgumentError, match=message):
        get_current_data(**given)
