"""Bars from outside the ring: a context's list, or a history function.

Contexts write bars as dicts or objects, with prices as strings or numbers; here they
become Bar.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from shmfeed.bar import (
    LAST_TIME,
    Bar,
    StreamKey,
    bars_between,
    check_timeframe,
    close_time,
)
from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from shmfeed.validation import check_symbol, items_of
from wealthdata.columns import PrivateColumns, from_bars, sort_unique
from wealthdata.times import to_ms

_PRICES = ("open", "high", "low", "close", "volume")
_FLAGS_END = 1 << 32
_MISSING = object()
_MAX_BARS = 1 << 20  # the most that one call of a history function requests


class BarObject(Protocol):
    """A bar of another library: any object with these attributes, like a Bar.

    `open_time` and `close_time` in ms UTC or as a datetime, prices and volume as
    numbers or strings.
    """

    @property
    def open_time(self) -> object: ...
    @property
    def close_time(self) -> object: ...
    @property
    def open(self) -> object: ...
    @property
    def high(self) -> object: ...
    @property
    def low(self) -> object: ...
    @property
    def close(self) -> object: ...
    @property
    def volume(self) -> object: ...


BarLike = Mapping[str, object] | BarObject  # a dict with the same names will do


def parse_bars(bars: object, timeframe: str | None, where: str) -> list[Bar]:
    """Return the bars in the order given.

    The close_time of a bar follows from its open_time and the timeframe. Without a
    timeframe the bar's own close_time is used, with ...999 rounded up to the next
    millisecond. Raise BadArgumentError naming `where` and the malformed bar.
    """
    listed = items_of(bars)
    if listed is None:
        raise BadArgumentError(
            f"{where} is {repr_short(bars)}; it must be a list of bars"
        )
    parsed = []
    for number, raw in enumerate(listed):
        try:
            parsed.append(_parse_bar(raw, timeframe))
        except (BadArgumentError, OverflowError, ValueError) as error:
            raise BadArgumentError(
                f"{where}[{number}]: {error}; the bar is {repr_short(raw)}"
            ) from error
    return parsed


def _parse_bar(raw: object, timeframe: str | None) -> Bar:
    opened = _parse_time("open_time", _value(raw, "open_time"))
    if timeframe is None:
        closed = _parse_time("close_time", _value(raw, "close_time"))
        closed += closed % 1000 == 999
    else:
        closed = close_time(opened, timeframe)
    prices = [_parse_number(name, _value(raw, name)) for name in _PRICES]
    money = _value(raw, "money", None)
    turnover = (
        math.nan if money is None else _parse_number("money", money, finite=False)
    )
    flags = _value(raw, "flags", 0)
    return Bar._make((opened, closed, *prices, turnover, _parse_flags(flags)))


def _value(raw: Any, name: str, default: object = _MISSING) -> object:
    if isinstance(raw, Mapping):
        value = raw.get(name, default)
    else:
        value = getattr(raw, name, default)
    if value is _MISSING:
        raise BadArgumentError(f"the bar has no {name}")
    return value


def _parse_number(name: str, value: Any, finite: bool = True) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
        finite = True
    if isinstance(value, bool) or (finite and not math.isfinite(number)):
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be a finite number"
        )
    return number


def _parse_flags(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < _FLAGS_END else 0


def _parse_time(name: str, value: object) -> int:
    if isinstance(value, datetime):
        return to_ms(name, value)
    number = _parse_number(name, value)
    if number != int(number) or not 0 <= number < LAST_TIME:
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be whole milliseconds UTC"
        )
    return int(number)


class BarHistory(Protocol):
    """Closed bars from outside the ring: one for each open_time, oldest first."""

    def rows(self, key: StreamKey, count: int) -> PrivateColumns:
        """Return at least the newest `count` bars, or all if there are fewer."""
        ...

    def streams(self) -> list[StreamKey] | None:
        """Return the streams, in order; None if they are not known."""
        ...


class ContextHistory:
    """The bars in a context's `market_data_context`.

    A stream is parsed at its first read, and again when its list was replaced, changed
    its length or ends in another bar.
    """

    def __init__(self, context: object) -> None:
        self._context = context
        self._parsed: dict[StreamKey, tuple[list[Any], PrivateColumns]] = {}

    def streams(self) -> list[StreamKey]:
        return list(dict.fromkeys(key for key, _, _ in self._entries()))

    def rows(self, key: StreamKey, count: int) -> PrivateColumns:  # noqa: ARG002 # all
        listed = [
            (bars, where) for found, bars, where in self._entries() if found == key
        ]
        state = [(bars, _length_and_end(bars)) for bars, _ in listed]
        known = self._parsed.get(key)
        if known is None or not _same_state(known[0], state):
            bars = [
                bar for bars, where in listed for bar in parse_bars(bars, key[1], where)
            ]
            known = self._parsed[key] = state, from_bars(sort_unique(bars))
        return known[1]

    def check(self) -> None:
        """Parse every stream. Raise BadArgumentError naming the malformed bar."""
        for key in self.streams():
            self.rows(key, 1)

    def _entries(self) -> Iterator[tuple[StreamKey, object, str]]:
        entries = getattr(self._context, "market_data_context", None)
        if entries is None:
            return
        listed = items_of(entries)
        if listed is None:
            raise BadArgumentError(
                f"market_data_context is {type(entries).__name__}; it must be a list"
                ' of {"symbol", "timeframe", "bars"}'
            )
        for number, entry in enumerate(listed):
            where = f"market_data_context[{number}]"
            if not isinstance(entry, Mapping):
                raise BadArgumentError(
                    f"{where} is {repr_short(entry)}; it must be a dict"
                )
            for name in ("symbol", "timeframe", "bars"):
                if name not in entry:
                    raise BadArgumentError(f"{where} has no {name!r}")
            symbol = check_symbol(entry["symbol"])
            key = symbol, check_timeframe(entry["timeframe"])
            yield key, entry["bars"], f"{where} ({' '.join(key)}) bars"


def _length_and_end(bars: object) -> object:
    if not isinstance(bars, list | tuple) or not bars:
        return 0
    last = bars[-1]
    return len(bars), dict(last) if isinstance(last, Mapping) else last


def _same_state(old: list[Any], new: list[Any]) -> bool:
    return len(old) == len(new) and all(
        was[0] is now[0] and was[1] == now[1] for was, now in zip(old, new, strict=True)
    )


class FunctionHistory:
    """A `history(symbol, count, timeframe)` function, of a context or an adapter."""

    def __init__(self, function: Callable[[str, int, str], object], name: str) -> None:
        self._function = function
        self._name = name

    def streams(self) -> None:
        return None

    def rows(self, key: StreamKey, count: int) -> PrivateColumns:
        symbol, timeframe = key
        bars = self._function(symbol, count, timeframe)
        where = f"{self._name}({symbol!r}, {count}, {timeframe!r})"
        parsed = parse_bars(() if bars is None else bars, timeframe, where)
        return from_bars(sort_unique(parsed))


def read_back(
    history: BarHistory,
    key: StreamKey,
    limit: int | None,
    start: int | None,
    end: int | None,
    newest: int,
) -> PrivateColumns:
    """Return rows that hold `limit` bars closed up to `end`, or all from `start` on.

    Return fewer if the history has no more. A history function returns only its
    newest bars. The first call requests as many bars as the range needs if the newest
    bar is at `newest`. Each further call doubles the number until the range is covered.
    """
    ask = limit or 1
    if start is not None:
        ask = bars_between(start, newest, key[1]) + 2
    elif end is not None:
        ask += bars_between(end, newest, key[1]) + 2
    while True:
        ask = min(ask, _MAX_BARS)
        rows = history.rows(key, ask)
        if len(rows) < ask or ask == _MAX_BARS or _holds(rows, limit, start, end):
            return rows
        ask *= 2


def _holds(
    rows: PrivateColumns, limit: int | None, start: int | None, end: int | None
) -> bool:
    if start is not None:
        return bool(rows.close_time[0] <= start)
    last = len(rows)
    if end is not None:
        last = int(np.searchsorted(rows.close_time, end, "right"))
    return last >= (limit or 1)
