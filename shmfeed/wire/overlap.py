"""Two connections that carry the same streams for a while, as one replaces the other.

Both deliver, so that nothing is lost between them, and the ledger takes duplicates. It
cannot see that an update of a forming bar is old if it has neither a number nor a time:
the old connection may deliver it after the new one has delivered a newer one. Such an
update is left out here. A closing message always passes.
"""

from shmfeed.bar import StreamKey
from shmfeed.codecs.interface import BarEvent, Event
from shmfeed.wire.channel import Channel
from shmfeed.wire.events import Received, SessionEvent

# Seconds for which a replaced connection goes on while the new one brings no data.
MOST_OVERLAP = 10.0


class Overlap:
    """The overlap of an old connection and the one that replaces it."""

    def __init__(self, push_interval: float) -> None:
        """`push_interval` is the codec's."""
        self._push_interval = push_interval
        self._newest: dict[StreamKey, int] = {}  # start of the new one's newest bar

    def note(self, batch: list[SessionEvent]) -> None:
        """Take the events of the new connection."""
        for received in batch:
            if isinstance(received, Received):
                for event in received.events:
                    if isinstance(event, BarEvent):
                        key = event.symbol, event.timeframe
                        newest = max(event.open_time, self._newest.get(key, 0))
                        self._newest[key] = newest

    def without_stale(self, batch: list[SessionEvent]) -> list[SessionEvent]:
        """Return the events of the old connection, without its stale updates."""
        for received in batch:
            if isinstance(received, Received):
                kept = [event for event in received.events if not self._is_stale(event)]
                received.events[:] = kept
        return batch

    def is_over(self, old: Channel, new: Channel, now: float) -> bool:
        """Return True if the old connection is not needed any more.

        The overlap is over once the new one brings data and both have run for a push
        interval, in which a venue sends each stream that trades. Where the new one
        brings none, the old one stays for MOST_OVERLAP, or until its venue ends it as
        announced.
        """
        age = new.life(now).seconds
        if new.client.has_data:
            return age > self._push_interval
        return age > MOST_OVERLAP and not old.client.is_going_away

    def _is_stale(self, event: Event) -> bool:
        if not isinstance(event, BarEvent) or event.closed:
            return False
        if event.sequence >= 0 or event.event_time:
            return False  # the ledger knows the order
        newest = self._newest.get((event.symbol, event.timeframe))
        return newest is not None and event.open_time <= newest
