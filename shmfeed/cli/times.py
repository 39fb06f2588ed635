"""Points in time on the command line: UTC, to the nanosecond that a store compares."""

import argparse
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from shmfeed.bar import step
from shmfeed.text import repr_short

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAYS = ("%Y-%m-%d", "%Y/%m/%d")
_MOMENTS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M",
)
_MS = range(631_152_000_000, 7_258_118_400_001)  # 1990 to 2200
_DAY_NS = 86_400_000_000_000
_WHOLE_DAYS = 86_400_000  # ms; a date means a whole day at such timeframes


class Moment(NamedTuple):
    """A point in time in ns UTC; `is_day` for a date without a time."""

    ns: int
    is_day: bool

    @property
    def ms(self) -> int:
        return self.ns // 1_000_000

    def first_close(self, timeframe: str) -> int:
        """Return the earliest close time of a range that starts here, in ms UTC."""
        return self.ms + (self.is_day and not 0 < step(timeframe) < _WHOLE_DAYS)

    def last_close(self, timeframe: str) -> int:
        """Return the latest close time of a range that ends here, in ms UTC.

        At `1d` and longer a date means its whole day, whose bar closes at its end.
        """
        is_whole = self.is_day and not 0 < step(timeframe) < _WHOLE_DAYS
        return (self.ns + _DAY_NS * is_whole) // 1_000_000


def parse_moment(text: str) -> Moment:
    """Return a point in time. Raise argparse's error, which lists the forms."""
    try:
        is_number = text.isascii() and text.isdigit()
        return _parse_digits(text) if is_number else _parse_text(text.strip())
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{repr_short(text)} is not a time; give UTC as in '2026-01-31 14:03',"
            " 2026-01-31T14:03:00Z, 20260131, 20260131140300, or ms since 1970"
        ) from None


def _parse_digits(text: str) -> Moment:
    if len(text) == len("20260131"):
        return _moment(datetime.strptime(text, "%Y%m%d"), True)
    if len(text) == len("20260131140300"):
        return _moment(datetime.strptime(text, "%Y%m%d%H%M%S"), False)
    if len(text) > len(str(_MS[-1])) or int(text) not in _MS:
        raise ValueError(text)
    return Moment(int(text) * 1_000_000, False)


def _parse_text(text: str) -> Moment:
    try:
        day = date.fromisoformat(text)
        return _moment(datetime(day.year, day.month, day.day), True)
    except ValueError:
        pass
    try:
        return _moment(datetime.fromisoformat(text), False)
    except ValueError:
        pass
    for form in (*_DAYS, *_MOMENTS):
        try:
            return _moment(datetime.strptime(text, form), form in _DAYS)
        except ValueError:
            continue
    raise ValueError(text)


def _moment(value: datetime, is_day: bool) -> Moment:
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    number = (aware - _EPOCH) // _MICROSECOND * 1_000
    if number < 0:
        raise ValueError
    return Moment(number, is_day)
