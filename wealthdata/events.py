"""The events of `follow`: a closed bar, a corrected one, a hole, a change of health.

All are tuples of plain values. `symbol` is the security as it was written:
"BTCUSDT", or "BTCUSDT@FEED". Times are int milliseconds UTC.
"""

from typing import NamedTuple

from shmfeed.bar import Bar, Timeframe
from shmfeed.health import Health as HealthName


class Closed(NamedTuple):
    """A bar that has closed. Each bar comes once, the oldest of a stream first.

    Attributes:
        symbol: The security, as written.
        timeframe: The stream's timeframe.
        bar: The closed bar.
    """

    symbol: str
    timeframe: Timeframe
    bar: Bar


class Revised(NamedTuple):
    """A correction of a bar that has been handed over as `Closed`.

    Attributes:
        symbol: The security, as written.
        timeframe: The stream's timeframe.
        old: The bar as it was handed over.
        new: The bar as it is now; its open time is that of `old`.
    """

    symbol: str
    timeframe: Timeframe
    old: Bar
    new: Bar


class Gap(NamedTuple):
    """Bars between two closed ones that do not come as `Closed`.

    Attributes:
        symbol: The security, as written.
        timeframe: The stream's timeframe.
        start: The open time of the first of these bars.
        end: The open time of the last one.
        filled: False if the feed lacks some of them. True once it has all: a repair
            closed the hole that was reported with this start and end; or they were
            there, and the strategy was more than `history` bars behind.
    """

    symbol: str
    timeframe: Timeframe
    start: int
    end: int
    filled: bool


class Health(NamedTuple):
    """A change of a stream's health.

    Attributes:
        symbol: The security, as written.
        timeframe: The stream's timeframe.
        old: The health before.
        new: The health now.
        why: The reason in words, "" for live and quiet.
    """

    symbol: str
    timeframe: Timeframe
    old: HealthName
    new: HealthName
    why: str
