"""The ledger of one stream: what each message about a bar means for its rows.

A stream has rows (closed bars, in order) and at most one forming bar, newer than them
all. A message about the forming bar replaces it. The meaning of a message about a newer
bar depends on the venue:

- A venue that flags its bars (`closed` is True or False) sends a final message for each
  bar, possibly out of order. The ledger therefore *holds* a newer bar until all older
  bars are settled: the forming bar has its final message, and no bar is missing before
  the newer one. Further bars that arrive meanwhile are held too, each with its final or
  else its newest message. `close_grace` after the first of the held bars arrived, the
  ledger stops waiting for the oldest unsettled bar. A forming bar becomes a row with
  the values that it has; missing bars stay missing.
- A venue without flags (`closed` is None) closes a bar by sending the next one. The
  clock closes a bar that has no successor `close_grace` after its end, and a bar whose
  message arrives later than that on arrival. If a message with other values comes for a
  bar that the clock has closed, the clock is ahead of the venue's. From then on the
  clock closes a bar only after `close_grace` without a message about the stream, and no
  bar on arrival. The first bar that is closed under this stricter rule lifts it. The
  rule also applies after the feeder stood still, when late messages lie unread.

Each message is judged by its own flag, except that all newer bars are held while any
bar is held. A row never forms again. A closing message with other values revises it;
other later messages about it are counted and change no value (see closed_rows.py).
Missing bars are counted when the next row is written, and that row has the flag
AFTER_GAP.

A bar must lie on the stream's grid (see grid.py). A bar that begins too far ahead of
the venue's clock is not applied, whatever its values.
"""

from collections.abc import Iterable
from math import inf

from shmfeed.bar import (
    AFTER_GAP,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    UNCONFIRMED,
    Bar,
    bars_between,
    duration,
    floor,
)
from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder.bar_check import bar_of, describe_fault, is_valid_bar, same_values
from shmfeed.feeder.closed_rows import KNOWN_ROWS, ClosedRows, revised
from shmfeed.feeder.grid import StreamGrid
from shmfeed.feeder.held_bars import Heard, HeldBars
from shmfeed.feeder.ledger_events import (
    Anomaly,
    CarriedLedger,
    LedgerEvent,
    PastFinal,
    RecoveringChanged,
    RowDoubted,
    RowProven,
    RowRevised,
    RowWrite,
)
from shmfeed.feeder.trades import TradeNumbers

_make_tuple = tuple.__new__  # saves a tenth of a microsecond over a NamedTuple's own
LEAD_MS = 60_000  # a bar may always begin that much ahead of the venue's clock


