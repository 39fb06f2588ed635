"""Data adapters: sources of bars that stand in for the context's."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

from shmfeed.bar import Bar
from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from wealthdata import contexts_in_force
from wealthdata.bar_history import BarLike, FunctionHistory
from wealthdata.context import view_of
from wealthdata.context_view import ContextView
from wealthdata.sources import merged_bars, open_sources


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
        sources = open_sources((self._view,), self._view.history, explicit=True)
        streams = (sources.history.streams() if sources.history else None) or []
        if sources.feed is not None:
            streams = [*streams, *sources.feed.streams()]
        return list(dict.fromkeys(symbol for symbol, _ in streams))


def register_data_adapter(adapter: AdapterLike) -> None:
    """Let `adapter` stand in for the context's bars, in all threads of this process.

    Args:
        adapter: A DataAdapter, or any object with `get_history(symbol, count,
            timeframe)` and `get_all_symbols()`.

    Raises:
        BadArgumentError: The object lacks one of these methods, or the type of the run
            of its context is not accepted.
    """
    function = getattr(adapter, "get_history", None)
    if not (callable(function) and callable(getattr(adapter, "get_all_symbols", None))):
        raise BadArgumentError(
            f"adapter is {repr_short(adapter)}; it must have get_history(symbol, count,"
            " timeframe) and get_all_symbols()"
        )
    contexts_in_force.register(adapter, _view_of_adapter(adapter))


def _view_of_adapter(adapter: AdapterLike) -> ContextView:
    """Return an adapter's history with the time and the kind of its context."""
    if type(adapter) is ContextDataAdapter:
        return view_of(adapter.context)
    name = f"{type(adapter).__name__}.get_history"
    context = adapter.context if isinstance(adapter, ContextDataAdapter) else None
    return ContextView(context, FunctionHistory(adapter.get_history, name))


def get_data_adapter() -> AdapterLike | None:
    """Return the registered adapter, or None."""
    adapter: AdapterLike | None = contexts_in_force.registered.adapter
    return adapter


def clear_data_adapter() -> None:
    """Remove the registered adapter, if there is one."""
    contexts_in_force.register(None, None)
