"""The result that a case demands, made of the given bars, and its comparison.

A result is looked at through its shape (`Seen`): the same for a frame, an array and a
dict, so that one comparison serves all.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from conformance.case import Case
from conformance.market import GivenBar, Market, to_ms

DEFAULT_FIELDS = ("open", "high", "low", "close", "volume")
INTEGERS = ("open_time", "close_time", "flags")
BAR = ("open_time", "close_time", *DEFAULT_FIELDS, "money", "flags")
TIME = pd.to_datetime(["2026-01-30"]).dtype  # in the default unit of this pandas
TOLERANCE = 1e-12  # of a sum of volumes
ALIASES = {
    "60m": "1h",
    "120m": "2h",
    "240m": "4h",
    "24h": "1d",
    "daily": "1d",
    "minute": "1m",
}
DEFAULT_TIMEFRAMES = {"history": "1d", "attribute_history": "1d"}

Row = GivenBar | None  # None: the security has no such bar


class Seen(NamedTuple):
    """A result taken apart.

    Attributes:
        kind: The type of the result and of its index.
        index: The index, or the keys.
        columns: The names of the columns, in order.
        dtypes: Theirs.
        values: Theirs.
    """

    kind: str
    index: list[Any]
    columns: list[Any]
    dtypes: list[str]
    values: list[list[Any]]


class Demand:
    """The result that one case demands."""

    def __init__(self, case: Case, market: Market, gives: dict[str, Any]) -> None:
        self._market = market
        self._gives = gives
        keywords, args = case.keywords, case.args
        default = DEFAULT_TIMEFRAMES.get(case.call, "1h")
        words = (
            gives.get("timeframe"),
            keywords.get("frequency"),
            keywords.get("unit"),
        )
        word = next((word for word in words if word is not None), default)
        self._timeframe = ALIASES.get(word, word)
        symbol = keywords.get("security", args[0] if args else None)
        self._symbol = gives.get("symbol", symbol)

    def seen(self) -> Seen:
        """Return the result that the case demands."""
        kind = next(name for name in self._gives if name in _SHAPES)
        return _SHAPES[kind](self, self._gives[kind])

    def rows(self, symbol: str, text: Any) -> list[GivenBar]:
        """Return bars: "first .. last" by their close times, or a list of these."""
        bars = self._market.of(symbol, self._timeframe)
        by_close = {bar.close_time: bar for bar in bars}
        if isinstance(text, list):
            return [by_close[to_ms(moment)] for moment in text]
        first, last = (to_ms(part) for part in re.split(r" \.\. ", text))
        if not (first in by_close and last in by_close):
            raise ValueError(f"{symbol} has no bars that close at {text}")
        return [bar for close, bar in by_close.items() if first <= close <= last]

    def fields(self) -> list[str]:
        return list(self._gives.get("columns", DEFAULT_FIELDS))

    def times(self, rows: Sequence[GivenBar]) -> list[int]:
        """Return the times of an index: those that the case names, or the closes."""
        named = self._gives.get("index")
        if named is None:
            return [row.close_time for row in rows]
        return [to_ms(moment) for moment in named]

    def table(self, kind: str, index: list[Any], rows: Sequence[GivenBar]) -> Seen:
        fields = self.fields()
        times = self.times(rows)
        values = [
            times if name == "date" else [getattr(row, name) for row in rows]
            for name in fields
        ]
        return Seen(kind, index, fields, [_dtype(name) for name in fields], values)

    def frame(self, text: Any) -> Seen:
        rows = self.rows(self._symbol, text)
        return self.table("frame by time", self.times(rows), rows)

    def long(self, text: dict[str, Any]) -> Seen:
        listed = [
            (symbol, row) for symbol in text for row in self.rows(symbol, text[symbol])
        ]
        rows = [row for _, row in listed]
        made = self.table("frame by number", list(range(len(rows))), rows)
        return made._replace(
            columns=["time", "code", *made.columns],
            dtypes=[str(TIME), "text", *made.dtypes],
            values=[self.times(rows), [symbol for symbol, _ in listed], *made.values],
        )

    def wide(self, text: dict[str, Any]) -> Seen:
        symbols, fields = text["symbols"], self.fields()
        among = self.rows(text["times_of"], text["times"])
        closes = [row.close_time for row in among]
        columns, values = [], []
        for name in fields:
            for symbol in symbols:
                bars = self._market.of(symbol, self._timeframe)
                by_close = {bar.close_time: getattr(bar, name) for bar in bars}
                columns.append((name, symbol) if len(fields) > 1 else symbol)
                values.append([by_close.get(close, math.nan) for close in closes])
        kind = "frame by time"
        dtypes = ["float64"] * len(columns)
        return Seen(kind, self.times(among), columns, dtypes, values)

    def numbered(self, text: Any) -> Seen:
        rows = self.rows(self._symbol, text)
        return self.table("frame by number", list(range(len(rows))), rows)

    def multi(self, text: dict[str, Any]) -> Seen:
        rows, index = [], []
        for symbol, part in text.items():
            found = self.rows(symbol, part)
            rows += found
            index += [(symbol, number) for number in range(len(found))]
        return self.table("frame by (code, i)", index, rows)

    def array(self, text: Any) -> Seen:
        return self.table("array", [], self.rows(self._symbol, text))

    def arrays(self, text: dict[str, Any]) -> Seen:
        made = [
            self.table("array", [], self.rows(symbol, text[symbol])) for symbol in text
        ]
        return Seen(
            "dict of arrays",
            list(text),
            [name for one in made for name in one.columns],
            [dtype for one in made for dtype in one.dtypes],
            [column for one in made for column in one.values],
        )

    def series(self, text: Any) -> Seen:
        made = self.table("", [], self.rows(self._symbol, text))
        return made._replace(kind="dict of columns")

    def bars(self, text: Any) -> Seen:
        rows = self.rows(self._symbol, text)
        values = [[getattr(row, name) for row in rows] for name in BAR]
        return Seen("list of bars", [], list(BAR), [], values)

    def wide_series(self, text: dict[str, Any]) -> Seen:
        return self.wide(text)._replace(kind="dict of columns", index=[])


def _dtype(name: str) -> str:
    if name == "date":
        return str(TIME)
    return "int64" if name in INTEGERS else "float64"


_SHAPES: dict[str, Callable[[Demand, Any], Seen]] = {
    "frame": Demand.frame,
    "long": Demand.long,
    "wide": Demand.wide,
    "numbered": Demand.numbered,
    "multi": Demand.multi,
    "array": Demand.array,
    "arrays": Demand.arrays,
    "series": Demand.series,
    "wide_series": Demand.wide_series,
    "bars": Demand.bars,
}


def look_at(result: Any) -> Seen:
    """Take a result apart."""
    if isinstance(result, pd.DataFrame):
        columns = [result.iloc[:, number] for number in range(result.shape[1])]
        names = [tuple(n) if isinstance(n, tuple) else n for n in result.columns]
        dtypes = [_text_or(column.dtype) for column in columns]
        values = [_plain(column.to_numpy()) for column in columns]
        return Seen(*_index_of(result.index), names, dtypes, values)
    if isinstance(result, np.ndarray) and result.dtype.names:
        return _look_at_array(result)
    if isinstance(result, dict):
        if all(isinstance(v, np.ndarray) and v.dtype.names for v in result.values()):
            made = [_look_at_array(array) for array in result.values()]
            return Seen(
                "dict of arrays",
                list(result),
                [name for one in made for name in one.columns],
                [dtype for one in made for dtype in one.dtypes],
                [column for one in made for column in one.values],
            )
        arrays = [np.asarray(column) for column in result.values()]
        dtypes = [str(array.dtype) for array in arrays]
        return Seen(
            "dict of columns", [], list(result), dtypes, [_plain(a) for a in arrays]
        )
    if isinstance(result, list) and all(hasattr(one, "open_time") for one in result):
        values = [[getattr(one, name) for one in result] for name in BAR]
        return Seen("list of bars", [], list(BAR), [], values)
    return Seen(type(result).__name__, [], [], [], [])


def _look_at_array(array: np.ndarray) -> Seen:
    names = list(array.dtype.names or ())
    dtypes = [str(array.dtype[name]) for name in names]
    return Seen("array", [], names, dtypes, [_plain(array[name]) for name in names])


def _index_of(index: pd.Index) -> tuple[str, list[Any]]:
    if isinstance(index, pd.MultiIndex):
        return f"frame by ({', '.join(map(str, index.names))})", list(index)
    if isinstance(index, pd.RangeIndex):
        return "frame by number", list(index)
    if isinstance(index, pd.DatetimeIndex):
        kind = "frame by time"
        if index.name is not None or index.dtype != TIME:
            kind = f"frame by {index.name!r} of {index.dtype}, not of {TIME}"
        return kind, _plain(index.to_numpy())
    return f"frame by {type(index).__name__}", list(index)


def _text_or(dtype: Any) -> str:
    """Return "text" for the dtypes of text, which differ between versions of pandas."""
    is_text = pd.api.types.is_string_dtype(dtype)
    return "text" if is_text else str(dtype)


def _plain(array: np.ndarray) -> list[Any]:
    if array.dtype.kind == "M":
        return array.astype("M8[ms]").astype(np.int64).tolist()
    return array.tolist()


def differences(seen: Seen, demanded: Seen, exact: bool) -> list[str]:
    """Return what a result has otherwise than demanded, in words; nothing if equal."""
    for name in ("kind", "columns", "dtypes", "index"):
        found, wanted = getattr(seen, name), getattr(demanded, name)
        if found != wanted:
            return [f"the {name}: {_short(found)}, not {_short(wanted)}"]
    for column, found, wanted in zip(
        seen.columns, seen.values, demanded.values, strict=True
    ):
        if len(found) != len(wanted):
            return [f"{column} has {len(found)} values, not {len(wanted)}"]
        for number, pair in enumerate(zip(found, wanted, strict=True)):
            if not _is_same(*pair, exact):
                return [f"{column} in row {number}: {pair[0]!r}, not {pair[1]!r}"]
    return []


def _is_same(found: Any, wanted: Any, exact: bool) -> bool:
    if isinstance(wanted, float) and isinstance(found, float):
        if math.isnan(wanted) or exact:
            return found == wanted or (math.isnan(found) and math.isnan(wanted))
        return math.isclose(found, wanted, rel_tol=TOLERANCE)
    return bool(found == wanted)


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], int):
        value = [str(np.datetime64(v, "ms")) if v > 10**9 else v for v in value]
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]}..{text[-90:]}"


def plain_value(value: Any) -> Any:
    """Return a scalar, a list or an array of days as case files write them."""
    if isinstance(value, np.ndarray):
        return [plain_value(item) for item in value.tolist()]
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()[:10]
    return "nan" if isinstance(value, float) and math.isnan(value) else value
