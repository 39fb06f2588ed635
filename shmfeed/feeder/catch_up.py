"""Messages that a second connection brought before this feeder took the feed.

The former feeder has had most of them, and some that are older. Each message is
therefore compared with the newest bar that the former feeder knew of its stream:

- Its own message is found among the held ones by its values. What came before it is
  skipped, and what came after it is applied.
- If it is not found, it came before the connection did, or by the other connection
  alone. Then a message is skipped if it is older by bar, event time or volume.

A closing message for an older bar is applied where no later one about that bar is held:
it repeats the row, or revises it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from msgspec.structs import replace

from shmfeed.bar import Bar, StreamKey
from shmfeed.codecs.interface import BarEvent, Event
from shmfeed.feeder.ledger_events import CarriedLedger
from shmfeed.feeder.stream import StreamState
from shmfeed.wire.events import Received

Find = Callable[[BarEvent], StreamState | None]
Take = Callable[[Sequence[Event], int, int], None]
Carried = Mapping[StreamKey, CarriedLedger]
Skip = Callable[[BarEvent, StreamKey, int], None]

CARRIED = -1  # the connection of messages that the former feeder held


class _Newest(NamedTuple):
    """The newest bar that the former feeder knew of a stream."""

    open_time: int
    values: tuple[float, float, float, float, float]
    stamp: int
    is_closed: bool

    def is_of(self, event: BarEvent) -> bool:
        """Return True if the bar may have its values of this message."""
        if event.open_time != self.open_time or (event.closed and not self.is_closed):
            return False
        return _values_of(event) == self.values


class CatchUp:
    """The catching up of one feeder. Use it once.

    `find` returns the stream of a message, `take` applies messages of a connection and
    line, and `skip` only notes the number of one.
    """

    def __init__(self, find: Find, take: Take, skip: Skip) -> None:
        self._find = find
        self._take = take
        self._skip = skip
        self._newest: dict[StreamKey, _Newest] = {}
        self._matches: dict[StreamKey, int] = {}  # places of those bars' messages
        self._finals: dict[tuple[StreamKey, int], int] = {}  # of the last about a bar
        self._count = 0  # messages that were looked at

    def resume(
        self,
        streams: Mapping[StreamKey, StreamState],
        carried: Carried,
        held: Iterable[Received],
    ) -> Self:
        """Let the streams go on where the former feeder left them.

        `held` are the messages to come, in their order. Of a stream that is not among
        `carried` it is not known whether its forming bar lacks messages, unless the
        newest one of the former feeder is held.
        """
        for key, stream in streams.items():
            newest = _newest_of(stream, carried.get(key))
            if newest is not None:
                self._newest[key] = newest
        self._find_matches(held)
        for key, stream in streams.items():
            ledger = carried.get(key)
            if ledger is not None:
                stream.ledger.resume(ledger)
                # Their numbers are of another connection.
                events = [replace(event, sequence=-1) for event in ledger.held]
                if events:
                    self._take(events, CARRIED, 0)
            elif key in self._matches:
                own = stream.ledger.carry()
                stream.ledger.resume(own._replace(is_doubtful=False))
        return self

    def take(self, received: Received) -> None:
        """Apply those of these messages that the former feeder has not had.

        Call it for each of the held ones, in their order.
        """
        fresh: list[Event] = []
        for event in received.events:
            if type(event) is BarEvent:
                self._count += 1
                stream = self._find(event)
                if stream is not None and self._is_known(event, stream.key):
                    self._skip(event, stream.key, received.connection)
                    continue
            fresh.append(event)
        if fresh:
            self._take(fresh, received.connection, received.line)

    def _find_matches(self, held: Iterable[Received]) -> None:
        count = 0
        for event in (event for received in held for event in received.events):
            if type(event) is not BarEvent:
                continue
            count += 1
            stream = self._find(event)
            newest = None if stream is None else self._newest.get(stream.key)
            if stream is None or newest is None:
                continue
            if event.closed:
                self._finals[stream.key, event.open_time] = count
            if newest.is_of(event):
                self._matches[stream.key] = count

    def _is_known(self, event: BarEvent, key: StreamKey) -> bool:
        newest = self._newest.get(key)
        if newest is None or event.open_time > newest.open_time:
            return False
        match = self._matches.get(key)
        if match is not None and self._count <= match:
            return True
        if event.open_time < newest.open_time:
            last = self._finals.get((key, event.open_time))
            return not event.closed or self._count != last
        if match is not None:
            return False
        if event.event_time and newest.stamp:
            return event.event_time < newest.stamp
        return event.volume < newest.values[4]


def _newest_of(stream: StreamState, carried: CarriedLedger | None) -> _Newest | None:
    stamp = 0 if carried is None else carried.stamp
    if carried is not None and carried.held:
        event = carried.held[-1]
        is_closed = bool(event.closed)
        return _Newest(event.open_time, _values_of(event), event.event_time, is_closed)
    reader = stream.ring.reader
    forming = reader.forming()
    bar: Bar | None = forming or reader.last_closed()
    if bar is None:
        return None
    values = bar.open, bar.high, bar.low, bar.close, bar.volume
    return _Newest(bar.open_time, values, stamp, forming is None)


def _values_of(event: BarEvent) -> tuple[float, float, float, float, float]:
    return event.open, event.high, event.low, event.close, event.volume
