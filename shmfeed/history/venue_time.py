"""The clock of a REST service, bounded by the `Date` of each answer.

A `Date` is cut to whole seconds, and may be as old as the answer took. So an answer
gives a lower and an upper bound, and further answers narrow them.
"""

import threading
import time

from shmfeed.wire.boot_clock import boot_seconds

_RESOLUTION = 1000  # ms, of a Date
_DRIFT = 1.0  # ms a second by which two clocks may part


class VenueTime:
    """Bounds of a venue's time, ms UTC, at a moment of CLOCK_BOOTTIME seconds.

    Thread safety: any thread may call the methods.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bounds: tuple[float, float] | None = None  # of venue minus local, ms
        self._moment = 0.0  # at which they held

    @property
    def is_known(self) -> bool:
        """True once the venue has stated its time."""
        return self._bounds is not None

    def observe(self, stated: int, sent: float, received: float) -> None:
        """Take the `Date` of an answer, in ms UTC."""
        low = stated - received * 1000
        high = stated + _RESOLUTION - sent * 1000
        with self._lock:
            known = self._widened(received)
            if known is not None:
                narrow = max(low, known[0]), min(high, known[1])
                if narrow[0] <= narrow[1]:
                    low, high = narrow
                # Else the venue's clock or this host's was set.
            self._bounds, self._moment = (low, high), received

    def bounds_at(self, moment: float) -> tuple[int, int]:
        """Return the earliest and the latest time that it may be at the venue.

        This host's clock serves while the venue has not stated its time.
        """
        with self._lock:
            bounds = self._widened(moment)
        if bounds is None:
            now = time.time_ns() // 1_000_000 + int((moment - boot_seconds()) * 1000)
            return now, now
        return int(bounds[0] + moment * 1000), int(bounds[1] + moment * 1000)

    def _widened(self, moment: float) -> tuple[float, float] | None:
        if self._bounds is None:
            return None
        drift = abs(moment - self._moment) * _DRIFT
        return self._bounds[0] - drift, self._bounds[1] + drift
