"""The ring of a timeframe that a feed does not carry: rolled up from a shorter one.

What it has made stays made while the source's epoch holds: a read looks at the bars
that have closed since, and makes only their groups. A repair raises the epoch, and all
groups are made again. Only groups of which the source still has each bar are kept, so
two processes read the same rows, whenever they began to read.
"""

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from shmfeed.bar import (
    AFTER_GAP,
    StreamKey,
    Timeframe,
    close_time,
    duration,
    floor,
    grid_steps,
)
from shmfeed.errors import BusyRingError, StreamNotFoundError
from shmfeed.feed import Ring
from shmfeed.health import RingStatus, ring_status
from wealthdata.attachment import AttachedFeed
from wealthdata.columns import Ints, PrivateColumns, concatenate
from wealthdata.request import PriceRequest
from wealthdata.rollup import SOURCES, roll_up

_TRIES = 100


class RolledBars(NamedTuple):
    """The bars that are made of a source's, as of one read.

    Attributes:
        bars: The bars. Reads share their arrays, which are read-only.
        numbers: The number of the source's bar that each begins with.
        timeframe: Theirs.
        source: The source's.
        epoch: The source's.
        last: The number after that of the source's newest bar.
        rest: The number of the first bar that a later group may begin with.
        begin, end: From the open time of the source's oldest bar to the close time of
            its newest one; 0 without bars.
        due: The end of the group under way.
    """

    bars: PrivateColumns
    numbers: Ints
    timeframe: Timeframe
    source: Timeframe
    epoch: int
    last: int
    rest: int
    begin: int
    end: int
    due: int

    def described(self, last: int, request: PriceRequest) -> "RolledUp":
        """Return the facts about the rows of a read up to `last` - 1."""
        tf = self.timeframe
        end = self.end if request.newest is None else min(self.end, request.newest)
        newest = floor(end, tf) if end else 0
        bound = request.latest_close
        until = newest if bound is None else min(newest, floor(bound, tf))
        if last:
            before = int(self.bars.close_time[last - 1])
        else:
            oldest = max(self.begin, request.start or 0)
            before = close_time(floor(oldest - 1, tf), tf)
        left_out = max(0, grid_steps(before, until, tf)) if newest else 0
        return RolledUp(self.source, left_out, newest)


class RolledUp(NamedTuple):
    """The facts about rows that were rolled up.

    Attributes:
        source: The timeframe that they were made from.
        left_out: The groups after the last row that have closed and have a hole, in the
            range asked for. Without a row, all of the range that the source may have
            had whole.
        newest: The end of the newest group that has closed, whole or not; 0 without.
    """

    source: Timeframe
    left_out: int
    newest: int


class RolledRing:
    """The closed bars of a stream that a feed does not carry, made of another one's.

    Thread safety: any thread may call any method.
    """

    def __init__(self, source: Ring, timeframe: Timeframe) -> None:
        self.source = source
        self._timeframe: Timeframe = timeframe
        self._known: RolledBars | None = None  # replaced, never changed

    @property
    def epoch(self) -> int:
        """The epoch of the source."""
        return self.source.epoch

    @property
    def group_rows(self) -> int:
        """The number of the source's bars in a whole group, of a nominal month."""
        return duration(self._timeframe) // duration(self.source.timeframe)

    def status(self) -> RingStatus:
        """Return the status of the source, judged by this timeframe."""
        return ring_status(self.source._current_reader(), self._timeframe)

    def read(self) -> RolledBars:
        """Return the bars that there are now.

        Raise StreamNotFoundError or BusyRingError.
        """
        source = self.source
        for _ in range(_TRIES):
            epoch, rows = source.epoch, source.view(source.history)
            made = self._update(epoch, rows)
            if rows.valid and source.epoch == epoch:
                self._known = made
                return made
            del rows, made  # or the next try would count a frame as lost
        raise BusyRingError(
            f"{source.symbol} {source.timeframe}: the feeder replaced bars during each"
            f" of {_TRIES} reads for a roll-up to {self._timeframe}; try again"
        )

    def _update(self, epoch: int, rows: Any) -> RolledBars:
        known = self._known
        if known is None or known.epoch != epoch or known.rest < rows.first:
            return _mark_oldest(self._make(None, epoch, rows), rows)
        if known.last == rows.last:
            return known
        if rows.close_time[-1] >= known.due:
            known = self._make(known, epoch, rows)
        gone = int(np.searchsorted(known.numbers, rows.first))
        made = known._replace(
            bars=known.bars.cut(gone, len(known.bars)),
            numbers=known.numbers[gone:],
            last=rows.last,
            begin=int(rows.open_time[0]),
            end=int(rows.close_time[-1]),
        )
        return _mark_oldest(made, rows)

    def _make(self, known: RolledBars | None, epoch: int, rows: Any) -> RolledBars:
        """Return the known bars, and those that the rows after them make."""
        start = rows.first if known is None else known.rest
        before = None
        if known is not None and len(known.bars):
            before = int(known.bars.close_time[-1])
        new = _from_row(rows, start - rows.first)
        groups = roll_up(new, self.source.timeframe, self._timeframe, before)
        bars, numbers = groups.bars, groups.first_rows + start
        if known is not None:
            bars = concatenate(known.bars, len(known.bars), bars)
            numbers = np.concatenate((known.numbers, numbers))
        for array in (bars.open_time, bars.close_time, bars.floats, bars.flags):
            array.flags.writeable = False
        begin, end = (rows.open_time[0], rows.close_time[-1]) if len(rows) else (0, 0)
        return RolledBars(
            bars,
            numbers,
            self._timeframe,
            self.source.timeframe,
            epoch,
            rows.last,
            start + groups.rest,
            int(begin),
            int(end),
            close_time(floor(int(end), self._timeframe), self._timeframe),
        )


