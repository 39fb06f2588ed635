"""Where bars come from that no ring has: a context's list, or a history function."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from shmfeed.arguments import items_of, shown
from shmfeed.bar import bars_between, check_timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.names import check_symbol
from wealthdata.bars import parse_bars
from wealthdata.columns import Columns, by_time, from_bars

Names = tuple[str, str]

_MOST = 1 << 20  # bars that a history function is asked for at once


class Older(Protocol):
    """Bars besides the ring's: closed ones, one for each open_time, oldest first."""

    def rows(self, symbol: str, timeframe: str, count: int) -> Columns:
        """At least the newest `count` bars, or all there are; none: empty."""
        ...

    def streams(self) -> list[Names] | None:
        """What there is, in order; None if it cannot say."""
        ...


class Listed:
    """The bars in an object's `market_data_context`.

    Each stream is parsed when first asked for, and again when its list is another
    one, has grown or ends in another bar.
    """

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._parsed: dict[Names, tuple[list[Any], Columns]] = {}

    def streams(self) -> list[Names]:
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

    def _entries(self) -> Iterator[tuple[Names, object, str]]:
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
    names: Names,
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
