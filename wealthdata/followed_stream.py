"""One stream that a task follows: the events since what it was handed.

A look compares the stream with what the task has had, and finds the events in between;
it changes nothing of the latter. Only an event that is handed over does. So a task that
leaves a loop early, and follows again, misses no event and gets none twice.

Bars are told apart by their open times. Where a stream begins again at an older bar
(its feed was recreated and plays other hours, or rows of the future were cut off), the
bars that the task has had are not handed over again; if the stream has none of them,
all of its bars are new.
"""

import time
import weakref
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from shmfeed.accepted_feeder import STARTED, AcceptedFeeder, Source
from shmfeed.bar import (
    AFTER_GAP,
    BACKFILLED,
    Timeframe,
    close_time,
    grid_steps,
    previous_open,
)
from shmfeed.errors import BusyRingError, StreamNotFoundError
from shmfeed.feed import Ring
from shmfeed.health import GOOD_HEALTHS, explain_health, health_rank
from shmfeed.health import Health as HealthName
from shmfeed.venue_time import is_venue_time_known, venue_now
from wealthdata.columns import BarColumns, to_bars
from wealthdata.events import Closed, Gap, Health, Revised
from wealthdata.handed import TaskRecord
from wealthdata.handed_bars import HandedBars
from wealthdata.kept_bars import Origin
from wealthdata.read_log import ReadLog
from wealthdata.rolled_ring import RolledRing
from wealthdata.securities import Security
from wealthdata.stream_source import NEVER, StreamSource

Event = Closed | Revised | Gap | Health
Hole = tuple[int, int]  # open times of the first and the last missing bar
_TRIES = 100
_make_tuple = tuple.__new__  # saves a part of a microsecond over a NamedTuple's own
_BEFORE_ALL, _AFTER_ALL = -(1 << 63), (1 << 63) - 1
_UNKNOWN = -1


class Progress:
    """The position of a task in a stream that it follows.

    Attributes:
        bars: The bars that it has had.
        next_open: The open time of the bar that should be next; NEVER before any bar.
        closed: The close time of the newest bar that it has had.
        holes: The holes that were reported to it, and that were not filled since.
        health: The health that was reported to it last.
        recorded: The newest bar as the task's record had it then: `wait_bar` may have
            handed over others since.
        market: The number of the feed's binding, and its identity.
        source: The source of the feed's rows.
        turned_back: True if the stream began again at an older bar.
        begun: The time at which the task began to follow, of time.monotonic().
        since: The same by the venue's clock, ms UTC, in a replay; else None.
    """

    __slots__ = (
        "bars",
        "begun",
        "closed",
        "health",
        "holes",
        "market",
        "next_open",
        "owner",
        "recorded",
        "since",
        "source",
        "turned_back",
    )

    def __init__(self) -> None:
        self.bars = HandedBars()
        self.next_open = self.closed = NEVER
        self.holes: list[Hole] = []
        self.health: HealthName = "dead"
        self.recorded: int | None = None
        self.market: tuple[int, str | None] | None = None
        self.source: Source = "live"
        self.turned_back = False
        self.begun = time.monotonic()
        self.since: int | None = None
        self.owner: weakref.ref[FollowedStream] | None = None

    def copy(self) -> "Progress":
        """Return a copy, for another follow that goes on from here."""
        other = Progress()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.bars, other.holes = self.bars.copy(), self.holes.copy()
        return other

    def restart(self, had: int) -> None:
        """Go on after the bar with this close time."""
        self.next_open = self.closed = had


class _Look(NamedTuple):
    """The rows that one look has read.

    Attributes:
        rows: Those that are new or, in another epoch, all.
        epoch: The ring's.
        last: The number after that of the ring's newest bar.
        skipped: True if bars before the first row were there, and are no more.
    """

    rows: BarColumns
    epoch: int
    last: int
    skipped: bool


