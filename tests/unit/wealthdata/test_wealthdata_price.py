"""get_price: counts, ranges, forming bars, lists of securities, refused arguments."""

import inspect
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append, numbers, opens, prices, when
from support.waiting import until

import wealthdata
from shmfeed.errors import BadArgumentError, NoDataError, StreamNotFoundError
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create
from wealthdata import attachment, choices, get_price

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::wealthdata.StaleFeedWarning", "ignore::wealthdata.BehindWarning"
)


def test_names_and_order_of_the_arguments() -> None:
    parameters = inspect.signature(get_price).parameters
    assert [(p.name, p.default) for p in list(parameters.values())[1:]] == [
        ("start_date", None),
        ("end_date", None),
        ("frequency", "1h"),
        ("fields", None),
        ("skip_paused", False),
        ("fq", "pre"),
        ("count", None),
        ("panel", True),
        ("fill_paused", True),
        ("round", True),
        ("feed", None),
        ("include_now", False),
        ("copy", False),
        ("label", None),
        ("align", False),
        ("wide", False),
        ("max_age", None),
        ("on_stale", None),
        ("on_gap", None),
        ("on_short", None),
        ("on_unconfirmed", None),
    ]
    keywords = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert keywords == list(parameters)[11:]


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, range(20, 40)),
        ({"count": 3}, range(37, 40)),
        ({"count": np.int64(3)}, range(37, 40)),
        ({"count": 1000}, range(40)),
        ({"count": 3, "end_date": when(30)}, range(28, 31)),
        ({"count": 3, "end_date": when(30) + timedelta(minutes=59)}, range(28, 31)),
        ({"count": 3, "end_date": when(30) - timedelta(milliseconds=1)}, range(27, 30)),
        ({"count": 3, "end_date": when(1)}, range(2)),
        ({"count": 3, "end_date": when(-1)}, ()),
        ({"count": 3, "end_date": when(99)}, range(37, 40)),
        ({"end_date": when(30)}, range(11, 31)),
        ({"start_date": when(30)}, range(30, 40)),
        ({"start_date": when(30) + timedelta(milliseconds=1)}, range(31, 40)),
        ({"start_date": when(5), "end_date": when(8)}, range(5, 9)),
        ({"start_date": when(8), "end_date": when(8)}, [8]),
        ({"start_date": when(-50), "end_date": when(1)}, range(2)),
        ({"start_date": when(50)}, ()),
    ],
)
def test_ranges_compare_close_times_both_ends_included(
    ring: RingWriter, arguments: dict, expected: list, copy: bool
) -> None:
    append(ring, *range(40))
    for _ in range(2):
        assert numbers(get_price(SYMBOL, copy=copy, **arguments)) == list(expected)


def test_a_read_returns_at_most_the_feeds_history(ring: RingWriter) -> None:
    append(ring, *range(110))
    for arguments in ({"count": 500}, {"start_date": when(0)}):
        for copy in (False, True):
            found = get_price(SYMBOL, copy=copy, **arguments)
            assert numbers(found) == list(range(10, 110))


EAST = timezone(timedelta(hours=8))


@pytest.mark.parametrize(
    "moment",
    [
        "2024-01-01 05:00",
        "2024-01-01 05:00:00",
        "2024-01-01T05:00:00Z",
        "2024-01-01 13:00:00+08:00",
        "2024/01/01 05:00:00",
        " 2024-1-1 05:00:00 ",
        datetime(2024, 1, 1, 5),
        datetime(2024, 1, 1, 5, 0, 0, 999),
        datetime(2024, 1, 1, 5, tzinfo=UTC),
        datetime(2024, 1, 1, 13, tzinfo=EAST),
        pd.Timestamp("2024-01-01 05:00"),
        pd.Timestamp("2024-01-01 13:00", tz="Asia/Shanghai"),
        np.datetime64("2024-01-01T05"),
        np.datetime64("2024-01-01T05:00:00.000000000"),
        opens(5),
        np.int64(opens(5)),
    ],
    ids=repr,
)
def test_dates_are_accepted_in_every_form(ring: RingWriter, moment: object) -> None:
    append(ring, *range(40))
    found = get_price(SYMBOL, start_date=moment, end_date=moment)
    assert numbers(found) == [4]


