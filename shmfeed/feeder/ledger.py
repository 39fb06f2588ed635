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
bar is held. A row is final: later messages about it are counted and change nothing.
Missing bars are counted when the next row is written, and that row has the flag
AFTER_GAP.

A bar must lie on the stream's grid (see grid.py). A bar that begins too far ahead of
the venue's clock is not applied, whatever its values.
"""

from dataclasses import dataclass
from math import inf, nan
from typing import Literal, NamedTuple

from shmfeed.bar import (
    AFTER_GAP,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    LAST_TIME,
    UNCONFIRMED,
    Bar,
    bars_between,
    duration,
)
from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder.bar_check import describe_fault, is_valid_bar, same_values
from shmfeed.feeder.grid import StreamGrid
from shmfeed.feeder.trades import TradeNumbers

# Bars held. With one more, the ledger stops waiting for the oldest unsettled bar.
HELD_LIMIT = 64
KNOWN_ROWS = 64  # rows whose values are kept, to tell a duplicate from a revision
LEAD_MS = 60_000  # a bar may always begin that much ahead of the venue's clock


class RowWrite(NamedTuple):
    """A write to the ring: `bar` as a row if `closed`, else as the forming bar.

    The flags of a row tell what closed it; those of a forming bar are 0. `missing` is
    the number of bars missing in front of a row.
    """

    closed: bool
    bar: Bar
    missing: int = 0


class Anomaly(NamedTuple):
    """A message that changes no row, counted under `kind`.

    `malformed`: its values or times cannot be a bar's; `reason` says why. `ahead`: it
    begins too far ahead of the venue's clock. `late`: it is about the past.
    `duplicates`: it repeats the values of a final bar, or `is_older` than the last
    update of the forming one. `revisions`: it has other values for a final bar.
    `disagreements`: the final message of another line has.
    """

    kind: Literal[
        "malformed", "ahead", "late", "duplicates", "revisions", "disagreements"
    ]
    event: BarEvent
    reason: str = ""
    is_older: bool = False


class RowProven(NamedTuple):
    """The row that opens at `open_time` has its final values: trade numbers say so."""

    open_time: int


class RowDoubted(NamedTuple):
    """The row that opens at `open_time` may lack its last update.

    The clock had ended it while messages about it were being lost, or before the last
    of them came.
    """

    open_time: int


class RecoveringChanged(NamedTuple):
    """The stream starts or stops holding newer bars; meanwhile it is recovering."""

    is_recovering: bool


LedgerEvent = RowWrite | Anomaly | RowProven | RowDoubted | RecoveringChanged


class _Heard(NamedTuple):
    """The last message about a bar."""

    event: BarEvent
    stamp: int  # its event time, 0 if it has none that the clock believes
    line: int
    doubt: int  # the lines that may have lost a later message about the bar


@dataclass(slots=True)
class _Held:
    bar: Bar  # with flags, if it is final
    heard: _Heard
    arrived: float  # the first message about it, seconds


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
    ) -> None:
        """Continue after the last row and the forming bar of an earlier feeder.

        That forming bar may have changed while no feeder was connected. The clock
        closes it only if `forming_flagged` is False: the venue is known to send no
        flags. `lead_ms` is how far ahead of the venue's clock a bar may begin: the
        timeframe and `close_grace_ms`, at least a minute. `numbers_trades` says that
        the trades of the symbol are numbered without a break. `lines` is the number of
        connections that carry the stream.
        """
        lead = max(duration(timeframe) + close_grace_ms, LEAD_MS)
        self._lead_ms = lead if lead_ms is None else lead_ms
        newest = forming or last_closed
        self._grid = StreamGrid(timeframe, newest.open_time if newest else None)
        self._timeframe = timeframe
        self._grace_ms = close_grace_ms
        self._grace_seconds = close_grace_ms / 1000
        self._lines = (1 << lines) - 1
        self._known: dict[int, Bar] = {}  # the newest rows, oldest first
        self._row_lines: dict[int, int] = {}  # that ended them, if there are several
        self._last = -1  # open_time of the newest row
        self._next = LAST_TIME  # open_time of the row after it; before any row, none
        self._forming: Bar | None = None
        # The last message about the forming bar had a flag.
        self._flagged = forming_flagged
        # The lines that lost messages since the last one about the forming bar. Its
        # last update may be lost if all did.
        self._doubt = self._lines
        self._stamp = 0  # the newest event time about it
        self._line = 0  # of the last message about it
        self._trades = TradeNumbers() if numbers_trades else None
        self._message_at = -inf  # the last valid message, monotonic seconds
        self._closed_at = -inf  # when the clock ended the newest row, as above
        self._ahead = False  # a message came for a bar that the clock had closed
        self._held: dict[int, _Held] = {}  # all newer than rows and forming bar
        if last_closed is not None:
            self._remember(last_closed)
        if forming is not None and forming.open_time > self._last:
            self._forming = forming

    @property
    def is_recovering(self) -> bool:
        """True while newer bars are held: the stream is recovering."""
        return bool(self._held)

    def is_ahead(self, venue_now: int) -> bool:
        """Return True if the newest bar begins too far ahead of the venue's clock."""
        newest = self._forming.open_time if self._forming is not None else self._last
        return max(newest, *self._held, self._last) > self.latest_open(venue_now)

    def latest_open(self, venue_now: int) -> int:
        """Return the latest open_time that a bar may have, ms UTC."""
        return venue_now + self._lead_ms

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
        if not is_valid_bar(event, ends):
            reason = describe_fault(event, ends, self._timeframe)
            return [Anomaly("malformed", event, reason=reason)]
        if forming is None and opened > venue_now + self._lead_ms:
            return [Anomaly("ahead", event)]
        bar = self._bar(event, ends, venue_now)
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
            events = [self._put(bar, event.closed is not None)]
        elif opened <= self._last:
            events = self._judge_past(bar, event, line)
        else:
            heard = _Heard(event, stamp, line, doubt)
            events = self._accept_bar(bar, heard, now)
        if self._trades is not None:
            events += map(RowProven, self._trades.proven_rows(event))
        if self._held:
            self._release(events, now)
        return events

    def tick(self, venue_now: int, now: float) -> list[LedgerEvent]:
        """Return the events that time causes. Call it about ten times a second."""
        events: list[LedgerEvent] = []
        must_wait = self._ahead and now < self._message_at + self._grace_seconds
        forming = None if self._flagged or must_wait else self._forming
        if forming is not None and forming.close_time + self._grace_ms <= venue_now:
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
        for held in self._held.values():
            held.heard = held.heard._replace(doubt=held.heard.doubt | lost)
        # A later message about the stream would have told if the row lacked an update.
        may_lack = self._closed_at >= max(heard, self._message_at)
        if may_lack and self._is_doubtful:
            return self._doubt_row(self._last)
        return []

    def _doubt_row(self, opened: int) -> list[LedgerEvent]:
        """Doubt a row that the clock has ended, unless it is in doubt already."""
        row = self._known.get(opened)
        if row is None or not row.flags & CLOSED_BY_CLOCK or row.flags & UNCONFIRMED:
            return []
        self._known[opened] = row._replace(flags=row.flags | UNCONFIRMED)
        return [RowDoubted(opened)]

    def may_end(self, open_time: int) -> bool:
        """Return True if no closing message of the venue has ended this bar."""
        if open_time > self._last:
            held = self._held.get(open_time)
            return held is None or not held.bar.flags & CLOSED_BY_VENUE
        row = self._known.get(open_time)
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
        if ends == 0 and grid.move_to(opened, has_rows=self._last >= 0):
            self._forming = None  # of the former grid
            ends = grid.end_of(opened)
        return ends

    def _bar(self, event: BarEvent, ends: int, venue_now: int) -> Bar:
        """Return the message's bar, with flags if the message is its last."""
        closed = event.closed
        if closed is None:
            flags = CLOSED_BY_CLOCK if ends + self._grace_ms <= venue_now else 0
        else:
            flags = CLOSED_BY_VENUE if closed else 0
        return Bar(
            event.open_time,
            ends,
            event.open,
            event.high,
            event.low,
            event.close,
            event.volume,
            event.money if 0.0 <= event.money < inf else nan,
            flags,
        )

    def _judge_past(self, bar: Bar, event: BarEvent, line: int) -> list[LedgerEvent]:
        kind = self._past_kind(bar, event.closed, line)
        doubted = self._doubt_row(bar.open_time) if kind == "revisions" else []
        return [Anomaly(kind, event), *doubted]

    def _past_kind(
        self, bar: Bar, closed: bool | None, line: int
    ) -> Literal["late", "duplicates", "revisions", "disagreements"]:
        # A revision is only counted: to apply it, its slot in the ring must be swapped.
        row = self._known.get(bar.open_time)
        if row is None:
            return "late"
        if self._row_lines.get(bar.open_time, line) != line:  # the other one was first
            is_final = closed and row.flags & CLOSED_BY_VENUE
            differs = is_final and not same_values(row, bar)
            return "disagreements" if differs else "duplicates"
        if closed is False:
            return "late"
        if same_values(row, bar):
            # Without a flag it could be an update that arrived late.
            return "duplicates" if closed or bar.open_time == self._last else "late"
        if closed or row.flags & CLOSED_BY_CLOCK:
            self._ahead = self._ahead or closed is None
            return "revisions"
        return "late"

    def _accept_bar(self, bar: Bar, heard: _Heard, now: float) -> list[LedgerEvent]:
        """Accept a bar that is neither the forming one nor in the past."""
        opened, event = bar.open_time, heard.event
        flagged = event.closed is not None
        forming = self._forming
        if forming is not None and opened < forming.open_time:
            # The ledger no longer waits for bars missing before the forming one. A
            # final bar still fits there, because the forming one is not a row yet.
            return [self._close(bar) if bar.flags else Anomaly("late", event)]
        is_early = flagged and (forming is not None or opened > self._next)
        if is_early or self._held:
            return self._hold(bar, heard, now)
        if forming is None:
            return [self._write(bar, heard)]
        former = self._close_by_next(forming, self._flagged or self._is_doubtful, event)
        return [former, self._write(bar, heard)]

    def _hold(self, bar: Bar, heard: _Heard, now: float) -> list[LedgerEvent]:
        event = heard.event
        held = self._held.get(bar.open_time)
        if held is None:
            was_recovering = self.is_recovering
            self._held[bar.open_time] = _Held(bar, heard, now)
            return [] if was_recovering else [RecoveringChanged(True)]
        if not held.bar.flags:
            held.bar, held.heard = bar, heard
            return []
        is_other = held.heard.line != heard.line
        if not bar.flags:
            return [Anomaly("duplicates" if is_other else "late", event)]
        if same_values(held.bar, bar):
            return [Anomaly("duplicates", event)]
        if is_other:
            return [Anomaly("disagreements", event)]
        held.bar = bar  # it is not a row yet, so it can still be corrected
        return [Anomaly("revisions", event)]

    def _release(self, events: list[LedgerEvent], now: float) -> None:
        """Write held bars, oldest first, up to the first that must keep waiting."""
        held = self._held
        while held:
            opened = min(held)
            arrived = min(waiting.arrived for waiting in held.values())
            may_wait = now < arrived + self._grace_seconds and len(held) <= HELD_LIMIT
            forming = self._forming
            if may_wait and (forming is not None or opened > self._next):
                return
            if forming is not None:
                newer = [held[time].heard.event for time in sorted(held)]
                events.append(self._close_by_next(forming, True, *newer))
            else:
                waiting = held.pop(opened)
                events.append(self._write(waiting.bar, waiting.heard))
        events.append(RecoveringChanged(False))

    def _write(self, bar: Bar, heard: _Heard) -> RowWrite:
        self._grid.settle(bar.open_time)
        event, self._stamp, self._line, self._doubt = heard
        if self._trades is not None:
            self._trades.forming = event.last_id
        return self._put(bar, event.closed is not None)

    def _put(self, bar: Bar, flagged: bool) -> RowWrite:
        if bar.flags:
            if flagged or not self._ahead:
                self._closed_at = self._message_at
                return self._close(bar)
            bar = bar._replace(flags=0)
        self._forming = bar
        self._flagged = flagged
        return RowWrite(False, bar)

    def _close_by_next(self, bar: Bar, doubtful: bool, *newer: BarEvent) -> RowWrite:
        trades = self._trades
        if doubtful and trades is not None:
            doubtful = not trades.is_whole(bar.open_time, newer)
        return self._close_as(bar, CLOSED_BY_NEXT, doubtful)

    def _close_as(self, bar: Bar, flag: int, doubtful: bool) -> RowWrite:
        flags = flag | UNCONFIRMED if doubtful else flag
        return self._close(bar._replace(flags=flags))

    def _close(self, bar: Bar) -> RowWrite:
        opened = bar.open_time
        missing = 0
        if opened > self._next:
            missing = bars_between(self._last, opened, self._timeframe)
            bar = bar._replace(flags=bar.flags | AFTER_GAP)
        self._remember(bar)
        if self._trades is not None:
            self._trades.close()
        forming = self._forming
        if forming is not None and forming.open_time <= opened:
            self._forming = None
        return RowWrite(True, bar, missing)

    def _remember(self, row: Bar) -> None:
        known = self._known
        if len(known) == KNOWN_ROWS:
            oldest = next(iter(known))
            del known[oldest]
            self._row_lines.pop(oldest, None)
        known[row.open_time] = row
        if self._lines > 1:
            self._row_lines[row.open_time] = self._line
        self._last = row.open_time
        self._next = row.close_time