def _mark_oldest(made: RolledBars, rows: Any) -> RolledBars:
    """Return the bars with the flag AFTER_GAP of the oldest one as the source has it.

    It tells of the bars before the oldest one only what `rows`, all of the source's,
    tell: a process that began to read earlier has seen more of them.
    """
    bars = made.bars
    if not len(bars):
        return made
    begun = int(rows["flags"][made.numbers[0] - rows.first])
    is_left_out = floor(int(bars.open_time[0]) - 1, made.timeframe) >= made.begin
    flag = AFTER_GAP if is_left_out or begun & AFTER_GAP else 0
    if bars.flags[0] & AFTER_GAP == flag:
        return made
    flags = bars.flags.copy()
    flags[0] ^= AFTER_GAP
    flags.flags.writeable = False
    marked = PrivateColumns(bars.open_time, bars.close_time, bars.floats, flags)
    return made._replace(bars=marked)


def _from_row(rows: Any, first: int) -> PrivateColumns:
    """Return the rows from `first` on, in the ring's memory."""
    return PrivateColumns(
        rows.open_time[first:],
        rows.close_time[first:],
        rows.floats[:, first:],
        rows["flags"][first:],
    )


def find_source(feed: AttachedFeed, key: StreamKey) -> Ring | None:
    """Return the ring that a stream which the feed does not carry is made of.

    It has the longest timeframe that divides the stream's, of the subscribed ones or,
    without one, of those subscribed earlier. Return None if the feed has none.
    """
    symbol, timeframe = key
    _, known, subscribed = feed.known_streams()
    sources = [(symbol, s) for s in SOURCES[timeframe] if (symbol, s) in known]
    sources.sort(key=lambda source: source not in subscribed)
    rings = (_carried(feed, source) for source in sources)
    return next((ring for ring in rings if ring is not None), None)


def _carried(feed: AttachedFeed, key: StreamKey) -> Ring | None:
    with suppress(StreamNotFoundError):
        ring = feed.ring(key)
        ring.status()  # raises if the feed was recreated without the stream
        return ring
    return None


def open_ring(feed: AttachedFeed, key: StreamKey) -> Ring | RolledRing:
    """Return the ring of a stream or, if the feed does not carry it, a rolled-up one.

    Raise StreamNotFoundError if the feed has nothing that it can be made of.
    """
    ring = _carried(feed, key)
    if ring is not None:
        return ring
    source = find_source(feed, key)
    if source is None:
        return feed.ring(key)  # raises, if the feed has not just begun to carry it
    rolled: RolledRing | None = feed.rolled.get(key)
    if rolled is None or rolled.source is not source:
        rolled = feed.rolled[key] = RolledRing(source, key[1])
    return rolled
