"""`get_bars`: bars as a frame with a column `date`, or as a structured array."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import DEFAULT_FIELDS, FIELDS, Field, Timeframe, TimeframeAlias
from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from shmfeed.validation import check_flag
from wealthdata.argument_names import rename
from wealthdata.keywords import ReadKeywords
from wealthdata.labels import Label
from wealthdata.price_table import array_table
from wealthdata.reactions import Reaction
from wealthdata.request import ReadArguments, check_columns
from wealthdata.sources import open_price_table
from wealthdata.times import DateLike

if TYPE_CHECKING:
    import pandas as pd

open_price_table()
_usual_array, _usual_range = array_table().read, array_table().read_range

BarsField = Field | Literal["date"]
BarsArray = NDArray[np.void]

_FIELDS = ("date", *FIELDS)
_DEFAULT_FIELDS = ("date", *DEFAULT_FIELDS)
_UNIT = "1h"
_NAMES = {
    "start_date": "start_dt",
    "end_date": "end_dt",
    "frequency": "unit",
    "count": "count",
}


@overload
def get_bars(
    security: str | Sequence[str],
    count: int | None = None,
    unit: "Timeframe | TimeframeAlias" = "1h",
    fields: "BarsField | Sequence[BarsField] | None" = None,
    include_now: bool = False,
    end_dt: "DateLike | None" = None,
    fq_ref_date: object = None,
    df: Literal[True] = True,
    start_dt: "DateLike | None" = None,
    skip_paused: bool = True,
    *,
    frequency: "Timeframe | TimeframeAlias | None" = None,
    align: bool = False,
    wide: bool = False,
    **keywords: Unpack[ReadKeywords],
) -> "pd.DataFrame": ...
@overload
def get_bars(
    security: str,
    count: int | None = None,
    unit: "Timeframe | TimeframeAlias" = "1h",
    fields: "BarsField | Sequence[BarsField] | None" = None,
    include_now: bool = False,
    end_dt: "DateLike | None" = None,
    fq_ref_date: object = None,
    *,
    df: Literal[False],
    start_dt: "DateLike | None" = None,
    skip_paused: bool = True,
    frequency: "Timeframe | TimeframeAlias | None" = None,
    **keywords: Unpack[ReadKeywords],
) -> BarsArray: ...
@overload
def get_bars(
    security: list[str] | tuple[str, ...],
    count: int | None = None,
    unit: "Timeframe | TimeframeAlias" = "1h",
    fields: "BarsField | Sequence[BarsField] | None" = None,
    include_now: bool = False,
    end_dt: "DateLike | None" = None,
    fq_ref_date: object = None,
    *,
    df: Literal[False],
    start_dt: "DateLike | None" = None,
    skip_paused: bool = True,
    frequency: "Timeframe | TimeframeAlias | None" = None,
    align: bool = False,
    **keywords: Unpack[ReadKeywords],
) -> dict[str, BarsArray]: ...
@overload
def get_bars(
    security: str | Sequence[str],
    count: int | None = None,
    unit: "Timeframe | TimeframeAlias" = "1h",
    fields: "BarsField | Sequence[BarsField] | None" = None,
    include_now: bool = False,
    end_dt: "DateLike | None" = None,
    fq_ref_date: object = None,
    df: bool = True,
    start_dt: "DateLike | None" = None,
    skip_paused: bool = True,
    *,
    frequency: "Timeframe | TimeframeAlias | None" = None,
    align: bool = False,
    wide: bool = False,
    **keywords: Unpack[ReadKeywords],
) -> "pd.DataFrame | BarsArray | dict[str, BarsArray]": ...
def get_bars(
    security: str | Sequence[str],
    count: int | None = None,
    unit: "Timeframe | TimeframeAlias" = "1h",
    fields: "BarsField | Sequence[BarsField] | None" = None,
    include_now: bool = False,
    end_dt: "DateLike | None" = None,
    fq_ref_date: object = None,  # noqa: ARG001 # jqdatasdk's; changes nothing here
    df: bool = True,
    start_dt: "DateLike | None" = None,
    skip_paused: bool = True,  # noqa: ARG001 # as above
    *,
    frequency: "Timeframe | TimeframeAlias | None" = None,
    feed: str | None = None,
    copy: bool = False,
    label: Label | None = None,
    align: bool = False,
    wide: bool = False,
    max_age: float | None = None,
    on_stale: Reaction | None = None,
    on_gap: Reaction | None = None,
    on_short: Reaction | None = None,
    on_unconfirmed: Reaction | None = None,
) -> "pd.DataFrame | BarsArray | dict[str, BarsArray]":
    """Return bars of one security or of several, with their dates in a column.

    JoinQuant's signature. It reads what `get_price` reads, by the same rules; the
    result is private memory.

    Args:
        security: A symbol, `SYMBOL@FEED`, or a list.
        count: Number of bars, the newest up to `end_dt`; at least 1. With neither
            `count` nor `start_dt`, the last 20 bars are returned.
        unit: Timeframe of the bars, as `frequency` of `get_price`.
        fields: Columns, in this order: those of `get_price`, and `date`. Default: date
            open high low close volume.
        include_now: If True, the forming bar is the last row, as in `get_price`.
        end_dt: Latest close time, as `end_date` of `get_price`.
        df: If False, arrays instead of a frame.
        start_dt: Earliest close time, as `start_date` of `get_price`.
        frequency: Another name of `unit`; give one of the two.
        label: The times that `date` holds: "close", "open" or "date", JoinQuant's.
            Default: as in `get_price`.
        fq_ref_date, skip_paused: Accepted, and change nothing.
        copy: Accepted; the result is private memory anyway.
        feed, max_age, on_stale, on_gap, on_short, on_unconfirmed: As in `get_price`.
        align: As in `get_price`.
        wide: Of a list: the wide frame of `get_price`, whose index has the dates. Not
            together with `df=False`.

    Returns:
        With `df=True` a DataFrame: for one security with a RangeIndex, for a list with
        a MultiIndex (code, i), in which i counts the bars of each security from 0.
        `attrs["shmfeed"]` is that of `get_price`. With `df=False` a structured array of
        these fields, for a list a dict of them by security, without those that have no
        bar. `date` is datetime64, UTC, in pandas' default unit.

    Raises:
        As `get_price` does.

    Thread safety:
        As for `get_price`.
    """
    if fields.__class__ is list:
        fields = tuple(fields)
    given = (
        security,
        unit if frequency is None else frequency,
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
    if df is False and (frequency is None or unit in (_UNIT, frequency)):
        array = _read_usual(given, start_dt, end_dt)
        if array is not None:
            return array
    if frequency is not None and unit not in (_UNIT, frequency):
        raise BadArgumentError(
            f"unit {repr_short(unit)} and frequency {repr_short(frequency)} exclude"
            " each other; leave one of them out"
        )
    columns = check_columns(fields, _FIELDS) or _DEFAULT_FIELDS
    asked = ReadArguments(*given, start_dt, end_dt)
    as_frame = check_flag("df", df)
    if check_flag("wide", wide) and not as_frame:
        raise BadArgumentError(
            "df=False and wide=True exclude each other; leave one of them out"
        )
    check_flag("copy", copy)
    return _read(asked, columns, as_frame, frequency is None)


def _read_usual(
    given: tuple[object, ...], start: object, end: object
) -> BarsArray | None:
    array: BarsArray | None = (
        _usual_array(given)
        if start is None and end is None
        else _usual_range(given, start, end)
    )
    return array


def _read(
    asked: ReadArguments, columns: tuple[str, ...], as_frame: bool, by_unit: bool
) -> "pd.DataFrame | BarsArray | dict[str, BarsArray]":
    from wealthdata import bar_shapes  # noqa: PLC0415 # loads pandas

    try:
        frame = bar_shapes.read_private(asked, columns)
    except BadArgumentError as error:
        names = _NAMES if by_unit else _NAMES | {"frequency": "frequency"}
        raise rename(error, names) from None
    if isinstance(asked.security, str):
        if as_frame:
            return bar_shapes.with_dates(frame, columns)
        array = bar_shapes.as_array(frame, columns)
        bar_shapes.prepare_array(asked, columns, array, frame.attrs["shmfeed"])
        return array
    if asked.wide:
        return frame
    if as_frame:
        return bar_shapes.by_code(frame, columns)
    return bar_shapes.arrays_by_code(frame, columns)
