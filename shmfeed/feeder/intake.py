"""From events to rows: each bar through its stream's ledger into its ring."""

import dataclasses
import logging
import math
import time
from collections.abc import Iterable, Sequence

from shmfeed.bar import StreamKey
from shmfeed.codecs.interface import BarEvent, Event, Heartbeat, Malformed, Refused
from shmfeed.core import RingWriter
from shmfeed.feeder.clock import VenueClock
from shmfeed.feeder.ledger import Counts, Ledger, Step
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 10.0
TICK_SECONDS = 0.1


class StreamState:
    """One stream on its way from the ledger to the ring."""

    __slots__ = ("gaps", "holding", "ledger", "names", "ring")

    def __init__(self, ring: RingWriter, ledger: Ledger) -> None:
        self.names: StreamKey = (ring.symbol, ring.timeframe)
        self.ring = ring
        self.ledger = ledger
        self.gaps = 0
        self.holding = False


class ThrottledWarning:
    """Warnings of one kind, at most one each `LOG_EVERY_SECONDS`, and how many."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = 0
        self._next = 0.0

    def say(self, detail: str, now: float, count: int = 1) -> None:
        self._count += count
        if now >= self._next:
            self._next = now + LOG_EVERY_SECONDS
            log.warning("%s (%d so far): %s", self._what, self._count, detail)


class Intake:
    """What the feeder's one writing thread does with a batch of events."""

    def __init__(self, writer: FeedWriter, close_grace: float, flagged: bool) -> None:
        """`flagged`: the venue says of its bars whether they are closed."""
        self._writer = writer
        self._flagged = flagged
        self._grace_ms = round(close_grace * 1000)
        self._lanes: dict[StreamKey, StreamState] = {}
        self._counts = Counts()
        self._counted = dataclasses.asdict(self._counts)
        self._clock = VenueClock(time.time_ns() // 1_000_000, time.monotonic())
        self._clock_from = math.inf  # when the clock may close bars, monotonic seconds
        self._next_tick = 0.0
        self._closed: list[StreamKey] = []  # streams of which nobody was woken yet
        self._malformed = ThrottledWarning("malformed message")
        self._refused = ThrottledWarning("the venue says error")
        self._missing = ThrottledWarning("bars are missing")

    def set_streams(self, streams: Sequence[StreamKey]) -> None:
        """Carry exactly these streams from now on; known ones go on as they are."""
        for names in self._lanes.keys() - set(streams):
            self._writer.mark_stream(names, gaps=0, recovering=False)
            self._writer.unsubscribe(*names)
            del self._lanes[names]
        for names in streams:
            if names not in self._lanes:
                self._lanes[names] = self._lane(names)
        # Left by an earlier feeder of this segment, and wanted no more.
        for names in set(self._writer.streams()) - set(streams):
            self._writer.unsubscribe(*names)

    def _lane(self, names: StreamKey) -> StreamState:
        ring = self._writer.add_stream(*names)
        ledger = Ledger(
            names[1],
            self._counts,
            close_grace_ms=self._grace_ms,
            last_closed=ring.reader.last_closed(),
            forming=ring.reader.forming(),
            forming_flagged=self._flagged,
        )
        return StreamState(ring, ledger)

    def connected(self) -> None:
        """The venue serves the streams: what it sends of the past comes now.

        Until the grace has passed the clock closes nothing: a bar that was forming
        when the connection broke, or when a predecessor died, has changed unseen, and
        the venue's own word about it is worth the wait.
        """
        if self._clock_from == math.inf:
            self._clock_from = time.monotonic() + self._grace_ms / 1000

    def disconnected(self) -> None:
        """The connection was lost: forming bars may change unseen."""
        self._clock_from = math.inf
        for lane in self._lanes.values():
            lane.ledger.reconnected()

    def take(self, events: Sequence[Event]) -> None:
        """Write what these events close or update, then wake the readers once."""
        if not events:
            return
        now = time.monotonic()
        if not self._flagged:  # where the venue flags its bars no clock is asked
            self._observe(events, now)
        venue_now = self._clock.read(now)
        ignored = heartbeats = 0
        lanes = self._lanes
        for event in events:
            if type(event) is BarEvent:
                lane = lanes.get((event.symbol, event.timeframe))
                if lane is None:
                    self._writer.count("unsubscribed")
                    continue
                self._write(lane, lane.ledger.apply(event, venue_now, now))
            elif type(event) is Malformed:
                self._writer.count("malformed")
                self._malformed.say(event.reason, now)
            elif type(event) is Heartbeat:
                heartbeats += 1
            else:
                ignored += 1
                if type(event) is Refused:
                    self._refused.say(event.message, now)
        self._writer.count("messages", len(events))
        self._writer.count("ignored", ignored)
        if heartbeats < len(events):
            self._writer.mark_message()
        self._finish()

    def _observe(self, events: Sequence[Event], now: float) -> None:
        # All of them before the clock is read: the newest time is the best known.
        for event in events:
            if type(event) is BarEvent and event.event_time:
                self._clock.observe(event.event_time, now)

    def tick(self) -> None:
        """Close what the clock closes, and give up what was held for too long.

        To be called after each batch: it looks some times a second.
        """
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + TICK_SECONDS
        # Before then it is as early as can be: only what is held is looked at.
        venue_now = self._clock.read(now) if now >= self._clock_from else 0
        for lane in self._lanes.values():
            steps = lane.ledger.tick(venue_now, now)
            if steps:
                self._write(lane, steps)
        self._finish()

    def _write(self, lane: StreamState, steps: Iterable[Step]) -> None:
        ring = lane.ring
        for step in steps:
            bar = step.bar
            if step.closed:
                ring.append(bar.open_time, *bar[2:9], wake=False)
                self._closed.append(lane.names)
            else:
                ring.update_forming(bar.open_time, *bar[2:9])
        ledger = lane.ledger
        if ledger.holding != lane.holding or ledger.gaps != lane.gaps:
            self._mark(lane)

    def _mark(self, lane: StreamState) -> None:
        missed = lane.ledger.gaps - lane.gaps
        lane.gaps, lane.holding = lane.ledger.gaps, lane.ledger.holding
        self._writer.mark_stream(lane.names, gaps=missed, recovering=lane.holding)
        if missed:
            detail = f"{missed} of {lane.names[0]} {lane.names[1]}"
            self._missing.say(detail, time.monotonic(), missed)

    def _finish(self) -> None:
        for name, before in self._counted.items():
            total = getattr(self._counts, name)
            if total != before:
                self._writer.count(name, total - before)
                self._counted[name] = total
                if name == "malformed":
                    self._tell_unsound(total - before)
        if self._closed:
            self._writer.wake(self._closed)
            self._closed.clear()

    def _tell_unsound(self, count: int) -> None:
        detail = ""
        for lane in self._lanes.values():
            event, lane.ledger.unsound = lane.ledger.unsound, None
            if event is not None:
                detail = _in_words(event)
        self._malformed.say(detail, time.monotonic(), count)


def _in_words(event: BarEvent) -> str:
    prices = event.open, event.high, event.low, event.close, event.volume
    words = " ".join(f"{price:g}" for price in prices)
    return (
        f"times or values that no bar has: {event.symbol} {event.timeframe}"
        f" {event.open_time} to {event.close_time}, open high low close volume {words}"
    )
