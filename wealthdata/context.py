"""The strategy's context and data adapters: bars from before the ring, and the time.

A context supplies bars that no ring has and says what time it is for the strategy. A
registered data adapter stands in for the context's bars.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from shmfeed.bar import (
    STALE_MIN_SECONDS,
    Bar,
    Timeframe,
    TimeframeAlias,
    check_timeframe,
)
from shmfeed.errors import BadArgumentError, NoDataError
from shmfeed.text import repr_short
from shmfeed.validation import check_int, check_symbol
from wealthdata.attachment import attached_feed, selected_feed
from wealthdata.attrs import FrameAttrs
from wealthdata.bar_history import BarHistory, BarLike, ContextHistory, FunctionHistory
from wealthdata.columns import to_bars
from wealthdata.environment import TABLE
from wealthdata.freshness import check, outages
from wealthdata.merge import Sources, find_bars
from wealthdata.price_table import PriceTable, open_table
from wealthdata.request import PriceRequest
from wealthdata.times import to_ms


class Context:
    """A strategy's context: its bars, its time, and attributes of its own.

    Args:
        market_data_context: A list of {"symbol", "timeframe", "bars"}. Bars are dicts
            or objects with open_time, close_time (int ms UTC), open, high, low, close,
            volume (strings or numbers), in any order; of two with the same open_time
            the later one in the list counts. Bars added later are seen.
        **anything: Further attributes. Two have a meaning: `current_dt`, the
            strategy's time, after which no bar is returned; and `run_params`, an
            object or dict, whose `type` is "backtest" in a backtest.

    Raises:
        BadArgumentError: A bar is malformed; the message names it.
    """

    if TYPE_CHECKING:  # a context takes any attribute

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(
        self,
        market_data_context: Sequence[Mapping[str, object]] | None = (),
        **anything: Any,
    ) -> None:
        self.market_data_context = market_data_context
        self._market_data_history = ContextHistory(self)
        self._market_data_history.check()
        for name, value in anything.items():
            setattr(self, name, value)

    def history(
        self,
        symbol: str,
        count: int = 20,
        timeframe: "Timeframe | TimeframeAlias" = "1h",
    ) -> list[Bar]:
        """Return the last `count` closed bars, oldest first.

        Bars come from the feed's ring and, before its oldest bar, from this context.
        Raise what `get_price` raises.
        """
        view = ContextView(self, self._market_data_history)
        return merged_bars(view, symbol, count, timeframe)


class ContextView(NamedTuple):
    """A context as a read sees it: its bars, its time, and the kind of its run."""

    context: object
    history: BarHistory | None

    @property
    def is_backtest(self) -> bool:
        """True if the context says that it is a backtest's."""
        params = getattr(self.context, "run_params", None)
        if isinstance(params, Mapping):
            kind = params.get("type")
        else:
            kind = getattr(params, "type", None)
        return bool(kind == "backtest")

    @property
    def now(self) -> int | None:
        """`current_dt` in ms UTC; None if the context does not set it."""
        moment = getattr(self.context, "current_dt", None)
        return None if moment is None else to_ms("context.current_dt", moment)


def view_of(context: object) -> ContextView:
    """Return the view of a context, Context or foreign.

    A foreign context with a `history(symbol, count, timeframe)` is asked through it,
    as is a subclass of Context that overrides it. Otherwise its `market_data_context`
    is read.
    """
    function = getattr(context, "history", None)
    if isinstance(context, Context) and _is_inherited(function):
        return ContextView(context, context._market_data_history)
    if callable(function):
        return ContextView(context, FunctionHistory(function, "context.history"))
    listed = hasattr(context, "market_data_context")
    return ContextView(context, ContextHistory(context) if listed else None)


def _is_inherited(function: Any) -> bool:
    return getattr(function, "__func__", None) is Context.history


_context: ContextVar[ContextView | None] = ContextVar(
    "wealthdata_context", default=None
)
_current_view = _context.get  # bound once, for every read


def set_context(context: object) -> None:
    """Set the context of this thread and asyncio task.

    An asyncio task started afterwards inherits it; a new thread does not.

    Args:
        context: A Context, or any object with `history(symbol, count, timeframe)` or
            `market_data_context`; `current_dt` and `run_params.type` as for Context.

    Raises:
        BadArgumentError: The context is None.
    """
    if context is None:
        raise BadArgumentError("context is None; clear_context() removes a context")
    _context.set(view_of(context))


def get_context() -> Any:
    """Return the context of this thread and asyncio task.

    Raises:
        NoDataError: No context is set.
    """
    view = _context.get()
    if view is None:
        raise NoDataError(
            "no context is set in this thread or task; call set_context(context) first"
        )
    return view.context


def clear_context() -> None:
    """Remove the context of this thread and asyncio task, if one is set."""
    _context.set(None)


