"""An engine in memory, as publishers use it, with faults to order.

A server keeps one feed for several engines. Its rows are those that a follower would
have: each flush is applied as it comes, so a test compares them with a segment's.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from shmfeed.bar import StreamKey
from shmfeed.layout import NO_BAR
from shmfeed.relay.engine import (
    NO_LEADER,
    Answer,
    EngineAwayError,
    Entry,
    FencedError,
    Joined,
    Leadership,
    Member,
    Position,
    Request,
)
from shmfeed.relay.flush import Catalog, Flush, Head, RowsOfStreams, StreamMarks

Row = tuple[int, ...]  # the bits of a row's columns

LEADER_SECONDS = 60.0
MEMBER_SECONDS = 60.0


@dataclass
class MemoryServer:
    """One feed of an engine, as several engines share it.

    Attributes:
        is_away: While True each call raises EngineAwayError.
        lost_replies: The number of flushes that are taken and then raise.
        checks_epoch: False makes a server without the fence: a mutant.
    """

    is_away: bool = False
    lost_replies: int = 0
    checks_epoch: bool = True
    epoch: int = 0
    leadership: Leadership = NO_LEADER
    expires: float = 0.0
    members: dict[str, tuple[float, Member]] = field(default_factory=dict)
    wants: dict[str, Request] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    flushes: list[tuple[int, Flush]] = field(default_factory=list)
    head: Head | None = None
    catalog: Catalog | None = None
    marks: dict[int, StreamMarks] = field(default_factory=dict)
    rows: dict[StreamKey, dict[int, Row]] = field(default_factory=dict)
    forming: dict[StreamKey, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.changed = threading.Condition()

    def wait_for(self, condition, timeout: float = 20.0) -> None:
        """Wait until `condition()` is true after a call of an engine."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout), self.flushes[-3:]

    def take(self, epoch: int, flush: Flush) -> None:
        self.flushes.append((epoch, flush))
        if flush.catalog is not None:
            self.catalog = flush.catalog
        assert self.catalog is not None
        streams = self.catalog.streams
        if flush.is_whole:
            assert flush.head is not None
            assert flush.catalog is not None
            assert (
                flush.whole == tuple(range(len(streams))) == tuple(sorted(flush.marks))
            )
            self.marks, self.forming = {}, {}
        for number in flush.whole:
            self.rows[streams[number]] = {}
        for key, row in rows_of(flush.closed, streams):
            self.rows[key][row[0]] = row
        for key, row in rows_of(flush.forming, streams):
            self.forming[key] = row
        for key, row in list(self.forming.items()):
            closed = self.rows.get(key)
            if row[0] == NO_BAR or (closed and row[0] <= max(closed)):
                del self.forming[key]
        self.marks |= flush.marks
        self.head = flush.head or self.head


def rows_of(
    rows: RowsOfStreams, streams: tuple[StreamKey, ...]
) -> Iterator[tuple[StreamKey, Row]]:
    columns = rows.block.view(np.int64).T.tolist()
    for number, row in zip(rows.numbers.tolist(), columns, strict=True):
        yield streams[number], tuple(row)


class MemoryEngine:
    """An engine of one publisher or follower."""

    def __init__(self, server: MemoryServer, name: str = "shared") -> None:
        self.name = name
        self._server = server
        self._member = ""
        self._epoch = 0
        self.is_closed = False

    def _enter(self) -> MemoryServer:
        server = self._server
        if server.is_away:
            raise EngineAwayError("the test's engine is away")
        now = time.monotonic()
        if server.leadership.epoch and now > server.expires:
            server.leadership = NO_LEADER
        members = server.members.items()
        server.members = {k: pair for k, pair in members if pair[0] > now}
        return server

    def lead(self, member: str, since: int) -> int | None:
        with self._server.changed:
            server = self._enter()
            if server.leadership.epoch:
                return None
            server.epoch = self._epoch = max(server.epoch + 1, since)
            server.leadership = Leadership(member, self._epoch, since)
            server.expires = time.monotonic() + LEADER_SECONDS
            server.changed.notify_all()
            return self._epoch

    def renew(self) -> None:
        with self._server.changed:
            server = self._enter()
            if server.checks_epoch and server.leadership.epoch != self._epoch:
                raise FencedError("another publisher leads")
            server.expires = time.monotonic() + LEADER_SECONDS

    def resign(self) -> None:
        with self._server.changed:
            server = self._enter()
            if server.leadership.epoch == self._epoch:
                server.leadership = NO_LEADER
            server.changed.notify_all()

    def leadership(self) -> Leadership:
        with self._server.changed:
            return self._enter().leadership

    def head(self) -> Head | None:
        with self._server.changed:
            return self._enter().head

    def stand_by(self, member: Member) -> list[Member]:
        with self._server.changed:
            server = self._enter()
            server.members[member.name] = time.monotonic() + MEMBER_SECONDS, member
            server.changed.notify_all()
            return [one for _, one in server.members.values()]

    def flush(self, flush: Flush) -> None:
        with self._server.changed:
            server = self._enter()
            if server.checks_epoch and server.epoch != self._epoch:
                raise FencedError("another publisher has a higher epoch")
            server.take(self._epoch, flush)
            server.changed.notify_all()
            if server.lost_replies:
                server.lost_replies -= 1
                raise EngineAwayError("the reply was lost")

    def requests(self) -> list[Request]:
        with self._server.changed:
            return list(self._enter().wants.values())

    def answer(self, follower: str, answer: Answer) -> None:
        with self._server.changed:
            self._enter().answers[follower] = answer
            self._server.changed.notify_all()

    def warnings(self) -> list[str]:
        return []

    def close(self) -> None:
        self.is_closed = True

    # The follower's side is of no use here.

    def join(self) -> Joined:
        raise NotImplementedError

    def rings(self, catalog: Catalog) -> Iterator[RowsOfStreams]:
        raise NotImplementedError

    def follow(self, position: Position, timeout: float) -> list[Entry]:
        raise NotImplementedError

    def request(self, request: Request) -> Answer | None:
        raise NotImplementedError
