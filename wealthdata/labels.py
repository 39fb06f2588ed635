"""The times that the index of a frame holds: of the close, of the open, or dates.

A label changes no row. With "date", JoinQuant's, a bar of `1d` or longer has its last
day, 00:00, and a shorter bar its close time.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np

from shmfeed.bar import step
from wealthdata.columns import Ints
from wealthdata.times import DAY, has_dates

Label = Literal["close", "open", "date"]
LABELS: tuple[Label, ...] = get_args(Label)


class Labels(NamedTuple):
    """The labels of the bars of one timeframe."""

    label: Label
    timeframe: str

    @property
    def are_closes(self) -> bool:
        """True if each label is the close time."""
        if self.label == "date":
            return not has_dates(self.timeframe)
        return self.label == "close"

    def of(self, close_time: Ints) -> Ints:
        """Return the labels of bars that close at these times, ms UTC."""
        if self.are_closes:
            return close_time
        if self.label == "date":
            return (close_time - 1) // DAY * DAY
        length = step(self.timeframe)
        return close_time - length if length else _month_starts(close_time)


def _month_starts(close_time: Ints) -> Ints:
    """Return the open times of monthly bars."""
    months = (close_time - 1).astype("M8[ms]").astype("M8[M]")
    starts: Ints = months.astype("M8[ms]").astype(np.int64)
    return starts
