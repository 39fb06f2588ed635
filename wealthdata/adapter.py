"""Adapters: other places than the context for bars from before the ring."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from shmfeed.arguments import shown
from shmfeed.bar import Bar
from shmfeed.errors import BadArgumentError
from wealthdata.context import Marked, current_mark, mark, merged_bars, sources
from wealthdata.older import Asked, Older


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
