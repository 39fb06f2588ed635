"""Limit the silence after which a connection that brings no bar is given up.

The limit follows the venue's push rate, whatever the timeframes are: a mute connection
that carries bars of a day is noticed within half a minute. A quiet market looks the
same, so each connection that ends for silence without having brought a bar doubles the
limit, up to the silence after which its most frequent stream is stale. Once bars have
come steadily for ten minutes, the limit is as at first. No I/O.
"""

import math
from typing import Protocol

from shmfeed.bar import StreamKey, stale_after

LEAST_SECONDS = 30.0
PUSH_INTERVALS = 10
STEADY_SECONDS = 600.0


def least_limit(push_interval: float) -> float:
    """Return the seconds without a bar that a venue of this push rate may take."""
    return max(LEAST_SECONDS, PUSH_INTERVALS * push_interval)


class SilenceSettings(Protocol):
    """The setting `data_timeout`, in seconds; None for a limit by the push rate."""

    @property
    def data_timeout(self) -> float | None: ...


class SilenceWatch:
    """The limit of silence of one chain of connections.

    Attributes:
        limit: Seconds without a bar after which the connection has failed.
    """

    def __init__(self, settings: SilenceSettings, push_interval: float) -> None:
        self.settings = settings
        self.limit = math.inf
        self._push_interval = push_interval
        self._streams: tuple[StreamKey, ...] = ()
        self._factor = 1.0
        self._steady_since = math.inf

    def carry(self, streams: tuple[StreamKey, ...]) -> None:
        """Set the limit for these streams. Without streams no limit holds."""
        self._streams = streams
        given = self.settings.data_timeout
        if not streams:
            self.limit = math.inf
        elif given is not None:
            self.limit = given
        else:
            least = least_limit(self._push_interval)
            most = min(stale_after(timeframe) for _, timeframe in streams)
            self.limit = min(max(least, most), least * self._factor)

    def observe(self, silence: float, now: float) -> None:
        """Take the present silence; call it often while a connection is up."""
        if self._factor == 1.0:
            return
        if silence > LEAST_SECONDS / 2:
            self._steady_since = math.inf
        elif self._steady_since == math.inf:
            self._steady_since = now
        elif now - self._steady_since > STEADY_SECONDS:
            self._factor, self._steady_since = 1.0, math.inf
            self.carry(self._streams)

    def ended(self, *, had_data: bool) -> None:
        """Record that a connection ended for silence."""
        self._steady_since = math.inf
        if not had_data and self._factor < 1 << 30:
            self._factor *= 2
            self.carry(self._streams)
