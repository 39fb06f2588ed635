"""A context as a read sees it: its bars, its time, and the kind of its run.

`run_params.type` of a context says whether its run is a backtest. A context is any
object of the strategy, which may change its time and its kind at any moment: a read
asks for both.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from wealthdata.bar_history import BarHistory
from wealthdata.times import to_ms

BACKTESTS = ("backtest", "simple_backtest", "full_backtest")
LIVE_RUNS = ("sim_trade", "live", "paper")
_TEXTS = (str, bytes)
_NO_LIMIT = (1 << 63) - 1


class Known(NamedTuple):
    """The time and kind of a context at a read, and the objects that stated them.

    It holds while the context has the same objects, none of which can change.
    """

    context: object
    params: object
    kind: object
    moment: object
    latest: int  # ms UTC: no row may close later
    has_history: bool


def says_backtest(context: object) -> bool:
    """Return True if the context says that it is a backtest's.

    A context without `run_params`, or without a type in them, is a live one. Raise
    BadArgumentError for any other type than those of BACKTESTS and LIVE_RUNS.
    """
    return _is_backtest(_kind_of(getattr(context, "run_params", None)))


def _kind_of(params: object) -> object:
    if params.__class__ is dict:  # an isinstance of Mapping takes 0.3 us
        return params.get("type")
    if isinstance(params, _TEXTS):  # a union is made at each call
        raise BadArgumentError(
            f"context.run_params is {repr_short(params)}; it must be an object or a"
            f" dict whose type is one of: {' '.join(BACKTESTS + LIVE_RUNS)}"
        )
    if isinstance(params, Mapping):
        return params.get("type")
    return getattr(params, "type", None)


def _is_backtest(kind: object) -> bool:
    if kind is None:
        return False
    word = kind.value if isinstance(kind, Enum) else kind
    word = word.lower() if isinstance(word, str) else None
    if word in BACKTESTS:
        return True
    if word in LIVE_RUNS:
        return False
    raise BadArgumentError(
        f"context.run_params.type is {repr_short(kind)}; it must be one of:"
        f" {' '.join(BACKTESTS)} (a backtest, which reads no live bar), or"
        f" {' '.join(LIVE_RUNS)}"
    )


class ContextView:
    """A context as reads see it.

    Attributes:
        context: The context; None for a data adapter without one.
        history: Its bars, or None if it has none.
        known_backtest: True if it was a backtest's when it was last asked.
    """

    __slots__ = ("__weakref__", "_notify", "context", "history", "known_backtest")

    def __init__(self, context: object, history: BarHistory | None) -> None:
        self.context = context
        self.history = history
        self.known_backtest = False
        self._notify: Callable[[], None] | None = None

    @property
    def is_backtest(self) -> bool:
        """True if the context says that it is a backtest's.

        Raise BadArgumentError for a type that is not accepted.
        """
        backtest = says_backtest(self.context)
        if backtest is not self.known_backtest:
            self.known_backtest = backtest
            if self._notify is not None:
                self._notify()
        return backtest

    def on_change(self, notify: Callable[[], None]) -> None:
        """Call `notify` when a read finds that the kind of the run has changed."""
        self._notify = notify

    @property
    def now(self) -> int | None:
        """`current_dt` in ms UTC; None if the context does not set it."""
        moment = getattr(self.context, "current_dt", None)
        return None if moment is None else to_ms("context.current_dt", moment)

    def known(self) -> Known | None:
        """Return what the context says; None if that may change unnoticed.

        A backtest's context is never known: Python serves each of its reads.
        """
        context = self.context
        params: Any = getattr(context, "run_params", None)
        moment = getattr(context, "current_dt", None)
        kind = _kind_of(params)
        if _is_backtest(kind) or (
            isinstance(params, Mapping) and type(params) is not dict
        ):
            return None
        latest = _NO_LIMIT if moment is None else to_ms("context.current_dt", moment)
        return Known(context, params, kind, moment, latest, self.history is not None)
