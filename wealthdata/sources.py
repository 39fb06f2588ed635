"""The sources of a read: the contexts that it is for, their bars, and the feed."""

import time

from shmfeed.bar import STALE_MIN_SECONDS, Bar, Timeframe, check_timeframe
from shmfeed.validation import check_int, check_symbol
from wealthdata.attachment import attached_feed, selected_feed
from wealthdata.attrs import FrameAttrs
from wealthdata.bar_history import BarHistory
from wealthdata.choices import current_choices
from wealthdata.column_history import of_feed
from wealthdata.columns import to_bars
from wealthdata.completeness import troubles
from wealthdata.context_view import ContextView
from wealthdata.contexts_in_force import (
    READ_LIVE,
    Setting,
    another_is_backtest,
    current,
    hold_for_task,
    note_live_read,
    registered,
    settings,
    view_in_force,
)
from wealthdata.environment import TABLE
from wealthdata.freshness import behind_warned, outages
from wealthdata.handed import bars_read
from wealthdata.judging import attrs_of, judge, log_frame, note_rows
from wealthdata.merge import Sources, find_bars
from wealthdata.price_table import OwnContexts, PriceTable, RangeParts, open_table
from wealthdata.read_log import tracked
from wealthdata.request import (
    PriceRequest,
    ReadArguments,
    check_request,
    count_of_newest,
)
from wealthdata.times import known_texts, to_moment


def current_views() -> tuple[tuple[ContextView, ...], BarHistory | None]:
    """Return the views that limit this read in time, and the history of older bars.

    The context that the read is for and a registered adapter's both bound the time; the
    adapter's history is used before the context's. Raise ContextError if it is not
    clear which context is meant.
    """
    view, adapter = view_in_force(), registered.view
    if adapter is not None:
        return ((adapter,) if view is None else (view, adapter)), adapter.history
    return ((), None) if view is None else ((view,), view.history)


def open_sources(
    views: tuple[ContextView, ...],
    history: BarHistory | None,
    named: str | None = None,
    explicit: bool = False,
) -> Sources:
    """Return the sources of a read; in a backtest no feed is one of them.

    `named` is the feed that the call names; None for the chosen one. An `explicit` view
    is one that the caller names, whatever context is in force.
    """
    backtest = selected_feed() is None or any(view.is_backtest for view in views)
    if explicit and not backtest:
        backtest = another_is_backtest()
    if backtest:
        hold_for_task()
    return Sources(
        None if backtest else attached_feed(named),
        of_feed(history, named),
        backtest,
        time.time_ns() // 1_000_000,
        named,
        _owner(views[-1]) if views else None,
    )


def _owner(view: ContextView) -> object:
    return registered.adapter if view.context is None else view.context


def strategy_time(views: tuple[ContextView, ...]) -> int | None:
    """Return the strategy's time in ms UTC; None if no context sets it."""
    times = [moment for view in views if (moment := view.now) is not None]
    return min(times, default=None)


def bounded_request(
    asked: ReadArguments, timeframe: Timeframe
) -> tuple[PriceRequest | None, BarHistory | None]:
    """Return the range of closed bars that a prepared read is asked for.

    It is bounded by the strategy's time. Return None if the general query must decide,
    as in a backtest, and beside it the history that may have older bars. Raise
    BadArgumentError or ContextError.
    """
    if asked.include_now is not False or not isinstance(asked.copy, bool):
        return None, None
    views, history = current_views()
    if any(view.is_backtest for view in views):
        return None, history
    if asked.has_dates:
        given = asked.start_date, asked.end_date, asked.limit
        request = check_request(*given, False, timeframe)
    else:
        count = count_of_newest(asked)
        if count is None:
            return None, history
        request = PriceRequest(count)
    if views:
        request = request._replace(now=strategy_time(views))
    return request, history


def merged_bars(
    view: ContextView, symbol: str, count: int, timeframe: str
) -> list[Bar]:
    """Return the newest bars of the ring and, before them, of this context alone."""
    count = check_int("count", count)
    key = check_symbol(symbol), check_timeframe(timeframe)
    request = PriceRequest(count, now=view.now)
    sources = open_sources((view,), view.history, explicit=True)
    found = find_bars(key, request, sources, private=True)
    if found.source != "context":
        note_live_read()
    judge(found, key, request, sources, current_choices().reactions)
    note_rows(found, key)
    log_frame(attrs_of(found, key, request, sources))
    return to_bars(found.columns, found.first, found.last)


def open_price_table() -> PriceTable:
    """Open the table of usual calls: no adapter, no trouble to end, no tracking."""
    must_be_empty = outages, troubles, registered.names, tracked
    return open_table(
        TABLE,
        OwnContexts(current, READ_LIVE, Setting, settings),
        must_be_empty,
        FrameAttrs,
        STALE_MIN_SECONDS,
        bars_read,
        RangeParts(known_texts, to_moment, behind_warned),
    )
