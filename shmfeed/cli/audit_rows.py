"""The audit of one stream: its published rows, and what differs from history."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from shmfeed.bar import (
    BACKFILLED,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    POLLED,
    REVISED,
    UNCONFIRMED,
    Bar,
    StreamKey,
    Timeframe,
    duration,
    floor,
    grid_steps,
    phase_of,
)
from shmfeed.cli.audit_history import AuditHistory, fetch_all
from shmfeed.cli.times import Moment
from shmfeed.errors import BadArgumentError, ShmfeedError, StreamNotFoundError
from shmfeed.feed import Feed
from shmfeed.history.blocks import cut_to, times_of
from shmfeed.history.comparison import Comparison, compare, compare_rolled
from shmfeed.history.interface import Block
from shmfeed.layout import C_FLAGS
from shmfeed.memory.holes import find_gaps
from shmfeed.memory.rows import Rows
from shmfeed.store.reading import SeenRow, StoreReader
from shmfeed.text import format_ms

# Rows of the first are rolled up and compared with those of the second.
SHORT: Timeframe = "1m"
LONG: Timeframe = "1h"
_CLOSERS = {  # a row counts for the first one of its flags
    "venue": CLOSED_BY_VENUE,
    "next": CLOSED_BY_NEXT,
    "clock": CLOSED_BY_CLOCK,
    "rest": POLLED,
    "history": BACKFILLED,
}
_NOTHING = Comparison(0, [], [], [])
_LOOKED_AT = 90  # bars before the first row, to know if history has older ones


class Lateness(NamedTuple):
    """Seconds from the closes of bars to when readers could see them."""

    p50: float
    p99: float


class StreamAudit(NamedTuple):
    """The result of an audit of one stream.

    Attributes:
        key: The stream.
        rows: The number of published rows in the range.
        holes: The number of holes between them.
        missing: The number of bars that are missing in these holes.
        revisions: Rows whose values are not those that were published first.
        unconfirmed: Rows whose values are not known to be final.
        closed_by: The number of rows that each cause closed, by its name.
        lateness: That of the rows of a store, None without any.
        history: The differences from history.
        rolled: The differences from shorter rows, rolled up.
        changes: The versions of each bar that has several, if a store is kept.
        error: The reason if history could not be asked, else "".
        begins: The open time of the first row in ms UTC, None without rows.
        origin: The place of that row, "ring" or "store".
        uncompared: The number of bars in the range that history has before the first
            row, or instead of all rows.
    """

    key: StreamKey
    rows: int
    holes: int
    missing: int
    revisions: int
    unconfirmed: int
    closed_by: dict[str, int]
    lateness: Lateness | None
    history: Comparison
    rolled: Comparison
    changes: list[list[SeenRow]]
    error: str
    begins: int | None
    origin: str
    uncompared: int

    @property
    def differing(self) -> int:
        """The number of bars that differ, are missing, or are unknown to history."""
        wrong = {one.open_time for one in self.history.differences}
        wrong |= {one.open_time for one in self.rolled.differences}
        return len(wrong.union(self.history.missing, self.history.unknown))


class Auditor:
    """The audit of a feed's streams, one after the other."""

    def __init__(
        self,
        feed: Feed,
        history: AuditHistory,
        since: Moment | None = None,
        store: StoreReader | None = None,
        told: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Audit rows that close from `since` on, else those that the ring has.

        `told` gets the seconds of each wait for the rate limit.

        Raises BadArgumentError if `since` is later than now, by the venue's clock.
        """
        self._feed, self._history = feed, history
        self._since, self._store, self._told = since, store, told
        self._offset = round((feed.status()["clock_offset"] or 0.0) * 1000)
        if since is not None and since.ms > self._now():
            raise BadArgumentError(
                f"--since is {format_ms(since.ms)}, which is later than now,"
                f" {format_ms(self._now())}; give an earlier time, in UTC"
            )

    def audit(self, key: StreamKey) -> StreamAudit:
        """Audit one stream. Raise ShmfeedError if its rows cannot be read."""
        settled = self._now() - round(self._history.facts.settle * 1000)
        block, begin = self._published(key)
        history, uncompared, error = _NOTHING, 0, ""
        try:
            if begin is not None:
                history = self._compare(key, block, begin, settled)
            uncompared = self._count_uncompared(key, begin, settled)
        except ShmfeedError as failure:
            error = str(failure)
        gaps = find_gaps(Rows(block, 0), key[1])
        flags = block[C_FLAGS].view(np.int64)
        return StreamAudit(
            key,
            block.shape[1],
            len(gaps),
            sum(gap.missing for gap in gaps),
            int(np.count_nonzero(flags & REVISED)),
            int(np.count_nonzero(flags & UNCONFIRMED)),
            _count_closers(flags),
            self._lateness(key, block),
            history,
            self._compare_rolled(key, block),
            self._changes(key, block),
            error,
            begin,
            "ring" if self._store is None or self._since is None else "store",
            uncompared,
        )

    def _now(self) -> int:
        # The venue's clock, as the feeder knows it.
        return time.time_ns() // 1_000_000 + self._offset

    def _published(self, key: StreamKey) -> tuple[Block, int | None]:
        """Return the rows of the range, and the open time that they begin at.

        They are those of the ring, and before them those of the store. Without any,
        also outside the range, they begin at None.
        """
        ring, timeframe = self._feed.ring(*key), key[1]
        block = ring.snapshot(ring.history).block
        if self._since is not None and self._store is not None:
            begin = int(times_of(block)[0]) if block.shape[1] else 1 << 62
            with suppress(StreamNotFoundError):
                older = list(self._store.rows(key, 0, begin - 1))
                block = np.concatenate([*older, block], axis=1)
        opens = times_of(block)
        if not len(opens):
            return block, None
        begin = int(opens[0])
        if self._since is None:
            return block, begin
        wanted = self._first_wanted(timeframe, phase_of(begin, timeframe))
        return block[:, opens >= wanted], max(begin, wanted)

    def _first_wanted(self, timeframe: Timeframe, phase: int) -> int:
        """Return the open time of the first bar that closes in the range."""
        if self._since is None:
            return 0
        earliest = self._since.first_close(timeframe) - 1
        return floor(max(0, earliest), timeframe, phase)

    def _compare(
        self, key: StreamKey, block: Block, first: int, settled: int
    ) -> Comparison:
        timeframe = key[1]
        phase = phase_of(first, timeframe)
        last = floor(floor(settled, timeframe, phase) - 1, timeframe, phase)
        if last < first:
            return _NOTHING
        known = fetch_all(self._history, key, first, last, self._told)
        is_own = self._history.facts.is_own
        found = compare(cut_to(block, first, last), known, is_own=is_own)
        if found.missing or found.unknown or found.differences:
            # A repair may have changed the rows since they were read. Meanwhile the
            # oldest ones may have left the ring, which makes them no less published.
            block = _renewed(block, self._published(key)[0])
            found = compare(cut_to(block, first, last), known, is_own=is_own)
        return found

    def _count_uncompared(self, key: StreamKey, begin: int | None, settled: int) -> int:
        """Return the number of bars of the range that no row can be compared with.

        They lie before the first row; without rows it is the whole range. Bars that
        history lacks too, as before a symbol's first day, do not count.
        """
        timeframe = key[1]
        phase = 0 if begin is None else phase_of(begin, timeframe)
        end = floor(settled, timeframe, phase)
        last = floor((end if begin is None else min(begin, end)) - 1, timeframe, phase)
        first = last
        if self._since is not None:
            first = self._first_wanted(timeframe, phase)
        if first > last or (self._since is None and begin is not None):
            return 0
        nearest = floor(last - _LOOKED_AT * duration(timeframe), timeframe, phase)
        known = fetch_all(self._history, key, max(first, nearest), last, self._told)
        if not known.shape[1]:
            return 0
        return grid_steps(first, last, timeframe) + 1

    def _compare_rolled(self, key: StreamKey, block: Block) -> Comparison:
        short: StreamKey = key[0], SHORT
        if key[1] != LONG or short not in self._feed.streams():
            return _NOTHING
        found = compare_rolled(self._published(short)[0], block)
        if found.differences:  # a repair may have come between the two reads
            block, _ = self._published(key)
            found = compare_rolled(self._published(short)[0], block)
        return found

    def _lateness(self, key: StreamKey, block: Block) -> Lateness | None:
        if self._store is None or not block.shape[1]:
            return None
        opens = times_of(block)
        with suppress(StreamNotFoundError):
            closings = self._store.closings(key, int(opens[0]), int(opens[-1]))
            late = [
                published / 1e9 + (self._offset - closed) / 1000
                for closed, published in closings
            ]
            if late:
                return Lateness(*np.quantile(late, (0.5, 0.99)).tolist())
        return None

    def _changes(self, key: StreamKey, block: Block) -> list[list[SeenRow]]:
        if self._store is None or not block.shape[1]:
            return []
        opens = times_of(block)
        with suppress(StreamNotFoundError):
            return self._store.changed(key, int(opens[0]), int(opens[-1]))
        return []


def _renewed(old: Block, new: Block) -> Block:
    """Return the rows of a later read, and before them those that it has no more."""
    if not new.shape[1]:
        return old
    left = times_of(old) < times_of(new)[0]
    return np.concatenate([old[:, left], new], axis=1)


def changed_values(old: Bar, new: Bar) -> list[tuple[str, float, float]]:
    """Return the name of each value that differs, with both values."""
    return [
        (name, before, after)
        for name, before, after in zip(
            Bar._fields[2:7], old[2:7], new[2:7], strict=True
        )
        if before != after
    ]


def _count_closers(flags: np.ndarray[tuple[int], np.dtype[np.int64]]) -> dict[str, int]:
    counts = {}
    left = np.ones(len(flags), np.bool_)
    for name, flag in _CLOSERS.items():
        has = left & (flags & flag != 0)
        counts[name] = int(np.count_nonzero(has))
        left &= ~has
    return counts
