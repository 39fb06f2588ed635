"""Bars as pandas DataFrames."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from shmfeed.bar import DEFAULT_FIELDS, FLOAT_FIELDS
from wealthdata.bars import parse_bars
from wealthdata.columns import Datetimes, Floats, Rows, from_bars
from wealthdata.frame import choose, pieces, sealed, times
from wealthdata.reading import Reading

WAY = choose()
_MakeFrame = Callable[[Floats, Datetimes, Reading, bool], pd.DataFrame]


class Layout:
    """The columns of a frame: the fields in the order asked."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self.only_floats = all(field in FLOAT_FIELDS for field in fields)
        rows = [FLOAT_FIELDS.index(f) for f in fields if f in FLOAT_FIELDS]
        # Over (6, n) floats as they are; where there are float fields only.
        self.frame: _MakeFrame = WAY(sealed(fields), pieces(rows)).frame

    def private(
        self, rows: Rows, first: int, last: int, reading: Reading
    ) -> pd.DataFrame:
        """A writable frame with copies of rows `first` to `last`, last exclusive."""
        window = slice(first, last)
        closes = times(rows.close_time[window])
        if self.only_floats:
            return self.frame(rows.floats[:, window].copy(), closes, reading, False)
        index = pd.DatetimeIndex(closes, copy=False)
        named = {field: rows[field][window] for field in self.fields}
        frame = pd.DataFrame(named, index=index, copy=True)
        frame.attrs["shmfeed"] = reading
        return frame


_layouts: dict[tuple[str, ...], Layout] = {}


def layout_of(fields: tuple[str, ...]) -> Layout:
    """The layout of these fields, made once."""
    layout = _layouts.get(fields)
    if layout is None:
        layout = _layouts[fields] = Layout(fields)
    return layout


def long_frame(
    fields: tuple[str, ...],
    parts: Sequence[tuple[str, Rows, int, int]],
    reading: Reading,
) -> pd.DataFrame:
    """Several streams, one below the other: columns time, code and the fields.

    `parts` are symbol, rows, first and last row; one without rows leaves no trace.
    """
    windows = [(rows, slice(first, last)) for _, rows, first, last in parts]
    codes = [symbol for symbol, _, first, last in parts for _ in range(first, last)]
    columns: dict[str, Any] = {
        "time": times(_stack("close_time", windows)),
        "code": pd.Series(codes, dtype=str),
    }
    columns.update((field, _stack(field, windows)) for field in fields)
    frame = pd.DataFrame(columns)
    frame.attrs["shmfeed"] = reading
    return frame


def _stack(field: str, windows: Iterable[tuple[Rows, slice]]) -> Any:
    return np.concatenate([rows[field][window] for rows, window in windows])


def bars_to_dataframe(bars: object) -> pd.DataFrame:
    """Bars (Bar, objects or dicts) as `get_price` shows them, in the order given."""
    rows = from_bars(parse_bars(bars, None, "bars"))
    index = pd.DatetimeIndex(times(rows.close_time), copy=False)
    named = {field: rows[field] for field in DEFAULT_FIELDS}
    return pd.DataFrame(named, index=index, copy=True)
