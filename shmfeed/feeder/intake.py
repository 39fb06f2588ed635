"""The venue's events, written to the rings: each bar passes its stream's ledger."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence

from shmfeed.bar import StreamKey
from shmfeed.codecs.interface import BarEvent, Event, Heartbeat, Malformed, Refused
from shmfeed.core import RingReader, RingWriter
from shmfeed.errors import SegmentFullError
from shmfeed.feeder.ahead import AheadBars
from shmfeed.feeder.catch_up import Carried, CatchUp
from shmfeed.feeder.clock import TOLERANCE_MS, VenueClock, host_clock
from shmfeed.feeder.history_ledger import HistoryLedger
from shmfeed.feeder.history_taking import HistoryTaking
from shmfeed.feeder.late_refusals import LateRefusals
from shmfeed.feeder.ledger_events import Anomaly, CarriedLedger, LedgerEvent
from shmfeed.feeder.reasons import Reasons
from shmfeed.feeder.row_events import (
    DueBars,
    Found,
    HistoryEffect,
    HistoryUse,
    RowRecorder,
)
from shmfeed.feeder.row_publisher import RowPublisher
from shmfeed.feeder.sequence import FRESH, OLDER, Mode, SequenceCheck
from shmfeed.feeder.spellings import SpelledStreams
from shmfeed.feeder.stream import StreamState
from shmfeed.feeder.throttled import ThrottledWarning
from shmfeed.history.interface import HistoryAnswer
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.events import Received
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
COUNT_SECONDS = 0.25  # streams' counters are written that often
_NO_NUMBERS = (
    "the venue's sequence numbers count neither over a connection nor by stream: lost"
    " messages are not noticed"
)
SAMPLE_SECONDS = 0.05  # event times are looked at that often, besides the newest


class Intake:
    """The writer of events into the rings. Only the writing thread uses it.

    Attributes:
        last_error: The last message about the data, "" before the first.
        clock_error: The last one of them that a wrong clock may have caused.
        missing: The missing bars that the log has not named yet.
        clock: The estimate of the venue's clock.
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
        history: bool = False,
        repair_grace: float = 5.0,
        rest_settle: float = 10.0,
        recorder: RowRecorder | None = None,
        reasons: Reasons | None = None,
        fill: Callable[[StreamKey], None] = lambda _: None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Write to the streams of `writer`.

        `close_grace` is in seconds. `flagged` says that the venue flags its closed
        bars; if so, the clock closes no bar. `numbers_trades` is the codec's,
        `sequence`, `lines`, `repair_grace` and `rest_settle` are the settings.
        `history` says that a source of history exists: bars after a gap wait for it.
        `recorder` is told each version of each row, `reasons` why streams are dropped
        or mute. `fill` may put older rows into the ring of each stream that is added.
        `clock` is this host's boot clock and wall clock of a playback, in seconds UTC.
        """
        self.last_error = self.clock_error = ""
        self._writer = writer
        self._reasons = Reasons(writer) if reasons is None else reasons
        self._fill = fill
        self._flagged = flagged
        self._numbers_trades = numbers_trades
        self._lines = lines
        self._sequence = SequenceCheck(sequence)
        self._grace_ms = round(close_grace * 1000)
        self._streams: dict[StreamKey, StreamState] = {}
        self._spelled = SpelledStreams()
        self._now = boot_seconds if clock is None else clock
        wall = host_clock if clock is None else lambda: round(clock() * 1000)
        now = self._now()
        self.clock = VenueClock(wall(), now)
        self._repair_grace = repair_grace if history else None
        self._rows = RowPublisher(writer, recorder)
        self._drops, self.missing = self._rows.drops, self._rows.missing
        self._ahead = AheadBars(
            self.clock, writer, self._rows, self._streams, self._ledger_of, wall
        )
        self._taking = HistoryTaking(
            writer, self._rows, self.clock, rest_settle, flagged
        )
        self._next_sample = self._next_tick = self._next_count = now
        self._heard: dict[int, float] = {}  # when a connection brought anything last
        self._late_refusals = LateRefusals()
        self._refused = ThrottledWarning("venue reported an error")
        self._lost = ThrottledWarning("messages were lost")

    def set_streams(self, streams: Sequence[StreamKey]) -> None:
        """Carry exactly these streams from now on; those carried before continue."""
        for key in self._streams.keys() - set(streams):
            self._streams[key].flush_counts(self._writer)
            self._writer.mark_stream(key, gaps=0, recovering=False)
            self._writer.unsubscribe(*key)
            self._rows.forget(key)
            self._reasons.forget(key)
            self._taking.forget(self._streams.pop(key))
        self._ahead.forget_others()
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
                        str(error),  # a record that is kept would keep its frames
                    )
        self._spelled.replace(self._streams)
        if self.clock.is_confirmed:
            self._ahead.cut_future(self._now())
            self._say(self._ahead.take_said())

    def segment_replaced(self) -> None:
        """Write to the rings of the segment that the writer has made larger."""
        for stream in self._streams.values():
            stream.ring = self._writer.add_stream(*stream.key)

    def connected(self, streams: Iterable[StreamKey] | None = None) -> None:
        """Let the clock close bars of these streams once `close_grace` has passed.

        None is all. A bar that was forming when the connection broke, or when an
        earlier feeder ended, has changed unseen, and the venue may send it now.
        """
        now = self._now()
        for stream in self._selected(streams):
            if stream.clock_from == math.inf:
                stream.connected_at = self.clock.read(now)
                stream.clock_from = now + self._grace_ms / 1000
                stream.heard = now

    def disconnected(
        self, streams: Iterable[StreamKey] | None = None, heard: float = -math.inf
    ) -> None:
        """Suspend the clock of these streams, None for all: bars change unseen.

        Nothing that came up to `heard` was lost.
        """
        now = self._now()
        for stream in self._selected(streams):
            stream.clock_from = math.inf
            self._write(stream, stream.ledger.reconnected(heard=heard), now)
        self._finish(now)

    def connection_lost(
        self, connection: int, uncovered: Iterable[StreamKey] = ()
    ) -> None:
        """Record that a connection was lost, and which streams have none now."""
        now, heard = self._now(), self._heard.pop(connection, -math.inf)
        for stream in self._streams.values():
            for line, carrier in stream.carriers.items():
                if carrier == connection:
                    self._write(stream, stream.ledger.reconnected(line, heard), now)
        self.disconnected(uncovered, heard)

    def venue_time(self, time_ms: int, read_at: float) -> None:
        """Take the time of a handshake's `Date`, which was read at `read_at`.

        `read_at` is a reading of time.monotonic.
        """
        now = self._now()
        self.clock.set_time(time_ms, now - (time.monotonic() - read_at))
        self._ahead.judge(now)

    def stalled(self) -> None:
        """Let unread messages be taken first: the feeder stood still for long."""
        now = self._now()
        for stream in self._streams.values():
            stream.ledger.stalled(now)

    def silences(self) -> dict[StreamKey, float]:
        """Return the seconds since the last message about each stream.

        For one about which none has come, since its connection came. Streams that no
        connection carries are left out.
        """
        now = self._now()
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
        now = self._now()
        clock = self.clock
        venue_now = clock.read(now)
        is_sample = now >= self._next_sample
        samples = is_sample or clock.must_hear_all
        watches = not clock.is_known and clock.watches_bars(is_sample)
        heartbeats, has_lines = 0, self._lines > 1
        spellings, write = self._spelled.known, self._rows.write
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
                venue_now = self._ahead.watch(stream, event, now)
            stream.messages += 1
            stream.heard = now
            ahead = write(stream, stream.ledger.apply(event, venue_now, now, line), now)
            if ahead is not None:
                self._ahead.add(stream, ahead, now)
        self._count_batch(len(events), heartbeats, now)
        self._heard[connection] = now
        self._finish(now)

    def tick(self, now: float | None = None) -> None:
        """Close bars that are due, and release bars that were held too long.

        Call it after each batch. It works at most every TICK_SECONDS. A process that is
        stopped after it has read `now` closes nothing too early.
        """
        now = self._now() if now is None else now
        if now < self._next_tick:
            return
        self._next_tick = now + TICK_SECONDS
        self.clock.settle(now)
        venue_now = self.clock.read(now)
        counts = now >= self._next_count
        for stream in self._streams.values():
            # Time 0 closes no bar; held bars are still checked.
            due = venue_now if now >= stream.clock_from else 0
            events = stream.ledger.tick(due, now)
            if events:
                self._write(stream, events, now)
            if counts and (stream.messages or stream.missed):
                stream.flush_counts(self._writer)
                self._explain(stream, now)
            if counts and stream.gaps:  # the oldest rows may have left the ring
                self._rows.count_gaps(stream)
        if counts:
            self._next_count = now + COUNT_SECONDS
            self._ahead.publish_offset(now)
            self.missing.log(now)
        self._finish(now)

    def take_history(self, answer: HistoryAnswer, *, how: HistoryUse) -> HistoryEffect:
        """Put the believed part of an answer in force; return its effect.

        Rows that are there are filled, corrected and confirmed in one step, and bars
        after the last one appended. `how` is `poll` where REST takes the place of a
        silent socket: rows after the last one are `polled` then, not `backfilled`.
        To let an answer be compared with the venue's own rows, ask for at least three
        of them beside a hole.
        """
        stream = self._streams.get(answer.request.key)
        if stream is None:
            return HistoryEffect()
        now = self._now()
        if answer.is_own and answer.venue_now and not self.clock.is_known:
            self.clock.set_time(answer.venue_now, now)
            self._ahead.judge(now)
        effect = self._taking.take(stream, answer, how, now)
        self._finish(now)
        return effect

    def reader(self, key: StreamKey) -> RingReader:
        """Return the reader of a stream's ring; KeyError if it is not carried."""
        return self._streams[key].ring.reader

    def venue_now(self, now: float) -> int:
        """Return the venue's time in ms UTC, `now` in seconds of `boot_seconds`."""
        return self.clock.read(now)

    def drain_found(self) -> list[Found]:
        """Return the findings for repair since the last call."""
        found = self._rows.found
        if not found:
            return []
        taken = list(found)
        found.clear()
        return taken

    def hold(self, streams: Iterable[StreamKey], until: float) -> None:
        """Let newer bars of these streams wait for history until then.

        `until` is in seconds of `boot_seconds`. The first rows of a stream wait, and
        the clock ends no bar; of a stream with rows, those bars wait that others are
        missing before, as they do without a call of this.
        """
        for stream in self._selected(streams):
            stream.ledger.hold(until)

    def release(self, streams: Iterable[StreamKey]) -> None:
        """Publish the waiting bars of these streams: history has no more for them."""
        now = self._now()
        for stream in self._selected(streams):
            self._write(stream, stream.ledger.release(now), now)
        self._finish(now)

    def is_holding(self, key: StreamKey) -> bool:
        """Return True while bars of a stream wait for older ones."""
        return self._streams[key].ledger.is_recovering

    def due(self, now: float) -> list[DueBars]:
        """Return the streams whose newest closed bars should be there and are not.

        They are due `repair_grace` after their close, by the venue's clock. A stream
        whose newer bars are held is left out. One without rows lacks its newest bar.
        """
        grace = (
            self._grace_ms / 1000 if self._repair_grace is None else self._repair_grace
        )
        venue_now, grace_ms = self.clock.read(now), round(grace * 1000)
        found = (one.due(venue_now, grace_ms, now) for one in self._streams.values())
        return [one for one in found if one is not None]

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
                self._reasons.put(stream.key, "muted", text)

    def _selected(self, streams: Iterable[StreamKey] | None) -> Iterable[StreamState]:
        if streams is None:
            return self._streams.values()
        return [self._streams[key] for key in streams if key in self._streams]

    def _add_stream(self, key: StreamKey) -> StreamState:
        ring = self._writer.add_stream(*key)
        self._fill(key)
        stream = StreamState(ring, self._ledger_of(ring), self._now())
        stream.gaps = self._writer.stream_gaps(key)
        self._rows.count_gaps(stream)
        return stream

    def _ledger_of(self, ring: RingWriter) -> HistoryLedger:
        return HistoryLedger(
            ring.timeframe,
            close_grace_ms=self._grace_ms,
            last_closed=ring.reader.last_closed(),
            forming=ring.reader.forming(),
            forming_flagged=self._flagged,
            numbers_trades=self._numbers_trades,
            lines=self._lines,
            most_rows=self._writer.geometry.history,
            repair_grace=self._repair_grace,
        )

    def _write(
        self, stream: StreamState, events: Iterable[LedgerEvent], now: float
    ) -> None:
        ahead = self._rows.write(stream, events, now)
        if ahead is not None:
            self._ahead.add(stream, ahead, now)

    def _find(self, event: BarEvent) -> StreamState | None:
        stream = self._spelled.find(event)
        self._drops.counts["unsubscribed"] += stream is None
        return stream

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
            self.last_error = _NO_NUMBERS
            log.warning(_NO_NUMBERS)
        if verdict == FRESH or stream is None:
            return stream
        if verdict == OLDER and event.closed and stream.ledger.may_end(event.open_time):
            return stream
        stream.messages += 1
        stream.heard = self._now()
        self._rows.drop(stream, Anomaly("duplicates", event, "", True), stream.heard)
        return None

    def _take_breaks(self, connection: int, line: int) -> None:
        check, now = self._sequence, self._now()
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

    def drop_rows(self, key: StreamKey, first_kept: int | None) -> int:
        """Drop a stream's rows, as `RowPublisher` does. Return how many."""
        return self._rows.drop_rows(self._streams[key], first_kept)

    def carry(self) -> dict[StreamKey, CarriedLedger]:
        """Return what the ledgers of the next feeder have to know beside the rows."""
        return {key: stream.ledger.carry() for key, stream in self._streams.items()}

    def catch_up(self, carried: Carried, held: Iterable[Received]) -> CatchUp:
        """Go on where the former feeder left off; `held` are the messages to come."""
        catch_up = CatchUp(self._spelled.stream_of, self.take, self._skip)
        return catch_up.resume(self._streams, carried, held)

    def _skip(self, event: BarEvent, key: StreamKey, connection: int) -> None:
        if event.sequence >= 0:
            self._sequence.take(connection, key, event.sequence)
            self._sequence.breaks.clear()  # the former feeder had them

    def _count_batch(self, messages: int, heartbeats: int, now: float) -> None:
        self._writer.count("messages", messages)
        if heartbeats < messages:
            self._writer.mark_message()
        if now >= self._next_sample:
            self._next_sample = now + SAMPLE_SECONDS

    def _explain(self, stream: StreamState, now: float) -> None:
        text = stream.explanation(now)
        if text:
            self._reasons.put(stream.key, "dropped", text)
        elif text is not None:
            self._reasons.clear(stream.key, "dropped")
            self._reasons.clear(stream.key, "muted")

    def _say(self, text: str) -> None:
        if text:
            self.last_error = self.clock_error = text

    def _finish(self, now: float) -> None:
        self._ahead.judge(now)
        self._say(self._ahead.take_said())
        self._say(self._rows.finish(now))
