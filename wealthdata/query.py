"""The two paths of `get_price`: a cached query of one ring, and the general query.

A cached query reads the newest bars of one stream from its ring alone; everything that
does not change between two calls is prepared. The general query takes any arguments and
bars from any source, and caches a query where that will serve the same call again.
"""

from contextlib import suppress
from typing import Any, NamedTuple

import pandas as pd

from shmfeed.bar import Field, StreamKey, Timeframe, check_timeframe, step
from shmfeed.errors import BusyRingError, StreamNotFoundError
from shmfeed.health import RingStatus
from shmfeed.validation import check_flag
from wealthdata.attachment import FEED_ERRORS, AttachedFeed, add_usual_read
from wealthdata.attrs import FrameAttrs, make_attrs
from wealthdata.bar_history import BarHistory
from wealthdata.carried import name_nearest
from wealthdata.choices import Choices, current_choices
from wealthdata.column_history import of_feed
from wealthdata.columns import BarColumns, count_missing, newest_close
from wealthdata.completeness import Window, check_rows
from wealthdata.context_view import ContextView
from wealthdata.contexts_in_force import note_live_read
from wealthdata.facts import ReadRecord, RingFacts, count_flags
from wealthdata.frame import (
    TIME,
    FrameTemplate,
    template_of,
    to_datetimes,
)
from wealthdata.freshness import check, warn_of_behind, warn_of_lost
from wealthdata.handed import current_record
from wealthdata.history_query import cache_history_query
from wealthdata.judging import attrs_of, judge, log_frame, note_closed, note_rows
from wealthdata.kept_bars import keep_bars
from wealthdata.labels import Labels
from wealthdata.list_query import CachedListQuery
from wealthdata.list_reading import by_feed, read_several
from wealthdata.merge import (
    FoundBars,
    Sources,
    find_bars,
    reaches_beyond,
    read_range,
    seconds_behind,
)
from wealthdata.price_table import PreparedRead, prepare_read, usual_attrs
from wealthdata.query_cache import keep_list_query, keep_query
from wealthdata.reactions import Reactions
from wealthdata.read_log import tracked
from wealthdata.relayed import note_relay_age
from wealthdata.request import (
    PriceRequest,
    ReadArguments,
    Shape,
    check_fields,
    check_request,
    count_of_newest,
)
from wealthdata.rolled_query import CachedRolledQuery
from wealthdata.rolled_ring import RolledRing, open_ring
from wealthdata.securities import Security, check_securities, check_security
from wealthdata.sources import current_views, open_sources, strategy_time

_TRIES = 100


class Taken(NamedTuple):
    """Rows of a ring, as a read has found them.

    `asked` is the number of rows asked for, None for a range that begins with a start;
    `epoch` that of the bar numbers before the read; `newest` the close time of the
    ring's newest row.
    """

    bars: Any
    asked: int | None
    epoch: int
    status: RingStatus
    newest: int
    behind: float = 0.0