@pytest.mark.parametrize(
    "day",
    [
        "2024-01-02",
        "20240102",
        date(2024, 1, 2),
        np.datetime64("2024-01-02", "D"),
        20240102,
    ],
)
def test_a_date_alone_is_midnight(ring: RingWriter, day: object) -> None:
    append(ring, *range(40))
    assert numbers(get_price(SYMBOL, count=2, end_date=day)) == [22, 23]
    assert numbers(get_price(SYMBOL, start_date=day))[0] == 23


@pytest.mark.parametrize(
    "moment",
    [
        10**30,
        "tomorrow",
        "",
        "2024-13-01",
        pd.NaT,
        np.datetime64("NaT", "ns"),
        1.5,
        True,
        b"2024",
        5,
        [],
    ],
    ids=repr,
)
def test_a_value_that_is_not_a_time_is_refused(
    ring: RingWriter, moment: object
) -> None:
    for name in ("start_date", "end_date"):
        with pytest.raises(BadArgumentError, match=name):
            get_price(SYMBOL, **{name: moment})


@pytest.mark.parametrize(
    "moment",
    [
        np.datetime64("20000-01-01"),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=9))),
    ],
    ids=repr,
)
def test_a_time_beyond_the_calendar_is_refused(
    ring: RingWriter, moment: object
) -> None:
    for timeframe in ("1h", "1M"):
        with pytest.raises(BadArgumentError, match="end_date"):
            get_price(SYMBOL, end_date=moment, frequency=timeframe)


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "20"])
def test_a_count_is_an_int_of_at_least_one(ring: RingWriter, count: object) -> None:
    append(ring, *range(40))
    get_price(SYMBOL)
    with pytest.raises(BadArgumentError, match="count"):
        get_price(SYMBOL, count=count)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"count": 5, "start_date": "2024-01-01"}, "count 5 and start_date"),
        ({"fields": "price"}, "'price'.*open high low close volume money open_time"),
        ({"fields": ["close", "date"]}, "date"),
        ({"fields": []}, "fields"),
        ({"fields": 5}, "fields is 5"),
        ({"fields": {"close": 1}}, "fields"),
        ({"fields": [["close"]]}, "fields"),
        ({"frequency": "7m"}, "'7m'.*1m 3m"),
        ({"frequency": "1H"}, "'1H'"),
        ({"frequency": None}, "None"),
        ({"frequency": ["1h"]}, "1h"),
        ({"max_age": -1}, "max_age is -1"),
        ({"max_age": "5"}, "max_age"),
        ({"max_age": float("nan")}, "max_age"),
        ({"on_stale": "scream"}, "'scream'.*warn raise ignore"),
        ({"on_stale": False}, "on_stale"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(ring: RingWriter, arguments: dict, named: str) -> None:
    append(ring, *range(40))
    get_price(SYMBOL)
    for security in (SYMBOL, [SYMBOL]):
        with pytest.raises(BadArgumentError, match=named):
            get_price(security, **arguments)


@pytest.mark.parametrize("security", ["", "BTC USDT", "é", None, 5, b"BTC", {}, [5]])
def test_a_value_that_is_not_a_symbol_is_refused(
    ring: RingWriter, security: object
) -> None:
    with pytest.raises(BadArgumentError, match=r"symbol|security"):
        get_price(security)


def test_an_alias_of_a_timeframe_is_accepted(ring: RingWriter) -> None:
    append(ring, *range(5))
    assert numbers(get_price(SYMBOL, frequency="60m")) == list(range(5))


def test_fields_pick_and_order(ring: RingWriter) -> None:
    append(ring, *range(5))
    assert list(get_price(SYMBOL, fields="money").columns) == ["money"]
    fields = ("flags", "money", "close_time", "low", "open_time")
    found = get_price(SYMBOL, fields=fields, count=1)
    assert tuple(found.columns) == fields
    expected = [2, 400.0, opens(5), prices(4)[2], opens(4)]
    assert found.iloc[0].tolist() == expected
    kinds = {name: dtype.kind for name, dtype in found.dtypes.items()}
    assert kinds == dict(zip(fields, "ififi", strict=True))
    assert list(get_price(SYMBOL, fields=["low", "low"]).columns) == ["low"]


def test_jqdatasdk_arguments_change_nothing(ring: RingWriter) -> None:
    append(ring, *range(5))
    plain = get_price(SYMBOL)
    given = get_price(
        SYMBOL, None, None, "1h", None, True, None, 20, False, False, False
    )
    pd.testing.assert_frame_equal(plain, given)


def test_the_forming_bar_is_the_last_of_the_count(ring: RingWriter) -> None:
    append(ring, *range(40))
    ring.update_forming(opens(40), *prices(40))
    for _ in range(2):
        closed = get_price(SYMBOL, count=3)
        assert numbers(closed) == [37, 38, 39]
        assert not closed.attrs["shmfeed"].forming
        found = get_price(SYMBOL, count=3, include_now=True)
        assert numbers(found) == [38, 39, 40]
        assert found.attrs["shmfeed"].forming
    found = get_price(SYMBOL, start_date=when(38), include_now=True)
    assert numbers(found) == [38, 39, 40]
    assert found.attrs["shmfeed"].forming


def test_without_a_forming_bar_there_are_only_closed_ones(ring: RingWriter) -> None:
    append(ring, *range(40))
    ring.update_forming(opens(40), *prices(40))
    append(ring, 40)
    for _ in range(2):
        found = get_price(SYMBOL, count=3, include_now=True)
        assert numbers(found) == [38, 39, 40]
        assert not found.attrs["shmfeed"].forming


def test_end_date_is_compared_with_the_forming_bars_close_time(
    ring: RingWriter,
) -> None:
    append(ring, *range(40))
    ring.update_forming(opens(40), *prices(40))
    before = {"end_date": when(40) - timedelta(milliseconds=1), "include_now": True}
    found = get_price(SYMBOL, count=3, **before)
    assert numbers(found) == [37, 38, 39]
    assert not found.attrs["shmfeed"].forming
    found = get_price(SYMBOL, count=3, end_date=when(40), include_now=True)
    assert numbers(found) == [38, 39, 40]


def test_a_forming_bar_may_be_the_only_row(ring: RingWriter) -> None:
    ring.update_forming(opens(3), *prices(3))
    assert numbers(get_price(SYMBOL)) == []
    assert numbers(get_price(SYMBOL, include_now=True)) == [3]
    assert numbers(get_price(SYMBOL, include_now=True, start_date=when(4))) == []


def test_gaps_are_the_bars_missing_inside_the_window(ring: RingWriter) -> None:
    append(ring, *range(10), *range(12, 20), 25)
    gaps = {
        n: get_price(SYMBOL, count=n).attrs["shmfeed"].gaps for n in (1, 2, 9, 10, 19)
    }
    assert gaps == {1: 0, 2: 5, 9: 5, 10: 7, 19: 7}
    found = get_price(SYMBOL, start_date=when(0), end_date=when(15))
    assert found.attrs["shmfeed"].gaps == 2


def test_bars_off_the_grid_do_not_count_as_gaps(ring: RingWriter) -> None:
    for number in range(20):
        ring.append(number, *prices(number))
    for _ in range(2):  # general query, then cached query
        assert get_price(SYMBOL).attrs["shmfeed"].gaps == 0


def test_gaps_of_months_follow_the_calendar(writer: FeedWriter) -> None:
    ring = writer.add_stream(SYMBOL, "1M")
    for month in (1, 2, 4):
        begin = datetime(2024, month, 1, tzinfo=UTC)
        ring.append(int(begin.timestamp() * 1000), 1, 1, 1, 1, 1)
    found = get_price(SYMBOL, frequency="1M")
    assert found.attrs["shmfeed"].gaps == 1
    assert list(found.index) == [pd.Timestamp(2024, m, 1) for m in (2, 3, 5)]


def test_a_list_is_one_long_frame(writer: FeedWriter) -> None:
    for number, symbol in enumerate(("B", "A", "EMPTY")):
        ring = writer.add_stream(symbol, "1h")
        append(ring, *range(5 if symbol != "EMPTY" else 0, 8 + number))
        if symbol == "EMPTY":
            continue
    found = get_price(["B", "A", "B"], count=2, fields=["close", "flags"])
    assert list(found.columns) == ["time", "code", "close", "flags"]
    assert type(found.index) is pd.RangeIndex
    assert found["code"].tolist() == ["B", "B", "A", "A"]
    assert found["close"].tolist() == [prices(n)[3] for n in (6, 7, 7, 8)]
    assert list(found["time"]) == [when(n) for n in (6, 7, 7, 8)]
    assert found["time"].dtype == pd.to_datetime(["2024-01-01"]).dtype
    assert found["code"].dtype == pd.Series(["A"]).dtype
    found.iloc[0, 2] = 0.0  # private


def test_a_list_leaves_out_symbols_without_rows(writer: FeedWriter) -> None:
    append(writer.add_stream("A", "1h"), 0, 1)
    append(writer.add_stream("B", "1h"), 5)
    writer.add_stream("C", "1h")
    found = get_price(("C", "B", "A"), end_date=when(1))
    assert found["code"].tolist() == ["A", "A"]
    empty = get_price(["C"])
    assert empty.shape == (0, 7)
    assert type(empty.index) is pd.RangeIndex
    assert [d.kind for d in empty.dtypes[2:]] == ["f"] * 5
    assert empty["time"].dtype == found["time"].dtype
    assert empty["code"].dtype == found["code"].dtype


def test_an_empty_list_is_an_error(ring: RingWriter) -> None:
    with pytest.raises(BadArgumentError, match="empty"):
        get_price([])


def test_attrs_of_a_list_are_those_of_its_worst_stream(writer: FeedWriter) -> None:
    append(writer.add_stream("A", "1h"), 0, 2)
    append(writer.add_stream("B", "1h"), 0, 3)
    writer.add_stream("C", "1h")
    ages = [get_price(s).attrs["shmfeed"].age for s in ("A", "B", "C")]
    attrs = get_price(["A", "B", "C"]).attrs["shmfeed"]
    assert ages[0] <= attrs.age
    assert attrs.gaps == 3
    assert attrs.source == "live"
    assert attrs.health == "waiting"  # of C, which has nothing yet
    assert attrs.valid


def test_without_feed_and_context_the_error_says_what_to_start(strategy: str) -> None:
    with pytest.raises(NoDataError, match=f"shmfeed run --feed {strategy}") as caught:
        get_price(SYMBOL)
    assert isinstance(caught.value, RuntimeError)
    assert "start()" in str(caught.value)
    assert "set_context" in str(caught.value)


def test_a_stream_that_the_feed_does_not_carry_is_an_error(ring: RingWriter) -> None:
    for security in ("ETHUSDT", ["ETHUSDT", "XRPUSDT"]):
        with pytest.raises(StreamNotFoundError, match=r"ETHUSDT 1h.*BTCUSDT 1h"):
            get_price(security)
    with pytest.raises(StreamNotFoundError, match="BTCUSDT 3m"):
        get_price(SYMBOL, frequency="3m")


def test_a_feed_that_appears_later_is_seen_by_the_next_call(strategy: str) -> None:
    for _ in range(2):
        with pytest.raises(NoDataError):
            get_price(SYMBOL)
    with create(strategy) as writer:
        with pytest.raises(StreamNotFoundError):
            get_price(SYMBOL)
        append(writer.add_stream(SYMBOL, "1h"), 0)
        assert numbers(get_price(SYMBOL)) == [0]
        writer.close(unlink=True)


def is_carried(symbol: str) -> bool:
    try:
        get_price(symbol)
    except StreamNotFoundError:
        return False
    return True


def test_a_recreated_feed_is_followed(strategy: str) -> None:
    with create(strategy) as writer:
        append(writer.add_stream(SYMBOL, "1h"), 0)
        for _ in range(2):
            assert numbers(get_price(SYMBOL)) == [0]
        writer.close(unlink=True)
    assert numbers(get_price(SYMBOL)) == [0]  # the old bars are still returned
    assert get_price(SYMBOL).attrs["shmfeed"].health == "dead"
    with create(strategy, history=50) as writer:
        until(lambda: not is_carried(SYMBOL))
        append(writer.add_stream(SYMBOL, "1h"), 7, 8)
        for _ in range(2):
            assert numbers(get_price(SYMBOL)) == [7, 8]
        writer.close(unlink=True)


def test_use_wins_over_the_environment(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{strategy}-{letter}" for letter in "ab"]
    for number, name in enumerate(names):
        with create(name) as writer:
            append(writer.add_stream(SYMBOL, "1h"), number)
    choices.forget_choices()
    monkeypatch.setenv("SHMFEED_FEED", names[0])
    assert numbers(get_price(SYMBOL)) == [0]
    wealthdata.use(feed=names[1])
    assert numbers(get_price(SYMBOL)) == [1]
    assert get_price(SYMBOL).attrs["shmfeed"].feed == names[1]
    wealthdata.use(context_only=False)  # keeps the chosen feed
    assert numbers(get_price(SYMBOL)) == [1]
    choices.forget_choices()
    assert numbers(get_price(SYMBOL)) == [0]
    monkeypatch.delenv("SHMFEED_FEED")
    assert attachment.selected_feed() == "default"
    for name in names:
        create(name).close(unlink=True)


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 33])
def test_a_bad_feed_name_is_refused(
    strategy: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadArgumentError, match="feed name"):
        wealthdata.use(feed=name)
    choices.forget_choices()
    if name:
        monkeypatch.setenv("SHMFEED_FEED", name)
        with pytest.raises(BadArgumentError, match=r"feed name.*environment SHMFEED_F"):
            get_price(SYMBOL)


