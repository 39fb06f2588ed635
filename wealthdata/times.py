"""Points in time as callers write them, converted to integer milliseconds UTC."""

from datetime import UTC, date, datetime, time, timedelta

import numpy as np

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

DateLike = str | date | np.datetime64  # a datetime and a pandas Timestamp are dates

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_OTHER_FORMATS = ("%Y-%m-%d", "%Y/%m/%d", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S")
_FIRST = -62_135_596_800_000  # ms: 0001-01-01
_END = 253_402_300_800_000  # ms: the year 10000, where datetime's calendar ends
_DAY_NUMBERS = range(1900_01_01, 2100_01_01)  # 20240131, as jqdatasdk accepts it


def to_ms(name: str, value: object) -> int:
    """Return the argument `name` as milliseconds UTC.

    Accept a str, date, datetime, pandas Timestamp, numpy datetime64, int milliseconds
    and the number of a day (20240131). Naive times are UTC, aware ones are converted,
    a date without a time is 00:00; fractions of a millisecond are dropped. Raise
    BadArgumentError for anything else.
    """
    try:
        moment = _parse_any(value)
    except (ValueError, OverflowError, TypeError):
        moment = None
    if moment is None or not _FIRST <= moment < _END:
        raise BadArgumentError(
            f"{name} is {repr_short(value)}; it must be a str like '2024-01-31 08:00',"
            " a date or datetime, a Timestamp, a datetime64, or int milliseconds UTC"
        )
    return moment


def _parse_any(value: object) -> int | None:
    if isinstance(value, datetime):
        return _datetime_ms(value)
    if isinstance(value, date):
        return _datetime_ms(datetime.combine(value, time()))
    if isinstance(value, str):
        return _datetime_ms(_parse_text(value.strip()))
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else int(value.astype("M8[ms]").astype(int))
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return _number_ms(int(value))
    return None


def _datetime_ms(value: datetime) -> int | None:
    if value != value:  # noqa: PLR0124 # pandas' NaT is a datetime unequal to itself
        return None
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return (value - _EPOCH) // _MS


def _parse_text(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for form in _OTHER_FORMATS:
        try:
            return datetime.strptime(text, form)  # naive means UTC
        except ValueError:
            continue
    raise ValueError(text)


def _number_ms(number: int) -> int | None:
    if number in _DAY_NUMBERS:
        # Not ambiguous for times of whole seconds: those are divisible by 1000, and
        # the number of a day never is.
        try:
            return _datetime_ms(_parse_text(str(number)))
        except ValueError:
            pass
    return number
