"""Latencies of messages, counted in the segment's histograms.

There is one observation for each batch of messages that is read at once: that of its
first bar message, which has waited longest. The delay from an event to its receipt is
by two clocks, the venue's and this host's. It is taken as it is, unless the venue's
clock is ahead, or far behind. Its estimated offset is then added, so that the delay is
the time by which the message was later than the fastest ones.
"""

import time
from bisect import bisect_left
from collections.abc import Sequence

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
        self._epoch = -1  # of the clock, when `_shift` was computed
        self._shift = 0.0
        self._next_flush = 0.0
        self._clear()

    def observe(self, events: Sequence[Event], read_at: float) -> None:
        """Count a batch whose rows have just been published.

        `read_at` is when it was read, by `boot_seconds`; 0 if that is not known.
        """
        first = events[0] if events else None
        if type(first) is not BarEvent:  # seldom
            first = next((one for one in events if type(one) is BarEvent), None)
        if first is None or not read_at:
            return
        delay = boot_seconds() - read_at
        self._publish[bisect_left(BOUNDS, delay)] += 1
        self._publish_sum += delay
        clock, event_time = self._clock, first.event_time
        if event_time and not clock.is_doubtful:
            if clock.epoch != self._epoch:
                self._compare_clocks(read_at)
            delay = read_at + self._shift - event_time / 1000
            if delay < _LONGEST:
                delay = max(delay, 0.0)
                self._venue[bisect_left(BOUNDS, delay)] += 1
                self._venue_sum += delay

    def tick(self, now: float) -> None:
        """Store what was observed. Call it at each turn of the main loop."""
        if now < self._next_flush:
            return
        self._next_flush = now + FLUSH_SECONDS
        self._compare_clocks(now)
        if any(self._publish):
            for number, buckets, total in (
                (VENUE, self._venue, self._venue_sum),
                (PUBLISH, self._publish, self._publish_sum),
            ):
                self._writer.count_latencies(number, buckets, round(total * _SECOND))
            self._clear()

    def _clear(self) -> None:
        self._venue, self._publish = [0] * BUCKETS, [0] * BUCKETS
        self._venue_sum = self._publish_sum = 0.0

    def _compare_clocks(self, now: float) -> None:
        """Compute the seconds from the boot clock to the clock of event times."""
        wall, clock = time.time(), self._clock
        self._epoch = clock.epoch
        self._shift = wall - boot_seconds()
        if clock.offset is not None:
            ahead = clock.read(now) / 1000 - now - self._shift
            if not -TOLERANCE_MS <= ahead * 1000 <= _AHEAD_MS:
                self._shift += ahead
