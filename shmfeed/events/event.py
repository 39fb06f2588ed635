"""One event of a feed, and its JSON."""

import json
import time
from collections.abc import Sequence
from typing import NamedTuple

from shmfeed.bar import StreamKey

# Those of a feeder, and behind them those of a manager.
EVENTS = (
    *("error", "recovered", "stale", "fresh", "gap", "gap_given_up", "refused"),
    *("revised", "store", "clock", "rest_blocked", "restarted", "leader"),
    *("dead", "crash_loop"),
)
MOST_CHARACTERS = 2000  # of a message


class Event(NamedTuple):
    """An event of a feed, in words, with the streams that it concerns.

    Attributes:
        event: One of EVENTS.
        message: The words; they hold no secret.
        streams: The streams that it concerns, () for the feed.
        time_ns: When it happened, ns since 1970.
        times: The number of events that are told as this one.
    """

    event: str
    message: str
    streams: tuple[StreamKey, ...]
    time_ns: int
    times: int = 1

    def join(self, later: "Event") -> "Event":
        """Return this event and a later one of its kind as one."""
        streams = tuple(dict.fromkeys(self.streams + later.streams))
        times = self.times + later.times
        return self._replace(message=later.message, streams=streams, times=times)


def make_event(event: str, message: str, streams: Sequence[StreamKey] = ()) -> Event:
    """Return an event of this moment."""
    return Event(event, message[:MOST_CHARACTERS], tuple(streams), time.time_ns())


def encode_event(feed: str, event: Event) -> bytes:
    """Return the JSON object that a receiver is given, in UTF-8."""
    values: dict[str, object] = {
        "feed": feed,
        "event": event.event,
        "time": _utc(event.time_ns),
        "message": event.message,
    }
    if event.streams:
        values["streams"] = [" ".join(key) for key in event.streams]
    if event.times > 1:
        values["times"] = event.times
    return json.dumps(values).encode()


def _utc(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{rest // 1_000_000:03d}Z"
