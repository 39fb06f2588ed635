"""One strategy of a run: its context, its schedule, and what it does at each step."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from shmfeed.text import format_ms
from wealthdata.decisions import acting_strategy
from wealthdata.runner.failures import describe_error, print_trace
from wealthdata.runner.report import output_is_closed
from wealthdata.runner.run_context import BarData, HandledBar, RunContext
from wealthdata.runner.schedule import Schedule
from wealthdata.runner.steps import Event
from wealthdata.runner.strategy_file import Strategy
from wealthdata.runner.watch import StoppedError, Watch

_DAY = 86_400_000  # ms
_EPOCH = datetime(1970, 1, 1)  # naive UTC, as contexts have it


def moment_of(milliseconds: int) -> datetime:
    """Return ms UTC as a naive datetime."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


class Call(NamedTuple):
    """A call of a strategy's function, for messages.

    Attributes:
        label: The strategy.
        name: The function.
        at: The close time of the step, ms UTC; None before the first one.
        bar: The bar that it handles, if it is one bar's.
    """

    label: str
    name: str
    at: int | None
    bar: HandledBar | None = None

    def __str__(self) -> str:
        return f"{self.name} of {self.label}{self.where}"

    @property
    def where(self) -> str:
        """The place in the data, in words."""
        if self.at is None:
            return ""
        stream = "" if self.bar is None else f"{self.bar.symbol} {self.bar.timeframe} "
        return f" at {stream}{format_ms(self.at)}"


class RunningStrategy:
    """A strategy that is run.

    Attributes:
        context: Its context.
        has_ended: True once it takes no further step.
        failures: The number of exceptions that have left its functions.
    """

    def __init__(
        self,
        strategy: Strategy,
        context: RunContext,
        schedule: Schedule,
        watch: Watch,
        keep_going: bool,
        tell: Callable[[str], None],
    ) -> None:
        self.label = strategy.label
        self.context = context
        self.schedule = schedule
        self.has_ended = False
        self.failures = 0
        self._strategy = strategy
        self._file = str(strategy.module.__file__)
        self._watch = watch
        self._keep_going = keep_going
        self._inform = tell
        self._day: int | None = None
        handlers = strategy.handlers
        self._handle_bar = handlers.get("handle_bar")
        self._handle_data = handlers.get("handle_data")

    @property
    def has_work(self) -> bool:
        """True if a step would run any of its functions."""
        handlers = self._handle_bar or self._handle_data
        return handlers is not None or len(self.schedule) > 0

    def begin(self) -> None:
        """Run `initialize`, and `process_initialize` after it."""
        with acting_strategy(self.label):
            for name in ("initialize", "process_initialize"):
                self._run_handler(name, None)
        if self.failures and not self.has_ended:
            self.has_ended = True
            self._inform(f"{self.label} has ended: it is not initialized")

    def end(self, at: int | None) -> None:
        """Run `on_strategy_end`."""
        with acting_strategy(self.label):
            self._run_handler("on_strategy_end", at)

    def handle_event(self, name: str, event: Event, at: int | None) -> None:
        """Run the handler of an event, if the strategy has it."""
        with acting_strategy(self.label):
            self._run_handler(name, at, event)

    def handles(self, name: str) -> bool:
        """Return True if the strategy has the handler."""
        return name in self._strategy.handlers

    def handle_step(
        self, at: int, moment: datetime, bars: Sequence[HandledBar]
    ) -> None:
        """Handle the bars of one close time."""
        self.context.current_dt = moment
        day = at // _DAY
        if day != self._day:
            self._begin_day(day, at)
        for function in self.schedule.due(at):
            name = getattr(function, "__name__", "a scheduled function")
            self._call(function, Call(self.label, name, at), self.context)
        handle_bar, handle_data = self._handle_bar, self._handle_data
        if handle_bar is not None:
            for bar in bars:
                if self.has_ended:
                    return
                call = Call(self.label, "handle_bar", at, bar)
                self._call(handle_bar, call, self.context, bar)
        if handle_data is not None and not self.has_ended:
            call = Call(self.label, "handle_data", at)
            self._call(handle_data, call, self.context, BarData(bars))

    def _begin_day(self, day: int, at: int) -> None:
        if self._day is not None:
            self._run_handler("after_trading_end", at)
        self._day = day
        self._run_handler("before_trading_start", at)

    def _run_handler(self, name: str, at: int | None, *arguments: Any) -> None:
        function = self._strategy.handlers.get(name)
        if function is not None and not self.has_ended:
            call = Call(self.label, name, at)
            self._call(function, call, self.context, *arguments)

    def _call(
        self, function: Callable[..., object], call: Call, *arguments: object
    ) -> None:
        """Call a function of the strategy; an exception ends the strategy."""
        if self.has_ended:
            return
        watch = self._watch
        watch.call = call
        try:
            function(*arguments)
        except Exception as error:  # noqa: BLE001 # whatever the strategy raises
            self._fail(error, call)
        except SystemExit as error:
            self._leave(error, call)
        finally:
            watch.call = None
        if watch.asked is not None:
            raise StoppedError(watch.asked)

    def _fail(self, error: Exception, call: Call) -> None:
        if isinstance(error, BrokenPipeError) and output_is_closed():
            raise error
        self.failures += 1
        self.has_ended = not self._keep_going
        print_trace(error)
        reason = describe_error(error, self._file, self.label)
        what = "the run goes on" if self._keep_going else "the strategy has ended"
        self._inform(f"{reason}, in {call.name}{call.where}; {what}")

    def _leave(self, error: SystemExit, call: Call) -> None:
        """End the strategy at its own wish; a code other than 0 is a failure."""
        self.has_ended = True
        code = error.code
        if code is not None and code != 0:
            self.failures += 1
        shown = "" if code is None else repr(code)
        self._inform(
            f"{self.label} has ended itself: sys.exit({shown}) in"
            f" {call.name}{call.where}"
        )
