"""A stream's ledger, spoken to in one line a message."""

import math

from shmfeed.bar import CLOSED_BY_NEXT, UNCONFIRMED, Bar
from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder.ledger import Counts, Ledger, Step

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


def told(steps: list[Step]) -> list[tuple[str, int, float, int]]:
    """Steps as short tuples: what, which minute, its price, its flags."""
    return [
        (
            "row" if step.closed else "forming",
            (step.bar.open_time - START) // MINUTE,
            step.bar.close,
            step.bar.flags,
        )
        for step in steps
    ]


class Stream:
    """A ledger with its counts, and messages told in one line."""

    def __init__(self, **arguments) -> None:
        self.counts = Counts()
        self.ledger = Ledger("1m", self.counts, **arguments)

    def say(self, minute, closed, price=10.0, *, now=0.0, venue=EARLY, **other):
        return told(
            self.ledger.apply(event(minute, closed, price, **other), venue, now)
        )

    def tick(self, *, now=0.0, venue=EARLY):
        return told(self.ledger.tick(venue, now))

    def counted(self) -> dict[str, int]:
        names = ("malformed", "late", "duplicates", "revisions", "gaps")
        return {n: getattr(self.counts, n) for n in names if getattr(self.counts, n)}
