"""The cached query of a list of securities: their newest bars, by one cut a feed."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shmfeed.bar import FLOAT_FIELDS, Field, StreamKey, Timeframe
from shmfeed.cuts import cut
from shmfeed.errors import MissingBarsWarning, StreamNotFoundError
from shmfeed.feed import Ring
from shmfeed.health import (
    RingStatus,
    health_rank,
    ring_status,
    rings_status,
)
from wealthdata.attachment import FEED_ERRORS, AttachedFeed
from wealthdata.attrs import join_names, make_attrs
from wealthdata.choices import Choices
from wealthdata.columns import Floats, Ints, PrivateColumns, from_bars
from wealthdata.completeness import Window, check_rows
from wealthdata.context_view import ContextView
from wealthdata.contexts_in_force import note_live_read
from wealthdata.cross_section import (
    Planes,
    build_frame,
    seconds_late,
    seconds_left_out,
)
from wealthdata.facts import CutFacts, CutRecord, count_each, rows_up_to
from wealthdata.freshness import (
    StreamId,
    check,
    end_outages,
    is_first,
    warn,
    warn_of_lost,
)
from wealthdata.handed import current_record
from wealthdata.labels import Labels
from wealthdata.long_frame import compiled_builder
from wealthdata.price_table import PreparedRead, prepare_read, usual_attrs
from wealthdata.reactions import Reactions
from wealthdata.request import PriceRequest, ReadArguments, Shape, count_of_newest
from wealthdata.rolled_ring import RolledRing, RolledUp, open_ring
from wealthdata.securities import Security
from wealthdata.sources import current_views, strategy_time

_DEEPER = 4  # times the rows of an aligned read that found too few common times


class FeedPart:
    """The securities of a list that one feed has.

    Attributes:
        feed: The feed.
        feeder: The feeder that wrote it then.
        written: The securities as written, in the order asked.
        rings: Their own rings, or those that they are rolled up from.
        rolled: The rolled-up ones, by their place.
        unknown: The symbols of those that the feed lacks.
    """

    def __init__(
        self,
        feed: AttachedFeed,
        securities: Iterable[Security],
        timeframe: Timeframe,
        fields: tuple[Field, ...],
    ) -> None:
        self.feed = feed
        self.feeder = feed.check()
        self._known = feed.known_streams()
        self._fields = fields
        self._columns = [FLOAT_FIELDS.index(field) for field in fields]
        written: list[str] = []
        rings: list[Ring] = []
        unknown: list[str] = []
        self.rolled: dict[int, RolledRing] = {}
        for security in securities:
            try:
                ring = open_ring(feed, (security.symbol, timeframe))
            except StreamNotFoundError:
                unknown.append(security.symbol)
                continue
            if isinstance(ring, RolledRing):
                self.rolled[len(rings)] = ring
                ring = ring.source
            written.append(security.written)
            rings.append(ring)
        self.written, self.rings = tuple(written), tuple(rings)
        self.unknown = tuple(unknown)

    @property
    def is_as_before(self) -> bool:
        """False if the feed may carry more of the securities by now."""
        asks = self.rolled or self.unknown
        return not asks or self.feed.known_streams() is self._known

    def newest_closes(self) -> dict[str, int]:
        """Return the newest close time of each security with bars, at one instant.

        For a rolled-up one it is that of its source.
        """
        if not self.rings:
            return {}
        closes = cut(self.rings, 1, ("close",), False).close_time
        newest = closes[:, -1].tolist() if closes.size else [0] * len(self.rings)
        return {w: t for w, t in zip(self.written, newest, strict=True) if t}

    def read(self, count: int) -> "_Rows":
        """Return the newest rows of each security, as of one instant.

        Raise StreamNotFoundError or BusyRingError.
        """
        epochs = [ring.epoch for ring in self.rings]
        if not self.rings:
            none = np.empty((0, 0), np.int64)
            return _Rows(np.empty((len(self._fields), 0, 0)), none, none[:, 0], [], {})
        found = cut(self.rings, count, self._fields, False)
        values, closes = found.values, found.close_time
        newest = np.zeros(len(self.rings), np.int64)
        if closes.size:
            newest[:] = closes[:, -1]
        rows = _Rows(values, closes, newest, epochs, {})
        for place, ring in self.rolled.items():
            self._roll_up(rows, place, ring, count)
        return rows

    def _roll_up(self, rows: "_Rows", place: int, ring: RolledRing, count: int) -> None:
        """Put rolled-up rows in the place of those that they are made of."""
        values, closes = rows.values[:, place], rows.closes[place]
        request = PriceRequest(count, end=int(rows.newest[place]))
        made = ring.read()
        first, last = request.window(made.bars)
        bars = made.bars.cut(first, last)
        values[:], closes[:] = np.nan, 0
        if len(bars):
            closes[-len(bars) :] = bars.close_time
            values[:, -len(bars) :] = bars.floats[self._columns]
        rolled = made.described(last, request)
        rows.newest[place] = rolled.newest
        rows.rolled[place] = bars, rolled


class _Rows(NamedTuple):
    """Rows of the rings of one feed or, joined, of several.

    Attributes:
        values: float64 (fields, rings, rows), which end at the right.
        closes: Their close times, 0 without a row.
        newest: The close time of each ring's newest bar, 0 without one; of a rolled-up
            one the end of its newest group.
        epochs: The epochs of the rings before the read.
        rolled: Rows that were rolled up, and the facts about them, by place.
    """

    values: Floats
    closes: Ints
    newest: Ints
    epochs: list[int]
    rolled: dict[int, tuple[PrivateColumns, RolledUp]]

    @property
    def left_out(self) -> int:
        """The number of groups that are left out after the rows."""
        return sum(rolled.left_out for _, rolled in self.rolled.values())


class _Found(NamedTuple):
    """The rows of the frame, and those that they were taken from."""

    planes: Planes
    rows: _Rows
    late: dict[str, float]
    behind: float


class CachedListQuery:
    """A prepared read of the newest bars of several streams."""

    def __init__(
        self,
        feeds: dict[AttachedFeed, list[Security]],
        securities: tuple[Security, ...],
        timeframe: Timeframe,
        fields: tuple[Field, ...],
        shape: Shape,
        choices: Choices,
    ) -> None:
        """Prepare the read, of float fields only. `feeds` has the securities by feed.

        It serves these `choices` alone. Raise StreamNotFoundError if the feeds carry
        none of the streams.
        """
        self.choices = choices
        self._timeframe: Timeframe = timeframe
        self._fields = fields
        self._shape = shape
        self._parts = [
            FeedPart(feed, listed, timeframe, fields) for feed, listed in feeds.items()
        ]
        self._rings = tuple(ring for part in self._parts for ring in part.rings)
        if not self._rings:
            feed, listed = next(iter(feeds.items()))
            feed.ring((listed[0].symbol, timeframe))  # which raises
        self._written = tuple(security.written for security in securities)
        # Rows are read feed by feed; `_order` brings them into the order asked.
        places = {written: place for place, written in enumerate(self._written)}
        read = [places[written] for part in self._parts for written in part.written]
        self._order = None if read == sorted(read) else np.argsort(read)
        self._carried = tuple(self._written[place] for place in sorted(read))
        self._read_order = [self._written[place] for place in read]
        self._facts = CutFacts(self._rings, timeframe)
        self._streams: tuple[StreamId, ...] = tuple(
            (part.feed.name, ring.symbol, timeframe)
            for part in self._parts
            for ring in part.rings
        )
        self._outages: set[tuple[StreamId, float | None]] = {
            (stream, None) for stream in self._streams
        }
        rolled = [ring for part in self._parts for ring in part.rolled.values()]
        self._identities = join_names(part.feeder.identity for part in self._parts)
        self._feeds = join_names(part.feed.name for part in self._parts)
        self._rolled = join_names(ring.source.timeframe for ring in rolled)

    def prepared(self) -> PreparedRead | None:
        """Return what the C core needs for this read, or None if it cannot serve it."""
        if len(self._written) > 1 or self._rolled or self._shape != (False, False):
            return None
        part = self._parts[0]
        builder = compiled_builder(self._fields, self._written[0])
        attrs = usual_attrs(part.feed.name, part.feeder.identity)
        parts = self._rings[0], builder, attrs, self._streams[0]
        return prepare_read(*parts, part.feeder.mark, self.choices)

    def read(self, asked: ReadArguments, choices: Choices) -> pd.DataFrame | None:
        """Return the newest bars, or None if the general query must decide.

        Raise BadArgumentError, StaleFeedError or BusyRingError.
        """
        count = count_of_newest(asked)
        labels = asked.labels(choices.label, self._timeframe)
        is_plain = asked.include_now is False and isinstance(asked.copy, bool)
        if count is None or asked.has_dates or not is_plain:
            return None
        reactions = asked.reactions(choices.reactions)
        views, history = current_views()
        if any(view.is_backtest for view in views):
            return None  # before the rings are asked, whose trouble is no backtest's
        try:
            is_prepared = all(part.is_as_before for part in self._parts)
            found = self._find(count)
            for part in self._parts:
                is_prepared &= part.feed.check() is part.feeder
            status, each = self._statuses(reactions.max_age)
        except FEED_ERRORS:
            return None  # they matter only if the read is not a backtest's
        if (views or history) and self._context_matters(found, count, views, history):
            return None
        if not is_prepared:
            return None
        for part in self._parts:
            warn_of_unknown(part.feed.name, self._timeframe, part.unknown)
        if status is None:
            status = self._check_each(each, reactions)
        else:
            end_outages(self._outages)
        note_live_read()
        self._note_closed(found)
        return self._frame(found, count, labels, status, reactions)

    def _note_closed(self, found: _Found) -> None:
        """Note which bars the current task has read."""
        newest = found.rows.newest
        if self._shape.align and (found.late or found.behind):
            times = found.planes.close_time
            last = times[0, -1] if times.size else 0
            newest = np.where(newest > 0, last, 0)
        if newest.any():
            current_record().note_list(self._streams, newest.copy())

    def _find(self, count: int) -> _Found:
        depth = count
        while True:
            rows = self._read(depth)
            planes = self._planes(rows)
            if not self._shape.align:
                return _Found(planes.newest(self._shape, count), rows, {}, 0.0)
            if planes.is_even:
                return _Found(planes, rows, {}, 0.0)
            most = min(ring.history for ring in self._rings)
            common = planes.common(count, depth if depth < most else None)
            if common is not None:
                newest = planes.close_time[:, -1].tolist()
                ends = dict(zip(planes.symbols, newest, strict=True))
                behind = seconds_left_out(ends, max(newest), common)
                return _Found(common, rows, seconds_late(ends), behind)
            depth *= _DEEPER

    def _read(self, depth: int) -> _Rows:
        parts = [part.read(depth) for part in self._parts]
        return parts[0] if len(parts) == 1 else _join(parts)

    def _planes(self, rows: _Rows) -> Planes:
        """Return the rows of the securities that have some, in the order asked."""
        values, closes = rows.values, rows.closes
        if self._order is not None:
            values, closes = values[:, self._order], closes[self._order]
        return Planes(self._carried, closes, values).without_empty()

    def _statuses(
        self, max_age: float | None
    ) -> tuple[RingStatus | None, list[RingStatus]]:
        """Return the status of all if they are live, else None and that of each."""
        for ring in self._rings:
            if ring._lost:
                warn_of_lost(ring)
        status = rings_status(self._rings, self._timeframe)
        if status and max_age is None:
            return status, []
        return None, [
            ring_status(ring._current_reader(), self._timeframe) for ring in self._rings
        ]

    def _frame(
        self,
        found: _Found,
        count: int,
        labels: Labels,
        status: RingStatus,
        reactions: Reactions,
    ) -> pd.DataFrame:
        planes = found.planes
        record = self._record(found)
        if reactions.heeds_rows:
            self._check_rows(found, record, count, reactions)
        values: dict[str, Any] = {
            "source": "live",
            "feed": self._feeds,
            "identity": self._identities,
            "rolled": self._rolled,
            "age": status.age,
            "state": status.state,
            "health": status.health,
            "behind": found.behind,
            "forming": False,
            "short": sum([count - rows for rows in record.counts if rows < count]),
            "gaps": planes.gaps(self._timeframe) + found.rows.left_out,
            "absent": planes.absent(self._written),
        }
        attrs = make_attrs(record, values)
        return build_frame(planes, self._fields, self._shape, labels, attrs)

    def _record(self, found: _Found) -> CutRecord:
        closes, rows = found.planes.close_time, found.rows
        counts = [int(closes.shape[1])] * len(self._rings)
        if len(closes) < len(counts) or not found.planes.is_whole:
            held = np.count_nonzero(closes, axis=1).tolist()
            by_name = dict(zip(found.planes.symbols, held, strict=True))
            counts = [by_name.get(written, 0) for written in self._read_order]
        times = None
        if self._shape.align:
            times = closes[0].copy() if len(closes) else np.empty(0, np.int64)
        rolled = {
            place: tuple(count_each(_shown(bars, counts[place], times).flags).values())
            for place, (bars, _) in rows.rolled.items()
        }
        noted = rows.epochs, rows.newest, counts, times, rolled, found.late
        return CutRecord(self._facts, *noted)

    def _check_rows(
        self, found: _Found, record: CutRecord, count: int, reactions: Reactions
    ) -> None:
        for place, stream in enumerate(self._streams):
            ring, rows = self._rings[place], record.counts[place]
            taken, rolled = found.rows.rolled.get(place, (None, None))
            if taken is not None:
                taken = _shown(taken, rows, record.times)
            elif rows:
                newest = int(record.newest[place])
                taken = rows_up_to(ring, newest, rows, record.times)
            else:
                taken = from_bars([])
            if taken is None:
                continue  # the ring was recreated since
            window = Window(stream, taken, 0, len(taken), count, ring, rolled)
            check_rows(window, reactions)

    def _context_matters(
        self, found: _Found, count: int, views: tuple[ContextView, ...], history: object
    ) -> bool:
        """Return True if a context may add bars to this read, or hides some of them."""
        closes = found.planes.close_time
        if history is not None and (
            len(closes) < len(self._written)
            or closes.shape[-1] < count
            or not closes[..., 0].all()
        ):
            return True
        now = strategy_time(views)
        return now is not None and bool((found.rows.closes > now).any())

    def _check_each(
        self, statuses: list[RingStatus], reactions: Reactions
    ) -> RingStatus:
        """Check the freshness of each stream; return the oldest age, worst health."""
        max_age, on_stale = reactions[:2]
        for stream, ring, status in zip(
            self._streams, self._rings, statuses, strict=True
        ):
            check(stream, status, max_age, on_stale, ring)
        worst = max(statuses, key=lambda status: health_rank(status.health))
        ages = [status.age for status in statuses if status.age is not None]
        return RingStatus(max(ages, default=None), worst.state, worst.health)


def _join(parts: list[_Rows]) -> _Rows:
    """Return the rows of all feeds, one below the other."""
    count = sum(len(part.closes) for part in parts)
    width = max(part.closes.shape[1] for part in parts)
    values = np.full((len(parts[0].values), count, width), np.nan)
    closes = np.zeros((count, width), np.int64)
    rolled: dict[int, tuple[PrivateColumns, RolledUp]] = {}
    at = 0
    for part in parts:
        end, first = at + len(part.closes), width - part.closes.shape[1]
        values[:, at:end, first:], closes[at:end, first:] = part.values, part.closes
        rolled |= {at + place: each for place, each in part.rolled.items()}
        at = end
    newest = np.concatenate([part.newest for part in parts])
    epochs = [epoch for part in parts for epoch in part.epochs]
    return _Rows(values, closes, newest, epochs, rolled)


def _shown(bars: PrivateColumns, count: int, times: Ints | None) -> PrivateColumns:
    """Return the rows that a frame has: the last ones or, aligned, those of times."""
    if times is None:
        return bars.cut(len(bars) - count, len(bars))
    return bars.at(times)


_SHOWN = 20
_warned: set[tuple[str, StreamKey]] = set()  # feed and stream


def warn_of_unknown(feed: str, timeframe: Timeframe, symbols: tuple[str, ...]) -> None:
    """Warn once of each security of a list that the feed does not carry."""
    new = [s for s in symbols if is_first(_warned, (feed, (s, timeframe)))]
    if not new:
        return
    more = "" if len(new) <= _SHOWN else f" and {len(new) - _SHOWN} more"
    warn(
        f"feed {feed!r} does not carry {', '.join(new[:_SHOWN])}{more} at {timeframe};"
        " the frame has the others, and attrs['shmfeed'].absent lists what it lacks",
        MissingBarsWarning,
    )
