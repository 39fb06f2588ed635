"""The newest closed bars of a stream, and what a further message about one means.

A closing message with other values is a revision, with the same values a duplicate. So
is another message about a bar that the clock has closed: it may have closed it too
early. Any other message is late. Of two lines the first one's final stands. A final
that history has corrected revises nothing when it is repeated: history has the last
word about it. Another one is a revision.

The values of older rows are in the ring alone. For as far back as the ring goes, the
line that ended each row is known, and the finals that history has corrected.
"""

from array import array
from bisect import bisect_left
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
OVERRULED_ROWS = 1024  # finals that history has corrected; rare ones

Verdict = Literal["late", "duplicates", "revisions", "disagreements", "unknown"]

_LINE_BITS = 3


class RowLines:
    """The line whose message ended each row, 8 bytes a row.

    At least the newest `most` rows are known.
    """

    __slots__ = ("_cells", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._cells = array("q")  # open time and line, ascending

    def put(self, open_time: int, line: int) -> None:
        """Record the line of a row."""
        cells, cell = self._cells, open_time << _LINE_BITS
        at = bisect_left(cells, cell)
        if at < len(cells) and cells[at] >> _LINE_BITS == open_time:
            cells[at] = cell | line
            return
        cells.insert(at, cell | line)
        if len(cells) > 2 * self._most:
            del cells[: self._most]

    def find(self, open_time: int) -> int:
        """Return the line of a row, -1 if none is known."""
        cells = self._cells
        at = bisect_left(cells, open_time << _LINE_BITS)
        if at == len(cells) or cells[at] >> _LINE_BITS != open_time:
            return -1
        return cells[at] & ((1 << _LINE_BITS) - 1)


class ClosedRows:
    """The newest rows of one stream.

    Attributes:
        last: The open time of the newest row, -1 before the first.
        next: The open time of the row after it.
    """

    __slots__ = ("_lines", "_overruled", "_rows", "last", "next")

    def __init__(self, has_lines: bool, most: int = KNOWN_ROWS) -> None:
        """Begin without rows. `most` is the number of rows that the ring may have."""
        self.last = -1
        self.next = LAST_TIME
        self._rows: dict[int, Bar] = {}  # oldest first
        self._overruled: dict[int, Bar] = {}  # finals that history has corrected
        self._lines = RowLines(most) if has_lines else None

    def add(self, row: Bar, line: int) -> None:
        """Add a row that is newer than all others.

        `line` is -1 for history, and for a row of an earlier feeder.
        """
        rows = self._rows
        if len(rows) == KNOWN_ROWS:
            del rows[next(iter(rows))]
        rows[row.open_time] = row
        if self._lines is not None and line >= 0:
            self._lines.put(row.open_time, line)
        self.last = row.open_time
        self.next = row.close_time

    def find(self, open_time: int) -> Bar | None:
        """Return a row, None if it is not known."""
        return self._rows.get(open_time)

    def replace(self, row: Bar) -> None:
        """Give a known row other values or flags."""
        if row.open_time in self._rows:
            self._rows[row.open_time] = row

    def follow(self, rows: Iterable[Bar], corrected: Iterable[Bar] = ()) -> None:
        """Know these newest rows of the ring, oldest first, whose last is `last`.

        `corrected` are the rows that history has corrected, as they were.
        """
        self._rows = {row.open_time: row for row in rows}
        overruled = self._overruled
        for row in corrected:
            by_message = row.flags & (CLOSED_BY_VENUE | BACKFILLED)
            if by_message == CLOSED_BY_VENUE:
                overruled[row.open_time] = row
        while len(overruled) > OVERRULED_ROWS:
            del overruled[min(overruled)]

    def is_other_line(self, open_time: int, line: int) -> bool:
        """Return True if another line's message ended the row."""
        if self._lines is None:
            return False
        return self._lines.find(open_time) not in (line, -1)

    def note_final(self, open_time: int, line: int) -> None:
        """Record the line of the first closing message about a row without one."""
        if self._lines is not None and self._lines.find(open_time) < 0:
            self._lines.put(open_time, line)

    def overruled(self, open_time: int) -> Bar | None:
        """Return the final of a row that history has corrected, if it is known."""
        return self._overruled.get(open_time)

    def verdict(self, bar: Bar, closed: bool | None, line: int) -> Verdict:
        """Return what a message about a row means, `unknown` if the row is not known.

        `closed` is the message's flag, None without one.
        """
        row = self._rows.get(bar.open_time)
        if closed:
            overruled = self._overruled.get(bar.open_time)
            if overruled is not None and same_values(overruled, bar):
                return "duplicates"
        if row is None:
            return "unknown" if closed else "late"
        if self.is_other_line(bar.open_time, line) and not (
            closed and row.flags & UNCONFIRMED  # the first whole one
        ):
            is_final = closed and row.flags & CLOSED_BY_VENUE
            differs = is_final and not same_values(row, bar)
            return "disagreements" if differs else "duplicates"
        if closed is False:
            return "late"
        if same_values(row, bar):
            # Without a flag it could be an update that arrived late.
            return "duplicates" if closed or bar.open_time == self.last else "late"
        is_early = row.flags & CLOSED_BY_CLOCK and not row.flags & BACKFILLED
        return "revisions" if closed or is_early else "late"


def revised(row: Bar, bar: Bar, closed: bool | None) -> Bar:
    """Return a row with the values of a message that revises it.

    The values of a message without a flag are not known to be final.
    """
    kept = row.flags & (AFTER_GAP | POLLED) | bar.flags & NO_TRADE
    ended = CLOSED_BY_VENUE if closed else CLOSED_BY_CLOCK | UNCONFIRMED
    return bar._replace(flags=kept | ended | REVISED)
