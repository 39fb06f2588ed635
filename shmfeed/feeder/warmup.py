"""The warm-up of streams: which are under way, how far they are, when one has ended.

A stream warms up from its subscription until its history has come. Its health says so
for at most `repair_grace` after history could first not be asked for. The attempts go
on. A source that is away fails for all streams, also for those that it was not asked
about yet. No I/O.
"""

from collections.abc import Iterable
from typing import NamedTuple

from shmfeed.bar import StreamKey
from shmfeed.feeder.defects import retry_delay
from shmfeed.layout import HoleReason

# A stream warms up from the acknowledgement of its subscription on, so that no bar
# closes between history and the first message; but a connection may be long in coming.
CONNECT_SECONDS = 1.0
_OF_ALL: tuple[HoleReason, ...] = ("away", "blocked")  # fail for any other stream too


class WarmupProgress(NamedTuple):
    """The progress of a warm-up over all its streams."""

    streams: int
    streams_done: int
    bars: int
    bars_done: int

    def __str__(self) -> str:
        return (
            f"warm-up {self.streams_done:,} of {self.streams:,} streams,"
            f" {self.bars_done:,} of {self.bars:,} bars"
        )


class _Warming:
    __slots__ = ("bars", "failed_at", "failures", "is_asked", "next_at")

    def __init__(self, bars: int, now: float) -> None:
        self.bars = bars
        self.is_asked = False
        self.next_at = now + CONNECT_SECONDS
        self.failures = 0
        self.failed_at: float | None = None  # the first of them


class Warmups:
    """The streams of a feed that warm up. Every `now` is in seconds of CLOCK_BOOTTIME.

    `grace` is the setting `repair_grace`, in seconds.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._warming: dict[StreamKey, _Warming] = {}
        self._progress = WarmupProgress(0, 0, 0, 0)
        self._away_at: float | None = None  # since then no history came

    def __contains__(self, key: StreamKey) -> bool:
        return key in self._warming

    def __bool__(self) -> bool:
        return bool(self._warming)

    @property
    def progress(self) -> WarmupProgress:
        """The progress since streams began to warm up while none did."""
        return self._progress

    def add(self, key: StreamKey, bars: int, now: float) -> None:
        """Begin the warm-up of a stream, of at most so many bars."""
        if not self._warming:
            self._progress = WarmupProgress(0, 0, 0, 0)
            self._away_at = None
        self._warming[key] = _Warming(bars, now)
        self._count(streams=1, bars=bars)

    def drop(self, keys: Iterable[StreamKey]) -> None:
        """Forget streams that are no longer carried."""
        for key in keys:
            warming = self._warming.pop(key, None)
            if warming is not None:
                self._count(streams=-1, bars=-warming.bars)

    def connected(self, key: StreamKey, now: float) -> None:
        """Ask for the stream's history now, as a connection carries it."""
        warming = self._warming.get(key)
        if warming is not None and not warming.is_asked:
            warming.next_at = now

    def due(self, now: float) -> list[StreamKey]:
        """Return the streams whose history must be asked for now."""
        return [
            key
            for key, warming in self._warming.items()
            if not warming.is_asked and now >= warming.next_at
        ]

    def asked(self, key: StreamKey, bars: int) -> None:
        """Record that history is asked for, of so many bars."""
        warming = self._warming[key]
        warming.is_asked = True
        self._count(bars=bars - warming.bars)
        warming.bars = bars

    def failed(self, key: StreamKey, now: float, reason: HoleReason) -> None:
        """Record that history could not be asked for; it is tried again."""
        if reason in _OF_ALL and self._away_at is None:
            self._away_at = now
        warming = self._warming.get(key)
        if warming is None:
            return
        warming.is_asked = False
        warming.failures += 1
        warming.next_at = now + retry_delay(warming.failures)
        if warming.failed_at is None:
            warming.failed_at = now

    def done(self, key: StreamKey, bars: int) -> None:
        """Record that the stream's history has come, of so many bars."""
        self._away_at = None
        warming = self._warming.pop(key, None)
        if warming is None:
            return
        # A venue that has fewer bars than were asked for has given all.
        self._count(done=1, bars=bars - warming.bars, bars_done=bars)

    def is_said(self, key: StreamKey, now: float) -> bool:
        """Return True if the stream's health is that of a warm-up."""
        warming = self._warming.get(key)
        if warming is None:
            return False
        failures = warming.failed_at, self._away_at
        return all(at is None or now < at + self._grace for at in failures)

    def _count(
        self, streams: int = 0, done: int = 0, bars: int = 0, bars_done: int = 0
    ) -> None:
        old = self._progress
        self._progress = WarmupProgress(
            old.streams + streams,
            old.streams_done + done,
            old.bars + bars,
            old.bars_done + bars_done,
        )
