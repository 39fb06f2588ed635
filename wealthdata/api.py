"""The functions of a strategy. The first call that needs pandas loads it.

The C core serves the usual call by itself; `reading` serves any other.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from shmfeed.bar import Field, Timeframe, TimeframeAlias
from wealthdata.bar_history import BarLike
from wealthdata.labels import Label
from wealthdata.reactions import Reaction
from wealthdata.reading import read_unusual
from wealthdata.request import ReadArguments
from wealthdata.sources import open_price_table
from wealthdata.times import DateLike

if TYPE_CHECKING:
    import pandas as pd


_table = open_price_table()
_usual_read, _usual_range = _table.read, _table.read_range


# Quoted annotations: help(get_price) shows their names, not each accepted value.
def get_price(
    security: str | Sequence[str],
    start_date: "DateLike | None" = None,
    end_date: "DateLike | None" = None,
    frequency: "Timeframe | TimeframeAlias" = "1h",
    fields: "Field | Sequence[Field] | None" = None,
    skip_paused: bool = False,  # noqa: ARG001 # jqdatasdk's; changes nothing here
    fq: str | None = "pre",  # noqa: ARG001 # as above
    count: int | None = None,
    panel: bool = True,  # noqa: ARG001 # as above
    fill_paused: bool = True,  # noqa: ARG001 # as above
    round: bool = True,  # noqa: A002, ARG001 # as above
    *,
    feed: str | None = None,
    include_now: bool = False,
    copy: bool = False,
    label: Label | None = None,
    align: bool = False,
    wide: bool = False,
    max_age: float | None = None,
    on_stale: Reaction | None = None,
    on_gap: Reaction | None = None,
    on_short: Reaction | None = None,
    on_unconfirmed: Reaction | None = None,
) -> "pd.DataFrame":
    """Return bars of one security or of several, oldest first.

    JoinQuant's signature: same parameter names, same order. Bars come from the feed's
    ring in shared memory and, for times before its oldest bar, from the context. A
    timeframe that the feed does not carry is rolled up from the longest one that
    divides it. Only closed bars are returned, unless `include_now=True`. With neither
    `count` nor `start_date`, the last 20 bars are returned.

    Args:
        security: A symbol such as "BTCUSDT", or a list of symbols.
        start_date: Earliest close time, included. Not together with `count`.
        end_date: Latest close time, included. For both: a str ("2026-01-31 08:00"),
            date, datetime, pandas Timestamp or numpy datetime64. Naive times are UTC. A
            date without a time is 00:00 UTC and, at 1d and longer, the whole day. An
            int is accepted at run time: YYYYMMDD, YYYYMMDDhhmmss, or milliseconds UTC
            between 1990 and 2200. Type checkers refuse it on purpose, because a count
            in second place would be taken for a time.
        frequency: Timeframe of the bars: 1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d
            1w 1M, or 60m 120m 240m 24h daily minute. Case matters: 1M is a month.
        fields: Columns, in this order: one or several of open high low close volume
            money (float64) and open_time close_time (int64, ms UTC) flags (int64).
            Default: open high low close volume.
        count: Number of bars, the newest up to `end_date`; at least 1.
        feed: The feed to read. Default: that of `use` or of SHMFEED_FEED, else
            "default". A security written SYMBOL@FEED names its own.
        include_now: If True, the forming bar is the last row, if there is one and
            `end_date` and the context's `current_dt` admit it.
        copy: If True, the frame is private memory and writable.
        label: "close", "open" or "date": the times that the index holds. Default: that
            of `use` or of SHMFEED_LABEL, else "close".
        max_age: Seconds. The bars are stale if the stream's last update is older than
            this. Default: they are stale when the feeder is dead or not connected, or
            after 3 bars without an update, at least 30 s.
        on_stale: "warn" gives a StaleFeedWarning, once per outage and stream; "raise"
            raises StaleFeedError; "ignore" returns the bars. Default of this and of the
            next three: that of `use` or of the environment, else "warn" here and
            "ignore" there.
        on_gap: The same of bars that are missing between the rows and that the venue
            has: GapWarning, once per hole, or GapError.
        on_short: The same of fewer rows than `count`: ShortWarning or ShortError.
        on_unconfirmed: The same of a newest closed row that is not known to be final:
            UnconfirmedWarning or UnconfirmedError.
        align: Of a list: if True, one instant, and only the close times that every
            security with bars has; with `count` the last `count` of those.
        wide: Of a list: if True, times down and securities across, NaN where a security
            lacks a bar; with `count` the last `count` times that any of them has.
        skip_paused, fq, panel, fill_paused, round: Accepted, and change nothing. Prices
            are neither adjusted nor rounded.

    Returns:
        For one security a DataFrame of shape (bars, fields), its index the close times:
        a tz-naive UTC DatetimeIndex. For a list one long DataFrame with a RangeIndex
        and the columns time, code and the fields, in the order of the list, or, wide,
        one with the close times as index and the symbols, or (field, symbol), as
        columns. If the range has fewer bars than `count`, those; if it has none, an
        empty frame with the same columns and dtypes.

        A frame of one security, with float fields, whose bars all come from the ring,
        shares the ring's memory. A write to it copies the frame first (pandas 3) or
        raises ValueError (pandas 2). Its oldest rows are overwritten once `guard` or
        more further bars have closed: compute, then check `valid`, then act.

        `df.attrs["shmfeed"]` is a dict with attribute access, as of the read: the
        source of the rows (`source` `feed` `identity` `rolled`), how fresh they are
        (`age` `state` `health` `due` `behind` `late`), how whole (`forming` `short`
        `gaps` `unconfirmed` `polled` `revised` `absent`), and `valid`, asked at each
        access: False once rows of this frame are being overwritten.

    Raises:
        BadArgumentError: An argument is not accepted; the message says what is.
        NoDataError: Neither a feed nor a context can supply the bars.
        ContextError: This thread or task has set no context, and it is not clear which
            of those in force it reads for; the message says how to hand one over.
        StreamNotFoundError: Neither the feed nor the context has the security, or any
            of the list, at this timeframe.
        FeedChangedError: The feed is of another market than this process has read under
            its name, or than `use(expect=...)` says.
        StaleFeedError, GapError, ShortError, UnconfirmedError: The rows are so, and the
            reaction to it is "raise".
        BusyRingError: Bars closed faster than they could be read.
        SegmentError: The feed's shared memory cannot be used.

    Thread safety:
        Any thread or asyncio task may call this; each has its own context.
    """
    if fields.__class__ is list:
        fields = tuple(fields)
    given = (
        security,
        frequency,
        fields,
        feed,
        count,
        include_now,
        copy,
        align,
        wide,
        label,
        max_age,
        on_stale,
        on_gap,
        on_short,
        on_unconfirmed,
    )
    frame: pd.DataFrame | None = (
        _usual_read(given)
        if start_date is None and end_date is None
        else _usual_range(given, start_date, end_date)
    )
    if frame is not None:
        return frame
    return read_unusual(ReadArguments(*given, start_date, end_date))


def bars_to_dataframe(bars: Iterable[BarLike]) -> "pd.DataFrame":
    """Return bars as a frame like that of `get_price`, in the order given.

    Args:
        bars: Bars: Bar, or objects or dicts with its field names; prices may be
            strings.

    Returns:
        A private DataFrame of float64 columns open, high, low, close, volume, its index
        the close times: a tz-naive UTC DatetimeIndex.

    Raises:
        BadArgumentError: A bar is malformed; the message names it.
    """
    from wealthdata import frame  # noqa: PLC0415 # loads pandas

    return frame.bars_to_dataframe(bars)
