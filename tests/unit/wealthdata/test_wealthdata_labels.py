"""The times that an index holds: by argument, by `use`, by the environment."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from support.numbered_bars import SYMBOL

from shmfeed.bar import TIMEFRAMES, floor
from shmfeed.errors import BadArgumentError
from shmfeed.writer import FeedWriter
from wealthdata import Context, get_price, set_context, use

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

DAY = 86_400_000
FIRST = 1_767_225_600_000  # 2026-01-01, a Thursday
OTHER = "ETHUSDT"
# The bar that contains FIRST, and the next one.
EXPECTED = {
    "1h": {
        "close": ["2026-01-01 01:00", "2026-01-01 02:00"],
        "open": ["2026-01-01 00:00", "2026-01-01 01:00"],
        "date": ["2026-01-01 01:00", "2026-01-01 02:00"],
    },
    "12h": {
        "close": ["2026-01-01 12:00", "2026-01-02 00:00"],
        "open": ["2026-01-01 00:00", "2026-01-01 12:00"],
        "date": ["2026-01-01 12:00", "2026-01-02 00:00"],
    },
    "1d": {
        "close": ["2026-01-02", "2026-01-03"],
        "open": ["2026-01-01", "2026-01-02"],
        "date": ["2026-01-01", "2026-01-02"],
    },
    "3d": {
        "close": ["2026-01-04", "2026-01-07"],
        "open": ["2026-01-01", "2026-01-04"],
        "date": ["2026-01-03", "2026-01-06"],
    },
    "1w": {
        "close": ["2026-01-05", "2026-01-12"],
        "open": ["2025-12-29", "2026-01-05"],
        "date": ["2026-01-04", "2026-01-11"],
    },
    "1M": {
        "close": ["2026-02-01", "2026-03-01"],
        "open": ["2026-01-01", "2026-02-01"],
        "date": ["2026-01-31", "2026-02-28"],
    },
}
CASES = [(t, label) for t, labels in EXPECTED.items() for label in labels]


def add_streams(writer: FeedWriter, timeframe: str, symbols: list[str]) -> None:
    """Append the bar that contains FIRST, and the next one, to each stream."""
    for symbol in symbols:
        ring = writer.add_stream(symbol, timeframe)
        opened = floor(FIRST, timeframe)
        later = opened + (40 * DAY if timeframe == "1M" else TIMEFRAMES[timeframe])
        for number, moment in enumerate((opened, floor(later, timeframe))):
            ring.append(moment, 1.0 + number, 2.0 + number, 0.5, 1.5, 3.0)


def by_argument(label: str, **arguments: object) -> pd.DataFrame:
    return get_price(label=label, **arguments)


def by_use(label: str, **arguments: object) -> pd.DataFrame:
    use(label=label)
    return get_price(**arguments)


READS: dict[str, dict] = {
    "one": {"security": SYMBOL},
    "one, private": {"security": SYMBOL, "copy": True},
    "one, integers": {"security": SYMBOL, "fields": ["close", "flags"]},
    "one, a range": {"security": SYMBOL, "start_date": "2020-01-01"},
    "one, up to an end": {"security": SYMBOL, "count": 2, "end_date": "2199-01-01"},
    "wide": {"security": [SYMBOL, OTHER], "wide": True},
    "wide, aligned": {"security": [SYMBOL, OTHER], "wide": True, "align": True},
    "wide, a range": {
        "security": [SYMBOL, OTHER],
        "wide": True,
        "start_date": "2020-01-01",
    },
}


@pytest.mark.parametrize("choose", [by_argument, by_use])
@pytest.mark.parametrize(("timeframe", "label"), CASES)
def test_the_index_of_a_frame_holds_the_label(
    writer: FeedWriter,
    timeframe: str,
    label: str,
    choose: Callable[..., pd.DataFrame],
) -> None:
    add_streams(writer, timeframe, [SYMBOL, OTHER])
    expected = pd.DatetimeIndex(EXPECTED[timeframe][label])
    for title, read in READS.items():
        given = read | {"frequency": timeframe}
        usual = get_price(label="close", **given)
        for _ in range(3):  # the first call prepares the next ones
            found = choose(label, **given)
            assert list(found.index) == list(expected), title
            assert found.index.dtype == usual.index.dtype, title
            rows = found.reset_index(drop=True)
            assert rows.equals(usual.reset_index(drop=True)), title


@pytest.mark.parametrize("securities", [[SYMBOL], [SYMBOL, OTHER]])
@pytest.mark.parametrize(("timeframe", "label"), CASES)
def test_the_time_column_of_a_long_frame_holds_the_label(
    writer: FeedWriter, timeframe: str, label: str, securities: list[str]
) -> None:
    add_streams(writer, timeframe, securities)
    expected = [pd.Timestamp(t) for t in EXPECTED[timeframe][label]] * len(securities)
    given = {"security": securities, "frequency": timeframe}
    usual = get_price(**given)
    for more in ({}, {"end_date": "2199-01-01", "count": 2}):
        for _ in range(3):
            found = get_price(label=label, **given, **more)
            assert list(found["time"]) == expected
            assert found["time"].dtype == usual["time"].dtype
            rest = found.drop(columns="time")
            assert rest.equals(usual.drop(columns="time"))
    use(label=label)
    for _ in range(3):
        assert list(get_price(**given)["time"]) == expected


def test_a_label_of_the_environment(
    writer: FeedWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_streams(writer, "1d", [SYMBOL])

    def first() -> str:
        return str(get_price(SYMBOL, frequency="1d").index[0])[:10]

    for _ in range(3):
        assert first() == "2026-01-02"
    monkeypatch.setenv("SHMFEED_LABEL", "date")
    for _ in range(3):
        assert first() == "2026-01-01"
    use(label="close")  # it wins over the environment
    for _ in range(3):
        assert first() == "2026-01-02"
    monkeypatch.setenv("SHMFEED_LABEL", "dates")
    use(label="open")
    assert first() == "2026-01-01"


def test_a_label_of_the_environment_is_checked(
    writer: FeedWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_streams(writer, "1d", [SYMBOL])
    monkeypatch.setenv("SHMFEED_LABEL", "dates")
    with pytest.raises(BadArgumentError, match=r"SHMFEED_LABEL is 'dates'.*close open"):
        get_price(SYMBOL, frequency="1d")


@pytest.mark.parametrize("label", ["Close", "", 5, True, ["date"], b"date"])
def test_a_wrong_label_names_itself(writer: FeedWriter, label: object) -> None:
    add_streams(writer, "1d", [SYMBOL, OTHER])
    for security in (SYMBOL, [SYMBOL], [SYMBOL, OTHER]):
        get_price(security, frequency="1d")
        for more in ({}, {"end_date": "2026-01-01"}, {"include_now": True}):
            with pytest.raises(BadArgumentError, match=r"label is .*close open date"):
                get_price(security, frequency="1d", label=label, **more)
    with pytest.raises(BadArgumentError, match="label is"):
        use(label=label)


def test_a_label_of_another_string_type_is_the_same(writer: FeedWriter) -> None:
    add_streams(writer, "1d", [SYMBOL])
    for _ in range(2):
        found = get_price(SYMBOL, frequency="1d", label=np.str_("date"))
        assert str(found.index[0])[:10] == "2026-01-01"


def test_rows_of_a_context_and_forming_bars_have_labels_too(
    writer: FeedWriter,
) -> None:
    ring = writer.add_stream(SYMBOL, "1d")
    ring.append(FIRST, 1.0, 2.0, 0.5, 1.5, 3.0)
    ring.update_forming(FIRST + DAY, 1.0, 2.0, 0.5, 1.5, 3.0)
    older = {
        "open_time": FIRST - DAY,
        "close_time": FIRST - 1,
        **dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0),
    }
    bars = {"symbol": SYMBOL, "timeframe": "1d", "bars": [older]}
    set_context(Context([bars]))
    for label, first in (("close", 1), ("open", 0), ("date", 0)):
        found = get_price(
            SYMBOL, frequency="1d", count=3, include_now=True, label=label
        )
        days = [pd.Timestamp(2026, 1, 1) + pd.Timedelta(days=k - 1) for k in range(4)]
        assert list(found.index) == days[first : first + 3]
        assert found.attrs["shmfeed"].forming


@pytest.mark.skipif(pd.__version__.startswith("2."), reason="lines for pandas 3")
def test_the_lines_of_the_porting_page_are_right(writer: FeedWriter) -> None:
    add_streams(writer, "1h", [SYMBOL])
    frame = get_price(SYMBOL, copy=True)
    with pytest.raises(KeyError):
        frame["close"][-1]
    assert frame["close"].iloc[-1] == 1.5
    series = frame["close"].copy()
    series[-1] = 9.0
    assert len(series) == 3
    seconds = (frame.index - pd.Timestamp(0)) // pd.Timedelta(seconds=1)
    assert list(frame.index.as_unit("s").astype("int64")) == list(seconds)
    assert list(frame.index.astype("int64") // 10**9) != list(seconds)
    rows = frame.reset_index(names="time")
    other = pd.DataFrame({"time": frame.index.as_unit("ns"), "x": [1.0, 2.0]})
    with pytest.raises(pd.errors.MergeError):
        pd.merge_asof(rows, other, on="time")
    other["time"] = other["time"].astype(rows["time"].dtype)
    assert pd.merge_asof(rows, other, on="time")["x"].tolist() == [1.0, 2.0]
