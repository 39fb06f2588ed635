"""Decide which streams are asked for by REST because the socket gives nothing.

A closed bar that has not come `repair_grace` after its close is asked for, unless newer
bars have come. A stream whose bars come so is *polled*, until the socket gives a newer
one. If history has a bar with trades that the socket never sent, while a connection
carries the stream, the socket lies, whatever it sends: the connection is left. If
history has nothing newer, the stream is quiet: it is compared again as each newer bar
is due, if bars last a minute or longer, and after 1, 2, 4 .. 60 s. A comparison holds
no longer once history fails, or does not answer in time. No I/O.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from shmfeed.bar import TIMEFRAMES, StreamKey
from shmfeed.feeder.defects import retry_delay
from shmfeed.feeder.row_events import DueBars

CHECK_SECONDS = 0.5
LEAST_SECONDS = 1.0  # after a close, whatever the grace is
NEVER = math.inf
EMPTY_SECONDS = 1.0  # after an answer without the bars, doubled each time
MOST_EMPTY_SECONDS = 60.0
EACH_BAR_MS = 60_000  # so long a bar's stream is compared as each newer one is due
SPEAKING_SECONDS = 15.0  # the longest such wait of a stream that speaks again
# A polled stream whose bars are so late, besides the grace, is no longer polled.
LOST_SECONDS = 30.0
LEAVE_SECONDS = 60.0  # between two moves of one stream, doubled each time
MOST_LEAVE_SECONDS = 3600.0
STEADY_SECONDS = 600.0  # after so long without a lie a stream counts as new


class PollEffect(NamedTuple):
    """The rows that an answer brought beyond the ring's last.

    Attributes:
        appended: Their number.
        is_news: True if one of them has trades that an open socket has not told of.
        is_proof: False if the history is behind, or of another market.
    """

    appended: int
    is_news: bool
    is_proof: bool = True


class _Polled:
    __slots__ = (
        "asked_at",
        "compared_at",
        "compared_until",
        "distance",
        "failures",
        "is_asked",
        "is_quiet",
        "leave_at",
        "lied_at",
        "newest",
        "next_at",
        "quiet_from",
        "since",
        "without",
    )

    def __init__(self) -> None:
        self.is_asked = False
        self.asked_at = 0.0
        self.newest = -1  # open time of the newest bar asked for
        self.compared_at = 0.0  # of the request whose answer had nothing newer
        self.compared_until = NEVER
        self.next_at = 0.0
        self.failures = 0
        self.without = 0  # answers in a row without the bars
        self.since: float | None = None  # when bars began to come by REST
        self.is_quiet = False  # history has nothing newer either
        self.quiet_from = 0.0
        self.lied_at: float | None = None
        self.leave_at = 0.0
        self.distance = LEAVE_SECONDS


class Polling:
    """The streams of a feed that may need REST. Every `now` is CLOCK_BOOTTIME seconds.

    `grace` is the setting `repair_grace`, in seconds.
    """

    def __init__(self, grace: float) -> None:
        self._grace = max(grace, LEAST_SECONDS)
        self._streams: dict[StreamKey, _Polled] = {}
        self._next_check = 0.0

    def is_due(self, now: float) -> bool:
        """Return True if `choose` is to be called."""
        return now >= self._next_check

    def choose(self, due: Iterable[DueBars], now: float) -> list[DueBars]:
        """Return the bars to ask for now, of those that are due."""
        self._next_check = now + CHECK_SECONDS
        chosen = []
        for bars in due:
            if bars.late < self._grace:
                continue
            stream = self._streams.setdefault(bars.key, _Polled())
            if stream.since is not None and bars.late > self._grace + LOST_SECONDS:
                stream.since = None
            if not stream.is_asked and now >= _next_at(stream, bars):
                stream.is_asked, stream.asked_at = True, now
                stream.newest = bars.last
                chosen.append(bars)
        return chosen

    def failed(self, key: StreamKey, now: float) -> None:
        """Record that history could not be asked for."""
        stream = self._streams.get(key)
        if stream is not None:
            stream.is_asked = False
            stream.compared_at = 0.0
            stream.failures += 1
            stream.next_at = now + retry_delay(stream.failures)

    def answered(
        self, key: StreamKey, effect: PollEffect, is_proof: bool, now: float
    ) -> bool:
        """Record an answer. Return True if the stream's connection must be left.

        `is_proof` is True if the venue's own history answered.
        """
        stream = self._streams.get(key)
        if stream is None:
            return False
        stream.is_asked, stream.failures = False, 0
        stream.is_quiet = effect.is_proof and not effect.is_news
        stream.quiet_from = now
        stream.compared_at = stream.asked_at if stream.is_quiet else 0.0
        stream.compared_until = NEVER
        if not effect.appended:
            wait = EMPTY_SECONDS * 2.0 ** min(stream.without, 6)
            stream.next_at = now + min(MOST_EMPTY_SECONDS, wait)
            stream.without += 1
            return False
        stream.without, stream.next_at = 0, now
        if stream.since is None:
            stream.since = now
        return effect.is_news and is_proof and self._may_leave(stream, now)

    def compared(self, key: StreamKey, at: float, until: float) -> None:
        """Record that another request, made at `at`, has found nothing newer.

        That holds until the next bar closes, at `until`.
        """
        stream = self._streams.setdefault(key, _Polled())
        if at > stream.compared_at:
            stream.compared_at, stream.compared_until = at, until

    def changed(self, keys: Iterable[StreamKey]) -> None:
        """Drop what comparisons have found: other connections carry these streams."""
        for key in keys:
            if key in self._streams:
                self._streams[key].compared_at = 0.0

    def compared_at(self, key: StreamKey, now: float) -> float:
        """Return when a stream was compared, and nothing newer was found; else 0."""
        stream = self._streams.get(key)
        if stream is None or now > stream.compared_until:
            return 0.0
        is_slow = stream.is_asked and now > stream.asked_at + self._grace
        return 0.0 if is_slow else stream.compared_at

    def hear(
        self,
        silences: Mapping[StreamKey, float],
        is_newer: Callable[[StreamKey], bool],
        now: float,
    ) -> None:
        """End the silence of the streams that the socket gives again.

        A message without the bars that are due does not end the waits between requests:
        where the venue's clock is misjudged, streams speak all the time.

        Args:
            silences: Seconds since the last message about each stream.
            is_newer: Returns True if the newest bar of a stream came by the socket.
            now: When they were read.
        """
        for key, stream in self._streams.items():
            if stream.since is not None and is_newer(key):
                stream.since, stream.next_at, stream.without = None, 0.0, 0
            if stream.is_quiet and silences.get(key, now) < now - stream.quiet_from:
                stream.is_quiet = False
                stream.next_at = min(stream.next_at, now + SPEAKING_SECONDS)

    def drop(self, keys: Iterable[StreamKey]) -> None:
        """Forget streams that are no longer carried."""
        for key in keys:
            self._streams.pop(key, None)

    @property
    def polled(self) -> dict[StreamKey, float]:
        """The polled streams, and when each one began to be."""
        return {
            key: stream.since
            for key, stream in self._streams.items()
            if stream.since is not None
        }

    @property
    def quiet(self) -> set[StreamKey]:
        """The silent streams of which history has nothing newer either."""
        return {key for key, stream in self._streams.items() if stream.is_quiet}

    def _may_leave(self, stream: _Polled, now: float) -> bool:
        if stream.lied_at is not None and now > stream.lied_at + STEADY_SECONDS:
            stream.distance, stream.leave_at = LEAVE_SECONDS, 0.0
        stream.lied_at = now
        if now < stream.leave_at:
            return False
        stream.leave_at = now + stream.distance
        stream.distance = min(MOST_LEAVE_SECONDS, 2 * stream.distance)
        return True


def _next_at(stream: _Polled, bars: DueBars) -> float:
    # A newer bar is asked for at once, if history answers and bars are long enough.
    is_newer = bars.last > stream.newest and not stream.failures
    is_long = TIMEFRAMES[bars.key[1]] >= EACH_BAR_MS
    return 0.0 if is_newer and is_long else stream.next_at
