"""The shapes of `get_bars`: frames with a column `date`, and structured arrays."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wealthdata.reading import read
from wealthdata.request import ReadArguments

_ANY = ("close",)  # the times of bars come with any field


def read_private(asked: ReadArguments, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the frame of `get_price` that holds these columns but `date`.

    Raise what `get_price` raises.
    """
    fields = tuple(name for name in columns if name != "date")
    return read(asked._replace(fields=fields or _ANY, copy=True))


def _named(frame: pd.DataFrame, dates: Any, columns: tuple[str, ...]) -> dict[str, Any]:
    return {name: dates if name == "date" else frame[name] for name in columns}


def _frame(columns: dict[str, Any], index: Any, attrs: dict[Any, Any]) -> pd.DataFrame:
    arrays = {name: values.array for name, values in columns.items()}
    frame = pd.DataFrame(arrays, index=index)
    frame.attrs.update(attrs)
    return frame


def with_dates(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the frame of one security with these columns and a RangeIndex."""
    named = _named(frame, frame.index, columns)
    return _frame(named, pd.RangeIndex(len(frame)), frame.attrs)


def by_code(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return a long frame with these columns and a MultiIndex (code, i)."""
    numbers = frame.groupby("code", sort=False).cumcount()
    index = pd.MultiIndex.from_arrays([frame["code"], numbers], names=["code", "i"])
    return _frame(_named(frame, frame["time"], columns), index, frame.attrs)


def as_array(frame: pd.DataFrame, columns: tuple[str, ...]) -> NDArray[np.void]:
    """Return the rows of one security as a structured array of these columns."""
    return _structured(_named(frame, frame.index, columns))


def arrays_by_code(
    frame: pd.DataFrame, columns: tuple[str, ...]
) -> dict[str, NDArray[np.void]]:
    """Return the rows of a long frame as one structured array for each security."""
    rows = _structured(_named(frame, frame["time"], columns))
    codes = frame["code"].to_numpy(dtype=object)
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))[: len(codes)]
    ends = np.append(starts[1:], len(codes))
    return {
        str(codes[start]): rows[start:end].copy()
        for start, end in zip(starts, ends, strict=False)
    }


def _structured(columns: dict[str, Any]) -> NDArray[np.void]:
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    kinds = [(name, array.dtype) for name, array in arrays.items()]
    rows = np.empty(len(next(iter(arrays.values()))), kinds)
    for name, array in arrays.items():
        rows[name] = array
    return rows
