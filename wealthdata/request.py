"""What a caller asks for: arguments checked once, at the door."""

from typing import NamedTuple

import numpy as np

from shmfeed.bar import DEFAULT_FIELDS, FIELDS
from shmfeed.errors import BadArgumentError
from shmfeed.validation import (
    check_deadline,
    check_flag,
    check_symbol,
    check_whole,
    check_word,
    items_of,
    shown,
)
from wealthdata.columns import Rows
from wealthdata.times import to_ms

DEFAULT_COUNT = 20
ON_STALE = ("warn", "raise", "ignore")


class Want(NamedTuple):
    """Which bars: the last `n`, or those from `start` on. Times in ms UTC.

    `end` bounds close times, `now` says when it is for the strategy: nothing that
    happened later is seen. `include_now` asks for the forming bar besides.
    """

    n: int | None
    start: int | None = None
    end: int | None = None
    now: int | None = None
    include_now: bool = False

    @property
    def bound(self) -> int | None:
        """The latest close time that a closed bar may have; None: any."""
        if self.end is None or self.now is None:
            return self.now if self.end is None else self.end
        return min(self.end, self.now)

    @property
    def newest(self) -> bool:
        """Whether simply the newest `n` bars are wanted."""
        return self.start is None and self.end is None and self.now is None

    def window(self, rows: Rows) -> tuple[int, int]:
        """First and last row, last exclusive, of what is wanted among `rows`."""
        closes = rows.close_time
        last = len(closes)
        if not (rows.forming and self._admits(rows)):
            last -= rows.forming
            bound = self.bound
            if bound is not None:
                last = int(np.searchsorted(closes[:last], bound, "right"))
        if self.n is not None:
            return max(0, last - self.n), last
        first = 0 if self.start is None else int(np.searchsorted(closes, self.start))
        return min(first, last), last

    def _admits(self, rows: Rows) -> bool:
        """Whether the forming bar, the last of `rows`, may be seen.

        It closes in the future: `now` must lie beyond its beginning, which is where
        its first trade is.
        """
        if self.end is not None and rows.close_time[-1] > self.end:
            return False
        return self.now is None or bool(rows.open_time[-1] < self.now)


def check_want(
    start_date: object, end_date: object, count: object, include_now: object
) -> Want:
    """The range of bars asked for, without `now`. BadArgumentError."""
    n = DEFAULT_COUNT if start_date is None else None
    if count is not None:
        n = check_whole("count", count)
        if start_date is not None:
            raise BadArgumentError(
                f"count {shown(count)} and start_date {shown(start_date)} exclude each"
                " other: leave one of them out"
            )
    return Want(
        n,
        None if start_date is None else to_ms("start_date", start_date),
        None if end_date is None else to_ms("end_date", end_date),
        None,
        check_flag("include_now", include_now),
    )


def check_fields(fields: object) -> tuple[str, ...]:
    """The fields in the order asked, each once. None: the default ones."""
    if fields is None:
        return DEFAULT_FIELDS
    names = [fields] if isinstance(fields, str) else items_of(fields)
    if names and all(isinstance(n, str) and n in FIELDS for n in names):
        return tuple(dict.fromkeys(names))
    if names is not None:
        fields = names  # a generator has no words of its own
    raise BadArgumentError(
        f"fields is {shown(fields)}; it must name some of: {' '.join(FIELDS)}"
    )


def check_securities(securities: object) -> list[str]:
    """The symbols of a list, in the order asked, duplicates once."""
    named = items_of(securities)
    if named is None:
        raise BadArgumentError(
            f"security is {shown(securities)}; it must be a symbol or a list of symbols"
        )
    symbols = list(dict.fromkeys(check_symbol(symbol) for symbol in named))
    if not symbols:
        raise BadArgumentError("security is an empty list; name at least one symbol")
    return symbols


def check_freshness(max_age: object, on_stale: object) -> tuple[float | None, str]:
    """Both as they are used: `max_age` None or seconds, `on_stale` a known word."""
    return check_deadline("max_age", max_age), check_word(
        "on_stale", on_stale, ON_STALE
    )
