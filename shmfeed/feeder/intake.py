"""The venue's events, written to the rings: each bar passes its stream's ledger."""

import logging
import math
import time
from collections.abc import Iterable, Sequence

from shmfeed.bar import StreamKey
from shmfeed.codecs.interface import BarEvent, Event, Heartbeat, Malformed, Refused
from shmfeed.core import RingWriter
from shmfeed.errors import SegmentFullError
from shmfeed.feeder.clock import TOLERANCE_MS, VenueClock, boot_seconds
from shmfeed.feeder.late_refusals import LateRefusals
from shmfeed.feeder.ledger import (
    Anomaly,
    Ledger,
    LedgerEvent,
    RecoveringChanged,
    RowDoubted,
    RowProven,
    RowWrite,
)
from shmfeed.feeder.missing import MissingBars
from shmfeed.feeder.row_changes import cut_future, mark_confirmed
from shmfeed.feeder.sequence import FRESH, OLDER, Mode, SequenceCheck
from shmfeed.feeder.spellings import SpelledStreams
from shmfeed.feeder.stream import AHEAD, StreamState
from shmfeed.feeder.throttled import DropAccount, ThrottledWarning
from shmfeed.layout import STREAM_COUNTERS
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
COUNT_SECONDS = 0.25  # streams' counters are written that often
SAMPLE_SECONDS = 0.05  # event times are looked at that often, besides the newest
_MOST_KEPT = 16  # messages kept until the clock is judged


