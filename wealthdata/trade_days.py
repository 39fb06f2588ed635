"""The trading calendar: each day, from the oldest bar on."""

import time
from datetime import date

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import StreamKey
from shmfeed.errors import BadArgumentError, NoDataError
from shmfeed.text import repr_short
from shmfeed.validation import check_feed_name, check_int
from wealthdata.carried import Carried, carried
from wealthdata.contexts_in_force import note_live_read
from wealthdata.sources import current_views, strategy_time
from wealthdata.times import DateLike, to_ms

DAY = 86_400_000  # ms
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def get_trade_days(
    start_date: "DateLike | None" = None,
    end_date: "DateLike | None" = None,
    count: int | None = None,
    *,
    feed: str | None = None,
) -> NDArray[np.object_]:
    """Return the trading days: each day of the calendar, as markets of 7 x 24 have it.

    JoinQuant's signature.

    Args:
        start_date: The first day. Default: the UTC day of the oldest bar that the feed
            or the context has. It may lie before that. Not together with `count`.
        end_date: The last day, included. Default: today, in UTC by the context's
            `current_dt`, else by this host's clock. It may lie in the future.
        count: The number of days, the last of which is `end_date`.
        feed: The feed whose oldest bar counts. Default: as in `get_price`.

    Returns:
        An array of datetime.date, oldest first; empty if the range has no day.

    Raises:
        BadArgumentError: An argument is not accepted.
        NoDataError: Neither `start_date` nor `count` is given, and there is neither a
            feed nor a context, or no bar yet.

    Thread safety:
        As for `get_price`.
    """
    named = None if feed is None else check_feed_name(feed)
    last = today() if end_date is None else day_of("end_date", end_date)
    if count is not None:
        number = check_int("count", count, 1, _EPOCH_DAY + last)
        if start_date is not None:
            raise BadArgumentError(
                f"count {repr_short(count)} and start_date {repr_short(start_date)}"
                " exclude each other; leave one of them out"
            )
        first = last - number + 1
    elif start_date is not None:
        first = day_of("start_date", start_date)
        if end_date is not None and first > last:
            raise BadArgumentError(
                f"start_date {repr_short(start_date)} is after end_date"
                f" {repr_short(end_date)}; a range begins with start_date"
            )
    else:
        first = oldest_day(carried(named))
    return _days(first, last)


def get_all_trade_days(*, feed: str | None = None) -> NDArray[np.object_]:
    """Return the trading days from the oldest bar to today, as `get_trade_days` does.

    Args:
        feed: As there.

    Returns:
        An array of datetime.date, oldest first.

    Raises:
        BadArgumentError: The feed's name is not accepted.
        NoDataError: There is neither a feed nor a context, or no bar yet.

    Thread safety:
        As for `get_price`.
    """
    return get_trade_days(feed=feed)


def day_of(name: str, value: object) -> int:
    """Return the UTC day of the argument `name`, counted from 1970-01-01.

    Raise BadArgumentError.
    """
    return to_ms(name, value) // DAY


def today() -> int:
    """Return the strategy's UTC day, counted from 1970-01-01."""
    now = strategy_time(current_views()[0])
    return (time.time_ns() // 1_000_000 if now is None else now) // DAY


def as_date(day: int) -> date:
    return date.fromordinal(_EPOCH_DAY + day)


def _days(first: int, last: int) -> NDArray[np.object_]:
    days = [as_date(day) for day in range(first, last + 1)]
    return np.array(days, dtype=object)


def oldest_day(known: Carried) -> int:
    """Return the UTC day of the oldest bar. Raise NoDataError without a bar."""
    opens = [
        moment
        for key in known.streams
        if (moment := oldest_open(known, key)) is not None
    ]
    if not opens:
        raise NoDataError(
            f"{known.describe()} has no bar yet, so the first trading day is not known;"
            " give start_date or count"
        )
    return min(opens) // DAY


def oldest_open(known: Carried, key: StreamKey) -> int | None:
    """Return the open time of a stream's oldest closed bar; None without one."""
    found: list[int] = []
    if known.feed is not None and key in known.feed.streams():
        ring = known.feed.ring(key)
        rows = ring.view(ring.history)
        note_live_read()
        found += rows.open_time[:1].tolist()
    if known.history is not None and known.history.streams() is not None:
        older = known.history.rows(key, 1)
        visible = older.open_time
        if known.now is not None:
            visible = visible[older.close_time <= known.now]
        found += visible[:1].tolist()
    return min(found, default=None)
