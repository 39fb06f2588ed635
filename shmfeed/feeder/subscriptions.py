"""The queue of changes of the wanted streams.

A feeder subscribes the union of all claimants' streams. Changes are processed one at a
time. Each is sent to the venue, and rolled back if the venue refuses it or the
connection is lost before the answer. So a change that was sent has an outcome at the
latest after the session's `ack_timeout`.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from shmfeed.errors import (
    ShmfeedError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)
from shmfeed.feeder.requests import PendingRequest
from shmfeed.feeder.wants import Replaced, Wants
from shmfeed.wire.events import ChangeOutcome, ChangeRefused, SessionStatus, Streams


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
    """The change in progress: its request, and what it has replaced."""

    pending: PendingRequest
    replaced: Replaced


class SubscriptionQueue:
    """The queue of the claimants' changes. Only the main loop uses it.

    `session` has the state of the change in progress. `check_union` raises a
    ShmfeedError for a union that the feed cannot carry.
    """

    def __init__(
        self,
        wants: Wants,
        session: SubscriptionSession,
        check_union: Callable[[Streams], None],
    ) -> None:
        self._wants = wants
        self._session = session
        self._check_union = check_union
        self._waiting: deque[tuple[PendingRequest, Streams]] = deque()
        # None also while a change in progress has no sender.
        self._current: _ChangeInProgress | None = None
        self._has_left = False  # a claimant has left, so the union may be smaller

    def subscribe(self, pending: PendingRequest, streams: Streams) -> None:
        """Queue a change of the sender's streams to these.

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
            union = self._wants.union()
            self._session.change(union)
            pending.finish(streams=len(union))

    def drop(self, claimant: str) -> None:
        """Drop a claimant and its streams, without waiting for the venue's answer."""
        for entry in [w for w in self._waiting if w[0].request.manager == claimant]:
            self._waiting.remove(entry)
            entry[0].fail(_stopped())
        if self._wants.drop(claimant):
            self._has_left = True
            self._advance()

    def is_asking(self, claimant: str) -> bool:
        """Return True if the venue has not answered a change of this claimant yet."""
        current = self._current
        return current is not None and current.pending.request.manager == claimant

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
            self._session.change(self._wants.union())
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
        (pending, replaced), self._current = self._current, None
        self._wants.restore(pending.request.manager, replaced)
        pending.fail(error)

    def _advance(self) -> None:
        while self._waiting and not self._session.is_changing:
            self._begin(*self._waiting.popleft())
        if self._has_left and self._current is None:
            self._has_left = False
            union = self._wants.union()
            # A feeder that nothing is wanted of any more is about to end.
            if union and set(union) != set(self._session.acknowledged):
                self._session.change(union)

    def _begin(self, pending: PendingRequest, streams: Streams) -> None:
        change = self._put(pending, streams)
        if change is None:
            return
        union = self._wants.union()
        if not union or set(union) == set(self._session.acknowledged):
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
        claimant = pending.request.manager
        if self._wants.get(claimant) is None:  # it has left meanwhile
            pending.fail(_stopped())
            return None
        replaced = self._wants.put(claimant, streams)
        try:
            self._check_union(self._wants.union())
        except ShmfeedError as error:
            self._wants.restore(claimant, replaced)
            pending.fail(error)
            return None
        return _ChangeInProgress(pending, replaced)


def _stopped() -> WebSocketConnectionError:
    return WebSocketConnectionError(
        "the manager that asked was stopped; nothing was changed"
    )
