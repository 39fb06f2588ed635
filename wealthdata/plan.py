"""The short way of `get_price`: one stream's newest bars, out of its ring alone."""

from typing import Any

import pandas as pd

from shmfeed.bar import step
from shmfeed.errors import StreamNotFoundError
from wealthdata.adapter import current_marks
from wealthdata.choice import always_copy
from wealthdata.columns import Rows, missing_bars
from wealthdata.context import Marked, bound
from wealthdata.frame import TIME
from wealthdata.fresh import judge
from wealthdata.live import Live
from wealthdata.older import Names
from wealthdata.reading import make_reading
from wealthdata.request import DEFAULT_COUNT, check_freshness
from wealthdata.shapes import Layout


class Plan:
    """What can be known beforehand of a call: its stream's ring, its layout."""

    __slots__ = ("_feed", "_frame", "_ring", "_step", "_stream", "_timeframe")

    def __init__(self, live: Live, names: Names, layout: Layout) -> None:
        """`layout` is one of float fields only. Raises StreamNotFoundError."""
        self._ring = live.ring(*names)
        self._feed = live.name
        self._timeframe = names[1]
        self._stream = (live.name, *names)
        self._frame = layout.frame
        # A month has no length: its bars are counted by the calendar.
        self._step = step(names[1])

    def read(
        self,
        count: int | None,
        include_now: object,
        copy: object,
        max_age: float | None,
        on_stale: Any,
    ) -> pd.DataFrame | None:
        """The newest bars, or None where the long way must decide.

        Raises BadArgumentError, StaleFeedError, BusyRingError.
        """
        if count is None:
            count = DEFAULT_COUNT
        elif count.__class__ is not int or count < 1:
            return None
        if not (max_age is None and on_stale.__class__ is str and on_stale == "warn"):
            max_age, on_stale = check_freshness(max_age, on_stale)
        if not (isinstance(include_now, bool) and isinstance(copy, bool)):
            return None
        private = include_now or copy or always_copy()
        ring = self._ring
        try:
            rows: Any = (
                ring.snapshot(count, include_now) if private else ring.view(count)
            )
            status = ring.status()
        except StreamNotFoundError:
            return None  # the feed of this name is another one by now
        marks, older = current_marks()
        if (marks or older) and _leaves(rows, count, marks, older):
            return None
        judge(self._stream, status, max_age, on_stale)
        reading = make_reading(private or rows, self._facts(rows, status))
        frame = self._frame(rows.floats, rows.datetimes(TIME), reading, not private)
        return frame if rows.valid else None

    def _facts(
        self, rows: Any, status: tuple[float | None, str, str]
    ) -> dict[str, Any]:
        age, state, health = status
        if self._step:
            gaps = rows.missing(self._step)
        else:
            gaps = missing_bars(rows, 0, len(rows), self._timeframe)
        return {
            "source": "live",
            "feed": self._feed,
            "age": age,
            "state": state,
            "health": health,
            "forming": rows.forming,
            "gaps": gaps,
        }


def _leaves(rows: Rows, count: int, marks: tuple[Marked, ...], older: object) -> bool:
    """Whether a context has a say in this read: for its bars, or for its time."""
    if older is not None and len(rows) < count:
        return True
    if any(marked.backtest for marked in marks):
        return True
    now = bound(marks)
    return now is not None and bool(len(rows)) and bool(rows.close_time[-1] > now)
