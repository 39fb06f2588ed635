"""Take answers of history into a stream: judge them, merge them, put them in force."""

import logging

import numpy as np

from shmfeed.bar import BACKFILLED, POLLED
from shmfeed.errors import SegmentFullError
from shmfeed.feeder.belief import Belief
from shmfeed.feeder.clock import VenueClock
from shmfeed.feeder.closed_rows import KNOWN_ROWS
from shmfeed.feeder.ledger_events import LedgerEvent, RowWrite
from shmfeed.feeder.row_events import Cause, HistoryEffect, HistoryUse
from shmfeed.feeder.row_merge import (
    ADDED,
    CONFIRMED,
    CORRECTED,
    KEPT,
    Merge,
    MergeRule,
    bars_of,
    block_of,
    flags_of,
    merge,
    missing_within,
    off_grid,
    opens_of,
    within,
)
from shmfeed.feeder.row_publisher import RowPublisher
from shmfeed.feeder.stream import StreamState
from shmfeed.history.interface import Block, HistoryAnswer
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

_OF_HISTORY = BACKFILLED | POLLED
_LAST_TIME = np.iinfo(np.int64).max
_CAUSES: dict[int, Cause] = {
    ADDED: "backfilled",
    CORRECTED: "revised",
    CONFIRMED: "confirmed",
}


