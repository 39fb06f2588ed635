"""Frames, and whatever is made of them, hold what they were made with.

The guard is 16 bars and the ring has 116, so 200 further bars write over every row.
"""

import gc
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.mapped_ring import kept_bytes, limited
from support.numbered_bars import SYMBOL, append, listed

import wealthdata
from shmfeed.errors import BadArgumentError
from shmfeed.feed import attach
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create
from wealthdata import LappedWarning, attachment, get_price

pytest_plugins = ["support.strategy_process"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning"),
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="no mremap: nothing is set aside"
    ),
]
OTHER = "ETHUSDT"
FIRST, LATER = range(100), range(100, 300)


@pytest.fixture
def other(writer: FeedWriter) -> RingWriter:
    return writer.add_stream(OTHER, "1h")


def lap(*rings: RingWriter, read: bool = True) -> None:
    """Close bars until every row was written over, and read on as a strategy does."""
    for number in LATER:
        for ring in rings:
            append(ring, number)
        if read:
            for symbol in (SYMBOL, OTHER)[: len(rings)]:
                get_price(symbol, count=1)


def with_a_column_of(frame: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    own = pd.DataFrame(index=frame.index)
    own["x"] = frame["close"]
    own["y"] = other["close"]
    return own


def to_arrow(frame: pd.DataFrame, other: pd.DataFrame) -> Any:
    arrow = pytest.importorskip("pyarrow")
    return arrow.Table.from_pandas(frame)


def to_polars(frame: pd.DataFrame, other: pd.DataFrame) -> Any:
    polars = pytest.importorskip("polars")
    return polars.from_pandas(frame)


def to_polars_column(frame: pd.DataFrame, other: pd.DataFrame) -> Any:
    polars = pytest.importorskip("polars")
    return polars.DataFrame({"c": frame["close"].to_numpy()})


Make = Callable[[pd.DataFrame, pd.DataFrame], Any]
MADE: dict[str, Make] = {
    "frame": lambda frame, other: frame,
    "column": lambda frame, other: frame["close"],
    "rows": lambda frame, other: frame.iloc[3:9][::2],
    "loc": lambda frame, other: frame.loc[:, ["close", "open"]],
    "shallow copy": lambda frame, other: frame.copy(deep=False),
    "rename": lambda frame, other: frame.rename(columns={"close": "c"}),
    "merge": lambda frame, other: frame.merge(
        other, left_index=True, right_index=True, suffixes=("", "_2")
    ),
    "join": lambda frame, other: frame.join(other.add_suffix("_2")),
    "concat": lambda frame, other: pd.concat([frame, other], axis=1),
    "assigned column": with_a_column_of,
    "assign": lambda frame, other: frame.assign(ratio=frame["close"] / other["close"]),
    "transpose": lambda frame, other: frame.T,
    "values": lambda frame, other: frame.to_numpy(),
    "numpy copy": lambda frame, other: np.array(frame["close"], copy=True),
    "numpy view": lambda frame, other: np.asarray(frame["close"])[2:7],
    "strided view": lambda frame, other: np.lib.stride_tricks.sliding_window_view(
        frame["close"].to_numpy(), 5
    ),
    "memoryview": lambda frame, other: memoryview(frame["close"].to_numpy()),
    "arrow": to_arrow,
    "polars": to_polars,
    "polars column": to_polars_column,
}


def content(made: Any) -> bytes:
    """Return a private copy of all values."""
    if isinstance(made, memoryview):
        return made.tobytes()
    if hasattr(made, "to_pandas"):
        made = made.to_pandas()
    if isinstance(made, pd.DataFrame | pd.Series):
        return pickle.dumps([np.array(made, copy=True).tobytes(), str(made.index)])
    return np.array(made, copy=True).tobytes()


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_whatever_is_made_of_frames_holds(ring, other, make: Make) -> None:
    for number in FIRST:
        append(ring, number)
        append(other, number)
    made = make(get_price(SYMBOL, count=20), get_price(OTHER, count=20))
    gc.collect()  # the frames themselves may be gone
    before = content(made)
    lap(ring, other)
    assert content(made) == before


@pytest.mark.parametrize("name", ["frame", "column", "numpy view", "arrow"])
def test_control_without_a_read_they_change(ring, other, name) -> None:
    for number in FIRST:
        append(ring, number)
        append(other, number)
    frames = get_price(SYMBOL, count=20), get_price(OTHER, count=20)
    if not np.shares_memory(frames[0], frames[0].iloc[:5]):
        pytest.skip("this pandas copies")
    made = MADE[name](*frames)
    before = content(made)
    lap(ring, other, read=False)
    assert content(made) != before


def test_a_range_keeps_its_rows_and_not_the_whole_history(ring) -> None:
    append(ring, *FIRST)
    newest = get_price(SYMBOL, start_date="2024-01-04 22:00")
    assert 1 < len(newest) < 20
    # 80 bars more write over the oldest rows of the ring, not over these.
    append(ring, *range(100, 180))
    assert newest.attrs["shmfeed"].valid


def test_a_private_result_does_not_keep_the_rows(ring) -> None:
    append(ring, *FIRST)
    frame = get_price(SYMBOL, count=20)
    results = [frame.copy(), frame.pct_change(), frame["close"] * 2]
    attrs = frame.attrs["shmfeed"]
    del frame
    gc.collect()
    lap(ring)
    assert kept_bytes() == 0
    assert attrs.valid
    assert [result.attrs["shmfeed"].valid for result in results] == [True] * 3


def test_attrs_say_what_was_true_when_the_rows_died(ring) -> None:
    append(ring, *FIRST)
    frame = get_price(SYMBOL, count=20)
    copied = frame.copy()
    lap(ring, read=False)
    assert not frame.attrs["shmfeed"].valid
    del frame
    assert not copied.attrs["shmfeed"].valid


def test_the_next_read_warns_once_of_a_frame_that_was_overwritten(ring) -> None:
    append(ring, *FIRST)
    frame = get_price(SYMBOL, count=20)
    lap(ring, read=False)
    with pytest.warns(LappedWarning, match=f"{SYMBOL} 1h of feed '.*rows of 1 frame"):
        get_price(SYMBOL, count=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LappedWarning)
        get_price(SYMBOL, count=20)
        get_price([SYMBOL], count=20)
    assert not frame.attrs["shmfeed"].valid
    other = get_price(SYMBOL, count=20)
    for number in range(300, 500):
        append(ring, number)
    with pytest.warns(LappedWarning, match="rows of 1 frame"):
        get_price(SYMBOL, count=20, copy=True)
    assert not other.attrs["shmfeed"].valid


@pytest.mark.parametrize("asked", [SYMBOL, [SYMBOL]], ids=["one", "list"])
def test_a_backtest_is_not_told_of_the_frames_of_a_feed(ring, asked) -> None:
    """Its reads do not look at the ring, though a live one has prepared them."""
    append(ring, *FIRST)
    wealthdata.set_context(wealthdata.Context([listed(0, 1)]))
    frame = get_price(asked, count=2)
    held = get_price(SYMBOL, count=20)
    lap(ring, read=False)
    wealthdata.get_context().run_params = {"type": "backtest"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = get_price(asked, count=2)
    assert frame.attrs["shmfeed"].source == "context"
    wealthdata.get_context().run_params = {"type": "live"}
    with pytest.warns(LappedWarning, match="rows of 1 frame"):
        get_price(asked, count=2)
    assert not held.attrs["shmfeed"].valid


def test_a_frame_that_is_gone_is_not_warned_of(ring) -> None:
    append(ring, *FIRST)
    get_price(SYMBOL, count=20)
    lap(ring, read=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LappedWarning)
        get_price(SYMBOL, count=20)


def test_past_the_limit_the_oldest_frame_goes_with_a_warning(ring) -> None:
    append(ring, *FIRST)
    frames = [get_price(SYMBOL, count=20)]
    with warnings.catch_warnings(record=True) as caught, limited(100_000):
        warnings.simplefilter("always", LappedWarning)
        for number in range(100, 1600):
            append(ring, number)
            frame = get_price(SYMBOL, count=20)
            if number % 150 == 0:
                frames.append(frame)
    valid = [frame.attrs["shmfeed"].valid for frame in frames]
    assert valid == sorted(valid)
    assert not valid[0]
    assert valid[-1]
    assert 1 <= len(caught) <= len(valid) - sum(valid)
    assert "raise SHMFEED_KEEP_MB" in str(caught[0].message)


def mapped_files(name: str) -> list[str]:
    """Return this process's mappings and descriptors of a feed's segment."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    opened = [str(link.readlink()) for link in links]
    return [line for line in maps + opened if f".{name}" in line]


def test_no_frame_keeps_an_unlinked_segment(strategy: str) -> None:
    writer = create(strategy, history=100, guard=16)
    append(writer.add_stream(SYMBOL, "1h"), *FIRST)
    frame = get_price(SYMBOL, count=20)
    merged = frame.merge(frame, left_index=True, right_index=True)
    before = content(frame), content(merged)
    feed = attach(strategy)
    rows = feed.ring(SYMBOL, "1h").view(20)
    values = rows.values
    writer.close(unlink=True)
    assert mapped_files(strategy)
    del writer
    attachment.detach()
    feed.close()
    gc.collect()
    assert mapped_files(strategy) == []
    assert (content(frame), content(merged)) == before
    assert frame.attrs["shmfeed"].valid
    assert rows.valid
    assert (values == rows.copy().values).all()


def test_no_frame_keeps_a_recreated_segment(strategy: str) -> None:
    writer = create(strategy, history=100, guard=16)
    append(writer.add_stream(SYMBOL, "1h"), *FIRST)
    frame = get_price(SYMBOL, count=20)
    before = content(frame)
    writer.close(unlink=True)
    del writer
    with create(strategy, history=50, guard=16) as writer:
        append(writer.add_stream(SYMBOL, "1h"), *range(7))
        assert len(get_price(SYMBOL, count=20)) == 7
        gc.collect()
        assert not [line for line in mapped_files(strategy) if "deleted" in line]
        assert content(frame) == before
        assert frame.attrs["shmfeed"].valid
        attachment.detach()
        writer.close(unlink=True)


def test_control_with_the_limit_0_a_frame_does(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHMFEED_KEEP_MB", "0")  # read at each attachment
    with limited(0), create(strategy, history=100, guard=16) as writer:
        append(writer.add_stream(SYMBOL, "1h"), *FIRST)
        frame = get_price(SYMBOL, count=20)
        limited_frame = content(frame)
        writer.close(unlink=True)
        attachment.detach()
        gc.collect()
    del writer
    gc.collect()
    assert mapped_files(strategy)
    assert content(frame) == limited_frame
    del frame
    gc.collect()
    assert mapped_files(strategy) == []


class TestRings:
    def test_a_verb_of_one_ring_keeps_the_slices_of_another(self, ring) -> None:
        append(ring, *FIRST)
        with attach(attachment.selected_feed() or "") as feed:
            one, other = feed.ring(SYMBOL, "1h"), feed.ring(SYMBOL, "1h")
            held = one.view(20)
            for number in LATER:
                append(ring, number)
                other.wait(0, timeout=0)
            assert held.valid
            assert one.lapped == other.lapped == 0
            held = one.view(20)
            for number in range(300, 500):
                append(ring, number)
            assert other.count == 500
            assert not held.valid
            assert one.lapped == other.lapped == 1
            assert feed.ring(SYMBOL, "1h").lapped == 0
            feed.close()
            assert one.lapped == 1

    def test_a_bad_limit_is_refused_at_the_door(self, ring, monkeypatch) -> None:
        append(ring, *FIRST)
        monkeypatch.setenv("SHMFEED_KEEP_MB", "lots")
        with pytest.raises(BadArgumentError, match="SHMFEED_KEEP_MB is 'l"):
            attach(attachment.selected_feed() or "")
