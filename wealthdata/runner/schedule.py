"""The functions that a strategy runs at times of its own: run_daily and its kind.

JoinQuant's calls on a market that never closes. A day is a UTC day: it opens at 00:00
and closes at 24:00. A function is run at the first close time at or after its instant,
once however many of its instants have passed; instants before the run began do not
count, so that a strategy that is restarted at noon does not repeat its morning.
"""

import re
from calendar import monthrange
from collections.abc import Callable
from datetime import date, time, timedelta
from typing import Any

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from shmfeed.validation import check_int
from wealthdata.runner.callables import check_call

Function = Callable[[Any], object]

EVERY_BAR = "every_bar"
_SECOND, _MINUTE, _HOUR, _DAY = 1000, 60_000, 3_600_000, 86_400_000  # ms
# The offset from midnight, and the rank among those of one instant: at midnight a day
# closes before the next one opens.
_NAMED = {
    "close": (_DAY, 0),
    "after_close": (_DAY, 1),
    "before_open": (0, 2),
    "open": (0, 3),
}
_ENDS = (0, 1)
_CLOCK_RANK, _BAR_RANK = 3, 4
_SHIFTED = re.compile(r"(open|close) ?([+-]) ?([0-9]{1,4})(m|h)")
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_ACCEPTED = (
    "'every_bar', 'HH:MM', 'HH:MM:SS', 'open', 'before_open', 'close', 'after_close',"
    " or such as 'open+30m' and 'close-1h'"
)
_EPOCH = date(1970, 1, 1)
_MOST_DAYS = 70  # from one day 31 to the next at the most, and some


class _Task:
    """A function, its days, and the time of the day that it is run at."""

    def __init__(
        self,
        function: Function,
        on_day: Callable[[date], bool],
        offset: int | None,
        rank: int,
        after: int,
    ) -> None:
        """Take the days, and the offset from their midnight in ms, None for each bar.

        Instants up to `after`, ms UTC, have passed.
        """
        self.function = function
        self.rank = rank
        self.at: int | None = None  # its next instant, None for each bar
        self._on_day = on_day
        self._offset = offset
        self.pass_until(after)

    def pass_until(self, now: int) -> None:
        """Set the next instant to the first one after `now`."""
        if self._offset is None:
            return
        day = (now - self._offset) // _DAY
        for number in range(day, day + _MOST_DAYS):
            at = number * _DAY + self._offset
            if at > now and self._on_day(_EPOCH + timedelta(days=number)):
                self.at = at
                return
        raise AssertionError(self._offset)


