"""The streams that managers want, and the queue of their changes.

A feeder carries the union of all wants. A manager's change becomes part of the union
when its turn comes. The session puts it to the venue; it is taken back if the venue
refuses it, or if the connection is lost before the answer. So each change has an
outcome, at the latest with the session's `ack_timeout`.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from shmfeed.control.peer import process_start
from shmfeed.errors import (
    ShmfeedError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feeder.requests import PendingRequest
from shmfeed.wire.events import ChangeOutcome, ChangeRefused, SessionStatus, Streams


class Want(NamedTuple):
    """The streams that one manager wants, and the identity of its process."""

    pid: int
    started: int  # by the kernel's count, which tells a reused pid
    streams: Streams


class Subscriptions:
    """The wants of all managers, by the name that each gave itself."""

    def __init__(self) -> None:
        self._wants: dict[str, Want] = {}

    def put(self, manager: str, pid: int, streams: Streams) -> Want:
        """Replace the manager's want. Without streams it wants nothing any more."""
        want = Want(pid, process_start(pid) or 0, streams)
        if streams:
            self._wants[manager] = want
        else:
            self.drop(manager)
        return want

    def drop(self, manager: str) -> None:
        """Forget the manager's want."""
        self._wants.pop(manager, None)

    def get(self, manager: str) -> Want | None:
        """Return the manager's want, None if it wants nothing."""
        return self._wants.get(manager)

    def take_back(self, manager: str, refused: Want, before: Want | None) -> None:
        """Restore the want that a refused `put` has replaced.

        It does nothing unless the refused want still stands, because the manager may
        have left meanwhile.
        """
        if self._wants.get(manager) is not (refused if refused.streams else None):
            return
        if before is None:
            self.drop(manager)
        else:
            self._wants[manager] = before

    def union(self) -> Streams:
        """Return all streams, once each, in the order in which they were wanted."""
        every = (key for want in self._wants.values() for key in want.streams)
        return tuple(dict.fromkeys(every))

    def is_wanted(self) -> bool:
        """Return True if a manager that wants something still runs.

        A feeder outlives its managers. The streams of one that ended stay, but they do
        not keep another manager from stopping the feeder.
        """
        return any(
            want.started and process_start(want.pid) == want.started
            for want in self._wants.values()
        )


class SubscriptionPort(Protocol):
    """The part of a session that changes its subscription."""

    @property
    def status(self) -> SessionStatus: ...
    @property
    def acknowledged(self) -> Streams: ...
    @property
    def is_changing(self) -> bool: ...
    def change(self, streams: Streams) -> None: ...


class _Asker(NamedTuple):
    """The request for the change that is open, its want, and the want before."""

    pending: PendingRequest
    want: Want
    before: Want | None


class SubscriptionQueue:
    """The queue of changes that managers ask for. For the main loop alone.

    The state of the open change is the session's, behind `port`. `check_capacity`
    raises a ShmfeedError for a union that the feed cannot carry.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        port: SubscriptionPort,
        check_capacity: Callable[[Streams], None],
    ) -> None:
        self._subscriptions = subscriptions
        self._port = port
        self._check_capacity = check_capacity
        self._waiting: deque[tuple[PendingRequest, Streams]] = deque()
        self._asker: _Asker | None = None  # None: the open change has no sender
        self._has_left = False  # a manager: the union may be smaller

    def subscribe(self, pending: PendingRequest, streams: Streams) -> None:
        """Want these streams for the sender's manager. The answer comes later."""
        status = self._port.status
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

    def leave(self, manager: str) -> None:
        """Drop the manager's want, without waiting for the venue's answer."""
        self._subscriptions.drop(manager)
        for entry in [w for w in self._waiting if w[0].request.manager == manager]:
            self._waiting.remove(entry)
            error = WebSocketConnectionError("its manager left; nothing was changed")
            entry[0].fail(error)
        self._has_left = True
        self._advance()

    def settle(self, outcome: ChangeOutcome) -> None:
        """Answer the sender of the open change, and go on with the next one."""
        if isinstance(outcome, ChangeRefused):
            self._refuse(WebSocketSubscriptionError(outcome.message))
        elif outcome.ends_change and self._asker is not None:
            pending, self._asker = self._asker.pending, None
            pending.finish(streams=len(outcome.streams))
        self._advance()

    def connection_lost(self) -> None:
        """Fail all changes: the answers that were to come are lost too."""
        error = WebSocketConnectionError(
            "the connection was lost before the venue answered; nothing was changed"
        )
        if self._asker is not None:
            self._refuse(error)
            self._port.change(self._subscriptions.union())
        while self._waiting:
            self._waiting.popleft()[0].fail(error)

    def end(self) -> None:
        """Fail all changes, because the feeder stops."""
        error = WebSocketConnectionError("the feeder is stopping")
        self._refuse(error)
        while self._waiting:
            self._waiting.popleft()[0].fail(error)

    def _refuse(self, error: ShmfeedError) -> None:
        if self._asker is None:
            return
        (pending, want, before), self._asker = self._asker, None
        self._subscriptions.take_back(pending.request.manager, want, before)
        pending.fail(error)

    def _advance(self) -> None:
        while self._waiting and not self._port.is_changing:
            self._ask(*self._waiting.popleft())
        if self._has_left and self._asker is None:
            self._has_left = False
            union = self._subscriptions.union()
            if set(union) != set(self._port.acknowledged):
                self._port.change(union)

    def _ask(self, pending: PendingRequest, streams: Streams) -> None:
        manager = pending.request.manager
        before = self._subscriptions.get(manager)
        want = self._subscriptions.put(manager, pending.request.pid, streams)
        union = self._subscriptions.union()
        try:
            self._check_capacity(union)
        except ShmfeedError as error:
            self._subscriptions.take_back(manager, want, before)
            pending.fail(error)
            return
        if set(union) == set(self._port.acknowledged):
            pending.finish(streams=len(union))
            return
        self._asker = _Asker(pending, want, before)
        self._port.change(union)
