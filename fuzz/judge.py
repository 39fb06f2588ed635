"""What must be true of any message's events, and of what a ledger makes of them."""

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
from shmfeed.feeder.ledger import Counts, Ledger
from shmfeed.validation import check_symbol

EVENTS = (Acknowledged, BarEvent, GoingAway, Heartbeat, Ignored, Malformed, Refused)
LONGEST = 400
MOST_SPOILT = 4


def message_of(data: bytes, known: list[Pairs]) -> bytes:
    """Bytes as they are, or, after a 1, a known message and what is done to it."""
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
        assert "secret-4711" not in event.message
    if isinstance(event, BarEvent):
        check_symbol(event.symbol)
        judge_steps(event)


def judge_steps(event: BarEvent) -> None:
    """Twice, as a venue says it again, and then the clock has its turn."""
    ledger = Ledger(event.timeframe, Counts())
    steps = [*ledger.apply(event, 0, 0.0), *ledger.apply(event, 0, 0.0)]
    steps += ledger.tick(1 << 50, 1e9)
    assert sum(step.closed for step in steps) <= 1
    for _, bar in steps:
        assert on_grid(bar.open_time, event.timeframe)
        assert bar.close_time == close_time(bar.open_time, event.timeframe)
        assert all(map(math.isfinite, bar[2:7]))
        assert bar.low <= min(bar.open, bar.close)
        assert bar.high >= max(bar.open, bar.close)
        assert bar.volume >= 0
