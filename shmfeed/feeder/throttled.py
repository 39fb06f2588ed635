"""Warnings about messages, at a limited rate and with a count."""

import logging

from shmfeed.codecs.interface import BarEvent

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 10.0


class ThrottledWarning:
    """A warning that is logged at most once each `LOG_EVERY_SECONDS`, with a count."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._count = 0
        self._next = 0.0

    def add(self, detail: str, now: float, count: int = 1) -> str:
        """Count an occurrence. Log it if the last log line is old enough.

        Return what was logged, "" if nothing was.
        """
        self._count += count
        if now < self._next:
            return ""
        self._next = now + LOG_EVERY_SECONDS
        said = f"{self._subject} ({self._count} so far): {detail}"
        log.warning(said)
        return said


def describe_bar(reason: str, event: BarEvent) -> str:
    prices = event.open, event.high, event.low, event.close, event.volume
    values = " ".join(f"{price:g}" for price in prices)
    return (
        f"{reason}: {event.symbol} {event.timeframe} {event.open_time} to"
        f" {event.close_time}, open high low close volume {values}"
    )
