"""A ledger whose newer bars wait for history.

Where a source of history exists, a gap need not be published: the ledger holds newer
bars until history tells of the bars before them, for `repair_grace` at the most. It
holds them

- while bars are missing before them,
- while the forming bar lacks its end: a connection was lost since its last message,
- and before the first row, if the caller asks for it by `hold`: the first rows of a
  stream appear together with its history.

Then bars of history are appended in order, and the held bars after them. Of a bar that
a closing message ended the ledger keeps the message's values.
"""

from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

from shmfeed.bar import (
    CLOSED_BY_VENUE,
    LAST_TIME,
    Bar,
    bars_between,
    floor,
    phase_of,
)
from shmfeed.feeder.held_bars import Heard
from shmfeed.feeder.ledger import Ledger
from shmfeed.feeder.ledger_events import (
    HistoryAwaited,
    LedgerEvent,
    RecoveringChanged,
    RowWrite,
)


class HistoryLedger(Ledger):
    """A ledger that takes history too."""

    def __init__(
        self, timeframe: str, *, repair_grace: float | None, **options: Any
    ) -> None:
        """Continue as `Ledger` does.

        `repair_grace` is how many seconds newer bars wait for history, None if there is
        no source of it.
        """
        super().__init__(timeframe, **options)
        self._has_history = repair_grace is not None
        self._awaited: HistoryAwaited | None = None  # said last
        if repair_grace is not None:
            self._held.patience = repair_grace

    @property
    def next_open(self) -> int:
        """The open time of the row after the newest, LAST_TIME before the first."""
        return self._rows.next

    @property
    def held_opens(self) -> list[int]:
        """The open times of the bars that wait."""
        return list(self._held)

    @property
    def last_open(self) -> int:
        """The open time of the newest row, -1 before the first."""
        return self._rows.last

    def take_closed(self, bar: Bar, heard: float) -> RowWrite:
        """Return the write that appends a row as another ledger has closed it.

        Its flags stay. A forming bar that is not newer is gone.
        """
        rows, opened = self._rows, bar.open_time
        missing = expected = 0
        if opened > rows.next:
            expected = rows.next
            missing = bars_between(rows.last, opened, self._timeframe)
        self._grid.settle(opened)
        rows.add(bar, -1)
        if self._forming is not None and self._forming.open_time <= opened:
            self._forming = None
        return RowWrite(True, bar, missing, expected, heard)

    def hold(self, until: float) -> None:
        """Let newer bars wait for history until then, if not released before.

        The first rows of a stream wait. Of a stream with rows those wait that bars are
        missing before, or whose predecessor lacks its end.
        """
        self._held.until = until

    def release(self, now: float) -> list[LedgerEvent]:
        """Wait no longer: history has nothing more for this stream."""
        events: list[LedgerEvent] = []
        self._held.until = -inf
        if self._held:
            self._release(events, now, must=True)
        return events

    def take_history(
        self, rows: Sequence[Bar], now: float, may_end: bool
    ) -> list[LedgerEvent]:
        """Return the writes that append closed bars of history, oldest first.

        A bar that a closing message ended, and that is held, keeps its values. Without
        `may_end` history ends no bar of the venue, and only bars that the venue has
        gone past are appended, or all of them before its first bar. Held bars that need
        to wait no longer follow.
        """
        events: list[LedgerEvent] = []
        was_recovering = self.is_recovering
        newest = self._newest_heard
        if may_end or (newest < 0 and self._rows.next == LAST_TIME):
            newest = LAST_TIME  # all of them, as the venue has sent none yet
        for bar in rows:
            if bar.open_time > self._rows.last:
                if bar.open_time >= newest:
                    break
                self._take_row(bar, events, now, may_end)
        if self._held:
            self._release(events, now)
        elif was_recovering:  # history had the held bars, too
            events.append(RecoveringChanged(False))
        return events

    def follow(self, rows: Iterable[Bar], corrected: Iterable[Bar] = ()) -> None:
        """Know the newest rows of the ring, oldest first, after some were replaced.

        `corrected` are those that history has corrected, as they were.
        """
        self._rows.follow(rows, corrected)

    @property
    def _newest_heard(self) -> int:
        """The open time of the newest bar that is no row yet, -1 without one."""
        newest = max(self._held, default=-1)
        if self._forming is not None:
            newest = max(newest, self._forming.open_time)
        return newest

    def _take_row(
        self, bar: Bar, events: list[LedgerEvent], now: float, may_end: bool
    ) -> None:
        opened = bar.open_time
        self._settle_before(opened, events)
        forming = self._forming
        if forming is not None and forming.open_time == opened and not may_end:
            events.append(self._end_by_held(forming))
            return
        held = self._held.pop(opened, None)
        if held is None or (may_end and not held.bar.flags & CLOSED_BY_VENUE):
            events.append(self._close(bar, now, of_history=True))
            return
        events.append(self._write(held.bar, held.heard))
        if self._forming is not None and self._forming.open_time == opened:
            events.append(self._end_by_held(self._forming))

    def _settle_before(self, opened: int, events: list[LedgerEvent]) -> None:
        """Write the forming bar and the held ones that are older, as they are."""
        while True:
            forming = self._forming
            oldest = min(self._held, default=opened)
            if forming is not None and forming.open_time < opened:
                events.append(self._end_by_held(forming))
            elif oldest < opened:
                held = self._held.pop(oldest)
                events.append(self._write(held.bar, held.heard))
            else:
                return

    # Waits

    def _must_hold(self, bar: Bar, heard: Heard) -> bool:
        """Return True if older bars are not settled, and are waited for."""
        forming = self._forming
        if (bar.flags or forming is not None) and self._is_first_held(heard.at):
            return True
        if heard.event.closed is not None:
            return forming is not None or bar.open_time > self._rows.next
        if not self._has_history:
            return False
        if forming is None:
            return bar.open_time > self._rows.next
        return self._is_doubtful or bar.open_time > forming.close_time

    def _must_wait(self, opened: int, now: float) -> bool:
        """Return True if bars before the oldest held one are not settled."""
        if self._is_first_held(now):
            return True
        forming = self._forming
        if forming is None or self._flagged:
            return super()._must_wait(opened, now)
        return self._is_doubtful or opened > forming.close_time

    def _is_first_held(self, now: float) -> bool:
        """Return True if the first row waits for history."""
        return now < self._held.until and self._rows.next == LAST_TIME

    def _awaits_end(self, now: float) -> bool:
        """Return True if history may tell the end of the forming bar soon."""
        return now < self._held.until or (self._has_history and bool(self._held))

    def _ask_history(self, events: list[LedgerEvent], now: float) -> None:
        """Report the awaited bars, once their own messages have had time to come."""
        if not self._has_history or self._held.is_patient(now):
            return
        opened = min(self._held)
        forming = self._forming
        lacking = -1 if forming is None else forming.open_time
        before = self._rows.last if forming is None else lacking
        missing = 0 if before < 0 else bars_between(before, opened, self._timeframe)
        if lacking < 0 and not missing:
            return
        first = self._rows.next if forming is None else forming.close_time
        last = floor(opened - 1, self._timeframe, phase_of(opened, self._timeframe))
        awaited = HistoryAwaited(lacking, first, last, missing)
        if awaited != self._awaited:
            self._awaited = awaited
            events.append(awaited)
