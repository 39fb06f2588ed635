"""WANTS: the streams that runs, managers and leases want; the feed carries the union.

A claimant is the feeder's own list, a manager, or a lease of a strategy. The wants of a
manager or a lease belong to its connection to the feeder, which ends with its process,
however that ends. They then linger: their streams stay for a while, so that a manager
that starts again, or a lease after a restart of the feeder, finds them. Wants that
linger keep streams, but not the feeder.

A manager that holds no connection, one of an earlier version, is judged by its process.
"""

import time
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

from shmfeed.control.peer import Peer
from shmfeed.settings.model import Settings
from shmfeed.wire.events import Streams

Kind = Literal["run", "manager", "lease"]
RETURN_SECONDS = 10.0  # after a feeder's start, for an earlier feeder's claimants


@dataclass(slots=True)
class Claimant:
    """A run, a manager or a lease, as the feeder knows it.

    Attributes:
        kind: run, manager or lease.
        name: The name that it has given; by default its process's command.
        process: Its process.
        since: When it came, ms UTC.
        linger: Seconds for which its streams stay after its connection has ended.
        streams: The streams that it wants.
        connection: The number of the connection that it holds; 0 for none.
        ends_at: When its streams are let go, in seconds of `boot_seconds`; None while
            it is there.
        returns_by: Until then a claimant that an earlier feeder had may come back, and
            counts as being there.
    """

    kind: Kind
    name: str
    process: Peer
    since: int
    linger: float
    streams: Streams = ()
    connection: int = 0
    ends_at: float | None = None
    returns_by: float = 0.0

    @classmethod
    def new(cls, kind: Kind, name: str, process: Peer, settings: Settings) -> Self:
        """Return a claimant that has just come."""
        linger = settings.lease_linger if kind == "lease" else settings.manager_linger
        since = time.time_ns() // 1_000_000
        return cls(kind, name, process, since, linger)

    @property
    def may_run(self) -> bool:
        """True unless its process has surely ended."""
        return self.process.may_run

    @property
    def has_ended(self) -> bool:
        """True if its connection has ended, and its process is not known to run."""
        if self.ends_at is None:
            return not self.may_run
        return not (self.returns_by and self.process.pid and self.may_run)


class Replaced(NamedTuple):
    """The wants that a change of one claimant's streams has replaced.

    `streams` are those put, `before` the earlier ones. `taken` is the ended claimant
    whose wants it took over, with its id, if there was one.
    """

    streams: Streams
    before: Streams
    taken: tuple[str, Claimant] | None


