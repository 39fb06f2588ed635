"""Latencies of messages, counted in the segment's histograms.

There is one observation for each batch of messages that is read at once: that of its
first bar message, which has waited longest. The delay from an event to its receipt is
by two clocks, the venue's and this host's. It is taken as it is, unless the venue's
clock is ahead, or far behind. Its estimated offset is then added, so that the delay is
the time by which the message was later than the fastest ones.
"""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shmfeed.codecs.interface import BarEvent, Event
from shmfeed.feeder.clock import TOLERANCE_MS, VenueClock
from shmfeed.memory.histogram import BOUNDS, BUCKETS, PUBLISH, VENUE
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.writer import FeedWriter

FLUSH_SECONDS = 0.25
_AHEAD_MS = 5  # a smaller offset may come from the resolution of event times
_LONGEST = 3600.0  # seconds; a longer delay is an absurd event time
_SECOND = 1_000_000_000


class LatencyMeter:
    """The latencies of a feed's messages. Only the main loop uses it."""

    def __init__(self, writer: FeedWriter, clock: VenueClock) -> None:
        self._writer = writer
        self._clock = clock
        self._next_flush = 0.0
        self._seen: list[float] = []  # by three: read, published, event time in ms

    def observe(self, events: Sequence[Event], read_at: float) -> None:
        """Count a batch whose rows have just been published.

        `read_at` is when it was read, by `boot_seconds`; 0 if that is not known.
        """
        first = events[0] if events else None
        if type(first) is not BarEvent:  # seldom
            first = next((one for one in events if type(one) is BarEvent), None)
        if first is not None and read_at:
            self._seen += read_at, boot_seconds(), first.event_time

    def tick(self, now: float) -> None:
        """Store what was observed. Call it at each turn of the main loop."""
        if now < self._next_flush:
            return
        self._next_flush = now + FLUSH_SECONDS
        if self._seen:
            read_at, published, event_ms = np.array(self._seen).reshape(-1, 3).T
            self._seen.clear()
            self._count(PUBLISH, published - read_at)
            if not self._clock.is_doubtful:
                delays = read_at + self._shift(now) - event_ms / 1000
                tolerance = TOLERANCE_MS / 1000
                known = (event_ms > 0) & (delays > -tolerance) & (delays < _LONGEST)
                self._count(VENUE, np.maximum(delays[known], 0.0))

    def _count(self, number: int, delays: NDArray[np.float64]) -> None:
        places = np.searchsorted(BOUNDS, delays)
        buckets = np.bincount(places, minlength=BUCKETS).tolist()
        total = round(float(delays.sum()) * _SECOND)
        self._writer.count_latencies(number, buckets, total)

    def _shift(self, now: float) -> float:
        """Return the seconds from the boot clock to the clock of event times."""
        shift, clock = time.time() - boot_seconds(), self._clock
        if clock.offset is not None:
            ahead = clock.read(now) / 1000 - now - shift
            if not -TOLERANCE_MS <= ahead * 1000 <= _AHEAD_MS:
                shift += ahead
        return shift
