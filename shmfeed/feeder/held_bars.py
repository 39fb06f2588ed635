"""Bars that a ledger holds until all older bars are settled."""

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from shmfeed.bar import Bar
from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder.bar_check import same_values
from shmfeed.feeder.ledger_events import Anomaly

# Bars held. With one more, the ledger stops waiting for the oldest unsettled bar.
HELD_LIMIT = 64


class Heard(NamedTuple):
    """The last message about a bar."""

    event: BarEvent
    stamp: int  # its event time, 0 if it has none that the clock believes
    line: int
    doubt: int  # the lines that may have lost a later message about the bar
    at: float  # when it came, seconds


@dataclass(slots=True)
class HeldBar:
    """A bar that waits; it has flags if it is final."""

    bar: Bar
    heard: Heard
    arrived: float  # the first message about it, seconds


class HeldBars(dict[int, HeldBar]):
    """The held bars of one stream by open time, all newer than its rows.

    They wait for the messages of older bars for `grace` seconds.

    Attributes:
        patience: The seconds for which they wait in all; longer with history.
        until: A time until which they wait in any case, seconds.
    """

    __slots__ = ("_grace", "patience", "until")

    def __init__(self, grace: float) -> None:
        super().__init__()
        self._grace = grace
        self.patience = grace
        self.until = -inf

    def hold(self, bar: Bar, heard: Heard) -> list[Anomaly]:
        """Hold a bar. A final one is replaced only by another final of its line."""
        event = heard.event
        held = self.get(bar.open_time)
        if held is None:
            self[bar.open_time] = HeldBar(bar, heard, heard.at)
            return []
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

    def doubt(self, lines: int) -> None:
        """Record that messages about the bars may be lost on these lines."""
        for held in self.values():
            held.heard = held.heard._replace(doubt=held.heard.doubt | lines)

    def may_wait(self, now: float) -> bool:
        """Return True while the ledger waits for the oldest unsettled bar."""
        if len(self) > HELD_LIMIT:
            return False
        return now < self.until or now < self._since + self.patience

    def is_patient(self, now: float) -> bool:
        """Return True while the awaited messages themselves may still come.

        Of a venue without flags none do: its messages come in order.
        """
        if self[min(self)].heard.event.closed is None:
            return False
        return now < self._since + min(self._grace, self.patience / 2)

    @property
    def _since(self) -> float:
        return min(held.arrived for held in self.values())

    def newer(self) -> list[BarEvent]:
        """Return the last messages about them, oldest bar first."""
        return [self[time].heard.event for time in sorted(self)]
