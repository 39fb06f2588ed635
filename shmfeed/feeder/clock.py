"""The venue's wall clock, as well as it can be known from here.

This host's wall clock is read once, at the start, and advanced by monotonic time, so
that a step of the host's clock closes no bar. Event times correct it: one arrives late
by its latency and never early, so the largest difference (event time minus ours) of
the last one to two minutes is the best estimate; an older one no longer counts, since
clocks drift. A minute that brings none is skipped: what was known stays known.
"""

ABSURD_MS = 24 * 60 * 60 * 1000  # an event time that far off says nothing of the clock
_WINDOW_SECONDS = 60
_NOTHING = -ABSURD_MS - 1  # less than any difference that counts


class VenueClock:
    """An estimate of the venue's wall clock. For one thread.

    `wall_ms` is this host's wall clock, ms UTC, at the moment `now`; every `now` is
    of one monotonic clock, in seconds.
    """

    __slots__ = ("_before", "_best", "_read", "_start", "_wall", "_window")

    def __init__(self, wall_ms: int, now: float) -> None:
        self._wall = wall_ms
        self._start = now
        self._window = 0  # number of the window that `_best` belongs to
        self._best = _NOTHING  # largest difference in it, ms
        self._before = _NOTHING  # and in the window with events before it
        self._read = 0

    def observe(self, event_time_ms: int, now: float) -> None:
        """Learn from an event's time; one more than a day off is ignored."""
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
        """The venue's time, ms UTC; before the first event, this host's.

        Never less than it returned before: where an estimate turns out to have been
        ahead, the clock stands until time has caught up.
        """
        offset = max(self._best, self._before)
        time = self._local(now) + (offset if offset != _NOTHING else 0)
        self._read = max(self._read, time)
        return self._read

    def _local(self, now: float) -> int:
        return self._wall + int((now - self._start) * 1000)
