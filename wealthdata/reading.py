"""A read of any arguments: by a prepared query, or else by the general one.

A repeated call (bars of one security, or the newest ones of a list, all of them in the
ring) uses a prepared query. Any other call uses the general query, which decides where
bars come from.
"""

from typing import TYPE_CHECKING, Any

from wealthdata.choices import current_choices
from wealthdata.price_table import read_usual
from wealthdata.query_cache import list_queries, queries
from wealthdata.request import ReadArguments

if TYPE_CHECKING:
    import pandas as pd

_DATES = ReadArguments._fields.index("start_date")


def read(asked: ReadArguments) -> "pd.DataFrame":
    """Return the frame of a read. Raise what `get_price` raises."""
    frame: pd.DataFrame | None = read_usual(asked[:_DATES], *asked[_DATES:])
    return frame if frame is not None else read_unusual(asked)


def read_unusual(asked: ReadArguments) -> "pd.DataFrame":
    """Return the frame of a read that the C core does not serve.

    Raise what `get_price` raises.
    """
    frame = _read_prepared(asked)
    if frame is not None:
        return frame
    from wealthdata import query  # noqa: PLC0415 # loads pandas

    return query.run(asked)


def _read_prepared(asked: ReadArguments) -> "pd.DataFrame | None":
    if not (asked.align.__class__ is bool and asked.wide.__class__ is bool):
        return None  # the general query names what is not a flag
    choices = current_choices()
    security, frequency, fields, feed = asked[:4]
    try:  # not suppress(), which takes half a microsecond
        if security.__class__ is str:
            found: Any = queries.get((security, frequency, fields, feed))
        elif isinstance(security, list | tuple):
            key = tuple(security), frequency, fields, feed, asked.align, asked.wide
            found = list_queries.get(key)
        else:
            return None
    except TypeError:
        return None  # not hashable: the general query names the argument
    if found is None or found.choices is not choices:
        return None  # another thread changed them while the query was prepared
    frame: pd.DataFrame | None = found.read(asked, choices)
    return frame
