"""The pace of events: those of one outage become one, and a flood becomes a few."""

from shmfeed.events.event import Event

GATHER_SECONDS = 1.0  # the streams of an outage are not hit at one instant
BURST = 5  # events of one kind that are told at once
EVERY_SECONDS = 60.0  # after a burst, one of each kind


class _Kind:
    """The events of one kind that wait, as one, and how many may be told at once."""

    def __init__(self, now: float) -> None:
        self.waiting: Event | None = None
        self.since = self.due = 0.0
        self._left, self._at = float(BURST), now

    def add(self, event: Event, now: float) -> None:
        if self.waiting is not None:
            self.waiting = self.waiting.join(event)
            return
        self._refill(now)
        rest = max(0.0, 1.0 - self._left) * EVERY_SECONDS
        self.waiting, self.since = event, now
        self.due = now + max(GATHER_SECONDS, rest)

    def take(self, now: float) -> Event | None:
        if self.waiting is None or now < self.due:
            return None
        event, self.waiting = self.waiting, None
        self._refill(now)
        self._left -= 1
        return event

    def _refill(self, now: float) -> None:
        self._left = min(BURST, self._left + (now - self._at) / EVERY_SECONDS)
        self._at = now


class Pace:
    """The events of one feed that wait until they may be told."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def add(self, event: Event, now: float) -> None:
        """Let an event wait; it joins one of its kind that waits already."""
        self._kinds.setdefault(event.event, _Kind(now)).add(event, now)

    def take(self, now: float) -> list[Event]:
        """Return the events that may be told now, the oldest first.

        At the end of the feeder `now` may be infinite: all are told.
        """
        waiting = sorted(self._kinds.values(), key=lambda kind: kind.since)
        taken = [kind.take(now) for kind in waiting]
        return [event for event in taken if event is not None]
