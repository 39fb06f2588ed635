"""The venue's own grid of bars: when they begin and end, ms UTC.

It is not the grid of `shmfeed.bar`: a venue decides by itself where its bars begin, and
a test of the feeder must notice where the feeder believes otherwise. Bars of 3 days are
counted from each symbol's own first day, as on Binance.
"""

import calendar
import functools
import re
import time as clock
import zlib

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "M": 2_592_000}
_DAY = 86_400_000
_MONDAY = 4 * _DAY  # the epoch is a Thursday
_MONTH, _WEEK, _THREE_DAYS = "1M", "1w", "3d"


@functools.cache
def length(timeframe: str) -> int:
    """Return the length of a bar in ms; a month's is 30 days."""
    count, unit = re.fullmatch(r"(\d+)(\w)", timeframe).groups()  # type: ignore[union-attr]  # checked before
    return int(count) * _UNITS[unit] * 1000


def phase(symbol: str, timeframe: str, days: int | None) -> int:
    """Return where a stream's grid begins, in ms after the epoch.

    Args:
        symbol: The stream's symbol.
        timeframe: The stream's timeframe.
        days: Phase of the bars of 3 days; None: it follows from the symbol.
    """
    if timeframe == _WEEK:
        return _MONDAY
    if timeframe != _THREE_DAYS:
        return 0
    return _DAY * (zlib.crc32(symbol.upper().encode()) % 3 if days is None else days)


def begin(time: int, symbol: str, timeframe: str, days: int | None) -> int:
    """Return the start of the stream's bar that contains `time`."""
    if timeframe == _MONTH:
        return _month(time, 0)
    return time - (time - phase(symbol, timeframe, days)) % length(timeframe)


def end(open_time: int, timeframe: str) -> int:
    """Return the end of the bar that begins at `open_time`."""
    if timeframe == _MONTH:
        return _month(open_time, 1)
    return open_time + length(timeframe)


def _month(time: int, later: int) -> int:
    date = clock.gmtime(time // 1000)
    number = date.tm_year * 12 + date.tm_mon - 1 + later
    first = (number // 12, number % 12 + 1, 1, 0, 0, 0)
    return calendar.timegm(first) * 1000
