"""Closed bars of many streams, put together to steps: one a close time, in order."""

import heapq
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from shmfeed.bar import FREE_PHASE, Timeframe
from shmfeed.errors import BehindWarning
from wealthdata.awaited_stream import ends_at
from wealthdata.events import Closed
from wealthdata.runner.steps import Step

_Key = tuple[Timeframe, str]
# Returns True if a symbol's stream may still close a bar soon.
MayClose = Callable[[str, Timeframe], bool]


def ignore_behind(stack: ExitStack) -> None:
    """Give no BehindWarning until the stack is left.

    Bars that come together, after an outage, make steps one after the other, whose
    reads are bounded by their own times: no forgotten time zone.
    """
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore", BehindWarning)


class StepAssembly:
    """The bars that have closed and belong to no step yet.

    A step is complete once each stream whose grid ends at its time has closed a bar
    there, or a newer one, or can close none. It is overdue `grace` seconds after its
    first bar has come. Steps are taken in the order of their times, so one that is
    complete waits for an older one that is not.

    Args:
        symbols: The securities as written, in the order of a step's bars.
        timeframes: The timeframes, the shortest first.
        grace: Seconds for which a step waits after its first bar.
        may_close: Asked about a stream that a step lacks.
        after: Bars that close up to this time, ms UTC, belong to no step.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        timeframes: Sequence[Timeframe],
        grace: float,
        may_close: MayClose = lambda _symbol, _timeframe: True,
        after: int = 0,
    ) -> None:
        self._symbols, self._timeframes = tuple(symbols), tuple(timeframes)
        self._grace = grace
        self._may_close = may_close
        self._last = after  # the close time of the last step
        self._times: list[int] = []  # a heap of the keys of `_bars`
        self._bars: dict[int, dict[_Key, Closed]] = {}
        self._begun: dict[int, float] = {}
        self._newest: dict[_Key, int] = {}
        keys = [(timeframe, symbol) for timeframe in timeframes for symbol in symbols]
        self._places = {key: place for place, key in enumerate(keys)}

    @property
    def last(self) -> int:
        """The close time of the last step that was taken, ms UTC."""
        return self._last

    @property
    def deadline(self) -> float:
        """The time at which the oldest step is overdue; inf without one."""
        return self._begun[self._times[0]] + self._grace if self._times else math.inf

    def add(self, closed: Closed, now: float) -> bool:
        """Add a bar that came at `now`, in seconds. Return False if it is late.

        A bar is late if it closed up to the time of the last step that was taken.
        """
        symbol, timeframe, bar = closed
        time, key = bar.close_time, (timeframe, symbol)
        self._newest[key] = max(time, self._newest.get(key, time))
        if time <= self._last:
            return False
        if time not in self._bars:
            heapq.heappush(self._times, time)
            self._bars[time] = {}
            self._begun[time] = now
        self._bars[time][key] = closed
        return True

    def take(self, now: float) -> Step | None:
        """Return the oldest step if it is complete or overdue, else None."""
        if not self._times:
            return None
        time = self._times[0]
        bars = self._bars[time]
        lacking = [] if len(bars) == len(self._places) else self._lacking(time, bars)
        if now <= self.deadline and any(self._is_awaited(key, time) for key in lacking):
            return None
        heapq.heappop(self._times)
        del self._bars[time], self._begun[time]
        self._last = time
        closed = [bars[key] for key in sorted(bars, key=self._places.__getitem__)]
        missing = {symbol for _, symbol in lacking}
        in_order = [symbol for symbol in self._symbols if missing and symbol in missing]
        return Step(time, tuple(closed), tuple(in_order))

    def _lacking(self, time: int, bars: dict[_Key, Closed]) -> list[_Key]:
        """Return the streams that close a bar at this time and are not among these."""
        found = []
        for timeframe in self._timeframes:
            is_own = timeframe == FREE_PHASE  # each symbol has a grid of its own
            if is_own or ends_at(time, timeframe, None):
                found += [
                    key
                    for symbol in self._symbols
                    if (key := (timeframe, symbol)) not in bars
                    and (not is_own or self._closes(key, time))
                ]
        return found

    def _closes(self, key: _Key, time: int) -> bool:
        return ends_at(time, key[0], self._newest.get(key))

    def _is_awaited(self, key: _Key, time: int) -> bool:
        if self._newest.get(key, 0) > time:
            return False  # bars of a stream come in order
        timeframe, symbol = key
        return self._may_close(symbol, timeframe)
