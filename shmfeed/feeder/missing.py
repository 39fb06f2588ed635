"""Missing bars: one line of the log for all streams of an outage.

The line has what is new; the status says how many are missing in all.

A throttled warning would name the first stream and leave out the others.
"""

import logging
from collections import Counter

from shmfeed.bar import StreamKey
from shmfeed.feeder.throttled import LOG_EVERY_SECONDS
from shmfeed.text import counted

log = logging.getLogger(__name__)

GATHER_SECONDS = 1.0  # the streams of a feed do not lose their bars at one instant
_NAMED_STREAMS = 8


class MissingBars:
    """The missing bars that the log has not named yet, by stream.

    An outage takes bars of all streams. They come in one line, which nothing is left
    out of but names, at most once each `LOG_EVERY_SECONDS`.
    """

    def __init__(self) -> None:
        self._pending: Counter[StreamKey] = Counter()
        self._due = 0.0  # of what is pending
        self._next = 0.0

    def add(self, key: StreamKey, missing: int, now: float) -> None:
        """Count bars that are missing of a stream."""
        if not self._pending:
            self._due = max(now + GATHER_SECONDS, self._next)
        self._pending[key] += missing

    def log(self, now: float) -> None:
        """Log what is pending, if it is time to."""
        if not self._pending or now < self._due:
            return
        self._next = now + LOG_EVERY_SECONDS
        named = [
            f"{missing} of {symbol} {timeframe}"
            for (symbol, timeframe), missing in self._pending.most_common(
                _NAMED_STREAMS
            )
        ]
        others = len(self._pending) - len(named)
        more = f", and of {counted(others, 'more stream')}" if others else ""
        self._pending.clear()
        log.warning("bars are missing: %s%s", ", ".join(named), more)
