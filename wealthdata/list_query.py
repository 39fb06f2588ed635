"""The cached query of a list of securities: by one cut a feed."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shmfeed.bar import Field, StreamKey, Timeframe
from shmfeed.errors import MissingBarsWarning
from shmfeed.health import RingStatus, health_rank, ring_status
from wealthdata.attachment import FEED_ERRORS, AttachedFeed
from wealthdata.attrs import join_names, make_attrs
from wealthdata.carried import name_unknown
from wealthdata.choices import Choices
from wealthdata.columns import Ints, from_bars
from wealthdata.completeness import Window, check_rows
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
    warn_of_behind,
    warn_of_lost,
)
from wealthdata.handed import TaskRecord, current_record
from wealthdata.kept_bars import ORIGIN_KEYS
from wealthdata.labels import Labels
from wealthdata.list_rows import FeedPart, ListRows, join_rows, shown_rows
from wealthdata.long_frame import compiled_builder
from wealthdata.price_table import PreparedRead, prepare_read, usual_attrs
from wealthdata.reactions import Reactions
from wealthdata.relayed import note_relay_age
from wealthdata.request import (
    PriceRequest,
    ReadArguments,
    Shape,
)
from wealthdata.securities import Security
from wealthdata.sources import bounded_request

_NEVER = (1 << 63) - 1
_DEEPER = 4  # times the rows of an aligned read that found too few common times


class _Found(NamedTuple):
    """The rows of the frame, and those that they were taken from.

    `late` and `behind` are those of an aligned frame; `behind` is None without rows.
    """

    planes: Planes
    rows: ListRows
    late: dict[str, float]
    behind: float | None = None
    closed: frozenset[int] = frozenset()


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
        origins = [origin for part in self._parts for origin in part.origins(timeframe)]
        self._facts = CutFacts(self._rings, timeframe, origins)
        self._whole: Ints = np.empty(0, np.int64)  # counts of a whole frame
        self._lost = 0  # of the rings' frames, those of which was warned
        self._streams: tuple[StreamId, ...] = tuple(
            (part.feed.name, ring.symbol, timeframe)
            for part in self._parts
            for ring in part.rings
        )
        self._unknown: tuple[StreamId, ...] = tuple(
            (part.feed.name, symbol, timeframe)
            for part in self._parts
            for symbol in part.unknown
        )
        self._outages: set[tuple[StreamId, float | None]] = {
            (stream, None) for stream in self._streams
        }
        rolled = [ring for part in self._parts for ring in part.rolled.values()]
        self._identities = join_names(part.feeder.identity for part in self._parts)
        self._feeds = join_names(part.feed.name for part in self._parts)
        self._rolled = join_names(ring.source.timeframe for ring in rolled)
        self._told = self._attrs_told()

    def _attrs_told(self) -> dict[str, Any]:
        """Return what the attrs of each frame say of the origin of its rows."""
        sources = {part.feeder.source for part in self._parts}
        source = sources.pop() if len(sources) == 1 else "mixed"
        told = self._feeds, self._identities, source, self._rolled
        return dict(zip(ORIGIN_KEYS, told, strict=True))

    def prepared(self) -> PreparedRead | None:
        """Return what the C core needs for this read, or None if it cannot serve it."""
        if len(self._written) > 1 or self._rolled or self._shape != (False, False):
            return None
        part = self._parts[0]
        builder = compiled_builder(self._fields, self._written[0])
        attrs = usual_attrs(part.feed.name, part.feeder)
        parts = self._rings[0], builder, attrs, self._streams[0]
        return prepare_read(*parts, part.feeder.mark, self.choices)

    def read(self, asked: ReadArguments, choices: Choices) -> pd.DataFrame | None:
        """Return the bars, or None if the general query must decide.

        Raise BadArgumentError, StaleFeedError or BusyRingError.
        """
        request, history = bounded_request(asked, self._timeframe)
        if request is None:
            return None
        labels = asked.labels(choices.label, self._timeframe)
        reactions = asked.reactions(choices.reactions)
        try:
            found = self._find(request)
            status, each = self._statuses(found.rows, reactions.max_age)
            for part in self._parts:  # the rows are those of these feeders, or older
                if part.feed.check() is not part.feeder or not part.is_as_before:
                    return None
        except FEED_ERRORS:
            return None  # they matter only if the read is not a backtest's
        if history is not None and self._reaches_beyond(found, request):
            return None
        self._warn_of_unknown()
        if status is None:
            found = found._replace(closed=_closed_of(each))
            status = self._check_each(each, reactions)
        else:
            end_outages(self._outages)
        behind = 0.0 if request.is_newest else self._behind(found.rows, request)
        if found.behind is not None:
            behind = found.behind
        note_live_read()
        task = current_record()
        ends = found.rows.ends.copy()  # the frame may share the memory of the rows
        self._note_closed(found, ends, task)
        record = self._record(found, ends)
        frame = self._frame(
            found, record, request.limit, labels, status, behind, reactions
        )
        task.log.add(self._told, record)
        return frame

    def _warn_of_unknown(self) -> None:
        for part in self._parts:
            if part.unknown:
                warn_of_unknown(part.feed.name, self._timeframe, part.unknown)

    def _note_closed(self, found: _Found, ends: Ints, task: TaskRecord) -> None:
        """Note which bars the task has read."""
        if self._shape.align and (found.late or found.behind):
            times = found.planes.close_time
            last = times[0, -1] if times.size else 0
            ends = np.where(ends > 0, last, 0)
        if found.rows.is_even or ends.any():
            task.note_list(self._streams, ends)

    def _find(self, request: PriceRequest) -> _Found:
        count = depth = request.limit
        while True:
            rows = self._read(request)
            planes = self._planes(rows)
            if not self._shape.align:
                return _Found(planes.newest(self._shape, count), rows, {})
            if planes.is_even:
                behind: float | None = 0.0
                if not (rows.is_even and request.is_newest):
                    behind = _seconds_to(_newest_left_out(rows, request), planes)
                return _Found(planes, rows, {}, behind)
            most = min(ring.history for ring in self._rings)
            cut = depth if depth is not None and depth < most else None
            common = planes.common(count, cut)
            if common is not None:
                newest = planes.close_time[:, -1].tolist()
                ends = dict(zip(planes.symbols, newest, strict=True))
                left_out = _newest_left_out(rows, request)
                behind = seconds_left_out(ends, left_out, common)
                return _Found(common, rows, seconds_late(ends), behind)
            depth = _DEEPER * (depth or most)
            request = request._replace(limit=depth)

    def _read(self, request: PriceRequest) -> ListRows:
        parts = [part.read(request) for part in self._parts]
        return parts[0] if len(parts) == 1 else join_rows(parts)

    def _planes(self, rows: ListRows) -> Planes:
        """Return the rows of the securities that have some, in the order asked."""
        values, closes = rows.values, rows.closes
        if self._order is not None:
            values, closes = values[:, self._order], closes[self._order]
        return Planes(self._carried, closes, values, rows.is_even).without_empty()

    def _statuses(
        self, rows: ListRows, max_age: float | None
    ) -> tuple[RingStatus | None, list[RingStatus]]:
        """Return the status of all if they are live, else None and that of each."""
        if rows.lost != self._lost:
            self._lost = rows.lost
            for ring in self._rings:
                warn_of_lost(ring)
        if rows.age is not None and max_age is None:
            return RingStatus(rows.age, "connected", "live"), []
        return None, [
            ring_status(ring._current_reader(), self._timeframe) for ring in self._rings
        ]

    def _behind(self, rows: ListRows, request: PriceRequest) -> float:
        """Return the seconds by which a bound leaves out newer bars, of all the most.

        Warn of a stream where they may be those of a wrong time zone.
        """
        bound = request.latest_close
        if bound is None or not (rows.newest > bound).any():
            return 0.0
        most = 0.0
        pairs = zip(rows.newest.tolist(), rows.ends.tolist(), strict=True)
        for stream, (newest, end) in zip(self._streams, pairs, strict=True):
            if newest > bound:
                behind = (newest - (end or bound)) / 1000
                warn_of_behind(stream, behind)
                most = max(most, behind)
        return most

    def _frame(
        self,
        found: _Found,
        record: CutRecord,
        count: int | None,
        labels: Labels,
        status: RingStatus,
        behind: float,
        reactions: Reactions,
    ) -> pd.DataFrame:
        planes = found.planes
        if reactions.heeds_rows:
            self._check_rows(found, record, count, reactions)
        values: dict[str, Any] = {
            "source": self._told["source"],
            "feed": self._feeds,
            "identity": self._identities,
            "rolled": self._rolled,
            "age": status.age,
            "state": status.state,
            "health": status.health,
            "behind": behind,
            "forming": False,
            "short": self._short(record.counts, count, planes),
            "gaps": planes.gaps(self._timeframe) + found.rows.left_out,
            "absent": planes.absent(self._written),
        }
        one_of_each = [part.rings[0] for part in self._parts if part.rings]
        note_relay_age(values, one_of_each, record.moment)
        attrs = make_attrs(record, values)
        return build_frame(planes, self._fields, self._shape, labels, attrs)

    def _short(self, counts: Ints, asked: int | None, planes: Planes) -> int:
        """Return how many rows fewer than asked for there are."""
        unknown = len(self._unknown)
        if asked is None or (planes.known_even and not unknown and counts[0] >= asked):
            return 0  # the usual case
        rows: list[int] = counts.tolist()
        return asked * unknown + sum(max(0, asked - number) for number in rows)

    def _record(self, found: _Found, ends: Ints) -> CutRecord:
        closes, rows = found.planes.close_time, found.rows
        counts = self._whole
        if len(counts) == 0 or counts[0] != closes.shape[1]:
            counts = np.full(len(self._rings), closes.shape[1], np.int64)
            self._whole = counts  # shared, and never changed
        if len(closes) < len(counts) or not found.planes.is_whole:
            held = np.count_nonzero(closes, axis=1).tolist()
            by_name = dict(zip(found.planes.symbols, held, strict=True))
            each = [by_name.get(written, 0) for written in self._read_order]
            counts = np.array(each, np.int64)
        times = None
        if self._shape.align:
            times = closes[0].copy() if len(closes) else np.empty(0, np.int64)
        rolled = {
            place: tuple(
                count_each(shown_rows(bars, int(counts[place]), times).flags).values()
            )
            for place, (bars, _) in rows.rolled.items()
        }
        kept = rows.kept(counts, times, self._timeframe)
        noted = rows.epochs, rows.newest, ends, counts, times, rolled
        return CutRecord(self._facts, *noted, found.late, kept, found.closed)

    def _check_rows(
        self,
        found: _Found,
        record: CutRecord,
        count: int | None,
        reactions: Reactions,
    ) -> None:
        for place, stream in enumerate(self._streams):
            ring, rows = self._rings[place], int(record.counts[place])
            taken, rolled = found.rows.rolled.get(place, (None, None))
            if taken is not None:
                taken = shown_rows(taken, rows, record.times)
            elif rows:
                end = int(record.ends[place])
                taken = rows_up_to(ring, end, rows, record.times)
            else:
                taken = from_bars([])
            if taken is None:
                continue  # the ring was recreated since
            window = Window(stream, taken, 0, len(taken), count, ring, rolled)
            check_rows(window, reactions)
        for stream in self._unknown:
            check_rows(Window(stream, from_bars([]), 0, 0, count), reactions)

    def _reaches_beyond(self, found: _Found, request: PriceRequest) -> bool:
        """Return True if a context may have older bars of the range."""
        closes = found.rows.closes
        if len(closes) < len(self._written) or not closes.size:
            return True
        if request.limit is None:
            oldest = np.where(closes > 0, closes, _NEVER).min(axis=1)
            return request.start is None or bool((oldest > request.start).any())
        return closes.shape[1] < request.limit or not closes[:, 0].all()

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


def _newest_left_out(rows: ListRows, request: PriceRequest) -> int:
    """Return the close time of the newest bar, of those that a bound leaves out too.

    A rolled-up group with a hole is left out by no bound.
    """
    bound = request.latest_close
    if bound is None:
        return int(rows.ends.max(initial=0))
    newest = np.where(rows.newest > bound, rows.newest, rows.ends)
    return int(newest.max(initial=0))


def _seconds_to(newest: int, planes: Planes) -> float | None:
    """Return the seconds from the last row of all to that bar, None without a row."""
    if not planes.close_time.size:
        return None
    return float(newest - planes.close_time[0, -1]) / 1000


def _closed_of(statuses: list[RingStatus]) -> frozenset[int]:
    """Return the places of the rings whose symbols do not trade."""
    return frozenset(
        place for place, status in enumerate(statuses) if status.health == "closed"
    )


_SHOWN = 20
_warned: set[tuple[str, StreamKey]] = set()  # feed and stream


def warn_of_unknown(feed: str, timeframe: Timeframe, symbols: tuple[str, ...]) -> None:
    """Warn once of each security of a list that the feed does not carry."""
    new = [s for s in symbols if is_first(_warned, (feed, (s, timeframe)))]
    if not new:
        return
    more = "" if len(new) <= _SHOWN else f" and {len(new) - _SHOWN} more"
    warn(
        f"feed {feed!r} does not carry {name_unknown(new[:_SHOWN], feed)}{more} at"
        f" {timeframe};"
        " the frame has the others, and attrs['shmfeed'].absent lists what it lacks",
        MissingBarsWarning,
    )
