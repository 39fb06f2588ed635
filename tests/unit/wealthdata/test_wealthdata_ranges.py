"""Ranges on the ring: which rows, in whose memory, and how far behind the newest."""

import threading
import warnings
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from support.numbered_bars import (
    HOUR,
    SYMBOL,
    append,
    listed,
    numbers,
    opens,
    prices,
    shares,
    when,
)

from shmfeed.errors import BehindWarning, BusyRingError
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter
from wealthdata import Context, get_price, set_context

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")
quiet = pytest.mark.filterwarnings("ignore::wealthdata.BehindWarning")


def attrs_of(frame: pd.DataFrame):
    return frame.attrs["shmfeed"]


@quiet
def test_a_range_shares_the_memory_of_the_ring(ring: RingWriter) -> None:
    append(ring, *range(105))  # the ring's memory has wrapped round
    for arguments in (
        {"start_date": when(20), "end_date": when(60)},
        {"start_date": when(90)},
        {"end_date": when(60), "count": 30},
        {"end_date": when(60)},
        {"start_date": when(30), "end_date": when(60), "fields": ["close", "open"]},
    ):
        for _ in range(3):
            found = get_price(SYMBOL, **arguments)
            assert shares(found)
            assert attrs_of(found).valid
        for private in ({"copy": True}, {"include_now": True}):
            assert not shares(get_price(SYMBOL, **arguments, **private))


@quiet
def test_a_range_of_any_two_bounds_has_the_rows_of_a_scan(ring: RingWriter) -> None:
    append(ring, *(n for n in range(150) if n % 7))  # with holes
    held = numbers(get_price(SYMBOL, count=100))
    rng = np.random.default_rng(5)
    for _ in range(300):
        first, last = sorted(rng.integers(-5, 160, 2).tolist())
        slack = timedelta(minutes=int(rng.integers(0, 60)))
        start, end = when(first) - slack, when(last) + slack
        expected = [n for n in held if first <= n <= last]
        assert numbers(get_price(SYMBOL, start_date=start, end_date=end)) == expected
        count = int(rng.integers(1, 120))
        expected = [n for n in held if n <= last][-count:]
        assert numbers(get_price(SYMBOL, count=count, end_date=end)) == expected


