"""The venue's events, written to the rings: each bar passes its stream's ledger."""

import logging
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from shmfeed.bar import StreamKey
from shmfeed.codecs.interface import BarEvent, Event, Heartbeat, Malformed, Refused
from shmfeed.core import RingWriter
from shmfeed.errors import SegmentFullError
from shmfeed.feeder.clock import VenueClock
from shmfeed.feeder.ledger import (
    Anomaly,
    Ledger,
    LedgerEvent,
    RecoveringChanged,
    RowWrite,
)
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 10.0
TICK_SECONDS = 0.1


class StreamState:
    """A stream's ledger and the ring that it writes to."""

    __slots__ = ("key", "ledger", "ring")

    def __init__(self, ring: RingWriter, ledger: Ledger) -> None:
        self.key: StreamKey = (ring.symbol, ring.timeframe)
        self.ring = ring
        self.ledger = ledger


class ThrottledWarning:
    """A warning that is logged at most once each `LOG_EVERY_SECONDS`, with a count."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._count = 0
        self._next = 0.0

    def add(self, detail: str, now: float, count: int = 1) -> None:
        """Count an occurrence. Log it if the last log line is old enough."""
        self._count += count
        if now >= self._next:
            self._next = now + LOG_EVERY_SECONDS
            log.warning("%s (%d so far): %s", self._subject, self._count, detail)


class Intake:
    """The writer of events into the rings. Only the writing thread uses it."""

    def __init__(self, writer: FeedWriter, close_grace: float, flagged: bool) -> None:
        """Write to the streams of `writer`.

        `close_grace` is in seconds. `flagged` says that the venue flags its closed
        bars; if so, the clock closes no bar.
        """
        self._writer = writer
        self._flagged = flagged
        self._grace_ms = round(close_grace * 1000)
        self._streams: dict[StreamKey, StreamState] = {}
        self._clock = VenueClock(time.time_ns() // 1_000_000, time.monotonic())
        self._clock_from = math.inf  # when the clock may close bars, monotonic seconds
        self._next_tick = 0.0
        self._closed: list[StreamKey] = []  # streams whose readers are to be woken
        self._anomalies: Counter[str] = Counter()  # not written to the header yet
        self._last_malformed: BarEvent | None = None  # not logged yet
        self._malformed = ThrottledWarning("malformed message")
        self._refused = ThrottledWarning("venue reported an error")
        self._missing = ThrottledWarning("bars are missing")

    def set_streams(self, streams: Sequence[StreamKey]) -> None:
        """Carry exactly these streams from now on; those carried before continue."""
        for key in self._streams.keys() - set(streams):
            self._writer.mark_stream(key, gaps=0, recovering=False)
            self._writer.unsubscribe(*key)
            del self._streams[key]
        # Streams of an earlier feeder of this segment, which are no longer wanted.
        for key in set(self._writer.streams()) - set(streams):
            self._writer.unsubscribe(*key)
        for key in self._writer.known_first(streams):
            if key not in self._streams:
                try:
                    self._streams[key] = self._add_stream(key)
                except SegmentFullError as error:
                    log.warning(
                        "feed %s has no memory for %s %s, which is left out: %s",
                        self._writer.name,
                        *key,
                        error,
                    )

    def connected(self) -> None:
        """Let the clock close bars again, once `close_grace` has passed.

        A bar that was forming when the connection broke, or when an earlier feeder
        ended, has changed unseen. The venue may send it now, so the clock waits.
        """
        if self._clock_from == math.inf:
            self._clock_from = time.monotonic() + self._grace_ms / 1000

    def disconnected(self) -> None:
        """Suspend the clock: without a connection, forming bars change unseen."""
        self._clock_from = math.inf
        for stream in self._streams.values():
            stream.ledger.reconnected()

    def take(self, events: Sequence[Event]) -> None:
        """Write the rows and forming bars of these events; wake the readers once."""
        if not events:
            return
        now = time.monotonic()
        if not self._flagged:  # otherwise the clock closes nothing
            self._observe(events, now)
        venue_now = self._clock.read(now)
        ignored = heartbeats = 0
        streams = self._streams
        for event in events:
            if type(event) is BarEvent:
                stream = streams.get((event.symbol, event.timeframe))
                if stream is None:
                    self._writer.count("unsubscribed")
                    continue
                self._write(stream, stream.ledger.apply(event, venue_now, now))
            elif type(event) is Malformed:
                self._writer.count("malformed")
                self._malformed.add(event.reason, now)
            elif type(event) is Heartbeat:
                heartbeats += 1
            else:
                ignored += 1
                if type(event) is Refused:
                    self._refused.add(event.message, now)
        self._writer.count("messages", len(events))
        self._writer.count("ignored", ignored)
        if heartbeats < len(events):
            self._writer.mark_message()
        self._finish(now)

    def tick(self) -> None:
        """Close bars that are due, and release bars that were held too long.

        Call it after each batch. It works at most every TICK_SECONDS.
        """
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + TICK_SECONDS
        # Time 0 closes no bar; held bars are still checked.
        venue_now = self._clock.read(now) if now >= self._clock_from else 0
        for stream in self._streams.values():
            events = stream.ledger.tick(venue_now, now)
            if events:
                self._write(stream, events)
        self._finish(now)

    def _add_stream(self, key: StreamKey) -> StreamState:
        ring = self._writer.add_stream(*key)
        ledger = Ledger(
            key[1],
            close_grace_ms=self._grace_ms,
            last_closed=ring.reader.last_closed(),
            forming=ring.reader.forming(),
            forming_flagged=self._flagged,
        )
        return StreamState(ring, ledger)

    def _observe(self, events: Sequence[Event], now: float) -> None:
        # Observe all event times before reading the clock: the newest is the best.
        for event in events:
            if type(event) is BarEvent and event.event_time:
                self._clock.observe(event.event_time, now)

    def _write(self, stream: StreamState, events: Iterable[LedgerEvent]) -> None:
        ring = stream.ring
        for event in events:
            if type(event) is RowWrite:
                closed, bar, missing = event
                if closed:
                    ring.append(bar.open_time, *bar[2:9], wake=False)
                    self._closed.append(stream.key)
                    if missing:
                        self._count_missing(stream, missing)
                else:
                    ring.update_forming(bar.open_time, *bar[2:9])
            elif isinstance(event, Anomaly):
                self._anomalies[event.kind] += 1
                if event.kind == "malformed":
                    self._last_malformed = event.event
            elif isinstance(event, RecoveringChanged):
                self._writer.mark_stream(
                    stream.key, gaps=0, recovering=event.is_recovering
                )

    def _count_missing(self, stream: StreamState, missing: int) -> None:
        self._writer.count("gaps", missing)
        is_recovering = stream.ledger.is_recovering
        self._writer.mark_stream(stream.key, gaps=missing, recovering=is_recovering)
        symbol, timeframe = stream.key
        detail = f"{missing} of {symbol} {timeframe}"
        self._missing.add(detail, time.monotonic(), missing)

    def _finish(self, now: float) -> None:
        if self._anomalies:
            for kind, count in self._anomalies.items():
                self._writer.count(kind, count)
            if self._last_malformed is not None:
                detail = _describe(self._last_malformed)
                self._malformed.add(detail, now, self._anomalies["malformed"])
                self._last_malformed = None
            self._anomalies.clear()
        if self._closed:
            self._writer.wake(self._closed)
            self._closed.clear()


def _describe(event: BarEvent) -> str:
    prices = event.open, event.high, event.low, event.close, event.volume
    values = " ".join(f"{price:g}" for price in prices)
    return (
        f"times or values that no bar can have: {event.symbol} {event.timeframe}"
        f" {event.open_time} to {event.close_time}, open high low close volume {values}"
    )
