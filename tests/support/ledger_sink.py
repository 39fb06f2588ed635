"""What a ring is to a ledger: it takes steps, and must never be given some."""

from shmfeed.bar import CLOSED_BY_CLOCK, CLOSED_BY_NEXT, CLOSED_BY_VENUE, Bar
from shmfeed.feeder.ledger import Step


class Sink:
    def __init__(self) -> None:
        self.rows: list[Bar] = []
        self.forming: Bar | None = None

    def write(self, steps: list[Step]) -> None:
        for closed, bar in steps:
            assert not self.rows or bar.open_time > self.rows[-1].open_time
            if not closed:
                assert bar.flags == 0
                self.forming = bar
                continue
            assert bar.flags & (CLOSED_BY_VENUE | CLOSED_BY_NEXT | CLOSED_BY_CLOCK)
            self.rows.append(bar)
            if self.forming is not None and self.forming.open_time <= bar.open_time:
                self.forming = None
