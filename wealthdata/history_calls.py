"""`history` and `attribute_history`: one field of many securities, or many of one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import FIELDS, Field, Timeframe, TimeframeAlias, check_timeframe
from shmfeed.errors import BadArgumentError, StreamNotFoundError
from shmfeed.text import did_you_mean, repr_short
from shmfeed.validation import check_feed_name, check_flag, check_int
from wealthdata.argument_names import rename
from wealthdata.carried import carried, list_of
from wealthdata.keywords import ReadKeywords
from wealthdata.labels import Label
from wealthdata.reactions import Reaction
from wealthdata.reading import read
from wealthdata.request import ReadArguments

if TYPE_CHECKING:
    import pandas as pd

Arrays = dict[str, NDArray[Any]]

_OF_ATTRIBUTES = {"frequency": "unit", "security": "security"}
_OF_HISTORY = {**_OF_ATTRIBUTES, "security": "security_list", "fields": "field"}


@overload
def history(
    count: int,
    unit: "Timeframe | TimeframeAlias" = "1d",
    field: "Field" = "close",
    security_list: str | Sequence[str] | None = None,
    df: Literal[True] = True,
    skip_paused: bool = False,
    fq: str | None = "pre",
    *,
    include_now: bool = False,
    align: bool = False,
    wide: bool = False,
    **keywords: Unpack[ReadKeywords],
) -> "pd.DataFrame": ...
@overload
def history(
    count: int,
    unit: "Timeframe | TimeframeAlias" = "1d",
    field: "Field" = "close",
    security_list: str | Sequence[str] | None = None,
    *,
    df: Literal[False],
    skip_paused: bool = False,
    fq: str | None = "pre",
    include_now: bool = False,
    align: bool = False,
    wide: bool = False,
    **keywords: Unpack[ReadKeywords],
) -> Arrays: ...
@overload
def history(
    count: int,
    unit: "Timeframe | TimeframeAlias" = "1d",
    field: "Field" = "close",
    security_list: str | Sequence[str] | None = None,
    df: bool = True,
    skip_paused: bool = False,
    fq: str | None = "pre",
    *,
    include_now: bool = False,
    align: bool = False,
    wide: bool = False,
    **keywords: Unpack[ReadKeywords],
) -> "pd.DataFrame | Arrays": ...
def history(
    count: int,
    unit: "Timeframe | TimeframeAlias" = "1d",
    field: "Field" = "close",
    security_list: str | Sequence[str] | None = None,
    df: bool = True,
    skip_paused: bool = False,  # noqa: ARG001 # JoinQuant's; changes nothing here
    fq: str | None = "pre",  # noqa: ARG001 # as above
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
) -> "pd.DataFrame | Arrays":
    """Return one field of several securities, times down and securities across.

    JoinQuant's signature. It is `get_price(security_list, count=count, frequency=unit,
    fields=field, wide=True)`.

    Args:
        count: Number of bars; at least 1.
        unit: Timeframe of the bars, as `frequency` of `get_price`.
        field: One field of `get_price`.
        security_list: A list, or one symbol. Default: all that the feed carries and
            the context has at this timeframe.
        df: If False, a dict of arrays instead of a frame.
        skip_paused, fq: Accepted, and change nothing.
        copy, wide: Accepted; the result is private memory, and wide, anyway.
        include_now, label, align: As in `get_price`.
        feed, max_age, on_stale, on_gap, on_short, on_unconfirmed: As in `get_price`.

    Returns:
        A DataFrame of the last `count` times that any of the securities has: NaN where
        a security lacks a bar, and no column of a security without one. With `df=False`
        a dict of its columns as arrays, by security.

    Raises:
        As `get_price` does.

    Thread safety:
        As for `get_price`.
    """
    if not isinstance(field, str) or field not in FIELDS:
        raise BadArgumentError(
            f"field is {repr_short(field)}; it must be one of: {' '.join(FIELDS)}"
            f"{did_you_mean(field, FIELDS)}"
        )
    as_frame = check_flag("df", df)
    number = check_int("count", count)
    check_flag("copy", copy)
    check_flag("wide", wide)
    listed: object = [security_list]
    if security_list is None:
        listed = _all_symbols(check_timeframe(unit, "unit"), feed)
    elif not isinstance(security_list, str):
        listed = security_list
    asked = ReadArguments(
        listed,
        unit,
        field,
        feed,
        number,
        include_now,
        align=align,
        wide=True,
        label=label,
        max_age=max_age,
        on_stale=on_stale,
        on_gap=on_gap,
        on_short=on_short,
        on_unconfirmed=on_unconfirmed,
    )
    return _read(asked, as_frame, _OF_HISTORY)


@overload
def attribute_history(
    security: str,
    count: int,
    unit: "Timeframe | TimeframeAlias" = "1d",
    fields: "Field | Sequence[Field] | None" = None,
    skip_paused: bool = True,
    df: Literal[True] = True,
    fq: str | None = "pre",
    *,
    include_now: bool = False,
    align: bool = False,
    wide: bool = False,
    **keywords: Unpack[ReadKeywords],
) -> "pd.DataFrame": ...
@overload
def attribute_history(
    security: str,
    count: int,
    unit: "Timeframe | TimeframeAlias" = "1d",
    fields: "Field | Sequence[Field] | None" = None,
    skip_paused: bool = True,
    *,
    df: Literal[False],
    fq: str | None = "pre",
    include_now: bool = False,
    align: bool = False,
    wide: bool = False,
    **keywords: Unpack[ReadKeywords],
) -> Arrays: ...
@overload
def attribute_history(
    security: str,
    count: int,
    unit: "Timeframe | TimeframeAlias" = "1d",
    fields: "Field | Sequence[Field] | None" = None,
    skip_paused: bool = True,
    df: bool = True,
    fq: str | None = "pre",
    *,
    include_now: bool = False,
    align: bool = False,
    wide: bool = False,
    **keywords: Unpack[ReadKeywords],
) -> "pd.DataFrame | Arrays": ...
def attribute_history(
    security: str,
    count: int,
    unit: "Timeframe | TimeframeAlias" = "1d",
    fields: "Field | Sequence[Field] | None" = None,
    skip_paused: bool = True,  # noqa: ARG001 # JoinQuant's; changes nothing here
    df: bool = True,
    fq: str | None = "pre",  # noqa: ARG001 # as above
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
) -> "pd.DataFrame | Arrays":
    """Return several fields of one security.

    JoinQuant's signature. It is `get_price(security, count=count, frequency=unit,
    fields=fields)`.

    Args:
        security: One symbol, or `SYMBOL@FEED`.
        count: Number of bars; at least 1.
        unit: Timeframe of the bars, as `frequency` of `get_price`.
        fields: Fields of `get_price`, in this order. Default: open high low close
            volume.
        df: If False, a dict of arrays instead of a frame.
        skip_paused, fq, align, wide: Accepted, and change nothing.
        include_now, copy, label: As in `get_price`.
        feed, max_age, on_stale, on_gap, on_short, on_unconfirmed: As in `get_price`.

    Returns:
        The frame of `get_price`. With `df=False` a dict of its columns as private
        arrays, by field.

    Raises:
        As `get_price` does.

    Thread safety:
        As for `get_price`.
    """
    as_frame = check_flag("df", df)
    number = check_int("count", count)
    if not isinstance(security, str):
        raise BadArgumentError(
            f"security is {repr_short(security)}; it must be one symbol, as history()"
            " reads several"
        )
    asked = ReadArguments(
        security,
        unit,
        tuple(fields) if isinstance(fields, list) else fields,
        feed,
        number,
        include_now,
        check_flag("copy", copy) or not as_frame,
        align,
        wide,
        label,
        max_age,
        on_stale,
        on_gap,
        on_short,
        on_unconfirmed,
    )
    return _read(asked, as_frame, _OF_ATTRIBUTES)


def _all_symbols(timeframe: Timeframe, feed: object) -> list[str]:
    """Return the symbols that can be read. Raise StreamNotFoundError without one."""
    known = carried(None if feed is None else check_feed_name(feed))
    found = known.symbols_at(timeframe)
    if not found:
        raise StreamNotFoundError(
            f"{known.describe()} carries no symbol at {timeframe}; its symbols are:"
            f" {list_of(known.symbols)}"
        )
    return found


def _read(
    asked: ReadArguments, as_frame: bool, names: dict[str, str]
) -> "pd.DataFrame | Arrays":
    """Return the frame, or its columns as arrays by their names.

    `names` are those that the call gives to arguments of `get_price`.
    """
    try:
        frame = read(asked)
    except BadArgumentError as error:
        raise rename(error, names) from None
    if as_frame:
        return frame
    return {str(name): np.array(frame[name]) for name in frame.columns}
