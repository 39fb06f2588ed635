"""The newest closed bars of a stream, and what a further message about one means.

A closing message with other values is a revision, with the same values a duplicate. So
is another message about a bar that the clock has closed: it may have closed it too
early. Any other message is late. Of two lines the first one's final stands.
"""

from collections.abc import Iterable
from typing import Literal

from shmfeed.bar import (
    AFTER_GAP,
    BACKFILLED,
    CLOSED_BY_CLOCK,
    CLOSED_BY_VENUE,
    LAST_TIME,
    NO_TRADE,
    POLLED,
    REVISED,
    UNCONFIRMED,
    Bar,
)
from shmfeed.feeder.bar_check import same_values

KNOWN_ROWS = 64  # rows whose values are kept, to tell a duplicate from a revision

Verdict = Literal["late", "duplicates", "revisions", "disagreements", "unknown"]


class ClosedRows:
    """The newest rows of one stream.

    Attributes:
        last: The open time of the newest row, -1 before the first.
        next: The open time of the row after it.
    """

    __slots__ = ("_by_line", "_has_lines", "_overruled", "_rows", "last", "next")

    def __init__(self, has_lines: bool) -> None:
        self.last = -1
        self.next = LAST_TIME
        self._rows: dict[int, Bar] = {}  # oldest first
        self._overruled: dict[int, Bar] = {}  # finals that history has corrected
        self._has_lines = has_lines
        self._by_line: dict[int, int] = {}  # that ended them, if there are several

    def add(self, row: Bar, line: int) -> None:
        """Add a row that is newer than all others; `line` -1 is history."""
        rows = self._rows
        if len(rows) == KNOWN_ROWS:
            oldest = next(iter(rows))
            del rows[oldest]
            self._by_line.pop(oldest, None)
        rows[row.open_time] = row
        if self._has_lines and line >= 0:
            self._by_line[row.open_time] = line
        self.last = row.open_time
        self.next = row.close_time

    def find(self, open_time: int) -> Bar | None:
        """Return a row, None if it is not known."""
        return self._rows.get(open_time)

    def replace(self, row: Bar) -> None:
        """Give a known row other values or flags."""
        if row.open_time in self._rows:
            self._rows[row.open_time] = row

    def follow(self, rows: Iterable[Bar]) -> None:
        """Know these newest rows of the ring, oldest first, whose last is `last`."""
        former = self._rows
        self._rows = {row.open_time: row for row in rows}
        for time, row in self._rows.items():
            old = former.get(time)
            if old is None or not old.flags & CLOSED_BY_VENUE:
                continue
            if row.flags & BACKFILLED and not same_values(old, row):
                self._overruled[time] = old
        self._overruled = {
            time: row for time, row in self._overruled.items() if time in self._rows
        }
        self._by_line = {
            time: line for time, line in self._by_line.items() if time in self._rows
        }

    def verdict(self, bar: Bar, closed: bool | None, line: int) -> Verdict:
        """Return what a message about a row means, `unknown` if the row is not known.

        `closed` is the message's flag, None without one.
        """
        row = self._rows.get(bar.open_time)
        if row is None:
            return "unknown" if closed else "late"
        if self._by_line.get(bar.open_time, line) != line:  # the other one was first
            is_final = closed and row.flags & CLOSED_BY_VENUE
            differs = is_final and not same_values(row, bar)
            return "disagreements" if differs else "duplicates"
        if closed is False:
            return "late"
        if same_values(row, bar):
            # Without a flag it could be an update that arrived late.
            return "duplicates" if closed or bar.open_time == self.last else "late"
        overruled = self._overruled.get(bar.open_time)
        if closed and overruled is not None and same_values(overruled, bar):
            return "duplicates"  # history has the last word about it
        is_early = row.flags & CLOSED_BY_CLOCK and not row.flags & BACKFILLED
        return "revisions" if closed or is_early else "late"


def revised(row: Bar, bar: Bar, closed: bool | None) -> Bar:
    """Return a row with the values of a message that revises it.

    The values of a message without a flag are not known to be final.
    """
    kept = row.flags & (AFTER_GAP | POLLED) | bar.flags & NO_TRADE
    ended = CLOSED_BY_VENUE if closed else CLOSED_BY_CLOCK | UNCONFIRMED
    return bar._replace(flags=kept | ended | REVISED)
