"""The context that a strategy is run with, and the bars that its handlers get."""

from collections.abc import Iterable
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any, NoReturn, Self

from shmfeed.bar import Bar, Timeframe
from shmfeed.errors import StreamNotFoundError
from wealthdata.bar_history import BarHistory
from wealthdata.carried import list_of
from wealthdata.context import Context
from wealthdata.events import Closed

_ACCOUNT = ("portfolio", "subportfolios", "positions")


class RunContext(Context):
    """The context of one strategy in a run.

    Attributes:
        current_dt: The close time of the bars that are handled, a naive UTC datetime.
        previous_date: The day before that of `current_dt`.
        run_params: `type`, `frequency`, `start_date` of the run.
        universe: The symbols of `--symbols`.
        broker: None; a place for the strategy's own.
    """

    def __init__(self, history: BarHistory | None, **anything: Any) -> None:
        super().__init__((), **anything)
        if history is not None:
            self._market_data_history = history
        self.broker = None

    @property
    def previous_date(self) -> date:
        """The day before that of `current_dt`; every day is a trading day."""
        moment: Any = self.current_dt
        before: date = (moment - timedelta(days=1)).date()
        return before

    def __getattr__(self, name: str) -> NoReturn:
        if name in _ACCOUNT:
            raise AttributeError(
                f"the context has no {name}: the runner makes no orders; put your own"
                " broker into it, as context.broker = .. in initialize"
            )
        raise AttributeError(f"the context has no {name}")


def run_params(run_type: str, frequency: str, start: date) -> SimpleNamespace:
    """Return the `run_params` of a context."""
    return SimpleNamespace(type=run_type, frequency=frequency, start_date=start)


class HandledBar(Bar):
    """A closed bar with its stream, for `handle_bar` and `handle_data`.

    Attributes:
        symbol: The security, as `--symbols` has it.
        timeframe: Its timeframe.
    """

    symbol: str
    timeframe: Timeframe

    def __new__(cls, closed: Closed) -> Self:
        bar = tuple.__new__(cls, closed.bar)
        bar.symbol, bar.timeframe = closed.symbol, closed.timeframe
        return bar

    def __reduce__(self) -> tuple[Any, ...]:
        return HandledBar, (Closed(self.symbol, self.timeframe, Bar(*self)),)

    def __repr__(self) -> str:
        return f"{self.symbol} {self.timeframe} {super().__repr__()}"

    @property
    def security(self) -> str:
        """The symbol, under JoinQuant's name."""
        return self.symbol

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"a bar has no {name}; it has symbol timeframe {' '.join(Bar._fields)}, and"
            " attribute_history() reads earlier bars"
        )


class BarData(dict[str, HandledBar]):
    """The bars that close at one time, by symbol, for `handle_data`.

    In a run of several timeframes a symbol's is that of the shortest one that closes;
    `data[symbol, timeframe]` is another one.
    """

    def __init__(self, bars: Iterable[HandledBar]) -> None:
        super().__init__()
        self._by_stream: dict[object, HandledBar] = {}
        for bar in bars:
            self.setdefault(bar.symbol, bar)
            self._by_stream[bar.symbol, bar.timeframe] = bar

    def __missing__(self, key: object) -> HandledBar:
        try:
            return self._by_stream[key]
        except (KeyError, TypeError):
            raise StreamNotFoundError(
                f"no bar of {key} closes at this time; there are: {list_of(self)}"
            ) from None