class Wants:
    """All claimants, by the id that each made for itself. Only the main loop uses it.

    Attributes:
        has_changed: True after a change, until its reader sets it to False.
    """

    def __init__(self) -> None:
        self._claimants: dict[str, Claimant] = {}
        self.has_changed = True

    def admit(self, claimant_id: str, claimant: Claimant) -> None:
        """Add a claimant, or let one be there again; it keeps its streams."""
        known = self._claimants.get(claimant_id)
        if known is not None:
            claimant = replace(claimant, streams=known.streams, since=known.since)
        self._claimants[claimant_id] = claimant
        self.has_changed = True

    def inherit(self, claimant_id: str, claimant: Claimant) -> None:
        """Take a claimant as an earlier feeder has had it, unless it is here."""
        known = self._claimants.get(claimant_id)
        if known is None or known.returns_by:
            self._claimants[claimant_id] = claimant
            self.has_changed = True

    def inherited(self) -> list[str]:
        """Return the ids of the claimants that an earlier feeder has had."""
        return [one_id for one_id, one in self._claimants.items() if one.returns_by]

    def get(self, claimant_id: str) -> Claimant | None:
        """Return a claimant, or None."""
        return self._claimants.get(claimant_id)

    def claimants(self) -> list[tuple[str, Claimant]]:
        """Return those that want streams, with their ids: runs and managers first."""
        found = [pair for pair in self._claimants.items() if pair[1].streams]
        return sorted(found, key=lambda pair: pair[1].kind == "lease")

    def managers(self) -> list[tuple[str, Claimant]]:
        """Return the managers that are there, with their ids; they may want nothing."""
        return [
            pair
            for pair in self._claimants.items()
            if pair[1].kind == "manager" and pair[1].ends_at is None
        ]

    def facts(self) -> list[dict[str, Any]]:
        """Return what readers, and the next feeder, are told of all claimants."""
        return [_facts_of(*pair) for pair in self.claimants()]

    def put(self, claimant_id: str, streams: Streams) -> Replaced:
        """Replace a claimant's streams; return what `restore` needs.

        With its first streams a manager takes over the wants of an ended one of its
        name: of several, those that have most in common with its own.
        """
        claimant = self._claimants[claimant_id]
        taken = self._successible(claimant_id, claimant, streams)
        if taken is not None:
            del self._claimants[taken[0]]
        before, claimant.streams = claimant.streams, streams
        self.has_changed = True
        return Replaced(streams, before, taken)

    def _successible(
        self, claimant_id: str, claimant: Claimant, streams: Streams
    ) -> tuple[str, Claimant] | None:
        is_first = bool(streams) and not claimant.streams
        if claimant.kind != "manager" or not claimant.name or not is_first:
            return None
        wanted = set(streams)
        ended = [
            (other_id, other)
            for other_id, other in self._claimants.items()
            if other_id != claimant_id
            and (other.kind, other.name) == ("manager", claimant.name)
            and other.has_ended
        ]

        def common(pair: tuple[str, Claimant]) -> int:
            return len(wanted.intersection(pair[1].streams))

        return max(ended, key=common, default=None)

    def restore(self, claimant_id: str, replaced: Replaced) -> None:
        """Undo a `put` that was refused.

        Do nothing if the claimant has changed its streams or left meanwhile.
        """
        claimant = self._claimants.get(claimant_id)
        if claimant is None or claimant.streams is not replaced.streams:
            return
        claimant.streams = replaced.before
        if claimant.ends_at is not None and not claimant.streams:
            del self._claimants[claimant_id]  # its connection has ended meanwhile
        if replaced.taken is not None:
            self._claimants.setdefault(*replaced.taken)
        self.has_changed = True

    def drop(self, claimant_id: str) -> bool:
        """Forget a claimant and its streams; return True if it had any."""
        claimant = self._claimants.pop(claimant_id, None)
        self.has_changed = True
        return claimant is not None and bool(claimant.streams)

    def on_connection(self, connection: int) -> list[str]:
        """Return the ids of the claimants that hold this connection."""
        held = self._claimants.items()
        return [one_id for one_id, one in held if one.connection == connection]

    def disconnected(self, connection: int, now: float) -> None:
        """Let the wants of the claimant with this connection linger from now on."""
        for claimant_id in self.on_connection(connection):
            self._end(claimant_id, self._claimants[claimant_id], now)

    def _end(self, claimant_id: str, claimant: Claimant, now: float) -> None:
        claimant.connection = 0
        claimant.ends_at = now + claimant.linger
        if not claimant.streams:
            del self._claimants[claimant_id]
        self.has_changed = True

    def look(self, now: float) -> None:
        """Let the wants of processes that have ended linger.

        A forked child may hold the connection of a process that was killed.
        """
        for claimant_id, claimant in list(self._claimants.items()):
            is_there = claimant.kind != "run" and claimant.ends_at is None
            if is_there and not claimant.may_run:
                self._end(claimant_id, claimant, now)

    def due(self, now: float) -> list[str]:
        """Return the ids of the claimants whose streams are to be let go."""
        return [
            claimant_id
            for claimant_id, claimant in self._claimants.items()
            if claimant.ends_at is not None and claimant.ends_at <= now
        ]

    def union(self) -> Streams:
        """Return all streams, once each, in the order in which they were wanted."""
        every = (key for one in self._claimants.values() for key in one.streams)
        return tuple(dict.fromkeys(every))

    def is_empty(self) -> bool:
        """Return True if no claimant wants a stream."""
        return not any(one.streams for one in self._claimants.values())

    def keep_feeder(self, now: float) -> bool:
        """Return True if a run, a manager or a lease wants streams and is there."""
        return any(_is_there(one, now) for one in self._claimants.values())

    def has_manager(self, now: float) -> bool:
        """Return True if a manager wants streams and is there."""
        claimants = self._claimants.values()
        return any(one.kind == "manager" and _is_there(one, now) for one in claimants)

    def has_lease(self) -> bool:
        """Return True if a lease wants streams, even one that lingers."""
        claimants = self._claimants.values()
        return any(one.kind == "lease" and one.streams for one in claimants)


def _is_there(claimant: Claimant, now: float) -> bool:
    if not claimant.streams:
        return False
    if claimant.ends_at is not None:
        return now < claimant.returns_by
    return claimant.kind == "run" or claimant.may_run


def _facts_of(claimant_id: str, one: Claimant) -> dict[str, Any]:
    return {
        "id": claimant_id,
        "kind": one.kind,
        "name": one.name,
        "pid": one.process.pid,
        "since": one.since,
        "linger": one.linger,
        "ends_at": one.ends_at,
        "count": len(one.streams),
        "symbols": list(dict.fromkeys(symbol for symbol, _ in one.streams)),
        "resolutions": list(dict.fromkeys(frame for _, frame in one.streams)),
    }
