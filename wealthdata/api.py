"""The functions of a strategy. pandas is loaded by the first call that needs it.

The usual call (one security, the newest bars, all of them in the ring) takes a short
way: a `Plan`, remembered with the feed, knows what can be known beforehand. Any other
takes the long way of `answer`, which decides where bars come from.
"""

from typing import TYPE_CHECKING, Any

from wealthdata.attachment import current

if TYPE_CHECKING:
    import pandas as pd


def get_price(
    security: Any,
    start_date: Any = None,
    end_date: Any = None,
    frequency: str = "1h",
    fields: Any = None,
    skip_paused: bool = False,  # noqa: ARG001 # jqdatasdk's; changes nothing here
    fq: str | None = "pre",  # noqa: ARG001 # as above
    count: int | None = None,
    panel: bool = True,  # noqa: ARG001 # as above
    fill_paused: bool = True,  # noqa: ARG001 # as above
    round: bool = True,  # noqa: A002, ARG001 # as above
    *,
    include_now: bool = False,
    copy: bool = False,
    max_age: float | None = None,
    on_stale: str = "warn",
) -> "pd.DataFrame":
    """Bars of one security or of several, oldest first.

    One security: columns are `fields` (default open, high, low, close, volume, all
    float64; also money, and open_time, close_time, flags as int64), the index is that
    of the close times, tz-naive UTC. A list: one long frame with a RangeIndex and the
    columns time, code and the fields, in the order asked. Without rows it is empty.

    The last `count` bars, or those from `start_date` on (without either the last 20),
    whose close times are up to `end_date`, both ends included. Closed bars only,
    unless `include_now`: then the forming bar, if there is one, is the last of them.

    A frame of float fields of bars that all come from the live ring shares its memory:
    bars cannot be changed through it, and `df.attrs["shmfeed"].valid` tells when they
    have been overwritten. `copy=True` makes it private. `attrs["shmfeed"]` also says
    source, feed, age, state, health, forming and gaps.

    `max_age` is in seconds; stale bars are returned with a StaleFeedWarning
    (`on_stale="warn"`), raise StaleFeedError ("raise"), or are just returned
    ("ignore"). `skip_paused`, `fq`, `panel`, `fill_paused` and `round` change nothing.

    Raises BadArgumentError, NoDataError (no feed and no context), StreamNotFoundError,
    StaleFeedError, BusyRingError.
    """
    if fields.__class__ is list:
        fields = tuple(fields)
    if security.__class__ is str and start_date is None and end_date is None:
        live = current()
        if live is not None:
            try:  # no suppress(): it costs half a microsecond
                plan = live.plans.get((security, frequency, fields))
            except TypeError:
                plan = None  # not hashable: the long way says what is wrong
            if plan is not None:
                frame: pd.DataFrame | None = plan.read(
                    count, include_now, copy, max_age, on_stale
                )
                if frame is not None:
                    return frame
    from wealthdata import query  # noqa: PLC0415 # loads pandas

    want = start_date, end_date, count, include_now
    return query.get(security, frequency, fields, want, copy, (max_age, on_stale))


def bars_to_dataframe(bars: Any) -> "pd.DataFrame":
    """Bars (Bar, objects or dicts) as `get_price` shows them, in the order given.

    Columns open, high, low, close, volume; the index is that of the close times.
    Raises BadArgumentError naming the malformed bar.
    """
    from wealthdata import frame  # noqa: PLC0415 # loads pandas

    return frame.bars_to_dataframe(bars)