@quiet
def test_ranges_beside_a_writer_are_whole(ring: RingWriter) -> None:
    append(ring, *range(100))
    stop = threading.Event()

    def write() -> None:
        for number in range(100, 20_000):
            if stop.is_set():
                break
            append(ring, number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        newest, whole = 99, 0
        for _ in range(400):
            start, end = when(newest - 40), when(newest - 10)
            with suppress(BusyRingError):  # the writer has outrun the read for 10 ms
                found = get_price(SYMBOL, start_date=start, end_date=end, copy=True)
                got = numbers(found)  # the opens agree with the index
                assert got == list(range(newest - 40, newest - 9))[-len(got) or 99 :]
                newest = numbers(get_price(SYMBOL, count=1, copy=True))[-1]
                whole += 1
    finally:
        stop.set()
        writer.join()
    assert whole


@quiet
def test_behind_is_counted_to_the_newest_bar_left_out(ring: RingWriter) -> None:
    append(ring, *range(40))

    def behind(**arguments: object) -> float:
        values = {attrs_of(get_price(SYMBOL, **arguments)).behind for _ in range(3)}
        assert len(values) == 1
        return values.pop()

    for more in ({}, {"copy": True}, {"fields": ["flags"]}):
        assert behind(**more) == 0
        assert behind(start_date=when(5), **more) == 0
        assert behind(end_date=when(39), **more) == 0
        assert behind(end_date=when(38), **more) == 3600
        assert behind(end_date=when(38) + timedelta(minutes=59), **more) == 3600
        assert behind(end_date=when(30), count=3, **more) == 9 * 3600
        assert behind(start_date=when(1), end_date=when(2), **more) == 37 * 3600
        # Of no rows, counted from the bound.
        assert behind(end_date=when(-2), **more) == 41 * 3600
        assert behind(start_date="2199-01-01", **more) == 0
    found = get_price([SYMBOL], end_date=when(30))
    assert attrs_of(found).behind == 9 * 3600


@quiet
def test_the_forming_bar_is_not_left_out(ring: RingWriter) -> None:
    append(ring, *range(40))
    ring.update_forming(opens(40), *prices(40))
    admitted = get_price(SYMBOL, end_date=when(40), include_now=True, count=3)
    assert numbers(admitted) == [38, 39, 40]
    assert (attrs_of(admitted).behind, attrs_of(admitted).forming) == (0, True)
    early = get_price(
        SYMBOL, end_date=when(40) - timedelta(seconds=1), include_now=True, count=3
    )
    assert numbers(early) == [37, 38, 39]
    assert (attrs_of(early).behind, attrs_of(early).forming) == (0, False)
    only = get_price(SYMBOL, start_date=when(40), include_now=True)
    assert numbers(only) == [40]
    assert len(get_price(SYMBOL, start_date=when(41), include_now=True)) == 0
    one = get_price(SYMBOL, count=1, end_date="2199-01-01", include_now=True)
    assert numbers(one) == [40]


@quiet
def test_the_time_of_a_live_strategy_leaves_bars_behind(ring: RingWriter) -> None:
    append(ring, *range(40))
    set_context(Context(current_dt=when(30)))
    for arguments in ({}, {"count": 3}, {"start_date": when(3)}, {"copy": True}):
        for _ in range(2):
            found = get_price(SYMBOL, **arguments)
            assert numbers(found)[-1] == 30
            assert attrs_of(found).behind == 9 * 3600


@quiet
def test_a_backtest_is_behind_its_own_time_only(strategy: str) -> None:
    bars = [listed(*range(40))]
    params = {"type": "backtest"}
    set_context(Context(bars, current_dt=when(20), run_params=params))
    assert attrs_of(get_price(SYMBOL)).behind == 0
    assert attrs_of(get_price(SYMBOL, end_date=when(15))).behind == 5 * 3600
    assert attrs_of(get_price(SYMBOL, end_date=when(30))).behind == 0


def warned(**arguments: object) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        get_price(**arguments)
    return [str(w.message) for w in caught if w.category is BehindWarning]


@pytest.mark.parametrize(
    ("hours", "warns"), [(1, False), (2, True), (8, True), (15, True), (16, False)]
)
@pytest.mark.parametrize("prepared", [False, True])
def test_what_a_forgotten_time_zone_leaves_out_is_warned_of_once(
    writer: FeedWriter, hours: int, warns: bool, prepared: bool
) -> None:
    for symbol in (SYMBOL, "ETHUSDT"):
        append(writer.add_stream(symbol, "1h"), *range(40))
        if prepared:
            for _ in range(2):
                get_price(symbol, end_date=when(39))
    end = when(39 - hours)
    said = [warned(security=SYMBOL, end_date=end) for _ in range(3)]
    assert [len(messages) for messages in said] == [warns, 0, 0]
    if warns:
        assert f"the last row closed {hours * 3600} s before" in said[0][0]
        assert "times are UTC" in said[0][0]
    # Once a stream, whatever the form of the call.
    assert not warned(security=[SYMBOL], end_date=end)
    assert len(warned(security=["ETHUSDT"], end_date=end)) == warns
    assert not warned(security="ETHUSDT", end_date=end)


def test_a_naive_clock_west_of_greenwich_is_warned_of(ring: RingWriter) -> None:
    append(ring, *range(40))
    local = datetime(2024, 1, 2, 11, 0)  # 16:00 UTC, the last close
    set_context(Context(current_dt=local))
    assert len(warned(security=SYMBOL)) == 1
    assert not warned(security=SYMBOL)
    set_context(Context(current_dt=local.replace(tzinfo=UTC) + timedelta(hours=5)))
    assert not warned(security=SYMBOL)


def test_a_backtest_and_a_whole_range_are_not_warned_of(ring: RingWriter) -> None:
    append(ring, *range(40))
    assert not warned(security=SYMBOL, start_date=opens(0))
    assert not warned(security=SYMBOL, end_date=opens(40) + HOUR)
    params = {"type": "backtest"}
    set_context(Context([listed(*range(40))], current_dt=when(39), run_params=params))
    assert not warned(security=SYMBOL, end_date=when(35))
