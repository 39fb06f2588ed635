"""The reactions to rows with gaps, to few rows, and to a newest row that may change.

A warning is given once: of a gap once for each hole, of few rows and of an unconfirmed
newest row once until a read of the stream finds enough rows, or a final one. So a log
has each trouble when it begins, and again after it has ended and come back.
"""

from typing import NamedTuple

import numpy as np

from shmfeed.bar import (
    UNCONFIRMED,
    bars_between,
    close_time,
    floor,
    phase_of,
    step,
)
from shmfeed.errors import (
    GapError,
    GapWarning,
    ShortError,
    ShortWarning,
    UnconfirmedError,
    UnconfirmedWarning,
)
from shmfeed.feed import Ring
from shmfeed.text import counted, format_ms
from wealthdata.columns import BarColumns, Ints, count_missing
from wealthdata.freshness import StreamId, is_first, warn
from wealthdata.reactions import Reactions
from wealthdata.rolled_ring import RolledUp

_Hole = tuple[int, int, int]  # missing bars, open times of the first and the last

# Few rows and unconfirmed ones that were warned of and have not ended. The C core
# serves no read while there are any: it cannot end them.
troubles: set[tuple[object, ...]] = set()
_holes: set[tuple[object, ...]] = set()  # that were warned of


class Window(NamedTuple):
    """Rows `first` to `last`, last exclusive, of one stream, and how many were asked.

    `stream` has "" as its feed for the rows of a context. `ring` is that of the
    stream, or of the one that it is rolled up from; None where no feed carries it.
    """

    stream: StreamId
    rows: BarColumns
    first: int
    last: int
    asked: int | None
    ring: Ring | None = None
    rolled: RolledUp | None = None

    @property
    def short(self) -> int:
        """The number of rows fewer than asked for."""
        return max(0, (self.asked or 0) - (self.last - self.first))

    @property
    def is_unknown(self) -> bool:
        """True if the feed does not carry the stream."""
        return self.ring is None and bool(self.stream[0])

    @property
    def last_closed(self) -> int:
        """The end of the closed rows: the forming bar is not one of them."""
        return min(self.last, len(self.rows) - self.rows.forming)

    def __str__(self) -> str:
        feed, symbol, timeframe = self.stream
        where = f"feed {feed!r}" if feed else "the context"
        return f"{symbol} {timeframe} of {where}"


def check_rows(window: Window, reactions: Reactions) -> None:
    """Raise, warn once or ignore, as the reactions say.

    Raise GapError, ShortError or UnconfirmedError.
    """
    if reactions.on_gap != "ignore":
        _check_gaps(window, reactions.on_gap)
    if reactions.on_short != "ignore":
        _check_short(window, reactions.on_short)
    if reactions.on_unconfirmed != "ignore":
        _check_newest(window, reactions.on_unconfirmed)


def _check_gaps(window: Window, on_gap: str) -> None:
    stream, rows, first, last = window[:4]
    left_out = 0 if window.rolled is None else window.rolled.left_out
    if not count_missing(rows, first, last, stream[2]) + left_out:
        return
    holes = _find_holes(rows.open_time[first:last], stream[2])
    if window.rolled is not None and left_out:
        holes.append(_left_out_hole(window, window.rolled))
    if window.ring is not None:
        holes = _without_known(holes, window.ring, stream[2])
    if on_gap != "raise":
        holes = [hole for hole in holes if is_first(_holes, (stream, hole[1]))]
    if not holes:
        return
    missing, begin, end = sum(hole[0] for hole in holes), holes[0][1], holes[0][2]
    places = "" if len(holes) == 1 else f"in {len(holes)} holes, the first "
    message = (
        f"{window}: {counted(missing, 'bar')} missing inside the window, {places}from"
        f" {format_ms(begin)} to {format_ms(end)}; read fewer rows, wait until history"
        " has filled the hole (`shmfeed gaps`), or read with on_gap='ignore'"
    )
    if on_gap == "raise":
        raise GapError(message)
    warn(message, GapWarning)


def _find_holes(opens: Ints, timeframe: str) -> list[_Hole]:
    """Return missing bars, and the open times of the first and the last, by hole."""
    before = list(range(len(opens) - 1))
    if length := step(timeframe):
        before = np.flatnonzero(np.diff(opens) >= 2 * length).tolist()
    pairs = ((int(opens[row]), int(opens[row + 1])) for row in before)
    return [
        (
            missing,
            close_time(a, timeframe),
            floor(b - 1, timeframe, phase_of(b, timeframe)),
        )
        for a, b in pairs
        if (missing := bars_between(a, b, timeframe))
    ]


def _left_out_hole(window: Window, rolled: RolledUp) -> _Hole:
    """Return the groups that are left out after the last row."""
    timeframe = window.stream[2]
    last = floor(rolled.newest - 1, timeframe)
    first = last - (rolled.left_out - 1) * step(timeframe)
    if window.first < window.last:
        first = int(window.rows.close_time[window.last - 1])
    return rolled.left_out, first, last


def _without_known(holes: list[_Hole], ring: Ring, timeframe: str) -> list[_Hole]:
    """Return the holes but those that the venue has too.

    A hole of rolled-up rows is one of these if all holes of the source in it are.
    """
    known = ring._feed.gaps(ring.symbol, ring.timeframe)
    if ring.timeframe == timeframe:
        firsts = {hole.first for hole in known if hole.state == "none_at_venue"}
        return [hole for hole in holes if hole[1] not in firsts]
    return [
        (missing, first, last)
        for missing, first, last in holes
        if {"none_at_venue"}
        != {
            hole.state
            for hole in known
            if hole.last >= first and hole.first < close_time(last, timeframe)
        }
    ]


def _check_short(window: Window, on_short: str) -> None:
    trouble = "short", window.stream, window.asked
    if not window.short:
        troubles.discard(trouble)
        return
    rows = counted(window.last - window.first, "row")
    message = (
        f"{window}: {rows} of {window.asked} asked for, as there are no older bars; ask"
        " for fewer, raise the feed's `history` or `warmup`, supply older bars with"
        " wealthdata.set_context(context), or read with on_short='ignore'"
    )
    if window.is_unknown:
        message = (
            f"{window}: {rows} of {window.asked} asked for, as the feed does not carry"
            " it; subscribe it, take it off the list, supply its bars with"
            " wealthdata.set_context(context), or read with on_short='ignore'"
        )
    if on_short == "raise":
        raise ShortError(message)
    if is_first(troubles, trouble):
        warn(message, ShortWarning)


def _check_newest(window: Window, on_unconfirmed: str) -> None:
    trouble = "unconfirmed", window.stream
    last = window.last_closed
    if last <= window.first or not int(window.rows["flags"][last - 1]) & UNCONFIRMED:
        troubles.discard(trouble)
        return
    close = format_ms(int(window.rows.close_time[last - 1]))
    message = (
        f"{window}: the newest row, which closed at {close}, is not known to be"
        " final; read again once history has confirmed it, or read with"
        " on_unconfirmed='ignore'"
    )
    if on_unconfirmed == "raise":
        raise UnconfirmedError(message)
    if is_first(troubles, trouble):
        warn(message, UnconfirmedWarning)
