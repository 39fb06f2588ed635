"""The arguments of a read, checked once, before any bar is read."""

from typing import Any, NamedTuple, TypeVar

import numpy as np

from shmfeed.bar import DEFAULT_FIELDS, FIELDS, Field, Timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.text import did_you_mean, repr_short
from shmfeed.validation import (
    check_choice,
    check_feed_name,
    check_flag,
    check_int,
    items_of,
)
from wealthdata.columns import BarColumns
from wealthdata.labels import LABELS, Label, Labels
from wealthdata.reactions import Reactions, check_reactions
from wealthdata.times import to_moment

DEFAULT_COUNT = 20
_Name = TypeVar("_Name", bound=str)
_BEFORE_ALL, _AFTER_ALL = -(1 << 63), (1 << 63) - 1  # ms: no bound in time
_ALL = 1 << 62  # rows


class PriceRequest(NamedTuple):
    """The range of bars asked for: the last `limit`, or those from `start` on.

    Times are ms UTC and compared with close times, both ends included. `now` is the
    strategy's time: a read sees nothing later. `include_now` asks for the forming bar
    too. `newest` is the close time of the newest bar that had closed at the instant of
    the read, where the bars of several streams are read for one instant.
    """

    limit: int | None
    start: int | None = None
    end: int | None = None
    now: int | None = None
    include_now: bool = False
    newest: int | None = None

    @property
    def latest_close(self) -> int | None:
        """The latest close time that a closed bar may have; None for no limit."""
        bounds = [t for t in (self.end, self.now, self.newest) if t is not None]
        return min(bounds, default=None)

    @property
    def is_newest(self) -> bool:
        """True if the request is for the newest bars, without any bound in time."""
        return self[1:4] == (None, None, None) and self.newest is None

    @property
    def bounds(self) -> tuple[int, int, int]:
        """The arguments of `RingReader.between` for the closed bars of the range."""
        end = self.latest_close
        return (
            _BEFORE_ALL if self.start is None else self.start,
            _AFTER_ALL if end is None else end,
            _ALL if self.limit is None else self.limit,
        )

    def window(self, columns: BarColumns) -> tuple[int, int]:
        """Return the first and last row, last exclusive, of the range in `columns`."""
        closes = columns.close_time
        last = len(closes)
        if not (columns.forming and self.admits_forming(columns)):
            last -= columns.forming
            bound = self.latest_close
            if bound is not None:
                last = int(np.searchsorted(closes[:last], bound, "right"))
        if self.limit is not None:
            return max(0, last - self.limit), last
        first = 0 if self.start is None else int(np.searchsorted(closes, self.start))
        return min(first, last), last

    def admits_forming(self, columns: BarColumns) -> bool:
        """Return True if the range has the forming bar, the last row of `columns`."""
        # The forming bar, the last row, closes in the future, so `now` is compared
        # with its open time: its first trade must lie in the strategy's past.
        if self.end is not None and columns.close_time[-1] > self.end:
            return False
        return self.now is None or bool(columns.open_time[-1] < self.now)


def check_request(
    start_date: object,
    end_date: object,
    count: object,
    include_now: object,
    timeframe: Timeframe,
) -> PriceRequest:
    """Return the range asked for, without the strategy's time.

    Raise BadArgumentError.
    """
    limit = DEFAULT_COUNT if start_date is None else None
    if count is not None:
        limit = check_int("count", count)
        if start_date is not None:
            raise BadArgumentError(
                f"count {repr_short(count)} and start_date {repr_short(start_date)}"
                " exclude each other; leave one of them out"
            )
    bounds = _check_bounds(start_date, end_date, timeframe)
    return PriceRequest(limit, *bounds, None, check_flag("include_now", include_now))