class Intake:
    """The writer of events into the rings. Only the writing thread uses it.

    Attributes:
        last_error: The last message about the data, "" before the first.
        missing: The missing bars that the log has not named yet.
    """

    def __init__(
        self,
        writer: FeedWriter,
        close_grace: float,
        flagged: bool,
        *,
        numbers_trades: bool = False,
        sequence: Mode = "auto",
        lines: int = 1,
    ) -> None:
        """Write to the streams of `writer`.

        `close_grace` is in seconds. `flagged` says that the venue flags its closed
        bars; if so, the clock closes no bar. `numbers_trades` is the codec's,
        `sequence` and `lines` are the settings.
        """
        self.last_error = ""
        self._writer = writer
        self._flagged = flagged
        self._numbers_trades = numbers_trades
        self._lines = lines
        self._sequence = SequenceCheck(sequence)
        self._grace_ms = round(close_grace * 1000)
        self._streams: dict[StreamKey, StreamState] = {}
        self._spelled = SpelledStreams()
        now = boot_seconds()
        self._clock = VenueClock(time.time_ns() // 1_000_000, now)
        self._epoch = self._clock.epoch  # of the clock that rows were judged by
        self._ahead: list[tuple[StreamState, BarEvent, float]] = []  # not judged yet
        self._next_sample = self._next_tick = self._next_count = now
        self._is_lag_said = False  # of this host's clock, as far as bars tell it
        self._heard: dict[int, float] = {}  # when a connection brought anything last
        self._closed: list[StreamKey] = []  # streams whose readers are to be woken
        self._drops = DropAccount()
        self._late_refusals = LateRefusals()
        self._refused = ThrottledWarning("venue reported an error")
        self.missing = MissingBars()
        self._lost = ThrottledWarning("messages were lost")

    def set_streams(self, streams: Sequence[StreamKey]) -> None:
        """Carry exactly these streams from now on; those carried before continue."""
        for key in self._streams.keys() - set(streams):
            self._count_stream(self._streams[key])
            self._writer.mark_stream(key, gaps=0, recovering=False)
            self._writer.unsubscribe(*key)
            del self._streams[key]
        self._ahead = [one for one in self._ahead if one[0].key in self._streams]
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
        self._spelled.replace(self._streams)
        if self._clock.is_confirmed:
            self._cut_future(boot_seconds())

    def connected(self, streams: Iterable[StreamKey] | None = None) -> None:
        """Let the clock close bars of these streams once `close_grace` has passed.

        None is all. A bar that was forming when the connection broke, or when an
        earlier feeder ended, has changed unseen. The venue may send it now, so the
        clock waits.
        """
        now = boot_seconds()
        for stream in self._selected(streams):
            if stream.clock_from == math.inf:
                stream.clock_from = now + self._grace_ms / 1000
                stream.heard = now

    def disconnected(
        self, streams: Iterable[StreamKey] | None = None, heard: float = -math.inf
    ) -> None:
        """Suspend the clock of these streams, None for all.

        Without a connection, forming bars change unseen. Nothing that came up to
        `heard` was lost.
        """
        now = boot_seconds()
        for stream in self._selected(streams):
            stream.clock_from = math.inf
            self._write(stream, stream.ledger.reconnected(heard=heard), now)

    def connection_lost(
        self, connection: int, uncovered: Iterable[StreamKey] = ()
    ) -> None:
        """Record that a connection was lost, and which streams have none now."""
        now, heard = boot_seconds(), self._heard.pop(connection, -math.inf)
        for stream in self._streams.values():
            for line, carrier in stream.carriers.items():
                if carrier == connection:
                    self._write(stream, stream.ledger.reconnected(line, heard), now)
        self.disconnected(uncovered, heard)

    def venue_time(self, time_ms: int, read_at: float) -> None:
        """Take the time of a handshake's `Date`, which was read at `read_at`.

        `read_at` is a reading of time.monotonic.
        """
        now = boot_seconds()
        self._clock.set_time(time_ms, now - (time.monotonic() - read_at))
        self._judge_again(now)

    def stalled(self) -> None:
        """Let the unread messages be taken before the clock closes bars again.

        Call it when the feeder stood still for longer than any turn of its loop takes.
        """
        now = boot_seconds()
        for stream in self._streams.values():
            stream.ledger.stalled(now)

    def silences(self) -> dict[StreamKey, float]:
        """Return the seconds since the last message about each stream.

        For one about which none has come, since its connection came. Streams that no
        connection carries are left out.
        """
        now = boot_seconds()
        return {
            key: now - stream.heard
            for key, stream in self._streams.items()
            if stream.clock_from != math.inf
        }

    def take(self, events: Sequence[Event], connection: int = 0, line: int = 0) -> None:
        """Write the rows and forming bars of these events; wake the readers once.

        All came over one connection. `line` is its number where several carry the same
        streams.
        """
        now = boot_seconds()
        clock = self._clock
        venue_now = clock.read(now)
        is_sample = now >= self._next_sample
        samples = is_sample or clock.must_hear_all
        watches = not clock.is_known and clock.watches_bars(is_sample)
        heartbeats, has_lines = 0, self._lines > 1
        spellings = self._spelled.known
        for event in events:
            if type(event) is not BarEvent:
                heartbeats += self._take_other(event, now)
                continue
            stream = spellings.get((event.symbol, event.timeframe)) or self._find(event)
            if event.sequence >= 0:
                stream = self._if_fresh(event, stream, connection, line)
            if stream is None:
                continue
            stamp = event.event_time
            is_heard = stamp > venue_now or (samples and stamp)
            if is_heard and event.open_time <= stamp + TOLERANCE_MS:
                samples = clock.observe(stamp, now) or is_sample
                venue_now = clock.read(now)
            if has_lines:
                stream.carriers[line] = connection
            if watches:
                venue_now = self._watch(stream, event, now)
            stream.messages += 1
            stream.heard = now
            self._write(stream, stream.ledger.apply(event, venue_now, now, line), now)
        self._writer.count("messages", len(events))
        if heartbeats < len(events):
            self._writer.mark_message()
        if is_sample:
            self._next_sample = now + SAMPLE_SECONDS
        self._heard[connection] = now
        self._finish(now)

    def tick(self, now: float | None = None) -> None:
        """Close bars that are due, and release bars that were held too long.

        Call it after each batch. It works at most every TICK_SECONDS. A process that is
        stopped after it has read `now` closes nothing too early.
        """
        now = boot_seconds() if now is None else now
        if now < self._next_tick:
            return
        self._next_tick = now + TICK_SECONDS
        self._clock.settle(now)
        venue_now = self._clock.read(now)
        counts = now >= self._next_count
        for stream in self._streams.values():
            # Time 0 closes no bar; held bars are still checked.
            due = venue_now if now >= stream.clock_from else 0
            events = stream.ledger.tick(due, now)
            if events:
                self._write(stream, events, now)
            if counts and (stream.messages or stream.missed):
                self._count_stream(stream)
                self._explain(stream, now)
        if counts:
            self._next_count = now + COUNT_SECONDS
            self._publish_offset(now)
            self.missing.log(now)
        self._finish(now)

    def _take_other(self, event: Event, now: float) -> bool:
        """Count an event that is about no bar. Return True for a heartbeat."""
        if isinstance(event, Heartbeat):
            return True
        if isinstance(event, Malformed):
            self._drops.add_unreadable(event.reason, now)
            return False
        self._writer.count("ignored")
        if isinstance(event, Refused):
            said = self._refused.add(event.message, now)
            self.last_error = said or self.last_error
            self._explain_refused(event)
        return False

    def _explain_refused(self, event: Refused) -> None:
        silent = (k for k, stream in self._streams.items() if not stream.was_accepted)
        named = self._late_refusals.streams_of(event, silent)
        self.explain_silence(named, event.message)

    def explain_silence(self, streams: Iterable[StreamKey], text: str) -> None:
        """Say why streams are silent, until their next message comes."""
        for stream in self._selected(streams):
            if stream.explain_silence(text):
                self._writer.explain(stream.key, "muted", text)

    def _selected(self, streams: Iterable[StreamKey] | None) -> Iterable[StreamState]:
        if streams is None:
            return self._streams.values()
        return [self._streams[key] for key in streams if key in self._streams]

    def _add_stream(self, key: StreamKey) -> StreamState:
        ring = self._writer.add_stream(*key)
        return StreamState(ring, self._ledger_of(ring), boot_seconds())

    def _ledger_of(self, ring: RingWriter) -> Ledger:
        return Ledger(
            ring.timeframe,
            close_grace_ms=self._grace_ms,
            last_closed=ring.reader.last_closed(),
            forming=ring.reader.forming(),
            forming_flagged=self._flagged,
            numbers_trades=self._numbers_trades,
            lines=self._lines,
        )

    def _find(self, event: BarEvent) -> StreamState | None:
        stream = self._spelled.find(event)
        self._drops.counts["unsubscribed"] += stream is None
        return stream

    def _write(
        self, stream: StreamState, events: Iterable[LedgerEvent], now: float
    ) -> None:
        ring = stream.ring
        for event in events:
            if type(event) is RowWrite:
                closed, bar, missing = event
                if closed:
                    ring.append(bar.open_time, *bar[2:9], wake=False)
                    self._closed.append(stream.key)
                    if missing:
                        self._count_missing(stream, missing, now)
                else:
                    ring.update_forming(bar.open_time, *bar[2:9])
                if not stream.accepts:
                    stream.accept()
            elif isinstance(event, Anomaly):
                self._drop(stream, event, now)
            elif isinstance(event, RowProven | RowDoubted):
                row, is_whole = (stream.key, ring.reader), isinstance(event, RowProven)
                mark_confirmed(self._writer, *row, event.open_time, is_whole)
            elif isinstance(event, RecoveringChanged):
                self._writer.mark_stream(
                    stream.key, gaps=0, recovering=event.is_recovering
                )

    def _drop(self, stream: StreamState, anomaly: Anomaly, now: float) -> None:
        kind, event, reason, _ = anomaly
        if kind == "ahead":
            if self._keep_ahead(stream, event, now):
                return
            kind, reason = "malformed", AHEAD
        stream.drop(anomaly, now)
        self._drops.add(kind, reason, event)

    # The venue's numbers

    def _if_fresh(
        self, event: BarEvent, stream: StreamState | None, connection: int, line: int
    ) -> StreamState | None:
        """Check a message's number. Return None if the message must be dropped."""
        check = self._sequence
        if stream is None and check.mode == "stream":
            return None
        key = (event.symbol, event.timeframe) if stream is None else stream.key
        was_learning = check.mode == "auto"
        verdict = check.take(connection, key, event.sequence)
        if check.breaks:
            self._take_breaks(connection, line)
        if was_learning and check.mode == "off":
            self._warn(
                "the venue's sequence numbers count neither over a connection nor by"
                " stream: lost messages are not noticed"
            )
        if verdict == FRESH or stream is None:
            return stream
        if verdict == OLDER and event.closed and stream.ledger.may_end(event.open_time):
            return stream
        stream.messages += 1
        stream.heard = boot_seconds()
        self._drop(stream, Anomaly("duplicates", event, "", True), stream.heard)
        return None

    def _take_breaks(self, connection: int, line: int) -> None:
        check, now = self._sequence, boot_seconds()
        for key, missing, is_early in check.breaks:
            heard = -math.inf if key else self._heard.get(connection, -math.inf)
            self._writer.count("missed", missing)
            for stream in self._streams.values():
                if stream.key == key or (
                    key is None and check.may_carry(connection, stream.key)
                ):
                    stream.missed += missing
                    if not is_early:
                        doubted = stream.ledger.reconnected(line, heard)
                        self._write(stream, doubted, now)
            of = f"of {' '.join(key)}" if key else "of a connection"
            self._lost.add(f"{missing} {of}", now, missing)
        check.breaks.clear()

    # The venue's clock

    def _keep_ahead(self, stream: StreamState, event: BarEvent, now: float) -> bool:
        """Keep a bar until it is known which is wrong; return False if the bar is."""
        if len(self._ahead) >= _MOST_KEPT or not self._may_be_right(stream, event, now):
            return False
        self._ahead.append((stream, event, now))
        if not self._clock.is_doubtful:  # it has just leapt
            self._judge_again(now)
        return True

    def _may_be_right(self, stream: StreamState, event: BarEvent, now: float) -> bool:
        """Return True if the clock may be wrong, and not the bar."""
        clock = self._clock
        if event.open_time <= stream.ledger.latest_open(clock.read(now)):
            return True  # the clock has leapt since the bar was judged
        if event.event_time:
            beyond = clock.read(now) + TOLERANCE_MS
            return clock.is_doubtful and event.event_time > beyond
        wall = time.time_ns() // 1_000_000
        if clock.source == "host" and wall > clock.read(now) + TOLERANCE_MS:
            clock.follow_host(wall, now)  # a time service has set this host's clock
            return True
        return clock.ask_ahead(event.open_time, now)

    def _watch(self, stream: StreamState, event: BarEvent, now: float) -> int:
        """Show the clock a bar, while this host's is in question. Return its time."""
        clock, opened = self._clock, event.open_time
        venue_now = clock.read(now)
        if event.event_time or opened > stream.ledger.latest_open(venue_now):
            return venue_now
        ends = stream.ledger.end_of(opened)
        if ends:
            clock.see_bar(opened, ends, now)
            if clock.epoch != self._epoch:
                self._judge_again(now)
        return clock.read(now)

    def _judge_again(self, now: float) -> None:
        """Apply bars again that were judged by another estimate of the clock."""
        clock = self._clock
        has_leapt = clock.epoch != self._epoch
        if has_leapt:
            self._epoch = clock.epoch
            self._say_offset()
            if clock.is_confirmed:
                self._cut_future(now)
        if self._ahead and not clock.is_doubtful:
            # A leap may have been too short, but none is decided twice.
            is_final = clock.is_known or not has_leapt
            held, self._ahead = self._ahead, []
            for stream, event, arrived in held:
                for one in stream.ledger.apply(event, clock.read(arrived), now):
                    refused = isinstance(one, Anomaly) and one.kind == "ahead"
                    wrong = Anomaly("malformed", event, AHEAD)
                    self._write(stream, [wrong if refused and is_final else one], now)

    def _cut_future(self, now: float) -> None:
        """Cut off rows that an earlier feeder or a wrong clock left in the future."""
        venue_now = self._clock.read(now)
        for key, stream in self._streams.items():
            if not stream.ledger.is_ahead(venue_now):
                continue
            latest = stream.ledger.latest_open(venue_now)
            said = cut_future(self._writer, key, latest, venue_now)
            if said is not None:
                self.last_error = said
                stream.ledger = self._ledger_of(stream.ring)
                self._writer.mark_stream(key, gaps=0, recovering=False)

    def _say_offset(self) -> None:
        said, by_bars = self._clock.describe_error(), self._clock.source == "bars"
        if said and not (by_bars and self._is_lag_said):  # a history makes many leaps
            self._is_lag_said = by_bars
            self._warn(said)

    def _warn(self, text: str) -> None:
        self.last_error = text
        log.warning(text)

    def _publish_offset(self, now: float) -> None:
        clock = self._clock
        known = clock.offset is not None
        offset = clock.read(now) - time.time_ns() / 1_000_000 if known else None
        self._writer.set_clock_offset(offset)

    # Counters and messages

    def _count_stream(self, stream: StreamState) -> None:
        for counter in STREAM_COUNTERS:
            number = getattr(stream, counter)
            if number:
                self._writer.count_stream(stream.key, counter, number)
        stream.messages = stream.dropped = stream.missed = 0

    def _explain(self, stream: StreamState, now: float) -> None:
        text = stream.explanation(now)
        if text is not None:
            self._writer.explain(stream.key, "dropped" if text else "", text)

    def _count_missing(self, stream: StreamState, missing: int, now: float) -> None:
        self._writer.count("gaps", missing)
        is_recovering = stream.ledger.is_recovering
        self._writer.mark_stream(stream.key, gaps=missing, recovering=is_recovering)
        self.missing.add(stream.key, missing, now)

    def _finish(self, now: float) -> None:
        if self._clock.epoch != self._epoch or self._ahead:
            self._judge_again(now)
        if self._drops.counts:
            said = self._drops.write(self._writer, now)
            self.last_error = said or self.last_error
        if self._closed:
            self._writer.wake(self._closed)
            self._closed.clear()
