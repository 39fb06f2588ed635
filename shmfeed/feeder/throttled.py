"""Messages that change nothing: counted, and logged at a limited rate."""

import logging
from collections import Counter

from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder.stream import AHEAD
from shmfeed.writer import FeedWriter

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 10.0
MOST_TEXTS = 1000  # different ones that are remembered


class ThrottledWarning:
    """A warning that is logged at most once each `LOG_EVERY_SECONDS`, with a count.

    With `is_minor` it is logged at DEBUG: an operator need not act on it.
    """

    def __init__(self, subject: str, *, is_minor: bool = False) -> None:
        self._subject = subject
        self._is_minor = is_minor
        self._count = 0
        self._next = 0.0

    def add(self, detail: str, now: float, count: int = 1) -> str:
        """Count an occurrence. Log it if the last log line is old enough.

        Return the logged text, "" if nothing was logged.
        """
        self._count += count
        if now < self._next:
            return ""
        self._next = now + LOG_EVERY_SECONDS
        said = f"{self._subject} ({self._count} so far): {detail}"
        if self._is_minor:
            log.debug(said)
        else:
            log.warning(said)
        return said


class SeenTexts:
    """The texts that have come before, as far as they are remembered."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def is_new(self, text: str) -> bool:
        """Remember a text. Return True if it is not known from before."""
        if text in self._seen:
            return False
        if len(self._seen) >= MOST_TEXTS:
            self._seen.clear()
        self._seen.add(text)
        return True


class DropAccount:
    """An account of the messages that are not in a feed's counters yet.

    Attributes:
        counts: The number of messages by counter.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._faults: list[tuple[str, BarEvent]] = []  # not logged yet
        self._malformed = ThrottledWarning("malformed message")

    def add(self, counter: str, reason: str, event: BarEvent) -> None:
        """Count a bar. A malformed one is logged with its reason."""
        self.counts[counter] += 1
        if counter == "malformed":
            self._faults.append((reason, event))

    def add_unreadable(self, reason: str, now: float) -> None:
        """Count a message that could not be read."""
        self.counts["malformed"] += 1
        self._malformed.add(reason, now)

    def write(self, writer: FeedWriter, now: float) -> str:
        """Write the counters. Return the text about a bar from the future, or ""."""
        for counter, count in self.counts.items():
            writer.count(counter, count)
        self.counts.clear()
        if not self._faults:
            return ""
        reason, event = self._faults[-1]
        number = len(self._faults)
        self._faults.clear()
        said = self._malformed.add(describe_bar(reason, event), now, number)
        return said if reason == AHEAD else ""


def describe_bar(reason: str, event: BarEvent) -> str:
    prices = event.open, event.high, event.low, event.close, event.volume
    values = " ".join(f"{price:g}" for price in prices)
    return (
        f"{reason}: {event.symbol} {event.timeframe} {event.open_time} to"
        f" {event.close_time}, open high low close volume {values}"
    )