class HistoryTaking:
    """The taker of history for all streams of a feed. Only the writing thread uses it.

    `rest_settle` is how many seconds after a bar's close own REST starts to correct
    what a closing message said; `has_flags` says that the venue sends such messages.
    """

    def __init__(
        self,
        writer: FeedWriter,
        rows: RowPublisher,
        clock: VenueClock,
        rest_settle: float,
        has_flags: bool,
    ) -> None:
        self._writer = writer
        self._rows = rows
        self._clock = clock
        self._settle_ms = round(rest_settle * 1000)
        self._has_flags = has_flags
        self._belief = Belief(f"feed {writer.name}")

    def forget(self, stream: StreamState) -> None:
        """Drop the judgements about a stream that is no longer carried."""
        self._belief.forget(stream.key)

    def take(
        self, stream: StreamState, answer: HistoryAnswer, how: HistoryUse, now: float
    ) -> HistoryEffect:
        """Put the believed part of an answer in force; return its effect.

        Rows that are there change together, by a swap, which wakes no reader. Newer
        bars are appended in order, as those of the venue are.
        """
        self._rows.change_rows(now)  # what a message says of a row comes first
        if self._rows.has_changes(stream.key):  # else it would undo a later answer
            return HistoryEffect(failed="no memory for what messages changed before")
        history, first, last = self._wanted(stream, answer, now)
        rows = stream.ring.reader.snapshot(self._writer.geometry.history).block
        why = self._disbelief(stream, answer, rows, history)
        if why:
            return HistoryEffect(disbelieved=why)
        merged = merge(rows, history, self._rule(answer, now))
        flags_of(merged.newer)[:] |= POLLED if how == "poll" else BACKFILLED
        newer = bars_of(merged.newer)
        events = stream.ledger.take_history(newer, now, answer.is_own)
        failed = self._put(stream, merged, events, now)
        appended = [
            event.bar
            for event in events
            if isinstance(event, RowWrite)
            and event.closed
            and event.bar.flags & _OF_HISTORY
        ]
        found = stream.ring.reader.snapshot(self._writer.geometry.history).block
        effect = HistoryEffect(
            appended=len(appended),
            missing=self._missing(stream, [found, history], first, last),
            failed=failed,
        )
        if failed:
            return effect
        return effect._replace(
            filled=merged.filled,
            prepended=merged.prepended,
            corrected=merged.corrected,
            confirmed=merged.confirmed,
            unsettled=merged.unsettled,
        )

    def _wanted(
        self, stream: StreamState, answer: HistoryAnswer, now: float
    ) -> tuple[Block, int, int]:
        """Return the closed bars that were asked for, and the range of closed bars."""
        request, block = answer.request, answer.block
        # A bar that was forming when the answer was made may have closed since.
        venue_now = self._asked(answer, now)
        first, last = request.first, request.last
        if request.newest:
            block = within(block, 0, _LAST_TIME, venue_now)[:, -request.newest :]
            opens = opens_of(block)
            first, last = (int(opens[0]), int(opens[-1])) if len(opens) else (0, -1)
            return block, first, last
        last = min(last, max(first - 1, stream.ledger.latest_closed(venue_now)))
        return within(block, first, request.last, venue_now), first, last

    @staticmethod
    def _missing(stream: StreamState, found: list[Block], first: int, last: int) -> int:
        held = sum(first <= opened <= last for opened in stream.ledger.held_opens)
        return max(0, missing_within(found, first, last, stream.key[1]) - held)

    def _disbelief(
        self, stream: StreamState, answer: HistoryAnswer, rows: Block, history: Block
    ) -> str:
        key, source = stream.key, answer.source
        wrong = off_grid(history, key[1], stream.ledger.phase)
        if wrong >= 0:
            return (
                f"{source} has a bar at {wrong}, off the grid that {key[1]} bars of"
                f" feed {self._writer.name} have"
            )
        if stream.disputed:
            rows = rows[:, ~np.isin(opens_of(rows), list(stream.disputed))]
        return self._belief.judge(key, source, rows, history, self._has_flags)

    def _rule(self, answer: HistoryAnswer, now: float) -> MergeRule:
        asked = self._asked(answer, now)
        most = self._writer.geometry.history
        return MergeRule(answer.is_own, asked - self._settle_ms, most)

    def _asked(self, answer: HistoryAnswer, now: float) -> int:
        """Return the venue's time when history was asked for, ms UTC."""
        if self._clock.is_known or not answer.venue_now:
            return self._clock.read(min(now, answer.asked_at or now))
        return answer.venue_now

    def _put(
        self, stream: StreamState, merged: Merge, events: list[LedgerEvent], now: float
    ) -> str:
        """Put rows and events in force. Return why the rows could not be changed."""
        closed = [
            event for event in events if isinstance(event, RowWrite) and event.closed
        ]
        count = merged.block.shape[1]
        # Many bars would run over slices that readers hold, unless a swap adds them.
        is_many = len(closed) > (self._writer.geometry.guard // 2 if count else 1)
        failed = ""
        if merged.is_changed or is_many:
            try:
                self._swap(stream, merged, closed, now)
                events = _without_rows(events, closed)
            except SegmentFullError as error:
                failed = f"no memory to repair {stream.key[0]} {stream.key[1]}: {error}"
                log.warning(failed)
        self._rows.write(stream, events, now)
        self._rows.count_gaps(stream)
        return failed

    def _swap(
        self, stream: StreamState, merged: Merge, closed: list[RowWrite], now: float
    ) -> None:
        added = block_of([write.bar for write in closed])
        block = np.concatenate([merged.block, added], axis=1)
        self._writer.replace_rows(*stream.key, block)
        newest = bars_of(block, block.shape[1] - KNOWN_ROWS)
        stream.ledger.follow(newest, bars_of(merged.former))
        changed = merged.changes != KEPT
        bars = bars_of(np.ascontiguousarray(merged.block[:, changed]))
        for bar, change in zip(bars, merged.changes[changed].tolist(), strict=True):
            self._rows.record(stream, bar, _CAUSES[change], now)
        self._rows.note_swapped(stream, closed, now)
        self._rows.note_unrested(now)


def _without_rows(
    events: list[LedgerEvent], closed: list[RowWrite]
) -> list[LedgerEvent]:
    """Return the other events; a forming bar not newer than the rows is left out."""
    last = closed[-1].bar.open_time if closed else -1
    return [
        event
        for event in events
        if not isinstance(event, RowWrite)
        or (not event.closed and event.bar.open_time > last)
    ]
