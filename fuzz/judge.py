"""The properties of any message's events, and of a ledger's writes for them."""

import math

from support.spoiling import HOW, ODD, Mutation, Pairs, spoil

from shmfeed.bar import close_time, on_grid
from shmfeed.codecs.interface import (
    Acknowledged,
    BarEvent,
    Event,
    GoingAway,
    Heartbeat,
    Ignored,
    Malformed,
    Refused,
)
from shmfeed.feeder.ledger import Ledger
from shmfeed.feeder.ledger_events import RowWrite
from shmfeed.validation import check_symbol

EVENTS = (Acknowledged, BarEvent, GoingAway, Heartbeat, Ignored, Malformed, Refused)
LONGEST = 400
MOST_SPOILT = 4


def message_of(data: bytes, known: list[Pairs]) -> bytes:
    """Return the bytes as they are, or, after a 1, a known message spoilt by them."""
    if data[:1] != b"\1":
        return data
    chosen, *rest = data[1:] or b"\0"
    spoilt = [
        Mutation(HOW[how % len(HOW)], place, odd % len(ODD))
        for how, place, odd in zip(rest[::3], rest[1::3], rest[2::3], strict=False)
    ]
    return spoil(known[chosen % len(known)], spoilt[:MOST_SPOILT])


def judge(events: tuple[Event, ...]) -> None:
    (event,) = events
    assert isinstance(event, EVENTS)
    if isinstance(event, Refused):
        assert len(event.message) <= LONGEST
        assert event.message.isprintable()
        assert "secret-4711" not in event.message + event.symbol
    if isinstance(event, BarEvent):
        check_symbol(event.symbol)
        judge_writes(event)


def judge_writes(event: BarEvent) -> None:
    """Apply the event twice, as if a venue repeats it, then let the clock close it."""
    ledger = Ledger(event.timeframe, lead_ms=1 << 60)
    events = [*ledger.apply(event, 0, 0.0), *ledger.apply(event, 0, 0.0)]
    events += ledger.tick(1 << 50, 1e9)
    writes = [one for one in events if isinstance(one, RowWrite)]
    assert sum(write.closed for write in writes) <= 1
    for bar in (write.bar for write in writes):
        assert on_grid(bar.open_time, event.timeframe)
        assert bar.close_time == close_time(bar.open_time, event.timeframe)
        assert all(map(math.isfinite, bar[2:7]))
        assert bar.low <= min(bar.open, bar.close)
        assert bar.high >= max(bar.open, bar.close)
        assert bar.volume >= 0
