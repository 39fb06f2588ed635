"""Bars as contexts write them (dicts or objects, prices as strings) made into Bar."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shmfeed.arguments import items_of, shown
from shmfeed.bar import LAST_TIME, Bar, close_time
from shmfeed.errors import BadArgumentError
from wealthdata.times import to_ms

_PRICES = ("open", "high", "low", "close", "volume")
_FLAGS_END = 1 << 32
_ABSENT = object()


def parse_bars(bars: object, timeframe: str | None, where: str) -> list[Bar]:
    """The bars in the order given. BadArgumentError names `where` and what is wrong.

    A bar's close_time follows from its open_time and the timeframe; without a
    timeframe it is the bar's own, where ...999 is taken for the next millisecond.
    """
    listed = items_of(bars)
    if listed is None:
        raise BadArgumentError(f"{where} is {shown(bars)}; it must be a list of bars")
    parsed = []
    for number, raw in enumerate(listed):
        try:
            parsed.append(_parse(raw, timeframe))
        except (BadArgumentError, OverflowError, ValueError) as error:
            raise BadArgumentError(
                f"{where}[{number}]: {error}; it is {shown(raw)}"
            ) from (error)
    return parsed


def _parse(raw: object, timeframe: str | None) -> Bar:
    opened = _time("open_time", _value(raw, "open_time"))
    if timeframe is None:
        closed = _time("close_time", _value(raw, "close_time"))
        closed += closed % 1000 == 999
    else:
        closed = close_time(opened, timeframe)
    prices = [_number(name, _value(raw, name)) for name in _PRICES]
    money = _value(raw, "money", None)
    turnover = math.nan if money is None else _number("money", money, finite=False)
    flags = _value(raw, "flags", 0)
    return Bar._make((opened, closed, *prices, turnover, _flags(flags)))


def _value(raw: Any, name: str, default: object = _ABSENT) -> object:
    if isinstance(raw, Mapping):
        value = raw.get(name, default)
    else:
        value = getattr(raw, name, default)
    if value is _ABSENT:
        raise BadArgumentError(f"the bar has no {name}")
    return value


def _number(name: str, value: Any, finite: bool = True) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
        finite = True
    if isinstance(value, bool) or (finite and not math.isfinite(number)):
        raise BadArgumentError(f"{name} is {shown(value)}; it must be a finite number")
    return number


def _flags(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < _FLAGS_END else 0


def _time(name: str, value: object) -> int:
    if isinstance(value, datetime):
        return to_ms(name, value)
    number = _number(name, value)
    if number != int(number) or not 0 <= number < LAST_TIME:
        raise BadArgumentError(f"{name} is {shown(value)}; it must be milliseconds UTC")
    return int(number)
