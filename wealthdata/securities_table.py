"""`get_all_securities`: the symbols that can be read, as a frame."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from shmfeed.validation import check_feed_name, items_of
from wealthdata.carried import Carried, carried
from wealthdata.times import DateLike
from wealthdata.trade_days import DAY, as_date, day_of, oldest_open

if TYPE_CHECKING:
    import pandas as pd

_NEVER = "2200-01-01"  # JoinQuant's end_date of a security that is still traded


def get_all_securities(
    types: str | Sequence[str] = (),
    date: "DateLike | None" = None,
    *,
    feed: str | None = None,
) -> "pd.DataFrame":
    """Return the securities that the feed carries and the context has.

    JoinQuant's signature and columns, as far as a feed knows them.

    Args:
        types: A type, or a list of types: only securities of these. Default: all.
        date: Only securities that have a bar on this UTC day or before it.
        feed: The feed that carries them. Default: as in `get_price`.

    Returns:
        A DataFrame, its index the symbols: `display_name` and `name`, the symbol;
        `start_date`, the UTC day of its oldest bar, NaT before the first; `end_date`,
        2200-01-01, as for a security that is still traded; `type`, the market type of
        the feed's identity ("spot", "usdm"), "" where it is not known.

    Raises:
        BadArgumentError: An argument is not accepted, or no security is of a type.
        NoDataError: There is neither a feed nor a context.

    Thread safety:
        As for `get_price`.
    """
    known = carried(None if feed is None else check_feed_name(feed))
    streams = [] if known.feed is None else known.feed.streams()
    kinds = dict.fromkeys((symbol for symbol, _ in streams), _market_type(known))
    rows = [
        (symbol, _first_day(known, symbol), kinds.get(symbol, ""))
        for symbol in known.symbols
    ]
    wanted = _check_types(types, {kind for _, _, kind in rows})
    last = None if date is None else day_of("date", date)
    return _frame(
        [
            row
            for row in rows
            if (not wanted or row[2] in wanted)
            and (last is None or (row[1] is not None and row[1] <= last))
        ]
    )


def _market_type(known: Carried) -> str:
    identity = None if known.feed is None else known.feed.identity
    return "" if identity is None else identity.split("/")[1]


def _first_day(known: Carried, symbol: str) -> int | None:
    opens = [
        moment
        for key in known.streams
        if key[0] == symbol and (moment := oldest_open(known, key)) is not None
    ]
    return min(opens) // DAY if opens else None


def _check_types(types: object, there: set[str]) -> set[str]:
    listed = [types] if isinstance(types, str) else items_of(types)
    if listed is None or not all(isinstance(kind, str) for kind in listed):
        raise BadArgumentError(
            f"types is {repr_short(types)}; it must be a type or a list of types"
        )
    if unknown := [kind for kind in listed if kind not in there]:
        known = " ".join(sorted(there - {""})) or "none, as no market type is known"
        raise BadArgumentError(
            f"types has {repr_short(unknown[0])}; the types there are: {known}"
        )
    return set(listed)


def _frame(rows: list[tuple[str, int | None, str]]) -> "pd.DataFrame":
    import pandas as pd  # noqa: PLC0415 # see `api`

    from wealthdata.frame import TIME  # noqa: PLC0415 # loads pandas

    symbols = [row[0] for row in rows]
    days = ["NaT" if row[1] is None else as_date(row[1]).isoformat() for row in rows]
    return pd.DataFrame(
        {
            "display_name": pd.Series(symbols, dtype=str).array,
            "name": pd.Series(symbols, dtype=str).array,
            "start_date": np.array(days, "M8[D]").astype(TIME),
            "end_date": np.full(len(rows), _NEVER, "M8[D]").astype(TIME),
            "type": pd.Series([row[2] for row in rows], dtype=str).array,
        },
        index=symbols,
    )
