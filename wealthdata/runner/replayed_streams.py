"""The streams that a replay follows: the events that each of its moments has brought.

A moment names the streams whose rows have changed, and only these are looked at, with
those that are still in trouble since a connection ended. So the cost of a replay
follows its bars, not the number of its streams.
"""

from collections.abc import Iterable, Sequence

from shmfeed.bar import StreamKey
from wealthdata.events import Closed, Health
from wealthdata.followed_stream import FollowedStream
from wealthdata.handed import TaskRecord
from wealthdata.runner.private_feed import Moment
from wealthdata.runner.steps import Event

Found = list[tuple[int, Event | Closed]]  # by the stream's place


class ReplayedStreams:
    """The followed streams of a replay, in the order of `follow`.

    Args:
        streams: The streams, each with its ring.
        record: The task's record.
        start: The time at which the recording begins, ms UTC.
    """

    def __init__(
        self, streams: Sequence[FollowedStream], record: TaskRecord, start: int
    ) -> None:
        self._streams = streams
        self._record = record
        self._places: dict[tuple[str, StreamKey], list[int]] = {}
        self._troubled: set[int] = set()  # their health is known to be not live
        self._lived: set[int] = set()  # live once
        for place, stream in enumerate(streams):
            record.forget(stream.id)  # an earlier replay may have played it
            stream.begin(record, start)
            source = stream.id[0], stream.source_key
            self._places.setdefault(source, []).append(place)

    def hand_over(self, feed: str, moment: Moment) -> list[Event | Closed]:
        """Return the events of a moment of a feed, in order; the task has had them.

        The way of a stream to its first `live` is no event.
        """
        found = self._find(feed, moment)
        if len(found) > 1:
            found.sort(key=lambda one: self._streams[one[0]].instant(one[1]))
        events: list[Event | Closed] = []
        for place, event in found:
            self._streams[place].hand_over(event, self._record)
            if not isinstance(event, Health) or self._is_change(place, event):
                events.append(event)
        return events

    def _find(self, feed: str, moment: Moment) -> Found:
        if moment.has_reconnected:
            places: Iterable[int] = range(len(self._streams))
        else:
            places = self._changed(feed, moment.streams)
        found: Found = [
            (place, event)
            for place in places
            for event in self._streams[place].look()
            # By this host's clock a stream may be quiet while a handler runs.
            if moment.has_reconnected
            or not isinstance(event, Health)
            or event.new == "live"
        ]
        return found

    def _changed(self, feed: str, streams: Iterable[StreamKey]) -> list[int]:
        """Return the places of the streams to look at, in order; [] without rows."""
        places = {
            place
            for stream in streams
            for place in self._places.get((feed, stream), ())
        }
        return sorted(places | self._troubled) if streams else []

    def _is_change(self, place: int, event: Health) -> bool:
        """Return True unless the stream is still on its way to its first `live`."""
        has_lived = place in self._lived
        if event.new == "live":
            self._lived.add(place)
            self._troubled.discard(place)
        else:
            self._troubled.add(place)
        return has_lived