class Ledger:
    """The ledger of one stream. Only the thread that writes the feed uses it.

    `venue_now` is the venue's wall clock in ms UTC, `now` is monotonic seconds. No
    method raises, whatever the messages hold. Handle the events in their order: each
    row is newer than the last, and a forming bar is newer than all rows.
    """

    def __init__(
        self,
        timeframe: str,
        *,
        close_grace_ms: int = 2000,
        last_closed: Bar | None = None,
        forming: Bar | None = None,
        forming_flagged: bool = True,
        lead_ms: int | None = None,
        numbers_trades: bool = False,
        lines: int = 1,
        most_rows: int = KNOWN_ROWS,
    ) -> None:
        """Continue after the last row and the forming bar of an earlier feeder.

        That forming bar may have changed while no feeder was connected. The clock
        closes it only if `forming_flagged` is False: the venue is known to send no
        flags. `lead_ms` is how far ahead of the venue's clock a bar may begin: the
        timeframe and `close_grace_ms`, at least a minute. `numbers_trades` says that
        the trades of the symbol are numbered without a break. `lines` is the number of
        connections that carry the stream, `most_rows` that of the rows in its ring.
        """
        lead = max(duration(timeframe) + close_grace_ms, LEAD_MS)
        self._lead_ms = lead if lead_ms is None else lead_ms
        newest = forming or last_closed
        self._grid = StreamGrid(timeframe, newest.open_time if newest else None)
        self._timeframe = timeframe
        self._grace_ms = close_grace_ms
        self._grace_seconds = close_grace_ms / 1000
        self._lines = (1 << lines) - 1
        self._rows = ClosedRows(lines > 1, most_rows)
        self._most_rows = most_rows
        self._forming: Bar | None = None
        # The last message about the forming bar had a flag.
        self._flagged = forming_flagged
        # The lines that lost messages since the last one about the forming bar. Its
        # last update may be lost if all did.
        self._doubt = self._lines
        self._stamp = 0  # the newest event time about it
        self._line = 0  # of the last message about it
        self._formed_at = -inf  # when it came, monotonic seconds
        self._trades = TradeNumbers() if numbers_trades else None
        self._message_at = -inf  # the last valid message, monotonic seconds
        self._closed_at = -inf  # when the clock ended the newest row, as above
        self._ahead = False  # a message came for a bar that the clock had closed
        self._held = HeldBars(self._grace_seconds)  # newer than rows and forming bar
        if last_closed is not None:
            self._rows.add(last_closed, -1)
        if forming is not None and forming.open_time > self._rows.last:
            self._forming = forming

    def carry(self) -> CarriedLedger:
        """Return what the ledger of the next feeder has to know beside the rows."""
        return CarriedLedger(
            self._is_doubtful,
            self._stamp,
            self._flagged,
            self._ahead,
            tuple(self._held.newer()),
        )

    def resume(self, carried: CarriedLedger) -> None:
        """Go on as the ledger of an earlier feeder, whose messages all came.

        Call it before the first message. Apply the held ones as messages afterwards.
        """
        self._doubt = self._lines if carried.is_doubtful else 0
        self._stamp, self._flagged = carried.stamp, carried.is_flagged
        self._ahead = carried.is_ahead

    def restart(self, kept: Iterable[Bar]) -> None:
        """Know no rows but these, oldest first: the others were dropped.

        The forming bar and those that wait go on.
        """
        self._rows = ClosedRows(self._lines > 1, self._most_rows)
        for row in kept:
            self._rows.add(row, -1)

    @property
    def is_recovering(self) -> bool:
        """True while newer bars are held: the stream is recovering."""
        return bool(self._held)

    def is_ahead(self, venue_now: int) -> bool:
        """Return True if the newest bar begins too far ahead of the venue's clock."""
        newest = -1 if self._forming is None else self._forming.open_time
        latest: int = max(newest, *self._held, self._rows.last)
        return latest > self.latest_open(venue_now)

    def latest_open(self, venue_now: int) -> int:
        """Return the latest open_time that a bar may have, ms UTC."""
        return venue_now + self._lead_ms

    def latest_closed(self, venue_now: int) -> int:
        """Return the open time of the newest bar that has ended by the venue's clock.

        Return -1 while the grid is not known.
        """
        phase = self._grid.phase
        if phase is None:
            return -1
        current = floor(venue_now, self._timeframe, phase)
        return floor(current - 1, self._timeframe, phase)

    def apply(
        self, event: BarEvent, venue_now: int, now: float, line: int = 0
    ) -> list[LedgerEvent]:
        """Return the events that this message causes, usually one write."""
        opened = event.open_time
        forming = self._forming
        if forming is not None and forming.open_time == opened:
            ends = forming.close_time
        else:
            forming = None
            ends = self.end_of(opened)
        is_ahead = forming is None and opened > venue_now + self._lead_ms
        if is_ahead or not is_valid_bar(event, ends):
            return [self._refuse(event, ends)]
        bar = bar_of(event, ends, self._grace_ms, venue_now)
        self._message_at = now
        events: list[LedgerEvent]
        # A time that the clock does not believe must not outrank later ones.
        stamp = event.event_time if event.event_time <= venue_now else 0
        doubt = self._doubt and self._doubt & ~(1 << line)
        if forming is not None:
            if not event.closed and (  # the call is spared where it can tell nothing
                0 < stamp < self._stamp
                or (self._trades is not None and self._is_older(event, forming, line))
                or (line != self._line and self._is_older(event, forming, line))
            ):
                return [Anomaly("duplicates", event, is_older=True)]
            self._stamp, self._line, self._doubt = stamp, line, doubt
            if self._trades is not None:
                self._trades.forming = event.last_id
            if bar.flags and self._is_first_held(now):
                return self._hold_end(bar, Heard(event, stamp, line, doubt, now))
            events = [self._put(bar, event.closed is not None, now)]
        elif opened <= self._rows.last:
            events = self._judge_past(bar, event, line)
        else:
            events = self._accept_bar(bar, Heard(event, stamp, line, doubt, now))
        if self._trades is not None:
            events += map(RowProven, self._trades.proven_rows(event))
        if self._held:
            self._release(events, now)
        return events

    def _refuse(self, event: BarEvent, ends: int) -> Anomaly:
        if is_valid_bar(event, ends):
            return Anomaly("ahead", event)
        reason = describe_fault(event, ends, self._timeframe)
        return Anomaly("malformed", event, reason=reason)

    def tick(self, venue_now: int, now: float) -> list[LedgerEvent]:
        """Return the events that time causes. Call it about ten times a second."""
        events: list[LedgerEvent] = []
        must_wait = self._ahead and now < self._message_at + self._grace_seconds
        forming = None if self._flagged or must_wait else self._forming
        if (
            forming is not None
            and forming.close_time + self._grace_ms <= venue_now
            and not self._awaits_end(now)
        ):
            events.append(self._close_as(forming, CLOSED_BY_CLOCK, self._is_doubtful))
            self._closed_at = now
            self._ahead = False
        if self._held:
            self._release(events, now)
        return events

    def reconnected(
        self, line: int | None = None, heard: float = -inf
    ) -> list[LedgerEvent]:
        """Mark unsettled bars: messages about them may be lost on a line, None for all.

        A connection broke, or the venue's numbers show it. Nothing that came up to
        `heard` was lost. A row that the clock has ended since then is in doubt.
        """
        lost = self._lines if line is None else 1 << line
        self._doubt |= lost
        self._held.doubt(lost)
        # A later message about the stream would have told if the row lacked an update.
        may_lack = self._closed_at >= max(heard, self._message_at)
        if may_lack and self._is_doubtful:
            return self._doubt_row(self._rows.last)
        return []

    def _doubt_row(self, opened: int) -> list[LedgerEvent]:
        """Doubt a row that the clock has ended, unless it is in doubt already."""
        row = self._rows.find(opened)
        if row is None or not row.flags & CLOSED_BY_CLOCK or row.flags & UNCONFIRMED:
            return []
        self._rows.replace(row._replace(flags=row.flags | UNCONFIRMED))
        return [RowDoubted(opened)]

    def may_end(self, open_time: int) -> bool:
        """Return True if no closing message of the venue has ended this bar."""
        if open_time > self._rows.last:
            held = self._held.get(open_time)
            return held is None or not held.bar.flags & CLOSED_BY_VENUE
        row = self._rows.find(open_time)
        return row is not None and not row.flags & CLOSED_BY_VENUE

    @property
    def _is_doubtful(self) -> bool:
        return self._doubt == self._lines

    def _is_older(self, event: BarEvent, forming: Bar, line: int) -> bool:
        """Return True if an update says less about the forming bar than is known."""
        stamp = event.event_time
        if 0 < stamp < self._stamp:
            return True
        if self._trades is not None and 0 <= event.last_id < self._trades.forming:
            return True
        if line == self._line:
            return False
        values = event.open, event.high, event.low, event.close, event.volume
        if values == forming[2:7]:
            self._doubt &= ~(1 << line)  # the line has had as much as the other one
            return True
        if stamp and self._stamp:
            return stamp <= self._stamp
        return event.volume < forming.volume

    def stalled(self, now: float) -> None:
        """Trust the clock less: messages lie unread since the feeder stood still.

        They are about bars that the clock would close at once, before the later
        messages about the same bars are read.
        """
        if not self._flagged:
            self._ahead = True
            self._message_at = now

    def end_of(self, opened: int) -> int:
        """Return the end of a bar that opens at `opened`, 0 if it is off the grid."""
        grid = self._grid
        ends = grid.end_of(opened)
        if ends == 0 and grid.move_to(opened, has_rows=self._rows.last >= 0):
            self._forming = None  # of the former grid
            ends = grid.end_of(opened)
        return ends

    @property
    def phase(self) -> int | None:
        """The phase of the stream's grid, ms; None if it is not known yet."""
        return self._grid.phase

    def _judge_past(self, bar: Bar, event: BarEvent, line: int) -> list[LedgerEvent]:
        rows, closed = self._rows, event.closed
        kind = rows.verdict(bar, closed, line)
        row = rows.find(bar.open_time)
        if kind == "unknown":
            is_other = rows.is_other_line(bar.open_time, line)
            is_new = rows.overruled(bar.open_time) is not None
            rows.note_final(bar.open_time, line)
            return [PastFinal(bar, event, is_other, is_new)]
        if kind == "revisions" and row is not None:
            self._ahead = self._ahead or closed is None
            row = revised(row, bar, closed)
            rows.replace(row)
            rows.note_final(bar.open_time, line)
            return [RowRevised(row, event)]
        events: list[LedgerEvent] = [Anomaly(kind, event)]
        if row is None:
            return events
        is_proof = closed and kind == "duplicates" and row.flags & UNCONFIRMED
        if is_proof and same_values(row, bar):
            rows.replace(row._replace(flags=row.flags & ~UNCONFIRMED))
            events.append(RowProven(bar.open_time))
        return events

    # Newer bars

    def _accept_bar(self, bar: Bar, heard: Heard) -> list[LedgerEvent]:
        """Accept a bar that is neither the forming one nor in the past."""
        opened, event = bar.open_time, heard.event
        forming = self._forming
        if forming is not None and opened < forming.open_time:
            # The ledger no longer waits for bars missing before the forming one. A
            # final bar still fits there, because the forming one is not a row yet.
            return [self._close(bar, heard.at) if bar.flags else Anomaly("late", event)]
        if self._held or self._must_hold(bar, heard):
            return self._hold(bar, heard)
        if forming is None:
            return [self._write(bar, heard)]
        former = self._close_by_next(forming, self._flagged or self._is_doubtful, event)
        return [former, self._write(bar, heard)]

    def _must_hold(self, bar: Bar, heard: Heard) -> bool:
        """Return True if older bars are not settled, and are waited for."""
        if heard.event.closed is None:
            return False
        return self._forming is not None or bar.open_time > self._rows.next

    def _must_wait(self, opened: int, now: float) -> bool:  # noqa: ARG002 # of history
        """Return True if bars before the oldest held one are not settled."""
        return self._forming is not None or opened > self._rows.next

    # Waits for history (history_ledger.py has it): a venue's messages alone need none.

    def _is_first_held(self, now: float) -> bool:  # noqa: ARG002 # of history
        """Return True if the first row waits for history."""
        return False

    def _awaits_end(self, now: float) -> bool:  # noqa: ARG002 # of history
        """Return True if history may tell the end of the forming bar soon."""
        return False

    def _ask_history(self, events: list[LedgerEvent], now: float) -> None:
        """Report the bars that are awaited of history."""

    def _hold_end(self, bar: Bar, heard: Heard) -> list[LedgerEvent]:
        """Hold the forming bar, which has ended; readers still see it as it forms."""
        self._forming = None
        return [RowWrite(False, bar._replace(flags=0)), *self._hold(bar, heard)]

    def _hold(self, bar: Bar, heard: Heard) -> list[LedgerEvent]:
        was_recovering = self.is_recovering
        anomalies = self._held.hold(bar, heard)
        return [*anomalies] if was_recovering else [RecoveringChanged(True)]

    def _release(
        self, events: list[LedgerEvent], now: float, must: bool = False
    ) -> None:
        """Write held bars, oldest first, up to the first that must keep waiting."""
        held = self._held
        while held:
            opened = min(held)
            forming = self._forming
            if self._must_wait(opened, now) and not must and held.may_wait(now):
                self._ask_history(events, now)
                return
            if forming is not None:
                events.append(self._end_by_held(forming))
            else:
                waiting = held.pop(opened)
                events.append(self._write(waiting.bar, waiting.heard))
        events.append(RecoveringChanged(False))

    # Writes

    def _write(self, bar: Bar, heard: Heard) -> RowWrite:
        self._grid.settle(bar.open_time)
        event, self._stamp, self._line, self._doubt, at = heard
        if self._trades is not None:
            self._trades.forming = event.last_id
        return self._put(bar, event.closed is not None, at)

    def _put(self, bar: Bar, flagged: bool, at: float) -> RowWrite:
        if bar.flags:
            if flagged or not self._ahead:
                self._closed_at = self._message_at
                return self._close(bar, at)
            bar = bar._replace(flags=0)
        self._forming = bar
        self._flagged = flagged
        self._formed_at = at
        return _make_tuple(RowWrite, (False, bar, 0, 0, -inf))

    def _end_by_held(self, forming: Bar) -> RowWrite:
        doubtful = self._flagged or self._is_doubtful or not self._held
        return self._close_by_next(forming, doubtful, *self._held.newer())

    def _close_by_next(self, bar: Bar, doubtful: bool, *newer: BarEvent) -> RowWrite:
        trades = self._trades
        if doubtful and trades is not None:
            doubtful = not trades.is_whole(bar.open_time, newer)
        return self._close_as(bar, CLOSED_BY_NEXT, doubtful)

    def _close_as(self, bar: Bar, flag: int, doubtful: bool) -> RowWrite:
        flags = flag | UNCONFIRMED if doubtful else flag
        return self._close(bar._replace(flags=flags), self._formed_at)

    def _close(self, bar: Bar, heard: float, of_history: bool = False) -> RowWrite:
        rows, opened = self._rows, bar.open_time
        missing = expected = 0
        if opened > rows.next:
            expected = rows.next
            missing = bars_between(rows.last, opened, self._timeframe)
            bar = bar._replace(flags=bar.flags | AFTER_GAP)
        if of_history:
            self._grid.settle(opened)
        rows.add(bar, -1 if of_history else self._line)
        if self._trades is not None:
            self._trades.close()
        forming = self._forming
        if forming is not None and forming.open_time <= opened:
            self._forming = None
        return RowWrite(True, bar, missing, expected, heard)