def open_sources(
    views: tuple[ContextView, ...],
    history: BarHistory | None,
    named: str | None = None,
) -> Sources:
    """Return the sources of a read; in a backtest no feed is one of them.

    `named` is the feed that the call names; None for the chosen one.
    """
    backtest = any(view.is_backtest for view in views) or selected_feed() is None
    return Sources(
        None if backtest else attached_feed(named),
        history,
        backtest,
        time.time_ns() // 1_000_000,
        named,
    )


def strategy_time(views: tuple[ContextView, ...]) -> int | None:
    """Return the strategy's time in ms UTC; None if no context sets it."""
    return min((view.now for view in views if view.now is not None), default=None)


def merged_bars(
    view: ContextView, symbol: str, count: int, timeframe: str
) -> list[Bar]:
    """Return the newest bars of the ring and, before them, of this context alone."""
    count = check_int("count", count)
    key = check_symbol(symbol), check_timeframe(timeframe)
    request = PriceRequest(count, now=view.now)
    sources = open_sources((view,), view.history)
    found = find_bars(key, request, sources, private=True)
    if found.feed and found.status:
        ring = sources.feed.ring(key) if sources.feed else None
        check((found.feed, *key), found.status, None, "warn", ring)
    return to_bars(found.columns, found.first, found.last)


class AdapterLike(Protocol):
    """The methods of a data adapter."""

    def get_history(
        self, symbol: str, count: int, timeframe: str, /
    ) -> Iterable[BarLike] | None: ...
    def get_all_symbols(self) -> Iterable[str]: ...


class DataAdapter(ABC):
    """A source of bars that stands in for the context.

    Deriving from this class is optional: any object with these two methods will do.
    """

    @abstractmethod
    def get_history(self, symbol: str, count: int, timeframe: str) -> Sequence[BarLike]:
        """Return the newest `count` closed bars, objects or dicts, oldest first."""

    @abstractmethod
    def get_all_symbols(self) -> list[str]:
        """Return the symbols that this adapter has."""


class ContextDataAdapter(DataAdapter):
    """An adapter over a context: its bars, merged with those of the feed.

    Args:
        context: A Context, or any object that `set_context` accepts.

    Raises:
        BadArgumentError: The context is None.
    """

    def __init__(self, context: object) -> None:
        if context is None:
            raise BadArgumentError("context is None; give the context to read")
        self.context = context
        self._view = view_of(context)

    def get_history(
        self, symbol: str, count: int = 20, timeframe: str = "1h"
    ) -> list[Bar]:
        """Return the last `count` closed bars, oldest first.

        Raise what `get_price` raises.
        """
        return merged_bars(self._view, symbol, count, timeframe)

    def get_all_symbols(self) -> list[str]:
        """Return the context's symbols, then those that only the feed carries."""
        sources = open_sources((self._view,), self._view.history)
        streams = (sources.history.streams() if sources.history else None) or []
        if sources.feed is not None:
            streams = [*streams, *sources.feed.streams()]
        return list(dict.fromkeys(symbol for symbol, _ in streams))


class _Registered:
    """The data adapter of this process.

    `names` has the name of its class; it is empty without an adapter.
    """

    adapter: AdapterLike | None = None
    view: ContextView | None = None
    names: ClassVar[set[str]] = set()


_registered = _Registered()


def register_data_adapter(adapter: AdapterLike) -> None:
    """Let `adapter` stand in for the context's bars, in all threads of this process.

    Args:
        adapter: A DataAdapter, or any object with `get_history(symbol, count,
            timeframe)` and `get_all_symbols()`.

    Raises:
        BadArgumentError: The object lacks one of these methods.
    """
    function = getattr(adapter, "get_history", None)
    if not (callable(function) and callable(getattr(adapter, "get_all_symbols", None))):
        raise BadArgumentError(
            f"adapter is {repr_short(adapter)}; it must have get_history(symbol, count,"
            " timeframe) and get_all_symbols()"
        )
    if type(adapter) is ContextDataAdapter:
        _registered.view = view_of(adapter.context)
    else:
        history = FunctionHistory(function, f"{type(adapter).__name__}.get_history")
        _registered.view = ContextView(None, history)
    _registered.adapter = adapter
    _registered.names.add(type(adapter).__name__)


def get_data_adapter() -> AdapterLike | None:
    """Return the registered adapter, or None."""
    return _registered.adapter


def clear_data_adapter() -> None:
    """Remove the registered adapter, if there is one."""
    _registered.adapter = None
    _registered.view = None
    _registered.names.clear()


def current_views() -> tuple[tuple[ContextView, ...], BarHistory | None]:
    """Return the views that limit this read in time, and the history of older bars.

    The context of this thread and task and a registered adapter's both bound the time;
    the adapter's history is used before the context's.
    """
    view = _current_view()
    registered = _registered.view
    if view is None and registered is None:
        return (), None
    views = tuple(v for v in (view, registered) if v is not None)
    if registered is not None:
        return views, registered.history
    return views, None if view is None else view.history


def open_price_table() -> PriceTable:
    """Open the table of usual calls: no context or adapter, no outage to end."""
    must_be_empty = outages, _registered.names
    return open_table(TABLE, _context, must_be_empty, FrameAttrs, STALE_MIN_SECONDS)
