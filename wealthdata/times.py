"""Points in time as callers write them, converted to integer milliseconds UTC."""

from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np

from shmfeed.bar import duration
from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

DateLike = str | date | np.datetime64  # a datetime and a pandas Timestamp are dates

DAY = 86_400_000  # ms
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DAY_FORMATS = ("%Y-%m-%d", "%Y/%m/%d")
_FORMATS = tuple(f"{day} %H:%M{end}" for day in _DAY_FORMATS for end in ("", ":%S"))
_DAY_UNITS = ("D", "W", "M", "Y")  # the units of a datetime64 without a time
_FIRST = -62_135_596_800_000  # ms: 0001-01-01
_END = 253_402_300_800_000  # ms: the year 10000, where datetime's calendar ends
# Milliseconds as an integer lie between 1990 and 2200, so that no count, day or epoch
# in another unit is taken for them.
_FIRST_MS = 631_152_000_000
_END_MS = 7_258_118_400_000
_MOST_BARS = 100_000  # a smaller start_date is taken for a misplaced count
_MOST_DIGITS = 32  # of a text; Python refuses to convert thousands
_MOST_TEXTS = 4096


class Moment(NamedTuple):
    """A point in time in ms UTC.

    `is_date` is True for a date without a time: `ms` is its midnight then.
    """

    ms: int
    is_date: bool = False

    def first_close(self, timeframe: str) -> int:
        """Return the earliest close time of a range that starts at this moment.

        At `1d` and longer a date is the whole day: the closes after its midnight.
        """
        return self.ms + (self.is_date and has_dates(timeframe))

    def last_close(self, timeframe: str) -> int:
        """Return the latest close time of a range that ends at this moment.

        At `1d` and longer a date is the whole day, up to the next midnight.
        """
        whole = self.is_date and has_dates(timeframe)
        return min(self.ms + DAY, _END - 1) if whole else self.ms


def has_dates(timeframe: str) -> bool:
    """Return True if a bar of this timeframe lasts a day or longer."""
    return duration(timeframe) >= DAY


def to_ms(name: str, value: object) -> int:
    """Return the argument `name` as an instant in ms UTC; a date is its midnight.

    Raise BadArgumentError.
    """
    return to_moment(name, value).ms


def to_moment(name: str, value: object) -> Moment:
    """Return the argument `name` as a moment.

    Accept a str (or bytes), date, datetime, pandas Timestamp, numpy datetime64, and an
    integer: 20240131, 20240131080000, or milliseconds. Naive times are UTC, aware ones
    are converted; fractions of a millisecond are dropped. Raise BadArgumentError for
    anything else.
    """
    known = known_texts.get(value) if value.__class__ is str else None
    if known is not None:
        return known
    try:
        moment = _parse(value)
    except (ValueError, OverflowError, TypeError, NotImplementedError):
        moment = None
    if moment is None or not _FIRST <= moment.ms < _END:
        raise _refusal(name, value)
    if value.__class__ is str:
        if len(known_texts) >= _MOST_TEXTS:
            known_texts.clear()
        known_texts[value] = moment
    return moment


known_texts: dict[object, Moment] = {}  # the moments of texts that were read


def _parse(value: object) -> Moment | None:
    if isinstance(value, datetime):
        return _from_datetime(value)
    if isinstance(value, date):
        return _from_date(value)
    if isinstance(value, np.datetime64):
        return _from_datetime64(value)
    number = _as_number(value)
    if number is not None:
        return _from_number(number)
    if isinstance(value, bytes):  # jqdatasdk accepts them
        value = value.decode("ascii")
    return _from_text(value.strip()) if isinstance(value, str) else None


def _from_datetime(value: datetime) -> Moment | None:
    if value != value:  # noqa: PLR0124 # pandas' NaT is a datetime unequal to itself
        return None
    offset = value.utcoffset()  # None of a naive one
    if offset is not None:
        value = value.replace(tzinfo=UTC) - offset
    # Sums: a difference of pandas' Timestamps takes ten times as long.
    minutes = (value.toordinal() - _EPOCH_DAY) * 1440 + value.hour * 60 + value.minute
    return Moment((minutes * 60 + value.second) * 1000 + value.microsecond // 1000)


def _from_date(value: date) -> Moment:
    return Moment((value.toordinal() - _EPOCH_DAY) * DAY, True)


def _from_datetime64(value: np.datetime64) -> Moment | None:
    if np.isnat(value):
        return None
    unit = np.datetime_data(value.dtype)[0]
    return Moment(int(value.astype("M8[ms]").astype(int)), unit in _DAY_UNITS)


def _as_number(value: object) -> int | None:
    """Return an integer, or the one that a text of digits alone states, else None."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    if not isinstance(value, str | bytes):
        return None
    text = value.strip()
    digits = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if digits else None


def _from_number(number: int) -> Moment | None:
    if _FIRST_MS <= number < _END_MS:
        return Moment(number)
    if len(digits := str(number)) == 8:  # YYYYMMDD
        return _from_date(date.fromisoformat(digits))
    if len(digits) == 14:  # YYYYMMDDhhmmss
        return _from_datetime(datetime.strptime(digits, "%Y%m%d%H%M%S"))
    return None


def _from_text(text: str) -> Moment | None:
    try:
        return _from_date(date.fromisoformat(text))
    except ValueError:
        pass
    try:
        return _from_datetime(datetime.fromisoformat(text))
    except ValueError:
        pass
    for form in (*_DAY_FORMATS, *_FORMATS):
        try:
            found = datetime.strptime(text, form)  # naive means UTC
        except ValueError:
            continue
        return _from_date(found) if form in _DAY_FORMATS else _from_datetime(found)
    return None


def _refusal(name: str, value: object) -> BadArgumentError:
    """Return the error of a value: what is accepted, and what may have been meant."""
    number = _as_number(value)
    if number is None:
        return BadArgumentError(
            f"{name} is {repr_short(value)}; it must be a str like '2024-01-31 08:00',"
            " a date or datetime, a Timestamp, a datetime64, or an integer: YYYYMMDD,"
            " YYYYMMDDhhmmss or milliseconds UTC"
        )
    return BadArgumentError(
        f"{name} is {repr_short(value)}; an integer must be 8 digits YYYYMMDD, 14"
        " digits YYYYMMDDhhmmss, or milliseconds since 1970 between 1990 and"
        f" 2200{_guess(name, number)}"
    )


def _guess(name: str, number: int) -> str:
    if name in ("start_date", "start_dt") and 0 < number < _MOST_BARS:
        return f"; for the newest {number} bars write count={number}"
    for unit, ms in (
        ("seconds", number * 1000),
        ("microseconds", number // 1000),
        ("nanoseconds", number // 1_000_000),
    ):
        if _FIRST_MS <= ms < _END_MS:
            return f"; as {unit} it would be {ms} milliseconds"
    return ""