def _check_bounds(
    start_date: object, end_date: object, timeframe: Timeframe
) -> tuple[int | None, int | None]:
    """Return the earliest and the latest close time asked for, None for no bound."""
    start = None if start_date is None else to_moment("start_date", start_date)
    end = None if end_date is None else to_moment("end_date", end_date)
    first = None if start is None else start.first_close(timeframe)
    last = None if end is None else end.last_close(timeframe)
    if (
        start is not None
        and end is not None
        and start.ms > end.ms
        and start.first_close(timeframe) > end.last_close(timeframe)
    ):
        raise BadArgumentError(
            f"start_date {repr_short(start_date)} is after end_date"
            f" {repr_short(end_date)}; a range begins with start_date"
        )
    return first, last


def check_fields(fields: object) -> tuple[Field, ...]:
    """Return the fields in the order asked, each once; the default ones for None.

    Raise BadArgumentError for an unknown field or an empty list.
    """
    return check_columns(fields, FIELDS) or DEFAULT_FIELDS


def check_columns(fields: object, accepted: tuple[_Name, ...]) -> tuple[_Name, ...]:
    """Return the columns that `fields` names, in its order, each once; () for None.

    Raise BadArgumentError for one that is not accepted, and for an empty list.
    """
    if fields is None:
        return ()
    names: Any = [fields] if isinstance(fields, str) else items_of(fields)
    if names and all(isinstance(n, str) and n in accepted for n in names):
        return tuple(dict.fromkeys(names))
    if names is not None:
        fields = names  # the repr of a generator would not say what it held
    words = (name for name in names or () if isinstance(name, str))
    wrong = next((word for word in words if word not in accepted), None)
    raise BadArgumentError(
        f"fields is {repr_short(fields)}; it must be some of: {' '.join(accepted)}"
        f"{did_you_mean(wrong, accepted)}"
    )


class Shape(NamedTuple):
    """The shape of a frame of several securities, as `get_price` describes it."""

    align: bool = False
    wide: bool = False


class ReadArguments(NamedTuple):
    """The arguments of a read as the caller gave them; None where left out.

    They are the keywords of `get_price` that change a result; `limit` is its `count`.
    """

    security: object
    frequency: object = "1h"
    fields: object = None
    feed: object = None
    limit: object = None
    include_now: object = False
    copy: object = False
    align: object = False
    wide: object = False
    label: object = None
    max_age: object = None
    on_stale: object = None
    on_gap: object = None
    on_short: object = None
    on_unconfirmed: object = None
    start_date: object = None
    end_date: object = None

    def reactions(self, chosen: Reactions) -> Reactions:
        """Return the reactions in force: those of the call, else the chosen ones.

        Raise BadArgumentError.
        """
        given: Any = self[_REACTIONS]
        for value in given:
            if value is not None:
                break
        else:
            return chosen  # the usual case
        named = dict(zip(Reactions._fields, given, strict=True))
        checked: Any = check_reactions(named)
        return chosen._replace(**checked)

    @property
    def has_dates(self) -> bool:
        """True if the call bounds the range in time."""
        return self.start_date is not None or self.end_date is not None

    def labels(self, chosen: Label, timeframe: Timeframe) -> Labels:
        """Return the labels: those of the call, else the chosen ones.

        Raise BadArgumentError.
        """
        label: Any = self.label
        if label is None:
            label = chosen
        elif label.__class__ is not str or label not in LABELS:
            check_choice("label", label, LABELS)
        return Labels(label, timeframe)

    def named_feed(self) -> str | None:
        """Return the feed that the call names, or None. Raise BadArgumentError."""
        return None if self.feed is None else check_feed_name(self.feed)

    def shape(self) -> Shape:
        """Return the shape of a list's frame. Raise BadArgumentError."""
        return Shape(check_flag("align", self.align), check_flag("wide", self.wide))


_FIRST = ReadArguments._fields.index("max_age")
_REACTIONS = slice(_FIRST, _FIRST + len(Reactions._fields))


def count_of_newest(asked: ReadArguments) -> int | None:
    """Return how many of the newest bars are asked for.

    Return None if the general query must name what is wrong with `count`.
    """
    count = asked.limit
    if count is None:
        return DEFAULT_COUNT
    return count if type(count) is int and count >= 1 else None
