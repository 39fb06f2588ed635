"""Checks of a message's times and values: those of a bar, or not."""

from math import inf, isnan

from shmfeed.bar import Bar
from shmfeed.codecs.interface import BarEvent


def is_valid_bar(event: BarEvent, ends: int) -> bool:
    """Return True if the message can be a bar that ends at `ends`.

    `ends` is 0 for a bar off its grid. Its values must be finite and ordered. Some
    venues send as `close_time` the millisecond before the next bar opens.
    """
    low, high, stated = event.low, event.high, event.close_time
    return (  # a NaN fails every comparison: refused with the infinities
        ends != 0
        and -inf < low <= event.open <= high < inf
        and low <= event.close <= high
        and 0.0 <= event.volume < inf
        and (stated == ends or stated == ends - 1 or stated == 0)
    )


def describe_fault(event: BarEvent, ends: int, timeframe: str) -> str:
    """Return why the message is no valid bar of this timeframe."""
    if ends == 0:
        return f"off the grid of {timeframe}"
    if event.close_time not in (0, ends - 1, ends):
        return f"not as long as {timeframe}"
    return "values that no bar can have"


def same_values(one: Bar, other: Bar) -> bool:
    """Return True if prices, volume and, where both know it, money are equal."""
    known = not (isnan(one.money) or isnan(other.money))
    return one[2:7] == other[2:7] and not (known and one.money != other.money)
