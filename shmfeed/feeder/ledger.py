"""What a bar message means: the account of one stream, from messages to rows.

A stream has rows (closed bars, in order, never changed) and at most one forming bar,
newer than them all. A message about the forming bar replaces it. What a message about
a newer bar means depends on what its venue says:

- It flags its bars (`closed` is True or False): each bar has a final message, and one
  that is missing may merely be out of order. The newer bar is *held* back until
  nothing older is open: neither a forming bar without its final, nor a hole in front
  of it. So are all that come meanwhile, each with its final or its last message. The
  patience is the grace, from when the first of them arrived; then the oldest open
  matter is given up: the forming bar becomes a row as it is, a hole stays a hole.
- It flags nothing (`closed` is None): the newer bar closes the forming one at once,
  and a bar that nothing follows is closed by the clock, the grace after its end; one
  that arrives later than that is closed at once. If more comes of a bar that the clock
  closed, the clock is ahead of the venue's: it closes only what has not been spoken of
  for the grace, and nothing at once, until it has closed a bar in that way.

Each message decides for itself; but what comes while bars are held is held with them.
A row is final: a message about it is counted and changes nothing. A hole is counted
once, when the row behind it is written, and flagged on that row.

What can be a bar at all: finite, ordered, and where its timeframe has one.
"""

from dataclasses import dataclass
from math import inf, isnan, nan
from typing import NamedTuple

from shmfeed.bar import (
    AFTER_GAP,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    LAST_TIME,
    UNCONFIRMED,
    Bar,
    bars_between,
    close_time,
    on_grid,
)
from shmfeed.codecs.interface import BarEvent


def is_sound(event: BarEvent, ends: int) -> bool:
    """Whether this can be a bar that ends at `ends`, 0: it is off the grid.

    Some venues name as its close_time not where the next bar opens, but the
    millisecond before.
    """
    low, high, says = event.low, event.high, event.close_time
    return (  # a NaN fails every comparison: refused with the infinities
        ends != 0
        and -inf < low <= event.open <= high < inf
        and low <= event.close <= high
        and 0.0 <= event.volume < inf
        and (says == ends or says == ends - 1 or says == 0)
    )


HELD_LIMIT = 64  # bars held back; one more, and the oldest open matter is given up
KNOWN_ROWS = 64  # rows whose values are remembered, to tell a duplicate from a revision


@dataclass(slots=True)
class Counts:
    """What went into no row, of all streams; one object serves a whole feeder.

    Messages with broken values or times, about the past, with a row's values again,
    with other values for a row; and `gaps`, the bars found missing.
    """

    malformed: int = 0
    late: int = 0
    duplicates: int = 0
    revisions: int = 0
    gaps: int = 0


class Step(NamedTuple):
    """One write: `bar` as a row (`closed`), or as the forming bar.

    A row's flags say what closed it; a forming bar's are 0.
    """

    closed: bool
    bar: Bar


@dataclass(slots=True)
class _Held:
    bar: Bar  # with flags, if it is final
    flagged: bool
    arrived: float  # the first message about it, monotonic seconds
    unseen: bool = False


