"""Dates, integers and labels: each row of the tables in docs/dates.md."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.numbered_bars import SYMBOL

from shmfeed.bar import TIMEFRAMES, floor
from shmfeed.errors import BadArgumentError
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter
from wealthdata import Context, get_price, set_context
from wealthdata.times import to_moment, to_ms

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::wealthdata.StaleFeedWarning", "ignore::wealthdata.BehindWarning"
)

PAGE = Path(__file__).parents[3] / "docs" / "dates.md"
NAMES = {
    "date": date,
    "datetime": datetime,
    "timedelta": timedelta,
    "timezone": timezone,
    "np": np,
    "pd": pd,
}
DAY = 86_400_000
SHORT = [t for t, length in TIMEFRAMES.items() if length < DAY]
LONG = [t for t, length in TIMEFRAMES.items() if length >= DAY]


def rows_of(heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = section.partition("\n|")[2].partition("\n\n")[0]
    lines = table.splitlines()[2:]
    return [
        [cell.strip().strip("`") for cell in line[1:-1].split("|")] for line in lines
    ]


def ms(text: str) -> int:
    return int(pd.Timestamp(text).value // 1_000_000)


def value_of(cell: str) -> object:
    return eval(cell, NAMES)  # our own page


MEANINGS = rows_of("What a value means")
REFUSALS = rows_of("What is refused")


def test_the_page_has_its_tables() -> None:
    assert len(MEANINGS) > 25
    assert len(REFUSALS) > 20
    assert {len(row) for row in MEANINGS} == {4}


@pytest.mark.parametrize(("cell", "instant", "start", "end"), MEANINGS)
def test_a_value_means_what_the_page_says(
    cell: str, instant: str, start: str, end: str
) -> None:
    for _ in range(2):  # the second time a text is known
        moment = to_moment("end_date", value_of(cell))
        for timeframe in SHORT:
            bounds = moment.first_close(timeframe), moment.last_close(timeframe)
            assert bounds == (ms(instant), ms(instant)), timeframe
        for timeframe in LONG:
            bounds = moment.first_close(timeframe), moment.last_close(timeframe)
            assert bounds == (ms(start), ms(end)), timeframe
        assert to_ms("current_dt", value_of(cell)) == ms(instant)


@pytest.mark.parametrize(("cell", "words"), REFUSALS)
def test_a_value_is_refused_as_the_page_says(
    ring: RingWriter, cell: str, words: str
) -> None:
    with pytest.raises(BadArgumentError) as caught:
        get_price(SYMBOL, value_of(cell))
    assert str(caught.value).startswith("start_date is ")
    assert words in str(caught.value)
    with pytest.raises(BadArgumentError, match="end_date is"):
        get_price(SYMBOL, end_date=value_of(cell), count=3)
    with pytest.raises(BadArgumentError, match="end_date is"):
        get_price([SYMBOL], end_date=value_of(cell), frequency="1d")


def add_bars(writer: FeedWriter, timeframe: str, first: str, count: int) -> None:
    """Append `count` bars, the first of which contains the moment `first`."""
    ring = writer.add_stream(SYMBOL, timeframe)
    opened = floor(ms(first), timeframe)
    for _ in range(count):
        ring.append(opened, 1.0, 2.0, 0.5, 1.5, 3.0)
        later = (
            opened + 40 * DAY if timeframe == "1M" else opened + TIMEFRAMES[timeframe]
        )
        opened = floor(later, timeframe)


def closes(**arguments: object) -> list[str]:
    frame = get_price(SYMBOL, **arguments)
    return [str(moment)[:10] for moment in frame.index]


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("day", ["2026-01-30", date(2026, 1, 30), 20260130])
def test_a_date_is_a_whole_day_of_daily_bars(
    writer: FeedWriter, day: object, copy: bool
) -> None:
    add_bars(writer, "1d", "2026-01-20", 20)
    ended = closes(end_date=day, frequency="daily", count=2, copy=copy)
    assert ended == ["2026-01-30", "2026-01-31"]  # the bars of the 29th and the 30th
    begun = closes(start_date=day, frequency="1d", copy=copy)
    assert begun[:2] == ["2026-01-31", "2026-02-01"]
    both = closes(start_date=day, end_date=day, frequency="1d", copy=copy)
    assert both == ["2026-01-31"]


@pytest.mark.parametrize(
    ("timeframe", "start", "end", "expected"),
    [
        ("1w", "2026-01-11", "2026-01-18", ["2026-01-12", "2026-01-19"]),
        ("1w", "2026-01-12", "2026-01-17", []),
        ("1M", "2026-01-01", "2026-01-31", ["2026-02-01"]),
        ("1M", "2025-12-31", "2026-01-31", ["2026-01-01", "2026-02-01"]),
    ],
)
def test_a_date_is_a_whole_day_of_longer_bars(
    writer: FeedWriter, timeframe: str, start: str, end: str, expected: list[str]
) -> None:
    add_bars(writer, timeframe, "2025-11-20", 12)
    for arguments in ({}, {"copy": True}):
        dates = {"start_date": start, "end_date": end}
        assert closes(frequency=timeframe, **dates, **arguments) == expected


def test_current_dt_is_an_instant_whatever_its_form(writer: FeedWriter) -> None:
    add_bars(writer, "1d", "2026-01-20", 20)
    for moment in (date(2026, 1, 30), "2026-01-30", 20260130, "2026-01-30 00:00"):
        set_context(Context(current_dt=moment))
        assert closes(frequency="1d", count=1) == ["2026-01-30"]
        # The end of a whole day is not after the strategy's time.
        assert closes(frequency="1d", count=1, end_date=moment) == ["2026-01-30"]


@pytest.mark.parametrize(
    ("start", "end", "timeframe", "refused"),
    [
        ("2026-01-31", "2026-01-30", "1h", True),
        ("2026-01-31", "2026-01-30", "1d", True),
        ("2026-01-31 00:00", "2026-01-30", "1d", False),  # the close of the 30th
        (date(2026, 2, 1), date(2026, 1, 30), "1d", True),
        ("2026-01-30 00:01", "2026-01-30", "1h", True),
        ("2026-01-30 00:01", "2026-01-30", "1d", False),
        ("2026-01-30", "2026-01-30", "1d", False),
        ("2026-01-30", "2026-01-30 00:00", "1d", False),
        (1769760000001, 1769760000000, "1m", True),
    ],
)
def test_a_range_turned_round_is_an_error_that_names_both(
    writer: FeedWriter, start: object, end: object, timeframe: str, refused: bool
) -> None:
    add_bars(writer, timeframe, "2026-01-20", 5)
    dates = {"start_date": start, "end_date": end, "frequency": timeframe}
    for security in (SYMBOL, [SYMBOL]):
        if not refused:
            get_price(security, **dates)
            continue
        with pytest.raises(BadArgumentError) as caught:
            get_price(security, **dates)
        assert f"start_date {start!r} is after end_date {end!r}" in str(caught.value)


def test_a_start_beyond_now_gives_an_empty_frame(writer: FeedWriter) -> None:
    add_bars(writer, "1h", "2026-01-20", 5)
    for start in ("2026-01-20 05:01", "2199-01-01", date(9999, 12, 31)):
        found = get_price(SYMBOL, start_date=start)
        assert len(found) == 0
        assert isinstance(found.index, pd.DatetimeIndex)
        assert list(found.columns) == ["open", "high", "low", "close", "volume"]
    assert len(get_price(SYMBOL, end_date=date(9999, 12, 31), frequency="1h")) == 5
    set_context(Context(current_dt="2026-01-20 02:00"))
    assert len(get_price(SYMBOL, start_date="2026-01-20 03:00")) == 0
    assert len(get_price(SYMBOL, start_date="2026-01-20 02:00")) == 1
    with pytest.raises(BadArgumentError, match=r"start_date .* is after end_date"):
        get_price(SYMBOL, start_date="2026-01-20 03:00", end_date="2026-01-20 01:00")


ZONES = [timezone(timedelta(hours=-11)), timezone(timedelta(hours=5, minutes=45))]
RANDOM = np.random.default_rng(3)
INSTANTS = [
    int(moment)
    for moment in [
        *RANDOM.integers(ms("1700-01-01"), ms("2261-01-01"), 60),
        *(ms(day) + edge for day in ("2000-02-29", "2100-03-01") for edge in (-1, 0)),
    ]
]


def forms_of(moment: int) -> list[object]:
    """Return forms of the same instant, one of each type that is accepted."""
    naive = datetime(1970, 1, 1) + timedelta(milliseconds=moment)
    aware = naive.replace(tzinfo=UTC)
    stamp = pd.Timestamp(moment, unit="ms")
    return [
        naive,
        aware,
        *(aware.astimezone(zone) for zone in ZONES),
        stamp,
        stamp.as_unit("ns"),
        stamp.tz_localize("UTC").tz_convert("America/New_York"),
        *(np.datetime64(moment, "ms").astype(f"M8[{unit}]") for unit in ("us", "ns")),
        naive.isoformat(),
        str(aware.astimezone(ZONES[0])),
    ]


def test_a_prepared_read_takes_each_form_as_the_general_one_does(
    writer: FeedWriter,
) -> None:
    """The C core reads dates of the common types by itself."""
    for timeframe, start in (("1h", "2026-01-28 12:00"), ("1d", "2025-12-01")):
        add_bars(writer, timeframe, start, 90)
        given = {"frequency": timeframe}
        for cell, *_ in MEANINGS:
            for name in ("start_date", "end_date"):
                dates = {name: value_of(cell)}
                expected = get_price(SYMBOL, **dates, **given, copy=True)
                for _ in range(2):
                    assert get_price(SYMBOL, **dates, **given).equals(expected), cell


def test_forms_of_an_instant_are_equal(writer: FeedWriter) -> None:
    ring = writer.add_stream(SYMBOL, "1m")
    held = sorted(moment for moment in INSTANTS if 0 < moment < ms("2099-01-01"))
    for moment in held:
        ring.append(moment - 60_000, 1.0, 2.0, 0.5, 1.5, 3.0)
    get_price(SYMBOL, frequency="1m", count=100)
    for moment in INSTANTS:
        for form in forms_of(moment):
            assert to_ms("end_date", form) == moment
            if moment in held:
                assert len(get_price(SYMBOL, form, form, "1m")) == 1, form
