"""An estimate of the venue's wall clock.

This host's wall clock is read once, at the start, and advanced by monotonic time, so
that a step of the host's clock closes no bar. Event times correct it. An event arrives
late by its latency and never early, so the largest difference (event time minus ours)
of the last one to two minutes is the best estimate. Older differences are dropped,
because clocks drift; a minute without events keeps the estimate.
"""

ABSURD_MS = 24 * 60 * 60 * 1000  # an event time that far off is ignored
_WINDOW_SECONDS = 60
_NOTHING = -ABSURD_MS - 1  # less than any difference that is used


class VenueClock:
    """An estimate of the venue's wall clock. One thread uses it.

    `wall_ms` is this host's wall clock in ms UTC at the moment `now`. Every `now` is a
    reading of one monotonic clock, in seconds.
    """

    __slots__ = ("_before", "_best", "_read", "_start", "_wall", "_window")

    def __init__(self, wall_ms: int, now: float) -> None:
        self._wall = wall_ms
        self._start = now
        self._window = 0  # number of the window that `_best` belongs to
        self._best = _NOTHING  # largest difference in it, ms
        self._before = _NOTHING  # largest in the previous window that had events
        self._read = 0

    def observe(self, event_time_ms: int, now: float) -> None:
        """Correct the estimate by an event's time, unless it is more than a day off."""
        difference = event_time_ms - self._local(now)
        if not -ABSURD_MS <= difference <= ABSURD_MS:
            return
        window = int((now - self._start) // _WINDOW_SECONDS)
        if window != self._window:
            self._window = window
            if self._best != _NOTHING:
                self._before = self._best
            self._best = difference
        elif difference > self._best:
            self._best = difference

    def read(self, now: float) -> int:
        """Return the venue's time in ms UTC; before the first event, this host's.

        It never decreases. If an earlier estimate was ahead, the value stays the same
        until the clock has caught up.
        """
        offset = max(self._best, self._before)
        time = self._local(now) + (offset if offset != _NOTHING else 0)
        self._read = max(self._read, time)
        return self._read

    def _local(self, now: float) -> int:
        return self._wall + int((now - self._start) * 1000)
