"""The strategy's context: bars from before the ring, and the time."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shmfeed.bar import Bar, Timeframe, TimeframeAlias
from shmfeed.errors import BadArgumentError, ContextError
from wealthdata import contexts_in_force
from wealthdata.bar_history import BarHistory, ContextHistory, FunctionHistory
from wealthdata.context_view import ContextView
from wealthdata.sources import merged_bars


class Context:
    """A strategy's context: its bars, its time, and attributes of its own.

    Args:
        market_data_context: A list of {"symbol", "timeframe", "bars"}. Bars are dicts
            or objects with open_time, close_time (int ms UTC), open, high, low, close,
            volume (strings or numbers), in any order; of two with the same open_time
            the later one in the list counts. Bars added later are seen.
        **anything: Further attributes. Two have a meaning: `current_dt`, the
            strategy's time, after which no bar is returned; and `run_params`, an
            object or dict, whose `type` is "backtest", "simple_backtest" or
            "full_backtest" in a backtest, and "sim_trade", "live", "paper" or left out
            in live use; upper and lower case are the same.

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
        listed = ContextHistory(self)
        listed.check()
        self._market_data_history: BarHistory = listed
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


def set_context(context: object) -> None:
    """Set the context of this thread or asyncio task, until it ends or clears it.

    Tasks started afterwards inherit it. Threads that have set none read for it too,
    while it is the only one in force in this process; a thread that has read live bars
    is not handed a backtest's, and where several are in force, none is handed over: a
    read of such a thread raises ContextError. `contextvars.copy_context().run` hands a
    context over. Processes started while a backtest's context is in force read no live
    bar.

    Args:
        context: A Context, or any object with `history(symbol, count, timeframe)` or
            `market_data_context`; `current_dt` and `run_params.type` as for Context.

    Raises:
        BadArgumentError: The context is None, or the type of its run is not accepted.
    """
    if context is None:
        raise BadArgumentError("context is None; clear_context() removes a context")
    contexts_in_force.set_view(view_of(context))


def get_context() -> Any:
    """Return the context that this thread or asyncio task has set or inherited.

    Raises:
        ContextError: It has none. One that another thread has set does not count.
    """
    view = contexts_in_force.own_view()
    if view is None:
        raise ContextError(
            "no context is set in this thread or task; call set_context(context) in it,"
            " or start its function with contextvars.copy_context().run"
        )
    return view.context


def clear_context() -> None:
    """Remove the context of this thread or asyncio task, if one is set."""
    contexts_in_force.clear_view()
