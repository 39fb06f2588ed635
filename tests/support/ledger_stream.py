"""A stream's ledger, with one line of test for each message."""

import math
from collections import Counter
from collections.abc import Sequence

from shmfeed.bar import (
    AFTER_GAP,
    BACKFILLED,
    CLOSED_BY_CLOCK,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    UNCONFIRMED,
    Bar,
)
from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder.ledger import Ledger
from shmfeed.feeder.ledger_events import (
    Anomaly,
    LedgerEvent,
    PastFinal,
    RecoveringChanged,
    RowRevised,
    RowWrite,
)

MINUTE = 60_000
START = 1_700_000_040_000  # on the grid of minutes
EARLY = START  # a venue's time at which no bar below has ended
UPDATE, FINAL, PLAIN = False, True, None
GIVEN_UP = CLOSED_BY_NEXT | UNCONFIRMED


def event(minute: int, closed: bool | None, price: float = 10.0, **other) -> BarEvent:
    opened = START + minute * MINUTE
    fields = {"close_time": 0, "volume": 1.0} | other
    return BarEvent(
        symbol="BTCUSDT",
        timeframe="1m",
        open_time=fields.pop("open_time", opened),
        open=fields.pop("open", price),
        high=fields.pop("high", price),
        low=fields.pop("low", price),
        close=fields.pop("close", price),
        closed=closed,
        **fields,
    )


def row(minute: int, price: float = 10.0, flags: int = 0) -> Bar:
    opened = START + minute * MINUTE
    return Bar(
        opened, opened + MINUTE, price, price, price, price, 1.0, math.nan, flags
    )


def writes_of(events: Sequence[LedgerEvent]) -> list[tuple[str, int, float, int]]:
    """Return the writes as short tuples: what, which minute, its price, its flags."""
    return [
        (
            "row" if write.closed else "forming",
            (write.bar.open_time - START) // MINUTE,
            write.bar.close,
            write.bar.flags,
        )
        for write in writes(events)
    ]


def writes(events: Sequence[LedgerEvent]) -> list[RowWrite]:
    return [event for event in events if isinstance(event, RowWrite)]


class Sink:
    """A ring that checks the order of a ledger's writes, and tallies its events."""

    def __init__(self) -> None:
        self.rows: list[Bar] = []
        self.forming: Bar | None = None
        self.is_recovering = False
        self.tally: Counter[str] = Counter()

    def write(self, events: Sequence[LedgerEvent]) -> None:
        for one in events:
            match one:
                case Anomaly(kind):
                    self.tally[kind] += 1
                case PastFinal():
                    self.tally["late"] += 1  # the ring knows more
                case RowRevised(bar):
                    self.tally["revisions"] += 1
                    self._revise(bar)
                case RecoveringChanged(is_recovering):
                    assert is_recovering is not self.is_recovering
                    self.is_recovering = is_recovering
                case RowWrite(closed, bar, missing):
                    assert bool(bar.flags & AFTER_GAP) is (missing > 0)
                    self.tally["gaps"] += missing
                    self._put(closed, bar)

    def _revise(self, bar: Bar) -> None:
        self.rows = [bar if bar.open_time == r.open_time else r for r in self.rows]

    def take(self, *minutes, price=20.0, now=0.0, may_end=True):
        """Take bars of history, as `HistoryLedger` does."""
        bars = [row(minute, price, BACKFILLED) for minute in minutes]
        events = self.ledger.take_history(bars, now, may_end)
        return writes_of(self._written(events))

    def release(self, *, now=0.0):
        return writes_of(self._written(self.ledger.release(now)))

    def counted(self) -> dict[str, int]:
        return {kind: count for kind, count in self.tally.items() if count}

    def _put(self, closed: bool, bar: Bar) -> None:
        assert not self.rows or bar.open_time > self.rows[-1].open_time
        if not closed:
            assert bar.flags == 0
            self.forming = bar
            return
        assert bar.flags & (
            CLOSED_BY_VENUE | CLOSED_BY_NEXT | CLOSED_BY_CLOCK | BACKFILLED
        )
        self.rows.append(bar)
        if self.forming is not None and self.forming.open_time <= bar.open_time:
            self.forming = None


class Stream:
    """A ledger with its sink, and messages in one line."""

    def __init__(
        self, timeframe: str = "1m", kind: type[Ledger] = Ledger, **arguments
    ) -> None:
        # Most tests let the venue's clock stand still; a bound of theirs wins.
        self.ledger = kind(timeframe, **{"lead_ms": 1 << 60} | arguments)
        self.sink = Sink()

    def say(self, minute, closed, price=10.0, *, now=0.0, venue=EARLY, **other):
        return writes_of(self.apply(event(minute, closed, price, **other), venue, now))

    def apply(self, message: BarEvent, venue: int, now: float) -> list[LedgerEvent]:
        return self._written(self.ledger.apply(message, venue, now))

    def tick(self, *, now=0.0, venue=EARLY):
        return writes_of(self._written(self.ledger.tick(venue, now)))

    def take(self, *minutes, price=20.0, now=0.0, may_end=True):
        """Take bars of history, as `HistoryLedger` does."""
        bars = [row(minute, price, BACKFILLED) for minute in minutes]
        events = self.ledger.take_history(bars, now, may_end)
        return writes_of(self._written(events))

    def release(self, *, now=0.0):
        return writes_of(self._written(self.ledger.release(now)))

    def counted(self) -> dict[str, int]:
        return self.sink.counted()

    def _written(self, events: list[LedgerEvent]) -> list[LedgerEvent]:
        self.sink.write(events)
        assert self.sink.is_recovering is self.ledger.is_recovering
        return events
