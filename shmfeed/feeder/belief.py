"""The history that is believed, and the one that is not.

The codec's own REST, for the feed's own market, corrects rows. Where it differs from a
closing message of the socket, it counts from `rest_settle` after the close on. Any
other source fills holes and what lies before the first row, and confirms rows that it
agrees with.

A history that disagrees with the venue is not believed at all: with most of at least
three rows that a closing message ended, by prices that differ by more than 0.1 %. On a
venue without closing messages the rows count that are not `unconfirmed`. Rows whose
values come from history tell nothing about the venue, and the caller leaves out those
whose finals differ between two lines. Such a source stays disbelieved
for that stream until an answer agrees with as many rows. Nothing is compared if an
answer has fewer than three such rows: ask for some rows around a hole too.
"""

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import (
    BACKFILLED,
    CLOSED_BY_VENUE,
    POLLED,
    UNCONFIRMED,
    StreamKey,
)
from shmfeed.feeder.row_merge import flags_of, opens_of
from shmfeed.history.interface import Block

TOLERANCE = 0.001  # of a price
LEAST_ROWS = 3

_PRICES = slice(2, 6)
_NAMES = ("open", "high", "low", "close")


class Comparison(NamedTuple):
    """Rows of a venue beside a history: compared, different ones, and an example."""

    compared: int
    different: int
    example: str

    @property
    def agrees(self) -> bool | None:
        """True or False, None if there were too few rows to tell."""
        if self.compared < LEAST_ROWS:
            return None
        return 2 * self.different <= self.compared


def told_by_venue(
    flags: NDArray[np.int64], has_flags: bool = False
) -> NDArray[np.bool_]:
    """Return which rows of a stream an answer is compared with, by their flags."""
    by_venue = flags & CLOSED_BY_VENUE != 0
    if not (has_flags or by_venue.any()):
        by_venue = flags & UNCONFIRMED == 0
    told: NDArray[np.bool_] = by_venue & (flags & (BACKFILLED | POLLED) == 0)
    return told


def compare(rows: Block, history: Block, has_flags: bool) -> Comparison:
    """Compare the prices of a stream's rows with a history.

    `has_flags` says that the venue sends closing messages.
    """
    rows = rows[:, told_by_venue(flags_of(rows), has_flags)]
    _, at, other = np.intersect1d(
        opens_of(rows), opens_of(history), assume_unique=True, return_indices=True
    )
    ours, theirs = rows[_PRICES][:, at], history[_PRICES][:, other]
    limit = TOLERANCE * np.maximum(np.abs(ours), np.abs(theirs))
    differs = np.abs(ours - theirs) > limit
    different = np.flatnonzero(differs.any(axis=0))
    if not len(different):
        return Comparison(len(at), 0, "")
    row = int(different[0])
    name = int(differs[:, row].argmax())
    opened = datetime.fromtimestamp(int(opens_of(rows)[at[row]]) / 1000, UTC)
    example = (
        f"{_NAMES[name]} of {opened:%Y-%m-%d %H:%M:%S} UTC is {ours[name, row]:g} here"
        f" and {theirs[name, row]:g} there"
    )
    return Comparison(len(at), len(different), example)


class Belief:
    """The sources of history that are not believed, by stream."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._reasons: dict[tuple[StreamKey, str], str] = {}

    def judge(
        self, key: StreamKey, source: str, rows: Block, history: Block, has_flags: bool
    ) -> str:
        """Return why an answer is not believed, "" if it is."""
        found = compare(rows, history, has_flags)
        agrees = found.agrees
        if agrees:
            self._reasons.pop((key, source), None)
        elif agrees is False:
            self._reasons[key, source] = (
                f"{source} disagrees with {found.different} of {found.compared} closed"
                f" bars of {self._feed}, {found.example}"
            )
        return self._reasons.get((key, source), "")

    def forget(self, key: StreamKey) -> None:
        """Drop the judgements about a stream's sources."""
        for known in [one for one in self._reasons if one[0] == key]:
            del self._reasons[known]
