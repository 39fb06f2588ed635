"""A message's bar, and checks of its times and values."""

from math import inf, isnan, nan

from shmfeed.bar import CLOSED_BY_CLOCK, CLOSED_BY_VENUE, NO_TRADE, Bar
from shmfeed.codecs.interface import BarEvent

_make_tuple = tuple.__new__  # saves a tenth of a microsecond over a NamedTuple's own


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


def bar_of(event: BarEvent, ends: int, grace: int, venue_now: int) -> Bar:
    """Return the message's bar, with flags if the message is its last.

    Where the venue has no flag, that is a message `grace` ms after the bar's end.
    """
    closed = event.closed
    if closed is None:
        flags = CLOSED_BY_CLOCK if ends + grace <= venue_now else 0
    elif closed:
        flags = CLOSED_BY_VENUE | NO_TRADE if event.no_trade else CLOSED_BY_VENUE
    else:
        flags = 0
    money = event.money
    values = (
        event.open_time,
        ends,
        event.open,
        event.high,
        event.low,
        event.close,
        event.volume,
        money if 0.0 <= money < inf else nan,
        flags,
    )
    return _make_tuple(Bar, values)
