"""Arguments in the case files: plain values, and `$type` mappings for the others.

{$date: 2026-01-30}                     datetime.date
{$datetime: "2026-01-30 16:00+08:00"}   datetime.datetime, aware if it has an offset
{$timestamp: "2026-01-30 16:00", tz: Asia/Shanghai}     pandas.Timestamp
{$datetime64: "2026-01-30T08"}          numpy.datetime64, its unit that of the text
{$int64: 20}  {$float64: 20}            numpy scalars
{$tuple: [a, b]}  {$bytes: text}  {$nan: here}
"""

import math
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd


def to_python(value: Any) -> Any:
    """Return a value of a case file as the object that it stands for."""
    if isinstance(value, list):
        return [to_python(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value), "")
    if not str(kind).startswith("$"):
        return {name: to_python(item) for name, item in value.items()}
    return _MAKERS[kind](value[kind], value)


_MAKERS: dict[str, Any] = {
    "$date": lambda text, _: date.fromisoformat(str(text)),
    "$datetime": lambda text, _: datetime.fromisoformat(text),
    "$timestamp": lambda text, more: pd.Timestamp(text, tz=more.get("tz")),
    "$datetime64": lambda text, _: np.datetime64(text),
    "$int64": lambda number, _: np.int64(number),
    "$float64": lambda number, _: np.float64(number),
    "$tuple": lambda items, _: tuple(to_python(items)),
    "$bytes": lambda text, _: text.encode(),
    "$nan": lambda *_: math.nan,
}