class CachedQuery:
    """A prepared read of bars of one stream: its ring and its template."""

    __slots__ = (
        "_attached",
        "_build",
        "_compiled",
        "_facts",
        "_feed",
        "_feeder",
        "_ring",
        "_step",
        "_stream",
        "_timeframe",
        "choices",
    )

    def __init__(
        self,
        feed: AttachedFeed,
        key: StreamKey,
        template: FrameTemplate,
        choices: Choices,
    ) -> None:
        """Prepare the read. The template has float fields only.

        The read serves these `choices` alone. Raise StreamNotFoundError.
        """
        self.choices = choices
        self._attached = feed
        self._ring = feed.ring(key)
        self._facts = RingFacts(self._ring)
        self._feed = feed.name
        self._feeder = feed.check()
        self._timeframe = key[1]
        self._stream = (feed.name, *key)
        self._build = template.build
        self._step = step(key[1])  # 0 for months, which the calendar counts
        self._compiled = template.compiled

    def prepared(self) -> PreparedRead | None:
        """Return what the C core needs for this read, or None if it cannot serve it."""
        attrs = usual_attrs(self._feed, self._feeder)
        parts = self._ring, self._compiled, attrs, self._stream
        return prepare_read(*parts, self._feeder.mark, self.choices)

    def read(self, asked: ReadArguments, choices: Choices) -> pd.DataFrame | None:
        """Return the newest bars, or None if the general query must decide.

        Raise BadArgumentError, StaleFeedError or BusyRingError.
        """
        if asked.has_dates:
            return self._read_range(asked, choices)
        count, include_now, copy = count_of_newest(asked), asked.include_now, asked.copy
        if count is None or not (
            isinstance(include_now, bool) and isinstance(copy, bool)
        ):
            return None
        labels = asked.labels(choices.label, self._timeframe)
        reactions = asked.reactions(choices.reactions)
        private = include_now or copy or choices.copy
        views, history = current_views()
        if any(view.is_backtest for view in views):
            return None  # before the ring is asked, whose trouble is no backtest's
        ring = self._ring
        try:
            epoch = ring.epoch
            bars: Any = (
                ring.snapshot(count, include_now) if private else ring.view(count)
            )
            status = ring.status()
            if ring._lost:
                warn_of_lost(ring)
            if (
                self._attached.check() is not self._feeder
                # A snapshot has at most `history` rows, the forming bar among them.
                or (include_now and count > ring.history)
                or (
                    (views or history) and _context_matters(bars, count, views, history)
                )
            ):
                return None
        except FEED_ERRORS:
            return None  # they matter only if the read is not a backtest's
        check(self._stream, status, reactions.max_age, reactions.on_stale, ring)
        taken = Taken(bars, count, epoch, status, newest_close(bars))
        return self._frame(taken, labels, private, reactions)

    def _read_range(
        self, asked: ReadArguments, choices: Choices
    ) -> pd.DataFrame | None:
        """Return the bars of a range, or None if the general query must decide."""
        if asked.include_now is not False or not isinstance(asked.copy, bool):
            return None
        start, end, limit = asked.start_date, asked.end_date, asked.limit
        request = check_request(start, end, limit, False, self._timeframe)
        labels = asked.labels(choices.label, self._timeframe)
        reactions = asked.reactions(choices.reactions)
        views, history = current_views()
        if any(view.is_backtest for view in views):
            return None
        request = request._replace(now=strategy_time(views))
        private = asked.copy or choices.copy
        ring = self._ring
        try:
            epoch = ring.epoch
            bars, newest = read_range(ring, request, private)
            status = ring.status()
            if self._attached.check() is not self._feeder:
                return None
            if ring._lost:
                warn_of_lost(ring)
            if history is not None and reaches_beyond(ring, bars.close_time, request):
                return None
        except FEED_ERRORS:
            return None  # they matter only if the read is not a backtest's
        check(self._stream, status, reactions.max_age, reactions.on_stale, ring)
        behind = seconds_behind(bars.close_time, newest, request.latest_close)
        warn_of_behind(self._stream, behind)
        taken = Taken(bars, request.limit, epoch, status, newest, behind)
        return self._frame(taken, labels, private, reactions)

    def _frame(
        self, taken: "Taken", labels: Labels, private: bool, reactions: Reactions
    ) -> pd.DataFrame | None:
        """Return the frame of these rows, None if they were overwritten meanwhile."""
        bars, epoch, age = taken.bars, taken.epoch, taken.status.age
        if reactions.heeds_rows:
            limits = 0, len(bars), taken.asked
            check_rows(Window(self._stream, bars, *limits, self._ring), reactions)
        window = 0, len(bars)
        kept = keep_bars(bars, *window) if private or tracked else None
        record = ReadRecord(self._facts, bars, window, epoch, age, taken.newest, kept)
        values = self._values(taken)
        note_relay_age(values, [self._ring], record.moment)
        if private:
            values |= count_flags(bars, *window)
        attrs = make_attrs(record, values)
        if labels.are_closes:
            times = bars.datetimes(TIME)
        else:
            times = to_datetimes(labels.of(bars.close_time))
        frame = self._build(bars.floats, times, attrs, not private)
        note_live_read()
        task = current_record()
        note_closed(task, self._stream, bars, len(bars))
        if not bars.valid:
            return None
        log_frame(attrs, task)
        return frame

    def _values(self, taken: "Taken") -> dict[str, Any]:
        bars, status = taken.bars, taken.status
        if self._step:
            gaps = bars.missing(self._step)
        else:
            gaps = count_missing(bars, 0, len(bars), self._timeframe)
        return {
            "source": self._feeder.source,
            "feed": self._feed,
            "identity": self._feeder.identity,
            "age": status.age,
            "state": status.state,
            "health": status.health,
            "behind": taken.behind,
            "forming": bars.forming,
            "short": max(0, (taken.asked or 0) - len(bars)),
            "gaps": gaps,
        }


def _context_matters(
    bars: BarColumns, count: int, views: tuple[ContextView, ...], history: object
) -> bool:
    """Return True if a context may add bars to this read, or hides some of them."""
    if history is not None and len(bars) < count:
        return True
    now = strategy_time(views)
    return now is not None and bool(len(bars)) and bool(bars.close_time[-1] > now)


