"""The shapes of `get_bars`: frames with a column `date`, and structured arrays."""

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shmfeed.bar import INT_FIELDS, check_timeframe
from shmfeed.errors import StreamNotFoundError
from shmfeed.feed import compiled_core
from wealthdata.attachment import add_usual_read, attached_feed
from wealthdata.attrs import FrameAttrs
from wealthdata.choices import current_choices
from wealthdata.frame import TIME
from wealthdata.price_table import prepare_read
from wealthdata.reading import read
from wealthdata.request import ReadArguments
from wealthdata.securities import check_security

BarsArray = NDArray[np.void]

_ANY = ("close",)  # the times of bars come with any field


def read_private(asked: ReadArguments, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the frame of `get_price` that holds these columns but `date`.

    Raise what `get_price` raises.
    """
    fields = tuple(name for name in columns if name != "date")
    return read(asked._replace(fields=fields or _ANY, copy=True))


def _named(frame: pd.DataFrame, dates: Any, columns: tuple[str, ...]) -> dict[str, Any]:
    return {name: dates if name == "date" else frame[name] for name in columns}


def with_dates(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the private frame of one security with these columns and a RangeIndex."""
    dates = frame.index
    frame.index = pd.RangeIndex(len(frame))
    if "date" in columns:  # in place: a new frame takes four times as long
        frame.insert(columns.index("date"), "date", dates)
    return frame if frame.shape[1] == len(columns) else frame[list(columns)]


def by_code(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the private long frame with these columns and a MultiIndex (code, i)."""
    symbols, starts, counts = _parts(frame)
    names, numbers = np.unique(np.array(symbols, dtype=str), return_inverse=True)
    counted = np.arange(len(frame)) - np.repeat(starts, counts)
    levels: Any = pd.Index(names.tolist(), dtype=str), range(counts.max(initial=0))
    codes: Any = np.repeat(numbers, counts), counted
    frame.index = pd.MultiIndex(levels=levels, codes=codes, names=["code", "i"])
    frame.columns = pd.Index(["date", "code", *frame.columns[2:]])
    return frame[list(columns)]


def _parts(frame: pd.DataFrame) -> tuple[list[str], NDArray[Any], NDArray[Any]]:
    """Return the securities of a long frame, the first row and the count of each."""
    codes = frame["code"].to_numpy(dtype=object)
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))[: len(codes)]
    return codes[starts].tolist(), starts, np.diff(starts, append=len(codes))


def as_array(frame: pd.DataFrame, columns: tuple[str, ...]) -> BarsArray:
    """Return the rows of one security as a structured array of these columns."""
    if not set(columns).isdisjoint(INT_FIELDS):
        return _structured(_named(frame, frame.index, columns))
    values = iter(frame.to_numpy().T)  # in one step: a column by itself takes as long
    return _structured(
        {n: frame.index if n == "date" else next(values) for n in columns}
    )


def arrays_by_code(
    frame: pd.DataFrame, columns: tuple[str, ...]
) -> dict[str, BarsArray]:
    """Return the rows of a long frame as one structured array for each security."""
    rows = _structured(_named(frame, frame["time"], columns))
    parts = zip(*_parts(frame), strict=True)
    return {code: rows[start : start + count].copy() for code, start, count in parts}


def _structured(columns: dict[str, Any]) -> BarsArray:
    rows = np.empty(len(next(iter(columns.values()))), _dtype(tuple(columns)))
    for name, values in columns.items():
        rows[name] = values
    return rows


@lru_cache
def _dtype(columns: tuple[str, ...]) -> np.dtype[np.void]:
    kinds = dict.fromkeys(INT_FIELDS, np.dtype(np.int64)) | {"date": TIME}
    return np.dtype([(name, kinds.get(name, np.float64)) for name in columns])


def prepare_array(
    asked: ReadArguments, columns: tuple[str, ...], array: BarsArray, attrs: FrameAttrs
) -> None:
    """Let the C core serve this read of the newest bars, if it can.

    `array` and `attrs` are the result of the read.
    """
    choices = current_choices()
    security = check_security(asked.security)
    timeframe = check_timeframe(asked.frequency)
    feed = attached_feed(security.feed or asked.named_feed())
    if compiled_core is None or feed is None:
        return
    is_of_ring = attrs["source"] in ("live", "relayed")
    if not is_of_ring or not isinstance(asked.fields, str | tuple | None):
        return
    try:
        ring = feed.ring((security.symbol, timeframe))
    except StreamNotFoundError:
        return  # the bars are made of those of another timeframe
    plain = np.dtype((np.void, array.dtype.itemsize))
    builder = compiled_core.ArrayBuilder(array.dtype, plain, columns, TIME)
    arguments = asked.security, asked.frequency, asked.fields, asked.feed
    stream = feed.name, security.symbol, timeframe
    prepared = prepare_read(ring, builder, {}, stream, feed.check().mark, choices)
    add_usual_read(feed, arguments, prepared, choices)
