"""The state of all streams between their rows: marks and forming bars.

A flush has what changed. An engine keeps the sum of all flushes, so that a follower
that joins needs one value and no log from the beginning.
"""

import math

import numpy as np

from shmfeed.layout import COLUMNS
from shmfeed.relay.blobs import State
from shmfeed.relay.flush import NEVER, Flush, RowsOfStreams, StreamMarks

_MS = 1000


def aged(marks: StreamMarks, ms: int) -> StreamMarks:
    """Return the marks with `ms` more on each age of something that has happened."""
    since, updated, away, back, compared = (
        age if age == NEVER else age + ms for age in marks[1:6]
    )
    return marks._replace(
        since=since, updated=updated, away=away, back=back, compared=compared
    )


class FeedState:
    """The marks and forming bars of a feed, summed over its flushes."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._marks: dict[int, tuple[float, StreamMarks]] = {}
        self._head_at = 0.0
        self._forming = np.zeros((len(COLUMNS), 0))
        self._has_forming = np.zeros(0, np.bool_)

    def take(self, flush: Flush, now: float) -> None:
        """Take the changes of a flush that was made at `now`, in seconds."""
        if flush.is_whole:
            self._forget()
        if flush.head is not None:
            self._head_at = now
        for number, marks in flush.marks.items():
            self._marks[number] = now, marks
        numbers = flush.forming.numbers
        if len(numbers):
            self._extend(int(numbers.max()) + 1)
            self._forming[:, numbers] = flush.forming.block
            self._has_forming[numbers] = True

    def _extend(self, count: int) -> None:
        lacking = count - len(self._has_forming)
        if lacking > 0:
            self._forming = np.pad(self._forming, ((0, 0), (0, lacking)))
            self._has_forming = np.pad(self._has_forming, (0, lacking))

    def summary(self, now: float, made: float, run_id: str) -> State:
        """Return the state at `now`, which is `made` by the engine's clock."""
        marks = {
            number: (_ms(now - at), marks)
            for number, (at, marks) in self._marks.items()
        }
        numbers = np.flatnonzero(self._has_forming)
        forming = RowsOfStreams(numbers, self._forming[:, numbers])
        return State(made, run_id, _ms(now - self._head_at), marks, forming)


def _ms(seconds: float) -> int:
    return math.ceil(seconds * _MS)  # nothing looks younger than it is
