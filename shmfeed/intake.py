"""From events to rows: each bar through its stream's ledger into its ring."""

import dataclasses
import logging
import time
from collections.abc import Iterable, Sequence

from shmfeed.catalog import Names
from shmfeed.events import BarEvent, Event, Ignored, Malformed
from shmfeed.ledger import Counts, Ledger, Step
from shmfeed.ringwriter import RingWriter
from shmfeed.venueclock import VenueClock
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

_LOG_EVERY_SECONDS = 10.0


class Lane:
    """One stream on its way from the ledger to the ring."""

    __slots__ = ("gaps", "holding", "ledger", "names", "ring")

    def __init__(self, ring: RingWriter, ledger: Ledger) -> None:
        self.names: Names = (ring.symbol, ring.timeframe)
        self.ring = ring
        self.ledger = ledger
        self.gaps = 0
        self.holding = False


class Intake:
    """What the feeder's one writing thread does with a batch of events."""

    def __init__(self, writer: FeedWriter, close_grace: float, flagged: bool) -> None:
        """`flagged`: the venue says of its bars whether they are closed."""
        self._writer = writer
        self._flagged = flagged
        self._grace_ms = round(close_grace * 1000)
        self._lanes: dict[Names, Lane] = {}
        self._counts = Counts()
        self._counted = dataclasses.asdict(self._counts)
        self._malformed = 0
        self._clock = VenueClock(time.time_ns() // 1_000_000, time.monotonic())
        self._next_log = 0.0

    def set_streams(self, streams: Sequence[Names]) -> None:
        """Carry exactly these streams from now on; known ones go on as they are."""
        for names in self._lanes.keys() - set(streams):
            self._writer.unsubscribe(*names)
            del self._lanes[names]
        for names in streams:
            if names not in self._lanes:
                self._lanes[names] = self._lane(names)
        # Left by an earlier feeder of this segment, and wanted no more.
        for names in set(self._writer.streams()) - set(streams):
            self._writer.unsubscribe(*names)

    def _lane(self, names: Names) -> Lane:
        ring = self._writer.add_stream(*names)
        ledger = Ledger(
            names[1],
            self._counts,
            close_grace_ms=self._grace_ms,
            last_closed=ring.reader.last_closed(),
            forming=ring.reader.forming(),
            forming_flagged=self._flagged,
        )
        return Lane(ring, ledger)

    def disconnected(self) -> None:
        """The connection was lost: forming bars may change unseen."""
        for lane in self._lanes.values():
            lane.ledger.reconnected()

    def take(self, events: Sequence[Event]) -> None:
        """Write what these events close or update, then wake the readers once."""
        now = time.monotonic()
        venue_now = self._clock.read(now)
        closed = ignored = 0
        lanes = self._lanes
        for event in events:
            if type(event) is BarEvent:
                lane = lanes.get((event.symbol, event.timeframe))
                if lane is None:
                    self._writer.count("unsubscribed")
                    continue
                if event.event_time:
                    self._clock.observe(event.event_time, now)
                closed += self._write(lane, lane.ledger.apply(event, venue_now, now))
            elif type(event) is Malformed:
                self._note_malformed(event.reason, now)
            elif type(event) is Ignored:
                ignored += 1
        if events:
            self._writer.count("messages", len(events))
            self._writer.count("ignored", ignored)
            self._writer.mark_message()
        self._finish(closed)

    def tick(self) -> None:
        """Close what the clock closes, and give up what was held for too long."""
        now = time.monotonic()
        venue_now = self._clock.read(now)
        closed = 0
        for lane in self._lanes.values():
            closed += self._write(lane, lane.ledger.tick(venue_now, now))
        self._finish(closed)

    def _write(self, lane: Lane, steps: Iterable[Step]) -> int:
        closed = 0
        ring = lane.ring
        for step in steps:
            bar = step.bar
            if step.closed:
                closed += 1
                ring.append(bar.open_time, *bar[2:9], wake=False)
            else:
                ring.update_forming(bar.open_time, *bar[2:9])
        ledger = lane.ledger
        if ledger.holding != lane.holding or ledger.gaps != lane.gaps:
            self._mark(lane)
        return closed

    def _mark(self, lane: Lane) -> None:
        missed = lane.ledger.gaps - lane.gaps
        lane.gaps, lane.holding = lane.ledger.gaps, lane.ledger.holding
        self._writer.mark_stream(lane.names, gaps=missed, recovering=lane.holding)
        if missed:
            log.warning("%s %s: %d bars are missing", *lane.names, missed)

    def _note_malformed(self, reason: str, now: float) -> None:
        self._malformed += 1
        self._writer.count("malformed")
        if now >= self._next_log:
            self._next_log = now + _LOG_EVERY_SECONDS
            log.warning("malformed message (%d so far): %s", self._malformed, reason)

    def _finish(self, closed: int) -> None:
        for name, before in self._counted.items():
            total = getattr(self._counts, name)
            if total != before:
                self._writer.count(name, total - before)
                self._counted[name] = total
        if closed:
            self._writer.wake()
