"""CLOCK_BOOTTIME in seconds: it never steps, and counts through a suspend.

A connection that did not survive a suspend is then replaced as soon as the host wakes.
"""

import time
from collections.abc import Callable
from functools import partial


def _boot_clock() -> Callable[[], float]:
    try:
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    except AttributeError:  # a feeder refuses to start there
        return time.monotonic


boot_seconds = _boot_clock()
