"""Where bars come from that no ring has: a context's list, or a history function.

Bars as contexts write them (dicts or objects, prices as strings) made into Bar.
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
from shmfeed.validation import check_symbol, items_of, shown
from wealthdata.columns import Columns, by_time, from_bars
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


_MOST = 1 << 20  # bars that a history function is asked for at once


class Older(Protocol):
    """Bars besides the ring's: closed ones, one for each open_time, oldest first."""

    def rows(self, symbol: str, timeframe: str, count: int) -> Columns:
        """At least the newest `count` bars, or all there are; none: empty."""
        ...

    def streams(self) -> list[StreamKey] | None:
        """What there is, in order; None if it cannot say."""
        ...


class Listed:
    """The bars in an object's `market_data_context`.

    Each stream is parsed when first asked for, and again when its list is another
    one, has grown or ends in another bar.
    """

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._parsed: dict[StreamKey, tuple[list[Any], Columns]] = {}

    def streams(self) -> list[StreamKey]:
        return list(dict.fromkeys(names for names, _, _ in self._entries()))

    def rows(self, symbol: str, timeframe: str, count: int) -> Columns:  # noqa: ARG002 # all there are
        names = symbol, timeframe
        listed = [
            (bars, where) for found, bars, where in self._entries() if found == names
        ]
        seen = [(bars, _end(bars)) for bars, _ in listed]
        known = self._parsed.get(names)
        if known is None or not _same(known[0], seen):
            bars = [
                bar
                for bars, where in listed
                for bar in parse_bars(bars, timeframe, where)
            ]
            known = self._parsed[names] = seen, from_bars(by_time(bars))
        return known[1]

    def check(self) -> None:
        """Parse everything now. BadArgumentError names the malformed bar."""
        for symbol, timeframe in self.streams():
            self.rows(symbol, timeframe, 1)

    def _entries(self) -> Iterator[tuple[StreamKey, object, str]]:
        entries = getattr(self._owner, "market_data_context", None)
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
                raise BadArgumentError(f"{where} is {shown(entry)}; it must be a dict")
            for key in ("symbol", "timeframe", "bars"):
                if key not in entry:
                    raise BadArgumentError(f"{where} has no {key!r}")
            symbol = check_symbol(entry["symbol"])
            names = symbol, check_timeframe(entry["timeframe"])
            yield names, entry["bars"], f"{where} ({' '.join(names)}) bars"


def _end(bars: object) -> object:
    """The length and the last bar's values, to notice a list that was written to."""
    if not isinstance(bars, list | tuple) or not bars:
        return 0
    last = bars[-1]
    return len(bars), dict(last) if isinstance(last, Mapping) else last


def _same(old: list[Any], new: list[Any]) -> bool:
    return len(old) == len(new) and all(
        was[0] is now[0] and was[1] == now[1] for was, now in zip(old, new, strict=True)
    )


class Asked:
    """A `history(symbol, count, timeframe)` function: a context's, or an adapter's."""

    def __init__(self, history: Callable[[str, int, str], object], name: str) -> None:
        self._history = history
        self._name = name

    def streams(self) -> None:
        return None

    def rows(self, symbol: str, timeframe: str, count: int) -> Columns:
        bars = self._history(symbol, count, timeframe)
        where = f"{self._name}({symbol!r}, {count}, {timeframe!r})"
        parsed = parse_bars(() if bars is None else bars, timeframe, where)
        return from_bars(by_time(parsed))


def enough_rows(
    older: Older,
    names: StreamKey,
    count: int | None,
    start: int | None,
    end: int | None,
    newest: int,
) -> Columns:
    """Rows that hold `count` closed up to `end`, or all from `start` on.

    Fewer if there are no more. A history function only knows the newest so many: it
    is asked for as many as the range should need if its newest bar is at `newest`,
    and for twice as many as long as that does not reach back far enough.
    """
    symbol, timeframe = names
    ask = count or 1
    if start is not None:
        ask = bars_between(start, newest, timeframe) + 2
    elif end is not None:
        ask += bars_between(end, newest, timeframe) + 2
    while True:
        ask = min(ask, _MOST)
        rows = older.rows(symbol, timeframe, ask)
        if len(rows) < ask or ask == _MOST or _reaches(rows, count, start, end):
            return rows
        ask *= 2


def _reaches(
    rows: Columns, count: int | None, start: int | None, end: int | None
) -> bool:
    if start is not None:
        return bool(rows.close_time[0] <= start)
    last = len(rows)
    if end is not None:
        last = int(np.searchsorted(rows.close_time, end, "right"))
    return last >= (count or 1)
