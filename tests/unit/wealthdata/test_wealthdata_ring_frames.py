"""Frames over the ring's memory: shape, sharing, validity."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append, numbers, opens, prices, shares, view

import wealthdata
from shmfeed.bar import FLOAT_FIELDS
from shmfeed.core import Slice
from shmfeed.errors import BusyRingError
from shmfeed.feed import Ring
from shmfeed.ringbuf import RingWriter
from wealthdata import api, get_price, merge, query
from wealthdata.price_table import NoTable

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::wealthdata.StaleFeedWarning", "ignore::wealthdata.BehindWarning"
)

UNIT = pd.to_datetime(["2024-01-01"]).dtype


def test_one_security_is_a_frame_of_five_float_columns(ring: RingWriter) -> None:
    append(ring, *range(30))
    frame = get_price(SYMBOL, count=3)
    assert list(frame.columns) == ["open", "high", "low", "close", "volume"]
    assert (frame.dtypes == np.float64).all()
    assert frame.to_numpy().tolist() == [list(prices(n)) for n in (27, 28, 29)]


def test_the_index_is_the_close_times_in_pandas_default_unit(ring: RingWriter) -> None:
    append(ring, *range(3))
    index = get_price(SYMBOL).index
    assert type(index) is pd.DatetimeIndex
    assert index.dtype == UNIT
    assert index.tz is None
    assert index.name is None
    expected = ["2024-01-01 01:00", "2024-01-01 02:00", "2024-01-01 03:00"]
    assert list(index) == [pd.Timestamp(text) for text in expected]


def test_empty_frames_have_the_same_columns_and_index_type(ring: RingWriter) -> None:
    empties = [get_price(SYMBOL), get_price(SYMBOL, fields=["flags", "close"])]
    append(ring, 0)
    empties.append(get_price(SYMBOL, start_date="2030-01-01"))
    empties.append(get_price(SYMBOL, end_date="2020-01-01", copy=True))
    for empty in empties:
        assert empty.shape[0] == 0
        assert empty.index.dtype == UNIT
        assert empty.index.name is None
        assert empty["close"].dtype == np.float64
    assert list(empties[1].columns) == ["flags", "close"]
    assert empties[1]["flags"].dtype == np.int64
    assert list(empties[0].columns) == ["open", "high", "low", "close", "volume"]


SUBSETS = [
    fields
    for size in (1, 2, 3, 6)
    for number, fields in enumerate(itertools.permutations(FLOAT_FIELDS, size))
    if size < 4 or number % 24 == 0
]


def test_float_fields_in_any_order_share_the_rings_memory(ring: RingWriter) -> None:
    append(ring, *range(40))
    for fields in SUBSETS:
        first = get_price(SYMBOL, count=10, fields=fields)  # general query
        again = get_price(SYMBOL, count=10, fields=list(fields))  # cached query
        expected = {name: view(n=10)[name] for name in fields}
        for found in (first, again):
            assert list(found.columns) == list(fields)
            assert shares(found), fields
            for name in fields:
                assert found[name].tolist() == expected[name].tolist()


def test_a_range_shares_the_rings_memory(ring: RingWriter) -> None:
    append(ring, *range(40))
    found = get_price(SYMBOL, start_date=opens(11), end_date=opens(15))
    assert numbers(found) == [10, 11, 12, 13, 14]
    assert shares(found)


@pytest.mark.parametrize(
    "arguments",
    [{"copy": True}, {"include_now": True}, {"fields": ["close", "flags"]}],
    ids=str,
)
def test_private_frames_are_writable_and_share_nothing(
    ring: RingWriter, arguments: dict
) -> None:
    append(ring, *range(40))
    for _ in range(2):
        found = get_price(SYMBOL, count=10, **arguments)
        memory = view().floats
        assert not any(np.shares_memory(found[name], memory) for name in found.columns)
        found.iloc[0, 0] = -1.0
        assert found.iloc[0, 0] == -1.0
        assert found.attrs["shmfeed"].valid


def test_the_environment_makes_all_frames_private(
    ring: RingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(ring, *range(40))
    assert shares(get_price(SYMBOL))
    monkeypatch.setenv("SHMFEED_COPY", "1")
    assert not shares(get_price(SYMBOL))
    assert not shares(get_price(SYMBOL, end_date=opens(20)))
    monkeypatch.setenv("SHMFEED_COPY", "0")
    assert shares(get_price(SYMBOL))


def test_a_frame_is_valid_until_guard_more_bars_have_closed(ring: RingWriter) -> None:
    append(ring, *range(116))
    found = get_price(SYMBOL, count=100)
    frozen = get_price(SYMBOL, count=100, copy=True)
    before = found.to_numpy().copy()
    for number in range(116, 132):
        append(ring, number)
        assert found.attrs["shmfeed"].valid
        assert (found.to_numpy() == before).all()
    append(ring, 132)
    assert not found.attrs["shmfeed"].valid
    assert not (found.to_numpy() == before).all()  # the memory is the ring's
    assert frozen.attrs["shmfeed"].valid
    assert (frozen.to_numpy() == before).all()


def test_a_frame_outlives_its_feed(ring: RingWriter, writer) -> None:
    append(ring, *range(20))
    found = get_price(SYMBOL)
    writer.close(unlink=True)
    wealthdata.attachment.detach()
    assert numbers(found) == list(range(20))


def set_validity(monkeypatch: pytest.MonkeyPatch, is_valid: Callable[[], bool]) -> None:
    """Let `is_valid` be the validity of each view from now on."""
    view = Ring.view

    class View:
        def __init__(self, rows: Slice) -> None:
            self.rows = rows

        valid = property(lambda self: is_valid())

        def __getattr__(self, name: str) -> object:
            return getattr(self.rows, name)

        def __len__(self) -> int:
            return len(self.rows)

    def read_range(*arguments: Any) -> tuple[View, int]:
        rows, newest = merge_range(*arguments)
        return View(rows), newest

    merge_range = merge.read_range
    monkeypatch.setattr(Ring, "view", lambda self, n: View(view(self, n)))
    for module in (merge, query):
        monkeypatch.setattr(module, "read_range", read_range)
    for name in ("_usual_read", "_usual_range"):  # they read past Ring.view
        monkeypatch.setattr(api, name, NoTable().read)


def test_an_invalid_read_is_repeated(
    ring: RingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(ring, *range(20))
    get_price(SYMBOL)
    answers = iter([False, False, True])
    set_validity(monkeypatch, lambda: next(answers))
    assert numbers(get_price(SYMBOL)) == list(range(20))
    assert next(answers, None) is None


def test_a_read_that_is_always_invalid_is_an_error(
    ring: RingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(ring, *range(20))
    get_price(SYMBOL)
    set_validity(monkeypatch, lambda: False)
    with pytest.raises(BusyRingError, match="BTCUSDT 1h"):
        get_price(SYMBOL)
    with pytest.raises(BusyRingError, match="BTCUSDT 1h"):
        get_price(SYMBOL, end_date=opens(5))
