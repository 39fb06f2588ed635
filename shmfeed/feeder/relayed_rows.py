"""A leader's rows in the rings of a follower: the same bytes, flags and all.

A ring gets what it lacks: newer rows are appended, and where rows differ one swap makes
them the leader's. Of a *whole* stream the leader tells all rows, and what it has no
longer is dropped.

A new leader may be behind the one before it, by a bar that it closes in a moment. Rows
newer than its newest stay until it has told of them, or has gone past them.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import StreamKey
from shmfeed.errors import SegmentFullError
from shmfeed.feeder.closed_rows import KNOWN_ROWS
from shmfeed.feeder.row_events import Cause
from shmfeed.feeder.row_merge import bars_of, opens_of
from shmfeed.feeder.row_publisher import RETRY_SECONDS, RowPublisher, cause_of
from shmfeed.feeder.stream import StreamState
from shmfeed.feeder.throttled import ThrottledWarning
from shmfeed.history.interface import Block
from shmfeed.layout import NO_BAR
from shmfeed.relay.flush import RowsOfStreams
from shmfeed.writer import FeedWriter

Found = Sequence[StreamState | None]
_VALUES = slice(2, 8)
_KEPT, _APPENDED, _FILLED, _REVISED, _CONFIRMED = range(5)
_CAUSES: dict[int, Cause] = {
    _FILLED: "backfilled",
    _REVISED: "revised",
    _CONFIRMED: "confirmed",
}


class RelayedRows:
    """The writer of a leader's rows. Only the main loop uses it."""

    def __init__(self, writer: FeedWriter, rows: RowPublisher) -> None:
        self._writer = writer
        self._rows = rows
        self._epochs: dict[StreamKey, int] = {}  # of the rows
        # The leader's newest row where older leaders' rows are newer; -1: it has none.
        self._outlived: dict[StreamKey, int] = {}
        self._waiting: dict[StreamKey, Block] = {}  # rows for which there is no memory
        self._retry_at = -math.inf
        self._most_appended = max(1, writer.geometry.guard // 2)
        self._full = ThrottledWarning("no memory for rows of the leader")

    def append(
        self, streams: Found, closed: RowsOfStreams, but: set[int], now: float
    ) -> set[int]:
        """Append the rows of streams that only get newer ones.

        `streams` are those of this feed by the leader's numbers. Those in `but` are
        passed over. Return the numbers of the streams whose rows take more than that.
        """
        left: set[int] = set()
        numbers, write = closed.numbers.tolist(), self._rows.write
        if len(numbers) > self._most_appended:  # a stream may have many
            counts = np.bincount(closed.numbers)
            left.update(np.flatnonzero(counts > self._most_appended).tolist())
        for number, bar in zip(numbers, bars_of(closed.block), strict=True):
            stream = streams[number] if number < len(streams) else None
            if stream is None or number in but or number in left:
                continue
            key, ledger = stream.key, stream.ledger
            is_ready = key not in self._waiting and key not in self._outlived
            if is_ready and bar.open_time > ledger.last_open:
                write(stream, (ledger.take_closed(bar, now),), now)
            else:
                left.add(number)
        return left

    def put(
        self, stream: StreamState, block: Block, is_whole: bool, epoch: int, now: float
    ) -> None:
        """Put rows of the leader's epoch, oldest first, into a stream's ring."""
        key, opens = stream.key, opens_of(block)
        rows = self._waiting.get(key)
        if rows is None:
            rows = self._in_ring(stream)
        if is_whole:
            outlives = self._epochs.get(key) != epoch
            self._epochs[key] = epoch
            rows = self._whole(key, rows, block, outlives)
        elif len(opens):
            rows = self._merged(key, rows, block)
        self._make_equal(stream, rows, now)

    def update_forming(self, streams: Found, forming: RowsOfStreams) -> None:
        """Show these forming bars, unless a row is as new; take back those of none."""
        numbers = forming.numbers.tolist()
        for number, bar in zip(numbers, bars_of(forming.block), strict=True):
            stream = streams[number] if number < len(streams) else None
            if stream is None:
                continue
            last = stream.ledger.last_open
            if bar.open_time > last:
                stream.ring.update_forming(bar.open_time, *bar[2:9])
            elif bar.open_time == NO_BAR and stream.ring.reader.forming() is not None:
                symbol, timeframe = stream.key
                self._writer.cut_rows(symbol, timeframe, last + 1)

    def tick(self, streams: dict[StreamKey, StreamState], now: float) -> None:
        """Try again to write the rows for which there was no memory."""
        if not self._waiting or now < self._retry_at:
            return
        waiting, self._waiting = self._waiting, {}
        for key, rows in waiting.items():
            if key in streams:
                self._make_equal(streams[key], rows, now)

    def forget(self, key: StreamKey) -> None:
        """Drop what is known of a stream that is no longer carried."""
        self._epochs.pop(key, None)
        self._outlived.pop(key, None)
        self._waiting.pop(key, None)

    # The rows that a ring is to hold

    def _whole(
        self, key: StreamKey, rows: Block, block: Block, outlives: bool
    ) -> Block:
        """Return the rows of a whole stream; with `outlives` newer ones stay."""
        self._outlived.pop(key, None)
        opens = opens_of(block)
        newest = int(opens[-1]) if len(opens) else -1
        kept = rows[:, opens_of(rows) > newest]
        if not outlives or not kept.shape[1]:
            return block
        self._outlived[key] = newest
        return np.concatenate([block, kept], axis=1)

    def _merged(self, key: StreamKey, rows: Block, block: Block) -> Block:
        """Return rows with the leader's in their places."""
        opens, known = opens_of(block), opens_of(rows)
        keep = ~np.isin(known, opens)
        outlived, newest = self._outlived.get(key), int(opens[-1])
        if outlived is not None:
            keep &= (known <= outlived) | (known > newest)
            if not len(known) or newest >= known[-1]:
                del self._outlived[key]
            else:
                self._outlived[key] = max(outlived, newest)
        merged = np.concatenate([rows[:, keep], block], axis=1)
        order = np.argsort(opens_of(merged), kind="stable")
        return np.ascontiguousarray(merged[:, order])

    def _in_ring(self, stream: StreamState) -> Block:
        history = self._writer.geometry.history
        return stream.ring.reader.snapshot(history).block

    # Writes

    def _append(self, stream: StreamState, block: Block, now: float) -> None:
        writes = [stream.ledger.take_closed(bar, now) for bar in bars_of(block)]
        self._rows.write(stream, writes, now)

    def _make_equal(self, stream: StreamState, wanted: Block, now: float) -> None:
        """Make a ring hold these rows: nothing, appends or a swap."""
        history = self._writer.geometry.history
        wanted = np.ascontiguousarray(wanted[:, -history:])
        rows = self._in_ring(stream)
        newer = wanted[:, opens_of(wanted) > stream.ledger.last_open]
        appended = np.concatenate([rows, newer], axis=1)[:, -history:]
        # Many bars would run over slices that readers hold.
        is_short = newer.shape[1] <= self._most_appended
        if is_short and _is_equal(appended, wanted):
            self._append(stream, newer, now)
            return
        try:
            self._swap(stream, wanted)
        except SegmentFullError as error:
            self._waiting[stream.key] = wanted
            self._retry_at = now + RETRY_SECONDS
            self._full.add(f"{' '.join(stream.key)}, tried again: {error}", now)
            return
        self._note(stream, rows, wanted, now)

    def _swap(self, stream: StreamState, wanted: Block) -> None:
        key, opens = stream.key, opens_of(wanted)
        if not len(opens):
            self._writer.drop_rows(*key)
            return
        newest = int(opens[-1])
        if stream.ledger.last_open > newest:
            self._writer.cut_rows(*key, newest + 1)
        self._writer.replace_rows(*key, wanted)

    def _note(
        self, stream: StreamState, before: Block, rows: Block, now: float
    ) -> None:
        """Account for a swap: the ledger, the store's versions, counters, waiters."""
        newer = opens_of(rows) > stream.ledger.last_open
        changes = _changes(before, rows, newer)
        stream.ledger.restart(bars_of(rows, rows.shape[1] - KNOWN_ROWS))
        self._rows.drops.counts["revisions"] += int((changes == _REVISED).sum())
        if self._rows.has_recorder:
            is_new = changes != _KEPT
            bars = bars_of(np.ascontiguousarray(rows[:, is_new]))
            for bar, change in zip(bars, changes[is_new].tolist(), strict=True):
                cause = _CAUSES.get(change) or cause_of(stream, bar)
                self._rows.record(stream, bar, cause, now)
        self._rows.note_appended(stream, int(newer.sum()))
        self._rows.count_gaps(stream)
        self._rows.note_unrested(now)


def _changes(before: Block, rows: Block, newer: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Return what a swap has done to each row, of which some are `newer`."""
    known, opens = opens_of(before), opens_of(rows)
    changes = np.full(len(opens), _FILLED, np.int8)
    place = np.minimum(np.searchsorted(known, opens), max(0, len(known) - 1))
    had = known[place] == opens if len(known) else np.zeros(len(opens), bool)
    differs = rows[:, had].view(np.int64) != before[:, place[had]].view(np.int64)
    outcome = np.where(differs.any(axis=0), _CONFIRMED, _KEPT)
    changes[had] = np.where(differs[_VALUES].any(axis=0), _REVISED, outcome)
    changes[newer] = _APPENDED
    return changes


def _is_equal(one: Block, other: Block) -> bool:
    """Return True if two blocks have the same bytes."""
    return one.shape == other.shape and one.tobytes() == other.tobytes()
