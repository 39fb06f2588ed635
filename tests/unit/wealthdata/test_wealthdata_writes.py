"""Writes to frames over the ring never change the ring.

Copy-on-write (pandas 3, or 2 where it is switched on) copies the frame first; pandas 2
raises, or replaces a column that it cannot write to. The controls show that the same
writes do change unprotected memory, and that a shared frame needs its anchor.
"""

import signal
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from support.numbered_bars import SYMBOL, append, opens, shares, view

from shmfeed.ringbuf import RingWriter
from wealthdata import get_price
from wealthdata.attrs import FrameAttrs
from wealthdata.frame import (
    DirectFrameBuilder,
    FrameBuilder,
    block_spans,
    readonly_index,
    to_datetimes,
)

pytest_plugins = ["support.frame_builders", "support.strategy_process"]
# pandas warns of a write that has no effect, or that will have none.
pytestmark = pytest.mark.filterwarnings("ignore")

PANDAS = int(pd.__version__.partition(".")[0])
Write = Callable[[pd.DataFrame], object]


def onto(name: str, key: object = 0) -> Write:
    """Return a write of -1 by an indexer; a callable key gets the frame."""

    def write(frame: pd.DataFrame) -> None:
        getattr(frame, name)[key(frame) if callable(key) else key] = -1.0

    return write


def onto_series(name: str) -> Write:
    """Return a write to a column taken from the frame."""

    def write(frame: pd.DataFrame) -> None:
        column = frame["close"]
        target = column if name == "" else getattr(column, name)
        target[column > 0 if name == "" else 0] = -1.0

    return write


def onto_part(part: Callable[[pd.DataFrame], pd.DataFrame]) -> Write:
    """Return a write to a derived frame, which pandas may make without a copy."""

    def write(frame: pd.DataFrame) -> None:
        made = part(frame)
        made.iloc[0, 0] = -1.0

    return write


def in_place(name: str, *values: object, **asked: object) -> Write:
    return lambda frame: getattr(frame, name)(*values, inplace=True, **asked)


def row_by_row(frame: pd.DataFrame) -> None:
    for _, row in frame.iterrows():
        row.iloc[0] = -1.0


def column_by_column(frame: pd.DataFrame) -> None:
    for _, column in frame.items():  # noqa: PERF102 # no dict's
        column.iloc[0] = -1.0


def add_in_place(frame: pd.DataFrame) -> None:
    frame += 1


# Writes to the frame: it changes, and nothing else does.
INTO = {
    "loc": onto("loc", lambda f: (f.index[0], "close")),
    "loc, rows": onto("loc", lambda f: slice(f.index[2], None)),
    "loc, mask": onto("loc", lambda f: (f["close"] > 0, "close")),
    "iloc": onto("iloc", (0, 3)),
    "iloc, row": onto("iloc", 0),
    "iloc, block": onto("iloc", (slice(2), slice(1, 4))),
    "at": onto("at", lambda f: (f.index[0], "close")),
    "iat": onto("iat", (0, 0)),
    "mask": lambda f: f.__setitem__(f > 0, -1.0),
    "rows": lambda f: f.__setitem__(slice(2, 4), -1.0),
    "where": lambda f: f.where(f < 0, -1.0, inplace=True),
    "mask()": lambda f: f.mask(f > 0, -1.0, inplace=True),
    "fillna": in_place("fillna", -1.0),
    "ffill": in_place("ffill"),
    "interpolate": in_place("interpolate"),
    "replace": lambda f: f.replace(f.iloc[0, 0], -1.0, inplace=True),
    "clip": in_place("clip", upper=-1.0),
}
# Writes for which pandas 2 replaces a column that it cannot write to.
REPLACED = {
    "loc, column": onto("loc", (slice(None), "close")),
    "iloc, column": onto("iloc", (slice(None), 0)),
    "update": lambda f: f.update(f * 0 - 1),
    "column": lambda f: f.__setitem__("close", -1.0),
    "+=": add_in_place,
}
# Writes to what was taken from the frame, which itself does not change.
BESIDE = {
    "series iloc": onto_series("iloc"),
    "series mask": onto_series(""),
    "series fillna": lambda f: f["low"].fillna(-1.0, inplace=True),
    "items": column_by_column,
    "iterrows": row_by_row,
    "rows of it": onto_part(lambda f: f.iloc[2:]),
    "columns of it": onto_part(lambda f: f[["close"]]),
    "a shallow copy": onto_part(lambda f: f.copy(deep=False)),
    "a frame of it": onto_part(pd.DataFrame),
    "T": onto_part(lambda f: f.T),
    "renamed": onto_part(lambda f: f.rename(columns=str.upper)),
    "concat": onto_part(lambda f: pd.concat([f, f["close"].rename("x")], axis=1)),
    "reset_index": onto_part(lambda f: f.reset_index(drop=True)),
}
# Writes through numpy: refused.
ARRAYS = {
    "values": lambda f: f.values.__setitem__((0, 0), -1.0),
    "column values": lambda f: f["close"].values.__setitem__(0, -1.0),
    "to_numpy": lambda f: f.to_numpy().__setitem__((0, 0), -1.0),
    "column to_numpy": lambda f: f["close"].to_numpy().__setitem__(0, -1.0),
    "asarray": lambda f: np.asarray(f).__setitem__(..., -1.0),
    "column asarray": lambda f: np.asarray(f["close"]).__setitem__(..., -1.0),
    "array": lambda f: f["close"].array.__setitem__(0, -1.0),
    "memoryview": lambda f: memoryview(f["close"].to_numpy()).__setitem__(0, -1.0),
    "out": lambda f: np.negative(f["close"], out=f["close"].to_numpy()),
    "copyto": lambda f: np.copyto(f["close"].to_numpy(), -1.0),
    "sort": lambda f: f["close"].to_numpy().sort(),
    "ints": lambda f: f["close"].to_numpy().view(np.int64).__setitem__(0, 0),
    "dlpack": lambda f: np.from_dlpack(f["close"].to_numpy()).__setitem__(0, -1.0),
    "setflags": lambda f: f["close"].to_numpy().setflags(write=True),
    "flags": lambda f: setattr(f["close"].to_numpy().flags, "writeable", True),
    "apply raw": lambda f: f.apply(lambda a: a.__setitem__(0, -1.0), raw=True),
}
WHOLE = ("values", "to_numpy", "asarray", "apply raw")
WRITES = INTO | REPLACED | BESIDE | ARRAYS
ASKED = {
    "one block": {},
    "two blocks": {"fields": ["open", "low", "high", "close"]},
    "a range": {"end_date": opens(30)},
}