class Expected(NamedTuple):
    """The bar that should be a stream's next, prepared before a wait.

    After the wake-up as little as possible runs, on cold caches, until a strategy has
    the bar.

    Attributes:
        stream: The stream.
        reader: The reader of its ring.
        open_time: The bar's; NEVER if another event may come with it, or before it.
        ints, mark: Those of the feeder that has been accepted.
        written, timeframe: The stream's, for the event.
    """

    stream: "FollowedStream"
    reader: Any
    open_time: int
    ints: Any
    mark: int
    written: str
    timeframe: Timeframe

    def take(self, reader: Any) -> Closed | None:
        """Return the event of the bar if it is the newest of this reader, else None.

        None too if another feeder may have written it.
        """
        _, known, opened, ints, mark, written, timeframe = self
        bar = reader.last_closed()
        if bar is None or bar.open_time != opened:
            return None
        if reader is not known or ints[STARTED] != mark:
            return None
        return _make_tuple(Closed, (written, timeframe, bar))


class FollowedStream(StreamSource):
    """A stream of a follow. Call `find`, then `begin` once, then `look`.

    Args:
        feed: The feed's name.
        security: The security, as the caller wrote it.
        timeframe: The stream's.

    Attributes:
        epoch, seen: The ring's epoch and count, as of the last look.
        is_new: True if the task has not followed the stream before.
    """

    __slots__ = ("__weakref__", "_progress", "_written", "epoch", "is_new", "seen")

    def __init__(self, feed: str, security: Security, timeframe: Timeframe) -> None:
        super().__init__(feed, security.symbol, timeframe)
        self._written = security.written
        self._progress = Progress()
        self.epoch = self.seen = _UNKNOWN
        self.is_new = True

    def begin(self, record: TaskRecord, since: int | None = None) -> None:
        """Begin after what the task has had.

        A replay, whose clock is not this host's, gives its start as `since`, in ms UTC.
        """
        record.settle()
        self._progress.since = since
        known = record.followed.get(self.id)
        if known is None:
            self._begin_first(record)
        else:
            owner = None if known.owner is None else known.owner()
            progress = known if owner is None else known.copy()
            handed = record.handed.get(self.id)
            if handed is not None and handed != progress.recorded:
                progress.restart(handed)
                progress.recorded = handed
            self._progress, self.is_new = progress, False
        self._progress.owner = weakref.ref(self)
        record.followed[self.id] = self._progress

    def _begin_first(self, record: TaskRecord) -> None:
        progress = self._progress
        rows = self._read_all()
        newest = int(rows.close_time[-1]) if rows is not None and len(rows) else None
        had = record.had(self.id, NEVER if newest is None else newest)
        if newest is not None and newest < had and not self.is_history:
            had, progress.turned_back = newest, True
        if rows is not None:
            progress.bars.note(rows.open_time[rows.close_time <= had])
        progress.restart(had)
        progress.health = self.health()
        record.hand_over(self.id, had, progress.turned_back)
        progress.recorded = record.handed.get(self.id)

    def release(self) -> None:
        """Let the task's next follow of the stream go on from here."""
        self._progress.owner = None

    def note_market(self, number: int, identity: str | None, source: Source) -> None:
        """Note the number of the feed's binding, and the identity of its bars.

        If the task has followed another market's, begin with what there is now.
        """
        market = number, identity
        self._progress.source = source
        known, self._progress.market = self._progress.market, market
        if known is None or known[0] == market[0] or known[1] in (None, market[1]):
            return
        rows = self._read_all()
        progress = self._progress
        progress.bars.clear()
        progress.holes.clear()
        progress.restart(NEVER)
        if rows is not None and len(rows):
            progress.bars.note(rows.open_time)
            progress.restart(int(rows.close_time[-1]))
        progress.turned_back = True
        self.epoch = self.seen = _UNKNOWN

    def _read_all(self) -> BarColumns | None:
        try:
            look = None if self.ring is None else self._read(self.ring)
        except StreamNotFoundError as error:
            self.lose(error)
            return None
        return None if look is None else look.rows

    def look(self) -> list[Event]:
        """Return the stream's events that have not been handed over.

        Call it again once they are, or after `forget_look`.
        """
        return [*self._look_at_bars(), *self._health_change()]

    def forget_look(self) -> None:
        """Let the next look find again what was found and not handed over."""
        self.epoch = self.seen = _UNKNOWN

    def _look_at_bars(self) -> list[Event]:
        if self.ring is None:
            return []
        try:
            look = self._read(self.ring)
        except StreamNotFoundError as error:
            self.lose(error)
            return []
        if look is None:
            return []
        rows = look.rows
        is_other = look.epoch != self.epoch
        self.epoch, self.seen = look.epoch, look.last
        if not len(rows):
            return []
        found = chain(self._revised(rows), self._filled(rows)) if is_other else ()
        if rows.close_time[-1] < self._progress.closed and not self.is_history:
            self._turn_back(rows)
        return [*found, *self._closed(look)]

    def _read(self, ring: Ring) -> _Look | None:
        """Read what is new, None if nothing is. Raise StreamNotFoundError."""
        for _ in range(_TRIES):
            epoch, count = ring.epoch, ring.count
            if epoch == self.epoch and count == self.seen:
                return None
            if self.rolled is not None:
                return self._read_rolled(self.rolled, ring.history)
            new = count - self.seen if epoch == self.epoch else ring.history
            rows = ring.snapshot(max(1, new))
            is_full = len(rows) == ring.history
            if ring.epoch != epoch:
                continue
            if epoch != self.epoch:
                return _Look(rows, epoch, rows.last, is_full)
            if rows.first <= self.seen or is_full:
                return _Look(rows, epoch, rows.last, rows.first > self.seen)
        raise BusyRingError(
            f"{self.id[1]} {self.timeframe} of feed {self.id[0]!r}: the feeder replaced"
            f" bars during each of {_TRIES} looks of a follow; try again"
        )

    def _read_rolled(self, rolled: RolledRing, history: int) -> _Look:
        read = rolled.read()
        skipped = read.begin > self._progress.next_open and read.last > history
        return _Look(read.bars, read.epoch, read.last, skipped)

    def _revised(self, rows: BarColumns) -> Iterator[Event]:
        for old, new in self._progress.bars.corrections(rows):
            yield Revised(self._written, self.timeframe, old, new)

    def _filled(self, rows: BarColumns) -> Iterator[Event]:
        opens = rows.open_time
        holes = self._progress.holes
        holes[:] = [hole for hole in holes if hole[1] >= opens[0]]  # the ring's rows
        for first, last in holes:
            expected = grid_steps(first, last, self.timeframe) + 1
            begin, end = np.searchsorted(opens, (first, last + 1)).tolist()
            if end - begin >= expected:
                yield Gap(self._written, self.timeframe, first, last, filled=True)

    def _turn_back(self, rows: BarColumns) -> None:
        progress = self._progress
        progress.turned_back = True
        known = progress.bars.last_among(rows.open_time)
        if known is None:
            progress.bars.clear()
            progress.holes.clear()
            progress.restart(NEVER)
        else:
            progress.restart(int(rows.close_time[known]))

    def _closed(self, look: _Look) -> Iterator[Event]:
        rows, progress = look.rows, self._progress
        expected = progress.next_open
        if expected == NEVER:
            first = self._first_new(rows)
        else:
            first = int(np.searchsorted(rows.open_time, expected))
        is_skipped = look.skipped and first == 0
        for bar in to_bars(rows, first, len(rows)):
            if progress.bars.has(bar.open_time):
                expected = bar.close_time
                continue
            if (
                expected != NEVER
                and grid_steps(expected, bar.open_time, self.timeframe) > 0
            ):
                filled = is_skipped and not bar.flags & AFTER_GAP
                last = previous_open(bar.open_time, self.timeframe)
                yield Gap(self._written, self.timeframe, expected, last, filled)
            is_skipped = False
            yield Closed(self._written, self.timeframe, bar)
            expected = bar.close_time

    def _first_new(self, rows: BarColumns) -> int:
        """Return the index of the first bar that is no history, of a stream's first."""
        came_later = np.flatnonzero(rows["flags"] & BACKFILLED)
        first = int(came_later[-1]) + 1 if len(came_later) else 0
        reader = None if self.ring is None else self.ring._current_reader()
        if reader is None or not is_venue_time_known(reader):
            return first
        begun = self._progress.since
        if begun is None:
            followed_ms = (time.monotonic() - self._progress.begun) * 1000
            begun = venue_now(reader) - round(followed_ms)
        return max(first, int(np.searchsorted(rows.close_time, begun, "right")))

    def health(self) -> HealthName:
        """Return the stream's health: dead without a feed, stale if not carried."""
        status = self.status()
        if status is not None:
            return status.health
        return "dead" if self.unknown is None else "stale"

    def _health_change(self) -> Iterator[Event]:
        new, old = self.health(), self._progress.health
        if new != old:
            yield Health(self._written, self.timeframe, old, new, self.why(new))

    def why(self, health: HealthName) -> str:
        """Return why the stream has this health."""
        feed, symbol, timeframe = self.id
        if self.unknown is not None:
            return f"feed {feed!r} does not carry {symbol} {timeframe}"
        if self.ring is None:
            return f"no feed {feed!r} on this host"
        try:
            reader = self.ring._current_reader()
            return explain_health(reader, self.timeframe, health)
        except StreamNotFoundError as error:
            return str(error)

    def expect(self, reader: Any, feeder: AcceptedFeeder | None) -> "Expected":
        """Return the bar of the ring's reader that may come next, for a wait."""
        progress = self._progress
        opened = progress.next_open
        is_usual = (
            feeder is not None
            and feeder.ints is reader.words.ints
            and self.rolled is None
            and progress.health in GOOD_HEALTHS
            and not progress.bars.has(opened)
        )
        if feeder is None or not is_usual:
            return Expected(self, reader, NEVER, (), 0, self._written, self.timeframe)
        ints, mark = feeder.ints, feeder.mark
        return Expected(self, reader, opened, ints, mark, self._written, self.timeframe)

    def instant(self, event: Event) -> int:
        """Return the instant of an event in the order of events, ms UTC.

        The end of an outage comes before the bars, another change of health after them.
        """
        match event:
            case Closed(bar=bar) | Revised(new=bar):
                return bar.close_time
            case Gap(end=end):
                return close_time(end, self.timeframe)
            case Health(old=old, new=new):
                return _BEFORE_ALL if _ends_outage(old, new) else _AFTER_ALL

    def hand_over(
        self, event: Event, record: TaskRecord, log: ReadLog | None = None
    ) -> None:
        """Note that the task was handed this event.

        `log` is that of the task's reads at that moment; None if that is now.
        """
        progress = self._progress
        match event:
            case Closed(bar=bar):
                (log or record.log).hand(self._origin, bar)
                progress.bars.hand_over(bar, self._most())
                progress.restart(bar.close_time)
                record.hand_over(self.id, bar.close_time, progress.turned_back)
                progress.recorded = record.handed.get(self.id)
                progress.turned_back = False
            case Revised(new=bar):
                (log or record.log).hand(self._origin, bar)
                progress.bars.hand_over(bar, self._most())
            case Gap(start=start, end=end, filled=filled):
                if (start, end) in progress.holes:
                    progress.holes.remove((start, end))
                else:
                    progress.next_open = close_time(end, self.timeframe)
                    progress.holes += [] if filled else [(start, end)]
            case Health(new=new):
                progress.health = new

    @property
    def _origin(self) -> Origin:
        feed, symbol, timeframe = self.id
        market = self._progress.market
        identity = None if market is None else market[1]
        source = self._progress.source
        return Origin(feed, identity, source, None, symbol, timeframe)

    def _most(self) -> int:
        return _MOST if self.ring is None else self.ring.history


_MOST = 1000  # bars to remember of a stream that is lost


def _ends_outage(old: HealthName, new: HealthName) -> bool:
    """Return True if a stream that was in trouble is better now."""
    if old in (*GOOD_HEALTHS, "waiting") or new == "closed":
        return False
    return old == "closed" or health_rank(new) < health_rank(old)
