"""The cached query of a list of securities: their newest bars, by one cut."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shmfeed.bar import Field, StreamKey, Timeframe, step
from shmfeed.cuts import Cut, cut
from shmfeed.errors import MissingBarsWarning, StreamNotFoundError
from shmfeed.feed import Ring
from shmfeed.health import RingStatus, health_rank, quiet_ns, rings_status
from wealthdata.attachment import FEED_ERRORS, AttachedFeed
from wealthdata.attrs import make_attrs
from wealthdata.choices import Choices
from wealthdata.completeness import Window, check_rows
from wealthdata.context_view import ContextView
from wealthdata.contexts_in_force import note_live_read
from wealthdata.cross_section import Planes, build_frame
from wealthdata.facts import CutFacts, CutRecord, RingFacts, rows_up_to
from wealthdata.freshness import StreamId, check, end_outages, warn, warn_of_lost
from wealthdata.handed import current_record
from wealthdata.labels import Labels
from wealthdata.long_frame import compiled_builder
from wealthdata.price_table import PreparedRead, limits_of, usual_attrs
from wealthdata.reactions import Reactions
from wealthdata.request import ReadArguments, Shape, count_of_newest
from wealthdata.securities import Security
from wealthdata.sources import current_views, strategy_time


class CachedListQuery:
    """A prepared read of the newest bars of several streams of one feed."""

    def __init__(
        self,
        feed: AttachedFeed,
        securities: tuple[Security, ...],
        timeframe: Timeframe,
        fields: tuple[Field, ...],
        shape: Shape,
        choices: Choices,
    ) -> None:
        """Prepare the read, of float fields only, of securities of this feed.

        It serves these `choices` alone. Raise StreamNotFoundError if the feed carries
        none of the streams.
        """
        self.choices = choices
        self._feed = feed
        self._written = tuple(security.written for security in securities)
        self._timeframe: Timeframe = timeframe
        self._fields = fields
        self._shape = shape
        symbols = tuple(security.symbol for security in securities)
        carried = split_carried(feed, symbols, timeframe)
        if not carried.rings:
            feed.ring((symbols[0], timeframe))
        self._rings = carried.rings
        self._facts = CutFacts(carried.rings)
        self._feeder = feed.check()
        self._unknown = carried.unknown
        unknown = set(carried.unknown)
        self._carried = tuple(s.written for s in securities if s.symbol not in unknown)
        self._outages: set[tuple[StreamId, float | None]] = {
            ((feed.name, ring.symbol, timeframe), None) for ring in self._rings
        }
        self._streams = tuple(
            (feed.name, ring.symbol, timeframe) for ring in self._rings
        )

    def prepared(self) -> PreparedRead | None:
        """Return what the C core needs for this read, or None if it cannot serve it."""
        length = step(self._timeframe)
        if len(self._written) > 1 or self._unknown or self._shape != (False, False):
            return None
        builder = compiled_builder(self._fields, self._written[0])
        if builder is None or not length:
            return None
        attrs = usual_attrs(self._feed.name, self._feeder.identity)
        parts = self._rings[0], builder, attrs, RingFacts(self._rings[0])
        quiet, mark = quiet_ns(self._timeframe), self._feeder.mark
        limits = limits_of(self.choices.reactions)
        return PreparedRead(*parts, length, quiet, mark, *limits, self._streams[0])

    def read(self, asked: ReadArguments, choices: Choices) -> pd.DataFrame | None:
        """Return the newest bars, or None if the general query must decide.

        Raise BadArgumentError, StaleFeedError or BusyRingError.
        """
        count = count_of_newest(asked)
        if count is None or asked.has_dates:
            return None
        labels = asked.labels(choices.label, self._timeframe)
        if asked.include_now is not False or not isinstance(asked.copy, bool):
            return None
        reactions = asked.reactions(choices.reactions)
        try:
            epochs = [ring.epoch for ring in self._rings]
            found = cut(self._rings, count, self._fields, self._shape.align)
            is_prepared = self._feed.check() is self._feeder
            status, each = self._statuses(reactions.max_age)
        except FEED_ERRORS:
            return None  # they matter only if the read is not a backtest's
        views, history = current_views()
        if (views or history) and self._context_matters(found, count, views, history):
            return None
        if not is_prepared or (self._unknown and not self._is_unknown_still()):
            return None
        if status is None:
            status = self._check_each(each, reactions)
        else:
            end_outages(self._outages)
        note_live_read()
        self._note_closed(found)
        return self._frame(found, count, labels, status, epochs, reactions)

    def _note_closed(self, found: Cut) -> None:
        """Note which bars the current task has read."""
        if not found.close_time.shape[-1]:
            return
        newest = found.close_time[..., -1]
        if self._shape.align:
            newest = np.full(len(self._streams), newest)
            missing = set(map(id, found.missing))
            newest[[id(ring) in missing for ring in self._rings]] = 0
        current_record().note_list(self._streams, newest.copy())

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
        return None, [ring.status() for ring in self._rings]

    def _frame(
        self,
        found: Cut,
        count: int,
        labels: Labels,
        status: RingStatus,
        epochs: list[int],
        reactions: Reactions,
    ) -> pd.DataFrame:
        planes, absent = self._planes(found)
        planes = planes.newest(self._shape, count)
        record = self._record(found, planes, epochs)
        shorts = [max(0, count - rows) for rows in record.counts]
        if reactions.heeds_rows:
            self._check_rows(record, count, reactions)
        values: dict[str, Any] = {
            "source": "live",
            "feed": self._feed.name,
            "identity": self._feeder.identity,
            "age": status.age,
            "state": status.state,
            "health": status.health,
            "forming": False,
            "short": sum(shorts),
            "gaps": planes.gaps(self._timeframe),
            "absent": absent,
        }
        attrs = make_attrs(record, values)
        return build_frame(planes, self._fields, self._shape, labels, attrs)

    def _record(self, found: Cut, planes: Planes, epochs: list[int]) -> CutRecord:
        closes, rings = planes.close_time, len(self._rings)
        counts = [int(closes.shape[1])] * rings
        if found.missing or not planes.is_whole:
            missing = set(map(id, found.missing))
            rows = iter(np.count_nonzero(closes, axis=1).tolist())
            counts = [0 if id(r) in missing else next(rows) for r in self._rings]
        newest, times = np.zeros(rings, np.int64), None
        if self._shape.align:
            times = found.close_time
        if found.close_time.size:
            newest[:] = found.close_time[..., -1]
        return CutRecord(self._facts, epochs, newest, counts, times)

    def _check_rows(self, record: CutRecord, count: int, reactions: Reactions) -> None:
        for ring, newest, rows in zip(
            self._rings, record.newest.tolist(), record.counts, strict=True
        ):
            taken = rows_up_to(ring, newest, rows, record.times)
            if taken is None:
                continue  # the ring was recreated since
            stream = self._feed.name, ring.symbol, self._timeframe
            check_rows(Window(stream, taken, 0, len(taken), count, ring), reactions)

    def _planes(self, found: Cut) -> tuple[Planes, list[str]]:
        """Return the rows of the securities that have some, and the absent ones."""
        symbols, values, closes = self._carried, found.values, found.close_time
        if self._shape.align:
            closes = np.broadcast_to(closes, values.shape[1:])
        if not found.missing and not self._unknown:
            return Planes(symbols, closes, values), []
        missing = set(map(id, found.missing))
        present = [k for k, ring in enumerate(self._rings) if id(ring) not in missing]
        kept = dict.fromkeys(symbols[k] for k in present)
        planes = Planes(tuple(kept), closes[present], values[:, present])
        return planes, [written for written in self._written if written not in kept]

    def _context_matters(
        self, found: Cut, count: int, views: tuple[ContextView, ...], history: object
    ) -> bool:
        """Return True if a context may add bars to this read, or hides some of them."""
        closes = found.close_time
        if any(view.is_backtest for view in views):
            return True
        if history is not None and (
            self._unknown
            or found.missing
            or closes.shape[-1] < count
            or not closes[..., 0].all()
        ):
            return True
        now = strategy_time(views)
        return now is not None and bool((closes > now).any())

    def _is_unknown_still(self) -> bool:
        """Return False once the feed carries one of the unknown securities."""
        carried = split_carried(self._feed, self._unknown, self._timeframe)
        warn_of_unknown(self._feed.name, self._timeframe, self._unknown)
        return not carried.rings

    def _check_each(
        self, statuses: list[RingStatus], reactions: Reactions
    ) -> RingStatus:
        """Check the freshness of each stream; return the oldest age, worst health."""
        max_age, on_stale = reactions[:2]
        for ring, status in zip(self._rings, statuses, strict=True):
            stream = self._feed.name, ring.symbol, self._timeframe
            check(stream, status, max_age, on_stale, ring)
        worst = max(statuses, key=lambda status: health_rank(status.health))
        ages = [status.age for status in statuses if status.age is not None]
        return RingStatus(max(ages, default=None), worst.state, worst.health)


class Carried(NamedTuple):
    """The rings of the streams that a feed carries, and the symbols that it lacks."""

    rings: tuple[Ring, ...]
    unknown: tuple[str, ...]


def split_carried(
    feed: AttachedFeed, symbols: tuple[str, ...], timeframe: Timeframe
) -> Carried:
    rings, unknown = [], []
    for symbol in symbols:
        try:
            rings.append(feed.ring((symbol, timeframe)))
        except StreamNotFoundError:
            unknown.append(symbol)
    return Carried(tuple(rings), tuple(unknown))


_MAX_WARNED = 4096
_SHOWN = 20
_warned: set[tuple[str, StreamKey]] = set()  # feed and stream


def warn_of_unknown(feed: str, timeframe: Timeframe, symbols: tuple[str, ...]) -> None:
    """Warn once of each security of a list that the feed does not carry."""
    new = [s for s in symbols if (feed, (s, timeframe)) not in _warned]
    if not new:
        return
    if len(_warned) >= _MAX_WARNED:
        _warned.clear()
    _warned.update((feed, (symbol, timeframe)) for symbol in new)
    more = "" if len(new) <= _SHOWN else f" and {len(new) - _SHOWN} more"
    warn(
        f"feed {feed!r} does not carry {', '.join(new[:_SHOWN])}{more} at {timeframe};"
        " the frame has the others, and attrs['shmfeed'].absent lists what it lacks",
        MissingBarsWarning,
    )
