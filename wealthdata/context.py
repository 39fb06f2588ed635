"""A strategy's context: bars from before the ring, and when it is for the strategy.

Adapters: other places than the context for bars from before the ring.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from shmfeed.bar import Bar, check_timeframe
from shmfeed.errors import BadArgumentError, NoDataError
from shmfeed.validation import check_symbol, check_whole, shown
from wealthdata.attachment import chosen_feed, current
from wealthdata.columns import to_bars
from wealthdata.freshness import judge
from wealthdata.history import Asked, Listed, Older
from wealthdata.merge import Sources, find
from wealthdata.request import Want
from wealthdata.times import to_ms


class Context:
    """A context of one's own.

    `market_data_context` is a list of {"symbol", "timeframe", "bars"}, its bars dicts
    or objects with open_time, close_time (int ms UTC), open, high, low, close, volume
    as strings or numbers. They may be in any order; of two of the same open_time the
    later one holds. Whatever else is given becomes an attribute; two mean something
    here: `current_dt`, when it is for the strategy, and `run_params.type`, 'backtest'
    for one. Raises BadArgumentError naming the malformed bar.
    """

    def __init__(self, market_data_context: object = (), **anything: object) -> None:
        self.market_data_context = market_data_context
        self._listed = Listed(self)
        self._listed.check()
        for name, value in anything.items():
            setattr(self, name, value)

    def history(self, symbol: str, count: int = 20, timeframe: str = "1h") -> list[Bar]:
        """The last `count` closed bars, oldest first: the ring's, then this context's.

        Raises what `get_price` raises.
        """
        return merged_bars(Marked(self, self._listed), symbol, count, timeframe)


class Marked(NamedTuple):
    """A context, the bars that it has, and what it says of the time."""

    context: object
    older: Older | None

    @property
    def backtest(self) -> bool:
        """Whether the context says that it is a backtest's."""
        params = getattr(self.context, "run_params", None)
        if isinstance(params, Mapping):
            kind = params.get("type")
        else:
            kind = getattr(params, "type", None)
        return bool(kind == "backtest")

    @property
    def now(self) -> int | None:
        """`current_dt` in ms UTC; None if the context does not bound what is seen."""
        moment = getattr(self.context, "current_dt", None)
        return None if moment is None else to_ms("context.current_dt", moment)


def mark(context: object) -> Marked:
    """What this package needs of a context, our own or a foreign one.

    A foreign one with its own `history(symbol, count, timeframe)` is asked through
    that; else its `market_data_context` is read.
    """
    history = getattr(context, "history", None)
    if isinstance(context, Context) and _is_own(history):
        return Marked(context, context._listed)
    if callable(history):
        return Marked(context, Asked(history, "context.history"))
    listed = hasattr(context, "market_data_context")
    return Marked(context, Listed(context) if listed else None)


def _is_own(history: Any) -> bool:
    return getattr(history, "__func__", None) is Context.history


_context: ContextVar[Marked | None] = ContextVar("wealthdata_context", default=None)


def set_context(context: object) -> None:
    """Make `context` the one of this thread and asyncio task.

    A task started from here inherits it, another thread does not.
    """
    if context is None:
        raise BadArgumentError("context is None; clear_context() takes one away")
    _context.set(mark(context))


def get_context() -> Any:
    """The context of this thread and asyncio task; NoDataError if none is set."""
    marked = _context.get()
    if marked is None:
        raise NoDataError(
            "no context is set in this thread or task; call set_context(context) first"
        )
    return marked.context


def clear_context() -> None:
    """Take the context of this thread and asyncio task away, if there is one."""
    _context.set(None)


current_mark = _context.get


def sources(marks: tuple[Marked, ...], older: Older | None) -> Sources:
    """Where a read may take bars from, as things are now."""
    backtest = any(marked.backtest for marked in marks) or chosen_feed() is None
    return Sources(
        None if backtest else current(),
        older,
        backtest,
        time.time_ns() // 1_000_000,
    )


def bound(marks: tuple[Marked, ...]) -> int | None:
    """When it is for the strategy, ms UTC; None if no context says so."""
    return min((m.now for m in marks if m.now is not None), default=None)


def merged_bars(marked: Marked, symbol: str, count: int, timeframe: str) -> list[Bar]:
    """The ring's bars, and before them those of this context alone."""
    count = check_whole("count", count)
    names = check_symbol(symbol), check_timeframe(timeframe)
    where = sources((marked,), marked.older)
    found = find(names, Want(count, now=marked.now), where, private=True)
    if found.feed and found.status:
        judge((found.feed, *names), found.status, None, "warn")
    return to_bars(found.rows, found.first, found.last)


class DataAdapter(ABC):
    """What may stand in for the context; any object with these two methods will do."""

    @abstractmethod
    def get_history(self, symbol: str, count: int, timeframe: str) -> Sequence[object]:
        """The newest `count` closed bars, objects or dicts, oldest first."""

    @abstractmethod
    def get_all_symbols(self) -> list[str]:
        """The symbols that there are."""


class ContextDataAdapter(DataAdapter):
    """A context, any, as an adapter: its bars with the ring's, merged."""

    def __init__(self, context: object) -> None:
        if context is None:
            raise BadArgumentError("context is None; give the context to read")
        self.context = context
        self._marked = mark(context)

    def get_history(
        self, symbol: str, count: int = 20, timeframe: str = "1h"
    ) -> list[Bar]:
        """The last `count` closed bars, oldest first; raises as `get_price` does."""
        return merged_bars(self._marked, symbol, count, timeframe)

    def get_all_symbols(self) -> list[str]:
        """The context's symbols, then those that only the feed has."""
        where = sources((self._marked,), self._marked.older)
        streams = (where.older.streams() if where.older else None) or []
        if where.live is not None:
            streams = [*streams, *where.live.feed.streams()]
        return list(dict.fromkeys(symbol for symbol, _ in streams))


class _Registered:
    """The adapter of this process, if there is one."""

    adapter: object = None
    marked: Marked | None = None


_registered = _Registered()


def register_data_adapter(adapter: object) -> None:
    """Let `adapter` stand in for the context, in the whole process."""
    history = getattr(adapter, "get_history", None)
    if not (callable(history) and callable(getattr(adapter, "get_all_symbols", None))):
        raise BadArgumentError(
            f"adapter is {shown(adapter)}; it must have get_history(symbol, count,"
            " timeframe) and get_all_symbols()"
        )
    if type(adapter) is ContextDataAdapter:
        _registered.marked = mark(adapter.context)
    else:
        older = Asked(history, f"{type(adapter).__name__}.get_history")
        _registered.marked = Marked(None, older)
    _registered.adapter = adapter


def get_data_adapter() -> object:
    """The registered adapter, None if there is none."""
    return _registered.adapter


def clear_data_adapter() -> None:
    """Take the registered adapter away, if there is one."""
    _registered.adapter = None
    _registered.marked = None


def current_marks() -> tuple[tuple[Marked, ...], Older | None]:
    """Who says what time it is, and who has older bars: an adapter before a context."""
    marked = current_mark()
    stand_in = _registered.marked
    if marked is None and stand_in is None:
        return (), None
    marks = tuple(m for m in (marked, stand_in) if m is not None)
    if stand_in is not None:
        return marks, stand_in.older
    return marks, None if marked is None else marked.older