@pytest.mark.parametrize("word", ["off", "OFF", "Off"])
def test_off_hides_the_feed_in_any_case(
    ring: RingWriter, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(ring, 1)
    assert len(get_price(SYMBOL))
    monkeypatch.setenv("SHMFEED_FEED", word)
    with pytest.raises(NoDataError, match="SHMFEED_FEED=off"):
        get_price(SYMBOL)
    monkeypatch.delenv("SHMFEED_FEED")
    wealthdata.use(feed=word)
    with pytest.raises(NoDataError):
        get_price(SYMBOL)


@pytest.mark.parametrize("word", ["maybe", "2", "é", "yes no"])
def test_a_copy_variable_that_is_neither_yes_nor_no_is_refused(
    ring: RingWriter, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(ring, 1)
    assert len(get_price(SYMBOL))  # cached: the cached query checks it too
    monkeypatch.setenv("SHMFEED_COPY", word)
    with pytest.raises(BadArgumentError, match=r"SHMFEED_COPY is .*one of: 1 true"):
        get_price(SYMBOL)
    monkeypatch.setenv("SHMFEED_COPY", " Yes ")
    assert len(get_price(SYMBOL))


def test_context_only_is_a_bool(strategy: str) -> None:
    with pytest.raises(BadArgumentError, match="context_only"):
        wealthdata.use(context_only="yes")


def test_bars_to_dataframe_looks_like_get_price(ring: RingWriter) -> None:
    append(ring, *range(5))
    bars = ring.reader.view(5)
    made = wealthdata.bars_to_dataframe([bars.bar(n) for n in range(5)])
    pd.testing.assert_frame_equal(made, get_price(SYMBOL))
    foreign = [
        {**bars.bar(n)._asdict(), "close_time": opens(n + 1) - 1} for n in range(5)
    ]
    pd.testing.assert_frame_equal(wealthdata.bars_to_dataframe(foreign), made)
    pd.testing.assert_frame_equal(wealthdata.bars_to_dataframe([]), made.iloc[:0])
    with pytest.raises(BadArgumentError, match=r"bars\[0\].*no close_time"):
        wealthdata.bars_to_dataframe([{"open_time": 0}])


@pytest.mark.parametrize(
    ("written", "near"),
    [
        ("1min", "1m"),
        ("1Min", "1m"),
        ("5T", "5m"),
        ("M15", "15m"),
        ("30M", "30m"),
        ("60min", "60m"),
        ("1H", "1h"),
        ("4 hours", "4h"),
        ("hourly", "1h"),
        ("1D", "1d"),
        ("day", "1d"),
        ("weekly", "1w"),
        ("1mo", "1M"),
        ("7m", None),
        ("2d", None),
        ("", None),
        ("m" * 100, None),
        (60, None),
    ],
)
def test_a_timeframe_of_another_spelling_names_the_right_one(
    writer: FeedWriter, written: object, near: str | None
) -> None:
    with pytest.raises(BadArgumentError, match=r"^frequency ") as caught:
        get_price(SYMBOL, frequency=written)
    assert str(caught.value).partition("; did you mean ")[2] == (
        "" if near is None else f"{near}?"
    )


def test_a_symbol_of_another_spelling_names_the_right_one(
    writer: FeedWriter, ring: RingWriter
) -> None:
    for symbol in ("btcusdt", "BTCUSD", f"BtcUsdt@{writer.name}"):
        with pytest.raises(StreamNotFoundError, match=r"; did you mean BTCUSDT\?$"):
            get_price(symbol)
    with pytest.raises(StreamNotFoundError) as caught:
        get_price(SYMBOL, frequency="1m")
    assert "did you mean" not in str(caught.value)
