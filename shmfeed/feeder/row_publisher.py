"""The events of the ledgers, written to the rings, and told to repair and store.

Rows are appended at once, and readers are woken once a batch. Changes of rows that are
in a ring wait for the end of the batch: one swap a stream makes them. Where there is no
memory for it, the swap is tried again later.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Iterable

from shmfeed.bar import (
    BACKFILLED,
    POLLED,
    UNCONFIRMED,
    Bar,
    StreamKey,
    floor,
    grid_steps,
    missing_bars,
    phase_of,
)
from shmfeed.codecs.interface import BarEvent
from shmfeed.errors import SegmentFullError
from shmfeed.feeder.bar_check import same_values
from shmfeed.feeder.closed_rows import KNOWN_ROWS
from shmfeed.feeder.journal import LineLimit
from shmfeed.feeder.ledger_events import (
    Anomaly,
    HistoryAwaited,
    LedgerEvent,
    PastFinal,
    RecoveringChanged,
    RowDoubted,
    RowProven,
    RowRevised,
    RowWrite,
)
from shmfeed.feeder.missing import MissingBars
from shmfeed.feeder.row_changes import RowChange, RowChanged, apply_changes
from shmfeed.feeder.row_events import (
    Cause,
    DisagreementFound,
    Found,
    HoleFound,
    RecordedRow,
    RevisionFound,
    RowRecorder,
    UnconfirmedFound,
)
from shmfeed.feeder.stream import StreamState
from shmfeed.feeder.throttled import DropAccount, ThrottledWarning
from shmfeed.text import plain
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # after a swap for which there was no memory
_UNRESTED = (
    "more repairs within `guard` bars than there are slots; frames that other processes"
    " hold may have changed and say so (valid); raise max_streams"
)
_NOT_HEARD = POLLED | BACKFILLED
MOST_FOUND = 10_000  # events that are not taken; the rows tell them too


class RowPublisher:
    """The writer of a feed's rows. Only the writing thread uses it.

    Attributes:
        missing: The missing bars that the log has not named yet.
        drops: The messages that changed nothing and are not counted yet.
        found: Events that need a repair, not taken yet.
    """

    def __init__(self, writer: FeedWriter, recorder: RowRecorder | None) -> None:
        self.missing = MissingBars()
        self.drops = DropAccount()
        self.found: deque[Found] = deque(maxlen=MOST_FOUND)
        self._writer = writer
        self._recorder = recorder
        self._closed: list[StreamKey] = []  # streams whose readers are to be woken
        self._versions: list[RecordedRow] = []
        self._changes: dict[StreamKey, tuple[StreamState, list[RowChange]]] = {}
        self._retry_at = -math.inf
        self._revised = LineLimit()
        self._full = ThrottledWarning("no memory to change closed bars")
        self._unrested = ThrottledWarning(
            "memory of replaced rows was used again early", is_minor=True
        )
        self._unrested_slots = 0

    def write(
        self, stream: StreamState, events: Iterable[LedgerEvent], now: float
    ) -> BarEvent | None:
        """Write a ledger's events. Return a message whose bar is ahead of the clock."""
        ring = stream.ring
        for event in events:
            if type(event) is RowWrite:
                if event[0]:  # closed
                    _, bar, missing, _, heard = event
                    ring.append(bar.open_time, *bar[2:9], wake=False)
                    self._closed.append(stream.key)
                    if missing or bar.flags & UNCONFIRMED:
                        self._find(stream, event, now)
                    if self._recorder is not None:
                        cause = cause_of(stream, bar)
                        self._versions.append((stream.key, bar, heard, cause))
                else:
                    bar = event[1]
                    ring.update_forming(bar.open_time, *bar[2:9])
                if not stream.accepts:
                    stream.accept()
            elif isinstance(event, Anomaly):
                if event.kind == "ahead":
                    return event.event
                self.drop(stream, event, now)
            else:
                self._write_other(stream, event)
        return None

    def drop(self, stream: StreamState, anomaly: Anomaly, now: float) -> None:
        """Count a message that changes nothing."""
        kind, event, reason, _ = anomaly
        stream.drop(anomaly, now)
        self.drops.add(kind, reason, event)
        if kind == "disagreements":  # history says which of the two lines is right
            stream.dispute(event.open_time)
            self.found.append(DisagreementFound(stream.key, event.open_time))

    def note_swapped(
        self, stream: StreamState, rows: Iterable[RowWrite], now: float
    ) -> None:
        """Account for rows that a swap has appended."""
        count = 0
        for row in rows:
            count += 1
            self._find(stream, row, now)
            self.record(stream, row.bar, cause_of(stream, row.bar), row.heard)
        self.note_appended(stream, count)

    def note_appended(self, stream: StreamState, count: int) -> None:
        """Count rows that a swap has appended; their readers are to be woken."""
        if count:
            self._writer.count("bars", count)
            self._closed.append(stream.key)

    @property
    def has_recorder(self) -> bool:
        """True if the versions of rows are kept in a store."""
        return self._recorder is not None

    def record(self, stream: StreamState, bar: Bar, cause: Cause, heard: float) -> None:
        """Record a version of a row, if there is a store."""
        if self._recorder is not None:
            self._versions.append((stream.key, bar, heard, cause))

    def count_gaps(self, stream: StreamState) -> None:
        """Set the stream's counter of missing bars from its rows."""
        rows = stream.ring.reader.view(self._writer.geometry.history)
        opens = rows.open_time
        missing = 0
        if len(opens):
            steps = grid_steps(int(opens[0]), int(opens[-1]), stream.key[1])
            missing = missing_bars(steps, len(opens))
        self._count_missing(stream, missing - stream.gaps)

    def finish(self, now: float) -> str:
        """End a batch: change rows, wake readers, count. Return an error's text."""
        if self._changes and now >= self._retry_at:
            self.change_rows(now)
        said = self.drops.write(self._writer, now) if self.drops.counts else ""
        if self._closed:
            self._writer.wake(self._closed)
            self._closed.clear()
        if self._versions:
            self._record_versions(now)
        return said

    def change_rows(self, now: float) -> None:
        """Make the changes that wait, a swap a stream."""
        waiting, self._changes = self._changes, {}
        for key, (stream, changes) in waiting.items():
            try:
                done = apply_changes(self._writer, key, stream.ring.reader, changes)
            except SegmentFullError as error:
                self._changes[key] = stream, changes
                self._retry_at = now + RETRY_SECONDS
                self._full.add(f"{key[0]} {key[1]}, tried again: {error}", now)
                continue
            for one in done:
                self._note_change(stream, one, now)
        if waiting:
            self.note_unrested(now)

    def has_changes(self, key: StreamKey) -> bool:
        """Return True if changes of a stream wait for memory."""
        return key in self._changes

    def note_unrested(self, now: float) -> None:
        """Log that swaps took slots that readers may still rely on."""
        count = self._writer.unrested_slots - self._unrested_slots
        if count:
            self._unrested_slots += count
            self._unrested.add(_UNRESTED, now, count)

    def drop_rows(self, stream: StreamState, first_kept: int | None) -> int:
        """Drop a stream's rows that open before a time, None for all. Return how many.

        Raises SegmentFullError, and has then changed nothing.
        """
        dropped = self._writer.drop_rows(*stream.key, first_kept)
        rows = stream.ring.reader.snapshot(KNOWN_ROWS)
        stream.ledger.restart(rows.bar(number) for number in range(len(rows)))
        stream.disputed.clear()
        self.forget(stream.key)
        self.count_gaps(stream)
        return dropped

    def forget(self, key: StreamKey) -> None:
        """Drop the changes that wait for a stream."""
        self._changes.pop(key, None)

    def _write_other(self, stream: StreamState, event: LedgerEvent) -> None:
        match event:
            case RowProven(opened):
                self._change(stream, RowChange("confirmed", opened))
            case RowDoubted(opened):
                self._change(stream, RowChange("doubted", opened))
            case RowRevised(bar, message):
                stream.accept()
                self.drops.counts["revisions"] += 1
                change = RowChange("revised", bar.open_time, bar, message)
                self._change(stream, change)
            case PastFinal(bar):
                self._change(stream, RowChange("past", bar.open_time, *event))
            case HistoryAwaited(lacking, first, last, missing):
                if lacking >= 0:
                    self.found.append(UnconfirmedFound(stream.key, lacking))
                if missing:
                    self.found.append(HoleFound(stream.key, first, last, missing))
            case RecoveringChanged(is_recovering):
                self._writer.mark_stream(stream.key, gaps=0, recovering=is_recovering)

    def _change(self, stream: StreamState, change: RowChange) -> None:
        self._changes.setdefault(stream.key, (stream, []))[1].append(change)

    def _note_change(self, stream: StreamState, done: RowChanged, now: float) -> None:
        change, old, new = done
        if change.kind == "past" and change.event is not None:
            self._count_past(stream, done, change.event, now)
        if old is None or new is None or old == new:
            return
        cause: Cause = "doubted" if change.kind == "doubted" else "confirmed"
        if not same_values(new, old):
            cause = "revised"
            self.found.append(RevisionFound(stream.key, old, new))
            self._log_revision(stream.key, old, new, now)
        self.record(stream, new, cause, now)
        if new.flags & UNCONFIRMED:
            self.found.append(UnconfirmedFound(stream.key, new.open_time))

    def _log_revision(self, key: StreamKey, old: Bar, new: Bar, now: float) -> None:
        omitted = self._revised.admit(now)
        if omitted is not None:
            before, after = (" ".join(map(plain, bar[2:8])) for bar in (old, new))
            log.warning(
                "the venue revised a closed bar: %s %s that opens at %d, open high low"
                " close volume money %s before, %s now%s",
                *key,
                old.open_time,
                before,
                after,
                f" ({omitted} such lines were left out before)" if omitted else "",
            )

    def _count_past(
        self, stream: StreamState, done: RowChanged, event: BarEvent, now: float
    ) -> None:
        change, old, new = done
        if old is None or new is None or change.bar is None:
            self.drop(stream, Anomaly("late", event), now)
        elif not same_values(new, old):
            stream.accept()
            self.drops.counts["revisions"] += 1
        elif same_values(old, change.bar):
            self.drop(stream, Anomaly("duplicates", event), now)
        elif change.is_other_line:
            self.drop(stream, Anomaly("disagreements", event), now)
        else:  # history has corrected the row, and may have this version by now
            self.drop(stream, Anomaly("duplicates", event), now)
            self.found.append(DisagreementFound(stream.key, event.open_time))

    def _find(self, stream: StreamState, row: RowWrite, now: float) -> None:
        bar, missing = row.bar, row.missing
        if missing:
            timeframe = stream.key[1]
            phase = phase_of(bar.open_time, timeframe)
            last = floor(bar.open_time - 1, timeframe, phase)
            self.found.append(HoleFound(stream.key, row.expected, last, missing))
            self._count_missing(stream, missing)
            self.missing.add(stream.key, missing, now)
        if bar.flags & UNCONFIRMED:
            self.found.append(UnconfirmedFound(stream.key, bar.open_time))

    def _count_missing(self, stream: StreamState, missing: int) -> None:
        if missing:
            stream.gaps += missing
            self._writer.count("gaps", missing)
            is_recovering = stream.ledger.is_recovering
            self._writer.mark_stream(stream.key, gaps=missing, recovering=is_recovering)

    def _record_versions(self, now: float) -> None:
        recorder, versions = self._recorder, self._versions
        self._versions = []
        if recorder is not None:
            recorder.record(versions, now, time.time_ns())


def cause_of(stream: StreamState, bar: Bar) -> Cause:
    """Return why a row that was appended has the values that it has."""
    if bar.flags & _NOT_HEARD:
        return "polled" if bar.flags & POLLED else "backfilled"
    return "closed" if bar.close_time > stream.connected_at else "replayed"
