"""The loop of a run: one item of the mode after the other, each strategy in turn."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Protocol

from shmfeed.errors import ShmfeedError
from shmfeed.text import format_ms
from wealthdata.context import clear_context, set_context
from wealthdata.decisions import acting_alone, acting_strategy
from wealthdata.events import Gap, Health, Revised
from wealthdata.handed import current_record
from wealthdata.kept_bars import Origin
from wealthdata.read_log import tracked
from wealthdata.runner.run_context import HandledBar
from wealthdata.runner.running import RunningStrategy, moment_of
from wealthdata.runner.steps import Event, Mode, Step
from wealthdata.runner.watch import StoppedError, Watch
from wealthdata.securities import check_security

_HANDLERS: dict[type[Event], str] = {
    Health: "on_health",
    Revised: "on_revised",
    Gap: "on_gap",
}


class StepRecord(Protocol):
    """The place where the handled close times are noted."""

    def handled(self, close_time: int, /) -> None: ...


class Loop:
    """The loop of one run.

    Attributes:
        steps: The number of steps that were handled.
        first, last: The close times of the first and the last of them, ms UTC.
    """

    def __init__(
        self,
        mode: Mode,
        strategies: Sequence[RunningStrategy],
        watch: Watch,
        tell: Callable[[str], None],
        record: StepRecord | None = None,
    ) -> None:
        self.steps = 0
        self.first: int | None = None
        self.last: int | None = None
        self._mode = mode
        self._strategies = strategies
        self._watch = watch
        self._inform = tell
        self._record = record
        self._lacking: set[str] = set()

    def run(self) -> None:
        """Initialize the strategies, handle each item of the mode, and end them.

        Raise StoppedError if a signal has ended the run, and whatever the mode raises,
        after the end of the strategies.
        """
        try:
            self._begin()
            self._handle_items()
        except StoppedError:
            self._watch.asked = None  # a further signal ends `on_strategy_end`
            self._end()
            raise
        except ShmfeedError:  # of the mode: strategies keep their own
            self._end()
            raise
        else:
            self._end()
        finally:
            clear_context()

    def _alive(self) -> list[RunningStrategy]:
        return [one for one in self._strategies if not one.has_ended]

    def _begin(self) -> None:
        for strategy in self._strategies:
            set_context(strategy.context)
            strategy.begin()
            if not strategy.has_ended and not strategy.has_work:
                strategy.has_ended = True
                strategy.failures += 1
                self._inform(
                    f"{strategy.label} has nothing to run: define handle_bar or"
                    " handle_data, or call run_daily in initialize"
                )

    def _handle_items(self) -> None:
        alive = self._alive()
        if not alive:
            return
        only = alive[0] if len(self._strategies) == 1 else None
        if only is not None:
            set_context(only.context)
        with acting_alone(only.label) if only else nullcontext():
            for item in self._mode.steps():
                if isinstance(item, Step):
                    self._handle_step(item, only)
                else:
                    self._handle_event(item)
                if any(one.has_ended for one in alive):
                    alive = self._alive()
                if not alive:
                    return

    def _handle_step(self, step: Step, only: RunningStrategy | None) -> None:
        at = step.close_time
        moment = moment_of(at)
        bars = [HandledBar(closed) for closed in step.closed]
        if step.lacking or self._lacking:
            self._tell_lacking(step)
        if only is not None:
            self._hand_over(step)
            only.handle_step(at, moment, bars)
        else:
            if tracked:
                current_record().log.take()  # what the mode itself has read
            for strategy in self._alive():
                set_context(strategy.context)
                with acting_strategy(strategy.label):
                    self._hand_over(step)
                    strategy.handle_step(at, moment, bars)
        if self.first is None:
            self.first = at
        self.last = at
        self.steps += 1
        if self._record is not None:
            self._record.handled(at)

    def _hand_over(self, step: Step) -> None:
        """Note the bars of a step for the next decision of the acting strategy."""
        if not tracked:
            return
        record = current_record()
        source = "context" if self._mode.feed is None else "live"
        for closed in step.closed:
            security = check_security(closed.symbol)
            feed = security.feed or self._mode.feed
            stream = security.symbol, closed.timeframe
            record.hand_bar(Origin(feed, None, source, None, *stream), closed.bar)

    def _tell_lacking(self, step: Step) -> None:
        """Report a symbol once when it begins to lack bars."""
        new = [symbol for symbol in step.lacking if symbol not in self._lacking]
        self._lacking.difference_update(closed.symbol for closed in step.closed)
        self._lacking.update(step.lacking)
        if new:
            self._inform(
                f"no bar of {' '.join(new)} at {format_ms(step.close_time)}; the run"
                " goes on without it"
            )

    def _handle_event(self, event: Event) -> None:
        name = _HANDLERS[type(event)]
        takers = [one for one in self._alive() if one.handles(name)]
        for strategy in takers:
            set_context(strategy.context)
            strategy.handle_event(name, event, self.last)
        if isinstance(event, Health) and not takers:
            why = f": {event.why}" if event.why else ""
            self._inform(
                f"{event.symbol} {event.timeframe} is {event.new}, was {event.old}{why}"
            )

    def _end(self) -> None:
        for strategy in self._alive():
            set_context(strategy.context)
            strategy.end(self.last)
