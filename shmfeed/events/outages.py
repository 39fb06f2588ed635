"""Outages of a feed, seen in its status: each is one event, and its end another."""

from collections.abc import Callable, Iterable
from typing import cast

from shmfeed.bar import StreamKey, Timeframe
from shmfeed.events.event import Event, make_event
from shmfeed.holes import Hole
from shmfeed.status import FeedStatus, StreamStatus
from shmfeed.text import counted

# After a start a stream is as old as the feeder was away, until its first message.
START_SECONDS = 15.0

FindHoles = Callable[[StreamKey], Iterable[Hole]]


class Outages:
    """The outages of one feed, from one status to the next.

    What holds at the first status is known already: a start is no outage.
    """

    def __init__(self, find_holes: FindHoles, now: float) -> None:
        self._find_holes = find_holes
        self._started = now
        self._is_first = True
        self._is_error = False
        self._revisions = 0
        self._leader: str | None = None  # the last one that was known
        self._stale: list[set[StreamKey]] = []  # the streams of each outage
        self._gaps: dict[StreamKey, int] = {}  # that are known
        self._new_gaps: dict[StreamKey, int] = {}  # of the last status, not yet told
        self._given_up: set[Hole] = set()

    def look(self, status: FeedStatus, now: float) -> list[Event]:
        """Return the events that this status has and the last one had not."""
        streams = {_key_of(stream): stream for stream in status["streams"]}
        events = [*self._state(status), *self._stale_streams(status, streams, now)]
        events += [*self._missing(streams), *self._revised(status)]
        events += self._leading(status)
        self._is_first = False
        return events

    def _state(self, status: FeedStatus) -> Iterable[Event]:
        state = status["state"]
        if state == "error" and not self._is_error:
            self._is_error = True
            yield make_event("error", status.get("last_error") or "no connection")
        elif state == "connected" and self._is_error:
            self._is_error = False
            yield make_event("recovered", "the feed is connected again")

    def _stale_streams(
        self,
        status: FeedStatus,
        streams: dict[StreamKey, StreamStatus],
        now: float,
    ) -> Iterable[Event]:
        stale = {key for key, one in streams.items() if one["health"] == "stale"}
        for outage in self._stale:
            outage.intersection_update(streams)  # the others are no longer carried
        for outage in [one for one in self._stale if not one & stale]:
            self._stale.remove(outage)
            if outage:
                fresh = sorted(outage)
                text = f"{counted(len(fresh), 'stream')} fresh again"
                yield make_event("fresh", text, fresh)
        new = stale.difference(*self._stale)
        if not new or now - self._started < START_SECONDS:
            return
        if self._stale and status["state"] != "connected":
            self._stale[-1] |= new  # the same connection is away
            return
        self._stale.append(new)
        first = min(new)
        text = f"{counted(len(new), 'stream')} stale: {' '.join(first)}"
        why = streams[first]["why"]
        yield make_event("stale", f"{text}: {why}" if why else text, sorted(new))

    def _missing(self, streams: dict[StreamKey, StreamStatus]) -> Iterable[Event]:
        counts = {key: one["gaps"] for key, one in streams.items()}
        if self._is_first:
            self._gaps = counts
        grown = {k: n for k, n in counts.items() if n > self._gaps.get(k, 0)}
        given_up = self._find_given_up([key for key, n in counts.items() if n])
        # History may fill a new hole at once.
        final = {_stream_of(hole) for hole in given_up - self._given_up}
        lasting = sorted(grown.keys() & (self._new_gaps.keys() | final))
        self._new_gaps = grown
        told = {key: counts[key] for key in lasting}
        if told:
            missing = sum(n - self._gaps.get(key, 0) for key, n in told.items())
            verb = "is" if missing == 1 else "are"
            text = f"{counted(missing, 'bar')} of {counted(len(told), 'stream')} {verb}"
            yield make_event("gap", f"{text} missing", lasting)
        for key, count in counts.items():
            self._gaps[key] = min(count, told.get(key, self._gaps.get(key, 0)))
        yield from self._giving_up(given_up)

    def _find_given_up(self, keys: list[StreamKey]) -> set[Hole]:
        holes = (hole for key in keys for hole in self._find_holes(key))
        return {hole for hole in holes if hole.state == "given_up"}

    def _giving_up(self, holes: set[Hole]) -> Iterable[Event]:
        new = holes - self._given_up
        self._given_up = holes
        if new and not self._is_first:
            missing = sum(hole.missing for hole in new)
            reason = max(new, key=lambda hole: hole.last).reason
            named = sorted({_stream_of(hole) for hole in new})
            text = f"{counted(missing, 'bar')} given up: {reason}"
            yield make_event("gap_given_up", text, named)

    def _revised(self, status: FeedStatus) -> Iterable[Event]:
        revisions, before = status["revisions"], self._revisions
        self._revisions = revisions
        if revisions > before and not self._is_first:
            bars = counted(revisions - before, "closed bar")
            yield make_event("revised", f"{bars} revised; see `shmfeed asof`")

    def _leading(self, status: FeedStatus) -> Iterable[Event]:
        relay = status["relay"]
        leader = relay["leader"] if relay is not None else None
        if leader is None:  # between two leaders, or the publisher is away
            return
        before, self._leader = self._leader, leader
        if before not in (None, leader):
            yield make_event("leader", f"the leader is {leader}, it was {before}")


def _stream_of(hole: Hole) -> StreamKey:
    return hole.symbol, hole.timeframe


def _key_of(stream: StreamStatus) -> StreamKey:
    return stream["symbol"], cast("Timeframe", stream["timeframe"])