class GeneralQuery(NamedTuple):
    """The checked arguments of a call, and the contexts that it may read."""

    fields: tuple[Field, ...]
    timeframe: Timeframe
    request: PriceRequest
    labels: Labels
    private: bool
    reactions: Reactions
    named: str | None  # the feed that the call names, else the chosen one
    views: tuple[ContextView, ...]
    history: BarHistory | None

    def sources(self, security: Security) -> Sources:
        """Return the sources of one security's bars."""
        return open_sources(self.views, self.history, security.feed or self.named)

    def read_one(self, security: Security) -> tuple[pd.DataFrame, AttachedFeed | None]:
        """Return the frame of one security, and the feed if a query can be kept.

        It can if the rows are the ring's alone, and of float fields.

        Raise NoDataError, StreamNotFoundError, StaleFeedError or BusyRingError.
        """
        sources = self.sources(security)
        key = security.symbol, self.timeframe
        template = template_of(self.fields)
        private = self.private or not template.only_floats
        for _ in range(_TRIES):
            found = find_bars(key, self.request, sources, private)
            attrs = self.attrs(found, key, sources)
            bars, first, last = found.columns, found.first, found.last
            if not found.shared:
                kept = found.source == "live" and template.only_floats
                window = slice(first, last)
                frame = template.build_private(bars, window, self.labels, attrs)
                log_frame(attrs)
                return frame, sources.feed if kept else None
            floats, closes = bars.floats[:, first:last], bars.close_time[first:last]
            times = to_datetimes(self.labels.of(closes))
            frame = template.build(floats, times, attrs, True)
            if bars.valid:
                log_frame(attrs)
                return frame, sources.feed
            # Or the next try would count a frame of this process as lost.
            del found, bars, floats, closes, attrs, frame
        raise BusyRingError(
            f"{key[0]} {key[1]}: the feeder overwrote rows during each of"
            f" {_TRIES} reads; read fewer rows, or use copy=True"
        )

    def attrs(
        self,
        found: FoundBars,
        key: StreamKey,
        sources: Sources,
        shown: FoundBars | None = None,
    ) -> FrameAttrs:
        """Return the frame's attrs, after the checks that the reactions ask for.

        `shown` has the rows of the frame, None if it has all that were found.
        """
        if found.source != "context":
            note_live_read()
        shown = found if shown is None else shown
        judge(found, key, self.request, sources, self.reactions, shown)
        note_rows(shown, key)
        return attrs_of(shown, key, self.request, sources)


def run(asked: ReadArguments) -> pd.DataFrame:
    """Check the arguments of a read and return its frame by the general query."""
    choices = current_choices()
    reactions = asked.reactions(choices.reactions)
    timeframe = check_timeframe(asked.frequency, "frequency")
    request = check_request(
        asked.start_date, asked.end_date, asked.limit, asked.include_now, timeframe
    )
    views, history = current_views()
    query = GeneralQuery(
        fields=check_fields(asked.fields),
        timeframe=timeframe,
        request=request._replace(now=strategy_time(views)),
        labels=asked.labels(choices.label, timeframe),
        private=check_flag("copy", asked.copy) or choices.copy,
        reactions=reactions,
        # One feed for all of a list, though another thread may choose another one.
        named=asked.named_feed() or choices.feed,
        views=views,
        history=history,
    )
    shape = asked.shape()
    if not isinstance(asked.security, str):
        return _read_list(query, asked, shape, choices)
    security = check_security(asked.security)
    try:
        frame, feed = query.read_one(security)
    except StreamNotFoundError as error:
        raise name_nearest(error, security, query.named) from None
    if _can_be_key(asked.fields):
        _cache(feed, security, query, asked, choices)
    return frame


def _can_be_key(fields: object) -> bool:
    """Return True if these checked fields never change and can be hashed."""
    return fields is None or isinstance(fields, str | tuple)


def _read_list(
    query: GeneralQuery, asked: ReadArguments, shape: Shape, choices: Choices
) -> pd.DataFrame:
    securities = check_securities(asked.security)
    feeds = by_feed({security: query.sources(security) for security in securities})
    if (
        sum(map(len, feeds.values())) == len(securities)
        and not query.request.include_now
        and template_of(query.fields).only_floats
    ):
        with suppress(StreamNotFoundError):  # the general query looks for a context
            cached = CachedListQuery(
                feeds, tuple(securities), query.timeframe, query.fields, shape, choices
            )
            frame = cached.read(asked, choices)
            if frame is not None:
                if isinstance(asked.security, list | tuple) and _can_be_key(
                    asked.fields
                ):
                    key = list_key(asked)
                    keep_list_query((*key, *shape), cached)
                    first = next(iter(feeds))
                    add_usual_read(first, key, cached.prepared(), choices)
                return frame
    return read_several(query, securities, shape)


def list_key(asked: ReadArguments) -> tuple[Any, ...]:
    """Return the arguments that name the query of a list."""
    listed: Any = asked.security
    return tuple(listed), asked.frequency, asked.fields, asked.feed


def _cache(
    feed: AttachedFeed | None,
    security: Security,
    query: GeneralQuery,
    asked: ReadArguments,
    choices: Choices,
) -> None:
    """Keep a query for the next call with these arguments, if one can serve that.

    `feed` is None if the rows are not those of a ring alone.
    """
    key, template = (security.symbol, query.timeframe), template_of(query.fields)
    if feed is None:
        own = of_feed(query.history, security.feed or query.named)
        arguments = asked.security, asked.frequency, asked.fields, asked.feed
        cache_history_query(arguments, key, (query.history, own), template, choices)
        return
    ring = open_ring(feed, key)
    cached: CachedQuery | CachedRolledQuery
    if isinstance(ring, RolledRing):
        cached = CachedRolledQuery(feed, key, ring, template, choices)
    else:
        cached = CachedQuery(feed, key, template, choices)
    arguments = asked.security, asked.frequency, asked.fields, asked.feed
    keep_query(arguments, cached)
    add_usual_read(feed, arguments, cached.prepared(), choices)