class Schedule:
    """The scheduled functions of one strategy.

    Args:
        start: The time at which the run begins, ms UTC.
        tell: Prints a line for the user.
    """

    def __init__(self, start: int, tell: Callable[[str], None]) -> None:
        self._start = start
        self._now = start - 1  # what is at the start itself has not passed
        self._inform = tell
        self._tasks: list[_Task] = []
        self._next: int | None = None  # the earliest instant; None if unknown
        self._each_bar = False

    def __len__(self) -> int:
        return len(self._tasks)

    def run_daily(
        self, func: Function, time: object = "open", reference_security: object = None
    ) -> None:
        """Run a function each day at a time, UTC, or at every bar.

        Args:
            func: Called with the context.
            time: 'every_bar', 'HH:MM', 'HH:MM:SS', 'open' (00:00), 'close' (24:00),
                'before_open', 'after_close', or 'open+30m', 'close-1h' and the like.
            reference_security: Accepted, and changes nothing.

        Raises:
            BadArgumentError: An argument is not accepted.
        """
        del reference_security  # every symbol has the same day
        self._add("run_daily", func, lambda _: True, time)

    def run_weekly(
        self,
        func: Function,
        weekday: int,
        time: object = "open",
        reference_security: object = None,
        force: object = False,
    ) -> None:
        """Run a function once a week: on day 1 (Monday) to 7, or -1 (Sunday) to -7.

        The other arguments are those of `run_daily`; `force` changes nothing.
        """
        del reference_security, force
        day = _check_day("weekday", weekday, 7)
        wanted = day - 1 if day > 0 else 7 + day
        self._add("run_weekly", func, lambda one: one.weekday() == wanted, time)

    def run_monthly(
        self,
        func: Function,
        monthday: int,
        time: object = "open",
        reference_security: object = None,
        force: object = False,
    ) -> None:
        """Run a function once a month: on day 1 to 31, or -1 (the last) to -31.

        A month without that day has no run. The other arguments are those of
        `run_daily`; `force` changes nothing.
        """
        del reference_security, force
        day = _check_day("monthday", monthday, 31)
        self._add("run_monthly", func, lambda one: _is_monthday(one, day), time)

    def unschedule_all(self) -> None:
        """Remove all scheduled functions."""
        self._tasks.clear()
        self._each_bar, self._next = False, None

    def due(self, now: int) -> list[Function]:
        """Return the functions to run at a close time, the earliest instant first."""
        self._now = now
        if not self._tasks:
            return []
        if not self._each_bar and self._next is not None and now < self._next:
            return []
        due = [
            (now if task.at is None else task.at, task.rank, number, task)
            for number, task in enumerate(self._tasks)
            if task.at is None or task.at <= now
        ]
        due.sort(key=lambda one: one[:3])
        for *_, task in due:
            task.pass_until(now)
        self._look_ahead()
        return [task.function for *_, task in due]

    def _add(
        self, name: str, func: Function, on_day: Callable[[date], bool], when: object
    ) -> None:
        check_call(func, f"func of {name}", ("context",))
        offset, rank = _parse_time(name, when)
        if isinstance(when, time) or (isinstance(when, str) and ":" in when):
            self._inform(
                f"{name}(.., {str(when)!r}): times are UTC, and a day is a UTC day"
            )
        if offset is None and name != "run_daily":
            raise BadArgumentError(
                f"time of {name} is 'every_bar'; only run_daily takes it: {_ACCEPTED}"
            )
        # The day that ends as the run begins lies before the run.
        passed = max(self._now, self._start) if rank in _ENDS else self._now
        self._tasks.append(_Task(func, on_day, offset, rank, passed))
        self._look_ahead()

    def _look_ahead(self) -> None:
        instants = [task.at for task in self._tasks if task.at is not None]
        self._next = min(instants, default=None)
        self._each_bar = len(instants) < len(self._tasks)


def _parse_time(name: str, when: object) -> tuple[int | None, int]:
    """Return the offset from midnight in ms, None for each bar, and the rank."""
    if when == EVERY_BAR:
        return None, _BAR_RANK
    if isinstance(when, time):
        return _offset_of(when.hour, when.minute, when.second), _CLOCK_RANK
    text = when.strip() if isinstance(when, str) else ""
    if text in _NAMED:
        return _NAMED[text]
    if shifted := _SHIFTED.fullmatch(text):
        length = int(shifted[3]) * (_HOUR if shifted[4] == "h" else _MINUTE)
        if length <= _DAY:
            offset = _NAMED[shifted[1]][0]
            return offset + (length if shifted[2] == "+" else -length), _CLOCK_RANK
    if clock := _CLOCK.fullmatch(text):
        hour, minute, second = int(clock[1]), int(clock[2]), int(clock[3] or 0)
        if hour < 24 and minute < 60 and second < 60:
            return _offset_of(hour, minute, second), _CLOCK_RANK
    raise BadArgumentError(
        f"time of {name} is {repr_short(when)}; it must be {_ACCEPTED}"
    )


def _offset_of(hour: int, minute: int, second: int) -> int:
    return hour * _HOUR + minute * _MINUTE + second * _SECOND


def _check_day(name: str, value: object, most: int) -> int:
    day = check_int(name, value, least=-most, most=most)
    if not day:
        raise BadArgumentError(
            f"{name} is 0; it must be 1 to {most}, or -1 to -{most} from the end"
        )
    return day


def _is_monthday(one: date, day: int) -> bool:
    if day > 0:
        return one.day == day
    return one.day == monthrange(one.year, one.month)[1] + 1 + day
