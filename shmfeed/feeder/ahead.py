"""Bars that begin ahead of the venue's clock: kept until it is known which is wrong."""

import logging
import time
from collections.abc import Callable, Mapping

import numpy as np

from shmfeed.bar import StreamKey
from shmfeed.codecs.interface import BarEvent
from shmfeed.core import RingWriter
from shmfeed.feeder.clock import TOLERANCE_MS, VenueClock
from shmfeed.feeder.history_ledger import HistoryLedger
from shmfeed.feeder.ledger_events import Anomaly
from shmfeed.feeder.row_changes import cut_future
from shmfeed.feeder.row_publisher import RowPublisher
from shmfeed.feeder.stream import AHEAD, StreamState
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

_MOST_KEPT = 16  # messages kept until the clock is judged


class AheadBars:
    """The venue's clock, and the bars that it or they are wrong about.

    Attributes:
        clock: The venue's clock.
    """

    def __init__(
        self,
        clock: VenueClock,
        writer: FeedWriter,
        rows: RowPublisher,
        streams: Mapping[StreamKey, StreamState],
        ledger_of: Callable[[RingWriter], HistoryLedger],
        wall: Callable[[], int],
    ) -> None:
        self.clock = clock
        self._said = ""
        self._writer = writer
        self._rows = rows
        self._streams = streams
        self._ledger_of = ledger_of
        self._wall = wall  # this host's clock, ms UTC
        self._epoch = clock.epoch  # of the clock that rows were judged by
        self._kept: list[tuple[StreamState, BarEvent, float]] = []  # not judged yet
        self._is_lag_said = False  # of this host's clock, as far as bars tell it

    def take_said(self) -> str:
        """Return the newest text about the clock since the last call, else ""."""
        said, self._said = self._said, ""
        return said

    def forget_others(self) -> None:
        """Drop the bars of streams that are not carried any more."""
        self._kept = [one for one in self._kept if one[0].key in self._streams]

    def add(self, stream: StreamState, event: BarEvent, now: float) -> None:
        """Keep a bar, or count it as malformed."""
        if len(self._kept) >= _MOST_KEPT or not self._may_be_right(stream, event, now):
            self._rows.drop(stream, Anomaly("malformed", event, AHEAD), now)
            return
        self._kept.append((stream, event, now))
        if not self.clock.is_doubtful:  # it has just leapt
            self.judge(now)

    def watch(self, stream: StreamState, event: BarEvent, now: float) -> int:
        """Show the clock a bar, while this host's is in question. Return its time."""
        clock, opened = self.clock, event.open_time
        venue_now = clock.read(now)
        if event.event_time or opened > stream.ledger.latest_open(venue_now):
            return venue_now
        ends = stream.ledger.end_of(opened)
        if ends:
            clock.see_bar(opened, ends, now)
            if clock.epoch != self._epoch:
                self.judge(now)
        return clock.read(now)

    def judge(self, now: float) -> None:
        """Apply bars again that were judged by another estimate of the clock."""
        clock = self.clock
        has_leapt = clock.epoch != self._epoch
        if not has_leapt and not self._kept:
            return
        if has_leapt:
            self._epoch = clock.epoch
            self._say_offset()
            if clock.is_confirmed:
                self.cut_future(now)
        if self._kept and not clock.is_doubtful:
            # A leap may have been too short, but none is decided twice.
            is_final = clock.is_known or not has_leapt
            held, self._kept = self._kept, []
            for stream, event, arrived in held:
                events = stream.ledger.apply(event, clock.read(arrived), now)
                ahead = self._rows.write(stream, events, now)
                if ahead is not None and is_final:
                    self._rows.drop(stream, Anomaly("malformed", ahead, AHEAD), now)
                elif ahead is not None:
                    self.add(stream, ahead, now)

    def cut_future(self, now: float) -> None:
        """Cut off rows that an earlier feeder or a wrong clock left in the future."""
        venue_now = self.clock.read(now)
        for key, stream in self._streams.items():
            if not stream.ledger.is_ahead(venue_now):
                continue
            latest = stream.ledger.latest_open(venue_now)
            rows = stream.ring.reader.snapshot(self._writer.geometry.history)
            said = cut_future(self._writer, key, latest, venue_now)
            if said is not None:
                self._said = said
                for number in np.flatnonzero(rows.open_time > latest).tolist():
                    self._rows.record(stream, rows.bar(number), "cut", now)
                stream.ledger = self._ledger_of(stream.ring)
                self._writer.mark_stream(key, gaps=0, recovering=False)

    def publish_offset(self, now: float) -> None:
        """Store the venue's clock minus this host's."""
        clock = self.clock
        known = clock.offset is not None
        offset = clock.read(now) - time.time_ns() / 1_000_000 if known else None
        self._writer.set_clock_offset(offset)

    def _may_be_right(self, stream: StreamState, event: BarEvent, now: float) -> bool:
        """Return True if the clock may be wrong, and not the bar."""
        clock = self.clock
        if event.open_time <= stream.ledger.latest_open(clock.read(now)):
            return True  # the clock has leapt since the bar was judged
        if event.event_time:
            beyond = clock.read(now) + TOLERANCE_MS
            return clock.is_doubtful and event.event_time > beyond
        wall = self._wall()
        if clock.source == "host" and wall > clock.read(now) + TOLERANCE_MS:
            clock.follow_host(wall, now)  # a time service has set this host's clock
            return True
        return clock.ask_ahead(event.open_time, now)

    def _say_offset(self) -> None:
        said, by_bars = self.clock.describe_error(), self.clock.source == "bars"
        if said and not (by_bars and self._is_lag_said):  # a history makes many leaps
            self._is_lag_said = by_bars
            self._said = said
            log.warning(said)
