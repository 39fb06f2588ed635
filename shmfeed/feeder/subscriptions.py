"""The streams that managers want, and the queue of their changes.

A feeder subscribes the union of all managers' streams. Changes are processed one at a
time. Each is sent to the venue, and rolled back if the venue refuses it or the
connection is lost before the answer. So a change that was sent has an outcome at the
latest after the session's `ack_timeout`.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from shmfeed.control.peer import Peer
from shmfeed.errors import (
    ShmfeedError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feeder.handover_channel import CarriedWants
from shmfeed.feeder.requests import PendingRequest
from shmfeed.wire.events import ChangeOutcome, ChangeRefused, SessionStatus, Streams


class ManagerStreams(NamedTuple):
    """The streams that one manager wants, and its process."""

    process: Peer
    streams: Streams


class Subscriptions:
    """The streams of all managers, by the name that each gave itself."""

    def __init__(self) -> None:
        self._streams: dict[str, ManagerStreams] = {}

    def put(self, manager: str, pid: int, streams: Streams) -> ManagerStreams:
        """Replace the manager's streams. With none, forget the manager."""
        wanted = ManagerStreams(Peer.of(pid), streams)
        if streams:
            self._streams[manager] = wanted
        else:
            self.drop(manager)
        return wanted

    def drop(self, manager: str) -> None:
        """Forget the manager and its streams."""
        self._streams.pop(manager, None)

    def get(self, manager: str) -> ManagerStreams | None:
        """Return the manager's streams, or None if it wants none."""
        return self._streams.get(manager)

    def restore(
        self, manager: str, refused: ManagerStreams, before: ManagerStreams | None
    ) -> None:
        """Restore the streams that a refused `put` has replaced.

        Do nothing if the manager has changed its streams or left meanwhile.
        """
        if self._streams.get(manager) is not (refused if refused.streams else None):
            return
        if before is None:
            self.drop(manager)
        else:
            self._streams[manager] = before

    def carry(self) -> list[CarriedWants]:
        """Return what the managers want, for the next feeder."""
        return [
            CarriedWants(name, entry.process.pid, list(entry.streams))
            for name, entry in self._streams.items()
        ]

    def union(self) -> Streams:
        """Return all streams, once each, in the order in which they were wanted."""
        every = (key for entry in self._streams.values() for key in entry.streams)
        return tuple(dict.fromkeys(every))

    def has_running_manager(self) -> bool:
        """Return True if a manager that wants streams still runs.

        A feeder outlives its managers. The streams of an ended manager stay subscribed,
        but they do not prevent another manager from stopping the feeder. A manager in
        another PID namespace counts as running until it releases its streams.
        """
        return any(entry.process.may_run for entry in self._streams.values())


class SubscriptionSession(Protocol):
    """The part of a session that changes its subscription."""

    @property
    def status(self) -> SessionStatus: ...
    @property
    def acknowledged(self) -> Streams: ...
    @property
    def is_changing(self) -> bool: ...
    def change(self, streams: Streams) -> None: ...


class _ChangeInProgress(NamedTuple):
    """The change in progress: its request, its streams, and the streams before it."""

    pending: PendingRequest
    streams: ManagerStreams
    before: ManagerStreams | None


class SubscriptionQueue:
    """The queue of the managers' changes. Only the main loop uses it.

    `session` has the state of the change in progress. `check_union` raises a
    ShmfeedError for a union that the feed cannot carry.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        session: SubscriptionSession,
        check_union: Callable[[Streams], None],
    ) -> None:
        self._subscriptions = subscriptions
        self._session = session
        self._check_union = check_union
        self._waiting: deque[tuple[PendingRequest, Streams]] = deque()
        # None also while a change in progress has no sender.
        self._current: _ChangeInProgress | None = None
        self._has_left = False  # a manager has left, so the union may be smaller

    def subscribe(self, pending: PendingRequest, streams: Streams) -> None:
        """Queue a change to these streams for the sender's manager.

        `settle` answers it.
        """
        status = self._session.status
        if status.state != "connected":
            why = status.last_error
            pending.fail(
                WebSocketConnectionError(
                    "the feeder is not connected now, so nothing was changed"
                    + (f"; its last error: {why}" if why else "")
                )
            )
            return
        self._waiting.append((pending, streams))
        self._advance()

    def replace(self, pending: PendingRequest, streams: Streams) -> None:
        """Change to these streams, whether the session is connected or not.

        Without a connection the next one asks for them, and the answer comes at once.
        """
        if self._session.status.state == "connected":
            self.subscribe(pending, streams)
            return
        if self._put(pending, streams) is not None:
            union = self._subscriptions.union()
            self._session.change(union)
            pending.finish(streams=len(union))

    def drop_manager(self, manager: str) -> None:
        """Drop the manager's streams, without waiting for the venue's answer."""
        self._subscriptions.drop(manager)
        for entry in [w for w in self._waiting if w[0].request.manager == manager]:
            self._waiting.remove(entry)
            error = WebSocketConnectionError(
                "the manager that asked was stopped; nothing was changed"
            )
            entry[0].fail(error)
        self._has_left = True
        self._advance()

    def settle(self, outcome: ChangeOutcome) -> None:
        """Answer the sender of the change in progress, and begin the next one."""
        if isinstance(outcome, ChangeRefused):
            self._refuse(WebSocketSubscriptionError(outcome.message))
        elif outcome.ends_change and self._current is not None:
            pending, self._current = self._current.pending, None
            pending.finish(streams=len(outcome.streams))
        self._advance()

    def connection_lost(self) -> None:
        """Fail all changes: the outstanding answers are lost with the connection."""
        error = WebSocketConnectionError(
            "the connection was lost before the venue answered; nothing was changed"
        )
        if self._current is not None:
            self._refuse(error)
            self._session.change(self._subscriptions.union())
        while self._waiting:
            self._waiting.popleft()[0].fail(error)

    def end(self) -> None:
        """Fail all changes, because the feeder stops."""
        error = WebSocketConnectionError("the feeder is stopping; start it again")
        self._refuse(error)
        while self._waiting:
            self._waiting.popleft()[0].fail(error)

    def _refuse(self, error: ShmfeedError) -> None:
        if self._current is None:
            return
        (pending, wanted, before), self._current = self._current, None
        self._subscriptions.restore(pending.request.manager, wanted, before)
        pending.fail(error)

    def _advance(self) -> None:
        while self._waiting and not self._session.is_changing:
            self._begin(*self._waiting.popleft())
        if self._has_left and self._current is None:
            self._has_left = False
            union = self._subscriptions.union()
            if set(union) != set(self._session.acknowledged):
                self._session.change(union)

    def _begin(self, pending: PendingRequest, streams: Streams) -> None:
        change = self._put(pending, streams)
        if change is None:
            return
        union = self._subscriptions.union()
        if set(union) == set(self._session.acknowledged):
            pending.finish(streams=len(union))
            return
        self._current = change
        self._session.change(union)

    def _put(
        self, pending: PendingRequest, streams: Streams
    ) -> _ChangeInProgress | None:
        """Put the sender's streams in place of those before, and return the change.

        If the feed cannot carry the union, fail the request and return None.
        """
        manager = pending.request.manager
        before = self._subscriptions.get(manager)
        wanted = self._subscriptions.put(manager, pending.request.pid, streams)
        try:
            self._check_union(self._subscriptions.union())
        except ShmfeedError as error:
            self._subscriptions.restore(manager, wanted, before)
            pending.fail(error)
            return None
        return _ChangeInProgress(pending, wanted, before)
