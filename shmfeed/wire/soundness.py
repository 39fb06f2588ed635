"""What can be a bar at all: finite, ordered, and where its timeframe has one."""

from math import inf

from shmfeed.events import BarEvent


def is_sound(event: BarEvent, ends: int) -> bool:
    """Whether this can be a bar that ends at `ends`, 0: it is off the grid.

    Some venues name as its close_time not where the next bar opens, but the
    millisecond before.
    """
    low, high, says = event.low, event.high, event.close_time
    return (  # a NaN fails every comparison: refused with the infinities
        ends != 0
        and -inf < low <= event.open <= high < inf
        and low <= event.close <= high
        and 0.0 <= event.volume < inf
        and (says == ends or says == ends - 1 or says == 0)
    )
