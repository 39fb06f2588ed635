"""The reason of each stream's health, where several parts of the feeder have one.

The intake knows of dropped messages and mute streams, the repair of warm-up, polling
and closed symbols, the session of refusals. The first of these that holds is published:
closed, refused, dropped, polled, warming, muted.
"""

from typing import Protocol, get_args

from shmfeed.bar import StreamKey
from shmfeed.layout import Reason

_ORDER: tuple[Reason, ...] = (
    "closed",
    "refused",
    "dropped",
    "polled",
    "warming",
    "muted",
)
assert set(_ORDER) == set(get_args(Reason)) - {""}  # noqa: S101 # each has its rank
NOTHING: tuple[Reason, str] = ("", "")


class ReasonMarks(Protocol):
    """The part of a FeedWriter that publishes reasons."""

    def explain(self, key: StreamKey, reason: Reason, text: str) -> None: ...


class Reasons:
    """The reasons of a feed's streams. Only the main loop uses it."""

    def __init__(self, marks: ReasonMarks) -> None:
        self._marks = marks
        self._known: dict[StreamKey, dict[Reason, str]] = {}
        self._published: dict[StreamKey, tuple[Reason, str]] = {}

    def put(self, key: StreamKey, reason: Reason, text: str) -> None:
        """Record that a reason holds, in words. It replaces its former words."""
        self._known.setdefault(key, {})[reason] = text
        self._refresh(key)

    def clear(self, key: StreamKey, reason: Reason) -> None:
        """Record that a reason no longer holds."""
        if self._known.get(key, {}).pop(reason, None) is not None:
            self._refresh(key)

    def forget(self, key: StreamKey) -> None:
        """Drop all reasons of a stream that is no longer carried.

        Its entry in the segment has none either, once it is subscribed again.
        """
        self._known.pop(key, None)
        self._published.pop(key, None)

    def holds(self, key: StreamKey, reason: Reason) -> bool:
        """Return True if this reason holds, published or not."""
        return reason in self._known.get(key, {})

    def words(self, key: StreamKey, reason: Reason) -> str:
        """Return the words of a reason that holds, "" if it does not."""
        return self._known.get(key, {}).get(reason, "")

    def _refresh(self, key: StreamKey) -> None:
        known = self._known[key]
        new = next(((one, known[one]) for one in _ORDER if one in known), NOTHING)
        if new != self._published.get(key, NOTHING):
            self._published[key] = new
            self._marks.explain(key, *new)
