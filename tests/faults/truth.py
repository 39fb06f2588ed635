"""The state that a feed must have, in plain lists and numbers, after each command.

One `Truth` for each segment. A command that a death interrupts has several possible
outcomes, and all are tried; nothing else is guessed.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from shmfeed.bar import Bar, StreamKey, close_time

SECOND = 1_000_000_000
DEAD = 2 * SECOND
HEALTHS = ("live", "quiet", "recovering", "waiting", "stale")
LENGTHS = {"1m": 60, "1h": 3600, "1M": 30 * 86400}


# The health of a feed that carries nothing, by its state; in any other it is stale.
WITHOUT_STREAMS = {
    "connected": "quiet",
    "connecting": "recovering",
    "reconnecting": "recovering",
}


@dataclass
class Stream:
    """Row number `base` is the oldest that may be seen, `closed` all from number 0."""

    timeframe: str
    closed: list[Bar] = field(default_factory=list)
    base: int = 0
    forming: Bar | None = None
    subscribed: bool = True
    recovering: bool = False
    away: bool = False  # its connection is
    generation: int = 0  # raised by each swap
    torn: bool = False  # a row may have been begun behind the last
    since: int = 0
    updated: int = 0

    @property
    def count(self) -> int:
        return len(self.closed)

    def last(self, n: int, history: int) -> list[Bar]:
        return self.closed[max(self.base, self.count - min(n, history)) :]

    def last_closed(self) -> Bar | None:
        return self.closed[-1] if self.count > self.base else None

    def unfinished(self) -> Bar | None:
        """Return the forming bar, if it is newer than the last closed one."""
        last = self.last_closed()
        if self.forming is None or last is None:
            return self.forming
        return self.forming if self.forming.open_time > last.open_time else None

    def next_open(self, steps: int) -> int:
        last = self.last_closed()
        time = last.close_time if last else 0
        for _ in range(steps - 1):
            time = close_time(time, self.timeframe)
        return time

    def health(self, now: int) -> str:
        length = LENGTHS[self.timeframe] * SECOND
        silent = now - max(self.updated, self.since) > max(3 * length, 30 * SECOND)
        if (self.recovering or self.away) and not silent:
            return "recovering"
        if not self.updated and self.last_closed() is None:
            return "waiting"
        if silent:
            return "stale"
        recent = self.updated and now - self.updated <= length + 2 * SECOND
        return "live" if recent else "quiet"


@dataclass
class Truth:
    """A segment: its sizes, its streams by entry, its writer's heartbeats.

    `entries` has the key of each entry, None for one whose giver died while it gave the
    entry to another stream.
    """

    history: int
    guard: int
    max_streams: int
    entries: list[StreamKey | None] = field(default_factory=list)
    known: dict[StreamKey, Stream] = field(default_factory=dict)
    given_away: dict[StreamKey, int] = field(default_factory=dict)  # last generations
    state: str = "connected"
    alive: int = 0
    tick: int = 0
    retired: bool = False
    bars: int = 0  # the feed's counter: of what was closed since its first segment

    @property
    def geometry(self) -> tuple[int, int, int]:
        return self.history, self.guard, self.max_streams

    @property
    def capacity(self) -> int:
        return self.history + self.guard

    @property
    def streams(self) -> dict[StreamKey, Stream]:
        """All streams that have an entry, in the order of the entries."""
        return {key: self.known[key] for key in self.entries if key}

    @property
    def displaced(self) -> StreamKey | None:
        """The stream whose entry the next new stream takes."""
        left = [key for key, one in self.streams.items() if not one.subscribed]
        if None in self.entries or len(self.entries) < self.max_streams:
            return None
        return min(left, key=lambda key: self.known[key].since, default=None)

    def has_room_for(self, key: StreamKey) -> bool:
        full = None not in self.entries and len(self.entries) == self.max_streams
        return key in self.streams or not full or self.displaced is not None

    def lives(self, now: int) -> bool:
        return now - self.tick <= DEAD or now - self.alive <= DEAD

    def stream_health(self, stream: Stream, now: int) -> str:
        if not self.lives(now):
            return "dead"
        if now - self.tick > 5 * SECOND:
            return "stale"
        return stream.health(now) if stream.subscribed else "stale"

    def health(self, now: int) -> str:
        if not self.lives(now):
            return "dead"
        if now - self.tick > 5 * SECOND:
            return "stale"
        found = [s.health(now) for s in self.streams.values() if s.subscribed]
        alone = WITHOUT_STREAMS.get(self.state, "stale")
        return max(found, key=HEALTHS.index, default=alone)

    def taken(self, now: int) -> None:
        """Return this segment after a writer took it, reused or new."""
        self.alive = self.tick = now
        self.state = "connected"
        for stream in self.streams.values():
            stream.recovering = stream.away = False

    def replaced(self, geometry: tuple[int, int, int], now: int) -> "Truth":
        """Return the segment of another geometry that gets this one's bars."""
        new = Truth(*geometry, bars=self.bars)
        carried = [one for one in self.streams.items() if one[1].subscribed]
        for key, old in carried[: new.max_streams]:
            stream = copy.deepcopy(old)
            stream.base = max(old.base, old.count - self.history)
            stream.forming = old.unfinished()
            stream.torn = False
            stream.since = now
            new.known[key] = stream
            new.entries.append(key)
        new.taken(now)
        return new

    def outcomes(self, op: str, arguments: list[Any], now: int) -> Iterator["Truth"]:
        """Yield the state after each part of a command: first none of it, last all."""
        yield copy.deepcopy(self)
        after = copy.deepcopy(self)
        for _ in after.parts(op, arguments, now):
            yield copy.deepcopy(after)

    def apply(self, op: str, arguments: list[Any], now: int) -> None:
        for _ in self.parts(op, arguments, now):
            pass

    def parts(self, op: str, arguments: list[Any], now: int) -> Iterator[None]:
        if op == "append":
            key, bars = arguments
            for bar in bars:
                self._close(self.streams[key], bar, now)
                yield
        elif op == "update":
            key, bar = arguments
            self.streams[key].forming = bar
            self.streams[key].updated = self.tick = now
        elif op == "replace":
            key, bars = arguments
            self._replace(self.streams[key], bars)
        elif op == "beat":
            self.alive = self.tick = now
        elif op == "add_stream":
            yield from self._add(tuple(arguments), now)
        elif op == "unsubscribe":
            self.streams[tuple(arguments)].subscribed = False
            self.streams[tuple(arguments)].since = now
        elif op == "recover":
            self.streams[arguments[0]].recovering = arguments[1]
        elif op == "state":
            self._set_state(arguments[0])
        elif op == "close":
            self.state, self.alive, self.tick = "disconnected", 0, 0
            self.retired = arguments[0]
        else:
            raise AssertionError(op)
        yield

    def _set_state(self, state: str) -> None:
        if state != self.state:
            self.state = state
            for stream in self.streams.values():
                stream.away = state != "connected"

    def _close(self, stream: Stream, bar: Bar, now: int) -> None:
        stream.forming = stream.unfinished()
        stream.closed.append(bar)
        stream.torn = False
        self.bars += 1
        stream.updated = self.tick = now

    def _replace(self, stream: Stream, bars: list[Bar]) -> None:
        oldest = max(stream.base, stream.count - self.capacity)
        known = {bar.open_time for bar in stream.closed[oldest:]}
        kept = bars[-self.history :]
        count = stream.count + len({bar.open_time for bar in kept} - known)
        stream.base = count - len(kept)
        stream.closed = [kept[0]] * stream.base + kept
        stream.generation += 1
        stream.torn = False

    def _add(self, key: StreamKey, now: int) -> Iterator[None]:
        if stream := self.streams.get(key):
            if not stream.subscribed:
                stream.subscribed, stream.since = True, now
                stream.recovering, stream.away = False, self.state != "connected"
            return
        if displaced := self.displaced:
            self.given_away[displaced] = self.known[displaced].generation
            self.entries[self.entries.index(displaced)] = None
            yield
        generation = self.given_away.get(key, -1) + 1
        away = self.state != "connected"
        self.known[key] = Stream(key[1], since=now, generation=generation, away=away)
        if None in self.entries:
            self.entries[self.entries.index(None)] = key
        else:
            self.entries.append(key)
