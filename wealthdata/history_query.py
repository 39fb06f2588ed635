"""A cached query of one stream of a backtest, whose bars are known from the start.

It serves what the general query would, and nothing else: the newest bars up to the
strategy's time, of a history that never changes. Everything that does not change
between two calls is prepared.
"""

from typing import Any

import numpy as np
import pandas as pd

from shmfeed.bar import StreamKey
from wealthdata.attrs import make_attrs
from wealthdata.bar_history import BarHistory
from wealthdata.choices import Choices
from wealthdata.column_history import ColumnHistory
from wealthdata.columns import count_missing
from wealthdata.contexts_in_force import hold_for_task
from wealthdata.facts import ContextRecord, count_each, has_counted_flags
from wealthdata.frame import FrameTemplate, to_datetimes
from wealthdata.judging import log_frame
from wealthdata.query_cache import keep_query, queries
from wealthdata.request import ReadArguments, count_of_newest
from wealthdata.sources import current_views

_NO_FLAGS = count_each(np.zeros(0, np.int64))


class CachedHistoryQuery:
    """A prepared read of bars of one stream of a backtest.

    Args:
        key: The stream.
        history: The one of the context that is in force.
        own: The one of the feed that the call names; it has bars of the stream.
        template: It has float fields only.
        choices: The read serves these alone.
    """

    __slots__ = (
        "_build",
        "_has_flags",
        "_history",
        "_key",
        "_rows",
        "choices",
    )

    def __init__(
        self,
        key: StreamKey,
        history: BarHistory | None,
        own: ColumnHistory,
        template: FrameTemplate,
        choices: Choices,
    ) -> None:
        self.choices = choices
        self._key = key
        self._history = history
        self._rows = own.rows(key, 1)
        self._has_flags = has_counted_flags(self._rows.flags)
        self._build = template.build

    def serves(self, history: BarHistory | None, choices: Choices) -> bool:
        """Return True if it was prepared for this history and these choices."""
        return history is self._history and choices is self.choices

    def read(self, asked: ReadArguments, choices: Choices) -> pd.DataFrame | None:
        """Return the newest bars, or None if the general query must decide.

        Raise BadArgumentError.
        """
        if asked.has_dates or asked.include_now is not False:
            return None
        count = count_of_newest(asked)
        if count is None or not isinstance(asked.copy, bool):
            return None
        labels = asked.labels(choices.label, self._key[1])
        if asked.reactions(choices.reactions).heeds_rows:
            return None
        views, history = current_views()
        if history is not self._history or len(views) != 1 or not views[0].is_backtest:
            return None
        hold_for_task()
        rows, now = self._rows, views[0].now
        closes = rows.close_time
        last = len(closes) if now is None else int(closes.searchsorted(now, "right"))
        first = max(0, last - count)
        values = self._values(first, last, now)
        values["short"] = count - (last - first)
        record = ContextRecord(self._key, rows, first, last)
        attrs = make_attrs(record, values)
        times = to_datetimes(labels.of(closes[first:last]))
        frame = self._build(rows.floats[:, first:last].copy(), times, attrs, False)
        log_frame(attrs)
        return frame

    def _values(self, first: int, last: int, now: int | None) -> dict[str, Any]:
        rows = self._rows
        age = None
        if now is not None and first < last:
            age = (now - int(rows.close_time[last - 1])) / 1000
        flags = count_each(rows.flags[first:last]) if self._has_flags else _NO_FLAGS
        gaps = count_missing(rows, first, last, self._key[1])
        return {"source": "context", "age": age, "gaps": gaps, **flags}


def cache_history_query(
    arguments: object,
    key: StreamKey,
    histories: tuple[BarHistory | None, BarHistory | None],
    template: FrameTemplate,
    choices: Choices,
) -> None:
    """Keep a query of a backtest for the next call, if it can serve that.

    `histories` are those of the context, and of the feed that the call names.
    """
    history, own = histories
    if not isinstance(own, ColumnHistory) or not template.only_floats:
        return
    known = queries.get(arguments)
    if isinstance(known, CachedHistoryQuery) and known.serves(history, choices):
        return  # it has left this call to the general query
    if len(own.rows(key, 1)):
        keep_query(arguments, CachedHistoryQuery(key, history, own, template, choices))
