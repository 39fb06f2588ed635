"""The steps that a mode gives the runner, one a close time, and events in between."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, Self

from shmfeed.bar import Timeframe
from wealthdata.bar_history import BarHistory
from wealthdata.events import Closed, Gap, Health, Revised


class RunRequest(NamedTuple):
    """The streams of a run.

    Attributes:
        symbols: The securities as written, in the order of `--symbols`.
        timeframes: The timeframes of `--frequency`, the shortest first.
        feed: The feed of `--feed`, None to leave the choice to the process.
    """

    symbols: tuple[str, ...]
    timeframes: tuple[Timeframe, ...]
    feed: str | None = None


class Step(NamedTuple):
    """A close time, and the bars that close then.

    Attributes:
        close_time: The time, ms UTC; `context.current_dt` is this instant.
        closed: The bars, the shortest timeframe first, and within one in the order of
            the symbols.
        lacking: The symbols that a live run has not waited for any longer.
    """

    close_time: int
    closed: tuple[Closed, ...]
    lacking: tuple[str, ...] = ()


Event = Health | Revised | Gap


class Mode(Protocol):
    """A source of steps. Entering opens feed and files, leaving removes what it made.

    The loop takes one item at a time and handles it before it asks for the next one. A
    mode that plays bars appends those of a close time when it is asked for that step.
    """

    @property
    def run_type(self) -> str:
        """`run_params.type` of the context: live, sim_trade or backtest."""
        ...

    @property
    def feed(self) -> str | None:
        """The feed that reads of the strategy go to, None in a backtest."""
        ...

    @property
    def history(self) -> BarHistory | None:
        """The bars of the context. None in a run that reads a feed."""
        ...

    @property
    def start(self) -> int:
        """The time of the run before its first step, ms UTC, known once it is entered.

        `context.current_dt` is this instant during `initialize`.
        """
        ...

    def steps(self) -> Iterator[Step | Event]:
        """Yield the steps, oldest first; a live mode never ends by itself."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> bool | None: ...
