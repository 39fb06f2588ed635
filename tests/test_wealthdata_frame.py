"""Frames over the ring's memory: shape, sharing, and that nobody writes through."""

import contextlib
import itertools

import numpy as np
import pandas as pd
import pytest
from strategy_side import SYMBOL, append, numbers, opens, prices, shares, view

import wealthdata
from shmfeed.bar import FLOAT_FIELDS
from shmfeed.errors import BusyRingError
from shmfeed.memory.ringwriter import RingWriter
from shmfeed.memory.rows import Slice
from wealthdata import block, frame, get_price
from wealthdata.reading import Reading

pytest_plugins = ["strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

PANDAS = int(pd.__version__.partition(".")[0])
UNIT = pd.to_datetime(["2024-01-01"]).dtype


def test_one_security_is_a_frame_of_five_float_columns(ring: RingWriter) -> None:
    append(ring, *range(30))
    frame = get_price(SYMBOL, count=3)
    assert list(frame.columns) == ["open", "high", "low", "close", "volume"]
    assert (frame.dtypes == np.float64).all()
    assert frame.to_numpy().tolist() == [list(prices(n)) for n in (27, 28, 29)]


def test_its_index_is_the_close_times_in_pandas_own_unit(ring: RingWriter) -> None:
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
        first = get_price(SYMBOL, count=10, fields=fields)  # the long way
        again = get_price(SYMBOL, count=10, fields=list(fields))  # the short way
        expected = {name: view(n=10)[name] for name in fields}
        for found in (first, again):
            assert list(found.columns) == list(fields)
            assert shares(found), fields
            for name in fields:
                assert found[name].tolist() == expected[name].tolist()


def test_a_range_shares_it_too(ring: RingWriter) -> None:
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


def write_loc(f: pd.DataFrame) -> None:
    f.loc[f.index[0], "close"] = -1.0


def write_iloc(f: pd.DataFrame) -> None:
    f.iloc[0, 3] = -1.0


def write_at(f: pd.DataFrame) -> None:
    f.at[f.index[0], "close"] = -1.0


def write_mask(f: pd.DataFrame) -> None:
    f[f > 0] = -1.0


def write_fillna(f: pd.DataFrame) -> None:
    f.fillna(-1.0, inplace=True)


def write_column_slice(f: pd.DataFrame) -> None:
    f.iloc[:2, 1:4] = -1.0


WRITES = [
    write_loc,
    write_iloc,
    write_at,
    write_mask,
    write_fillna,
    write_column_slice,
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("arguments", [{}, {"fields": list("olc")}, {"end": True}])
def test_no_write_reaches_the_ring(ring: RingWriter, write, arguments: dict) -> None:
    append(ring, *range(20))
    ring.append(opens(20), 1.0, 2.0, np.nan, 1.5, 1.0)
    if "fields" in arguments:
        arguments = {"fields": ["open", "low", "high", "close"]}
    elif arguments:
        arguments = {"end_date": opens(30)}
    get_price(SYMBOL, **arguments)
    found = get_price(SYMBOL, **arguments)
    before = view().floats.copy()
    untouched = found.copy()
    refused = False
    try:
        write(found)
    except ValueError:
        refused = True
    assert np.array_equal(view().floats, before, equal_nan=True)
    if PANDAS >= 3:
        assert not refused
        assert not found.equals(untouched)  # the write took place, elsewhere
    else:
        assert refused


def test_a_write_survives_without_its_attrs(ring: RingWriter) -> None:
    if PANDAS < 3:
        pytest.skip("pandas 2 refuses every write")
    append(ring, *range(20))
    found = get_price(SYMBOL)
    part = found.iloc[5:]
    found.attrs.clear()
    found.iloc[0, 0] = part.iloc[0, 0] = -1.0
    assert found.iloc[0, 0] == part.iloc[0, 0] == -1.0
    assert view()["open"].min() == 1.0


def test_arrays_of_the_frame_are_read_only(ring: RingWriter) -> None:
    append(ring, *range(20))
    array = get_price(SYMBOL)["close"].to_numpy()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1.0
    with pytest.raises(ValueError, match=r"WRITEABLE|writeable"):
        array.flags.writeable = True


def test_without_the_anchor_a_write_is_refused_even_by_copy_on_write() -> None:
    """The control: what the anchor is for."""
    floats = np.arange(12.0).reshape(6, 2)
    floats.flags.writeable = False
    way = block.DirectWay()
    layout = way.prepare(block.pieces([0, 1]))
    columns = pd.Index(["a", "b"])
    closes = np.array([0, 3_600_000])
    bare = way.frame(layout, columns, floats, closes, None)
    with pytest.raises(ValueError, match="read-only"):
        bare.iloc[0, 0] = 1.0
    anchored = way.frame(layout, columns, floats, closes, Reading())
    with contextlib.suppress(ValueError) if PANDAS < 3 else contextlib.nullcontext():
        anchored.iloc[0, 0] = 1.0


def test_frames_do_not_share_their_axes(ring: RingWriter) -> None:
    append(ring, *range(20))
    one, other = get_price(SYMBOL), get_price(SYMBOL)
    one.columns.name = "mine"
    one.index.name = "mine"
    with contextlib.suppress(ValueError, TypeError):
        one.columns.values[0] = "mine"
    for found in (other, get_price(SYMBOL)):
        assert found.columns.name is None
        assert found.index.name is None
        assert found.columns[0] == "open"


def test_valid_until_guard_more_bars_have_closed(ring: RingWriter) -> None:
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
    wealthdata.live.detach()
    assert numbers(found) == list(range(20))


def test_a_read_that_is_lapped_is_done_again(
    ring: RingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(ring, *range(20))
    get_price(SYMBOL)
    answers = iter([False, False, True])
    monkeypatch.setattr(Slice, "valid", property(lambda self: next(answers)))
    assert numbers(get_price(SYMBOL)) == list(range(20))
    assert next(answers, None) is None


def test_a_read_that_is_always_lapped_is_an_error(
    ring: RingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(ring, *range(20))
    get_price(SYMBOL)
    monkeypatch.setattr(Slice, "valid", property(lambda self: False))
    with pytest.raises(BusyRingError, match="BTCUSDT 1h"):
        get_price(SYMBOL)
    with pytest.raises(BusyRingError, match="BTCUSDT 1h"):
        get_price(SYMBOL, end_date=opens(5))


def test_the_direct_way_is_taken_and_agrees_with_the_public_one() -> None:
    assert isinstance(block.choose(), block.DirectWay)
    assert block.agree(block.DirectWay(), block.PublicWay())
    floats = np.random.default_rng(1).random((6, 50))
    floats.flags.writeable = False
    closes = np.arange(50) * 3_600_000
    for fields in SUBSETS:
        columns = pd.Index(list(fields))
        layout = block.pieces([FLOAT_FIELDS.index(f) for f in fields])
        frames = []
        for way in (block.DirectWay(), block.PublicWay()):
            held = Reading()
            prepared = way.prepare(layout)
            frames.append(way.frame(prepared, columns, floats, closes, held))
        pd.testing.assert_frame_equal(*frames, check_freq=False)
        assert all(np.shares_memory(frames[1][name], floats) for name in columns)


def test_the_public_way_serves_where_pandas_insides_have_moved(
    ring: RingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(ring, *range(20))
    expected = get_price(SYMBOL)

    def moved(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(block, "import_module", moved)
    assert isinstance(block.choose(), block.PublicWay)
    monkeypatch.setattr(frame, "_WAY", block.PublicWay())
    monkeypatch.setattr(frame, "_layouts", {})
    wealthdata.live.detach()
    for write in WRITES:
        found = get_price(SYMBOL)
        pd.testing.assert_frame_equal(found, expected)
        assert shares(found)
        with (
            contextlib.suppress(ValueError) if PANDAS < 3 else contextlib.nullcontext()
        ):
            write(found)
        assert view()["close"].min() == 1.5


def test_a_way_that_disagrees_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(block.DirectWay):
        def frame(self, layout, columns, floats, close_time, shared):
            return super().frame(layout, columns, floats + 1.0, close_time, shared)

    monkeypatch.setattr(block, "DirectWay", Wrong)
    assert isinstance(block.choose(), block.PublicWay)
