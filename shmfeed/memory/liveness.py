"""The one rule of liveness: is the feeder alive, does it work, is its segment current.

The feeder leaves two signs of life in the header, both CLOCK_BOOTTIME in ns: its beat
thread stores `alive`, its main loop stores `tick`. The boot clock is one for all
processes of a host and counts through a suspend, so a sign's age needs no pid and no
system call.

A sign that lies more than AHEAD_NS in the future is no sign of life: it is damage, and
nothing would ever age it. `csrc/liveness.h` states the same rule in C.
"""

from shmfeed.layout import AHEAD_NS, DEAD_NS, H_ALIVE, H_RETIRED, H_TICK, STUCK_NS
from shmfeed.memory.words import Ints


def is_alive(ints: Ints, now: int) -> bool:
    """Return True if the feeder gave a sign of life within DEAD_NS before `now`."""
    return (
        -AHEAD_NS <= now - ints[H_TICK] <= DEAD_NS
        or -AHEAD_NS <= now - ints[H_ALIVE] <= DEAD_NS
    )


def is_working(ints: Ints, now: int) -> bool:
    """Return True if the feeder's main loop ticked within STUCK_NS before `now`."""
    return -AHEAD_NS <= now - ints[H_TICK] <= STUCK_NS


def is_current(ints: Ints, now: int) -> bool:
    """Return True if the segment is surely still its feed's, without a system call.

    Where this is False the feed's name decides: the reader looks for a successor, and
    stays where it finds no other segment. A sign that is ahead by more than DEAD_NS
    proves nothing here, however near it is: it may outlive its feeder.
    """
    return not ints[H_RETIRED] and (
        abs(now - ints[H_TICK]) <= DEAD_NS or abs(now - ints[H_ALIVE]) <= DEAD_NS
    )