def done(write: Write, frame: pd.DataFrame) -> bool:
    """Write, and return True if the write was not refused."""
    try:
        write(frame)
    except (ValueError, TypeError, BufferError) as error:
        told = str(error)  # refused because the memory is read-only, nothing else
        assert "read-only" in told or "WRITEABLE" in told or "readonly" in told, told
        return False
    return True


@pytest.fixture(params=[False, True] if PANDAS < 3 else [True], ids=str)
def copies(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Set copy-on-write of pandas, and yield True if it is on."""
    if PANDAS >= 3:
        yield True
        return
    with pd.option_context("mode.copy_on_write", request.param):
        yield request.param


def filled(ring: RingWriter) -> None:
    append(ring, *range(20))
    ring.append(opens(20), 1.0, 2.0, np.nan, 1.5, 1.0)
    append(ring, *range(21, 25))


@pytest.mark.parametrize("asked", ASKED)
def test_no_write_reaches_the_ring(
    ring: RingWriter, asked: str, builder: type[FrameBuilder], copies: bool
) -> None:
    filled(ring)
    memory = view().floats
    before = memory.copy()
    untouched = get_price(SYMBOL, **ASKED[asked]).copy()
    for name, write in WRITES.items():
        found = get_price(SYMBOL, **ASKED[asked])
        assert shares(found)
        accepted = done(write, found)
        assert np.array_equal(memory, before, equal_nan=True), name
        assert get_price(SYMBOL, **ASKED[asked]).equals(untouched), name
        changed = not found.equals(untouched)
        if name in INTO:
            assert accepted == changed == copies, name
        elif name in REPLACED:
            assert accepted, name
            assert changed, name
        else:
            assert not changed, name
        if name in BESIDE:
            assert accepted or not copies, name
        if name in ARRAYS:  # of several blocks these make a copy
            assert not accepted or (asked == "two blocks" and name in WHOLE), name


def over(memory: np.ndarray, shared: bool) -> pd.DataFrame:
    """Return a frame over the first half of this memory."""
    fields = ("open", "high", "low", "close", "volume")
    builder = DirectFrameBuilder(readonly_index(fields), block_spans([*range(5)]))
    closes = to_datetimes(np.arange(10) * 3_600_000)
    return builder.build(memory[:, :10], closes, FrameAttrs(), shared)


def some_memory(writable: bool) -> np.ndarray:
    memory = np.arange(1.0, 121.0).reshape(6, 20)
    memory[2, 5] = np.nan
    memory.flags.writeable = writable
    return memory


@pytest.mark.parametrize("name", INTO)
def test_control_a_write_reaches_unprotected_memory(name: str) -> None:
    memory = some_memory(writable=True)
    before = memory.copy()
    assert done(INTO[name], over(memory, shared=False))
    assert not np.array_equal(memory, before, equal_nan=True)


@pytest.mark.parametrize("name", INTO)
def test_control_without_the_anchor_even_copy_on_write_raises(
    name: str, copies: bool
) -> None:
    assert not done(INTO[name], over(some_memory(writable=False), shared=False))
    assert done(INTO[name], over(some_memory(writable=False), shared=True)) == copies


def test_a_frame_without_its_attrs_is_still_protected(
    ring: RingWriter, copies: bool
) -> None:
    append(ring, *range(20))
    found = get_price(SYMBOL)
    part = found.iloc[5:]
    found.attrs.clear()
    for piece in (found, part):
        assert done(onto("iloc", (0, 0)), piece) == copies
        assert (piece.iloc[0, 0] == -1.0) == copies
    assert view()["open"].min() == 1.0


UFUNC_AT = """
import sys, numpy, wealthdata
wealthdata.use(feed=sys.argv[1])
frame = wealthdata.get_price("BTCUSDT", on_stale="ignore")
print("read", flush=True)
numpy.add.at(frame["close"].to_numpy(), [0], 1.0)
"""


def test_the_mapping_refuses_a_write_that_numpy_lets_through(
    ring: RingWriter, strategy: str, child
) -> None:
    """`ufunc.at` ignores the writeable flag; the read-only mapping ends the process."""
    filled(ring)
    before = view().floats.copy()
    process = child(UFUNC_AT, strategy)
    output, _ = process.communicate(timeout=30)
    assert output.strip() == "read"
    refused = 1  # by a numpy whose ufunc.at respects the flag
    assert process.returncode in (-signal.SIGSEGV, refused)
    assert np.array_equal(view().floats, before, equal_nan=True)