class Ledger:
    """The account of one stream. For the one thread that writes the feed.

    `last_closed` and `forming` are what a predecessor left; such a forming bar may
    have changed unseen, and the clock closes it only with `forming_flagged` False:
    the venue is known to send no flags.

    `venue_now` is the venue's wall clock in ms UTC, `now` is monotonic seconds.
    Nothing raises, whatever the messages say. The steps are to be written in their
    order: each row is newer than the last, a forming bar newer than all rows.
    """

    def __init__(
        self,
        timeframe: str,
        counts: Counts,
        *,
        close_grace_ms: int = 2000,
        last_closed: Bar | None = None,
        forming: Bar | None = None,
        forming_flagged: bool = True,
    ) -> None:
        self.gaps = 0  # bars found missing in this stream
        self.unsound: BarEvent | None = None  # the last message that can be no bar
        self._timeframe = timeframe
        self._counts = counts
        self._grace = close_grace_ms
        self._patience = close_grace_ms / 1000
        self._known: dict[int, Bar] = {}  # the newest rows, oldest first
        self._last = -1  # open_time of the newest row
        self._next = LAST_TIME  # where the row after it belongs; no hole before any row
        self._forming: Bar | None = None
        self._flagged = forming_flagged  # the last message about the forming bar was
        self._unseen = True  # the connection broke since the last message about it
        self._heard = -inf  # the last sound message, monotonic seconds
        self._ahead = False  # more came of a bar that the clock had closed
        self._held: dict[int, _Held] = {}  # all newer than rows and forming bar
        if last_closed is not None:
            self._remember(last_closed)
        if forming is not None and forming.open_time > self._last:
            self._forming = forming

    @property
    def holding(self) -> bool:
        """Whether newer bars are held back: the stream is recovering."""
        return bool(self._held)

    def apply(self, event: BarEvent, venue_now: int, now: float) -> list[Step]:
        """What to write because of this message: nothing, one step, sometimes more."""
        opened = event.open_time
        forming = self._forming
        if forming is not None and forming.open_time == opened:
            ends = forming.close_time
        else:
            forming = None
            timeframe = self._timeframe
            ends = close_time(opened, timeframe) if on_grid(opened, timeframe) else 0
        if not is_sound(event, ends):
            self._counts.malformed += 1
            self.unsound = event
            return []
        bar = self._bar(event, ends, venue_now)
        self._heard = now
        if forming is not None:
            steps = [self._write(bar, event.closed is not None)]
        elif opened <= self._last:
            self._count_past(bar, event.closed)
            steps = []
        else:
            steps = self._place(bar, event.closed is not None, now)
        if self._held:
            self._release(steps, now)
        return steps

    def tick(self, venue_now: int, now: float) -> list[Step]:
        """What to write because time passed: to be asked some times a second."""
        steps: list[Step] = []
        spoken_of = self._ahead and now < self._heard + self._patience
        forming = None if self._flagged or spoken_of else self._forming
        if forming is not None and forming.close_time + self._grace <= venue_now:
            steps.append(self._close_as(forming, CLOSED_BY_CLOCK, self._unseen))
            self._ahead = False
        if self._held:
            self._release(steps, now)
        return steps

    def reconnected(self) -> None:
        """The connection was lost, or is back: what was forming may have changed."""
        self._unseen = True
        for held in self._held.values():
            held.unseen = True

    def _bar(self, event: BarEvent, ends: int, venue_now: int) -> Bar:
        """The message's bar, with flags if the message is its last."""
        closed = event.closed
        if closed is None:
            flags = CLOSED_BY_CLOCK if ends + self._grace <= venue_now else 0
        else:
            flags = CLOSED_BY_VENUE if closed else 0
        return Bar(
            event.open_time,
            ends,
            event.open,
            event.high,
            event.low,
            event.close,
            event.volume,
            event.money if 0.0 <= event.money < inf else nan,
            flags,
        )

    def _count_past(self, bar: Bar, closed: bool | None) -> None:
        # A revision is counted only: to apply it, its ring's slot must be swapped.
        counts = self._counts
        row = self._known.get(bar.open_time)
        if row is None or closed is False:
            counts.late += 1
        elif _same_values(row, bar):
            # Without a flag it may as well be an update that was overtaken.
            if closed or bar.open_time == self._last:
                counts.duplicates += 1
            else:
                counts.late += 1
        elif closed or row.flags & CLOSED_BY_CLOCK:
            counts.revisions += 1
            self._ahead = self._ahead or closed is None
        else:
            counts.late += 1

    def _place(self, bar: Bar, flagged: bool, now: float) -> list[Step]:
        """Find the place of a bar that is neither the forming one nor in the past."""
        opened = bar.open_time
        forming = self._forming
        if forming is not None and opened < forming.open_time:
            # Its hole was given up; but rows stay in order, the forming bar is no row.
            if bar.flags:
                return [self._close(bar)]
            self._counts.late += 1
            return []
        open_matter = flagged and (forming is not None or opened > self._next)
        if open_matter or self._held:
            self._hold(bar, flagged, now)
            return []
        if forming is None:
            return [self._write(bar, flagged)]
        doubtful = self._flagged or self._unseen
        former = self._close_as(forming, CLOSED_BY_NEXT, doubtful)
        return [former, self._write(bar, flagged)]

    def _hold(self, bar: Bar, flagged: bool, now: float) -> None:
        held = self._held.get(bar.open_time)
        if held is None:
            self._held[bar.open_time] = _Held(bar, flagged, now)
        elif not held.bar.flags:
            held.bar, held.flagged, held.unseen = bar, flagged, False
        elif not bar.flags:
            self._counts.late += 1
        elif _same_values(held.bar, bar):
            self._counts.duplicates += 1
        else:
            held.bar = bar  # no row yet: it can still be corrected
            self._counts.revisions += 1

    def _release(self, steps: list[Step], now: float) -> None:
        """Write held bars, oldest first, up to one that must wait on."""
        held = self._held
        while held:
            opened = min(held)
            arrived = min(waiting.arrived for waiting in held.values())
            patient = now < arrived + self._patience and len(held) <= HELD_LIMIT
            forming = self._forming
            if patient and (forming is not None or opened > self._next):
                return
            if forming is not None:
                steps.append(self._close_as(forming, CLOSED_BY_NEXT, True))
            else:
                waiting = held.pop(opened)
                steps.append(self._write(waiting.bar, waiting.flagged, waiting.unseen))

    def _write(self, bar: Bar, flagged: bool, unseen: bool = False) -> Step:
        if bar.flags:
            if flagged or not self._ahead:
                return self._close(bar)
            bar = bar._replace(flags=0)
        self._forming = bar
        self._flagged = flagged
        self._unseen = unseen
        return Step(False, bar)

    def _close_as(self, bar: Bar, flag: int, doubtful: bool) -> Step:
        flags = flag | UNCONFIRMED if doubtful else flag
        return self._close(bar._replace(flags=flags))

    def _close(self, bar: Bar) -> Step:
        opened = bar.open_time
        if opened > self._next:
            missing = bars_between(self._last, opened, self._timeframe)
            self.gaps += missing
            self._counts.gaps += missing
            bar = bar._replace(flags=bar.flags | AFTER_GAP)
        self._remember(bar)
        forming = self._forming
        if forming is not None and forming.open_time <= opened:
            self._forming = None
        return Step(True, bar)

    def _remember(self, row: Bar) -> None:
        known = self._known
        if len(known) == KNOWN_ROWS:
            del known[next(iter(known))]
        known[row.open_time] = row
        self._last = row.open_time
        self._next = row.close_time


def _same_values(one: Bar, other: Bar) -> bool:
    """Whether prices, volume and, where both know it, money are equal."""
    known = not (isnan(one.money) or isnan(other.money))
    return one[2:7] == other[2:7] and not (known and one.money != other.money)
