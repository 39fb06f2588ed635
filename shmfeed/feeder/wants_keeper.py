"""The claimants of a running feeder: they come, go, and are published for readers."""

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from shmfeed.bar import StreamKey
from shmfeed.control.messages import ControlRequest
from shmfeed.control.peer import Peer
from shmfeed.errors import WebSocketSubscriptionError
from shmfeed.feeder.subscriptions import SubscriptionQueue
from shmfeed.feeder.symbol_gate import SymbolGate
from shmfeed.feeder.wants import Claimant, Kind, Wants
from shmfeed.settings.model import Settings
from shmfeed.text import counted
from shmfeed.wire.boot_clock import boot_seconds

TICK_SECONDS = 0.1  # between two looks at the claimants' times
LOOK_SECONDS = 2.0  # between two looks at their processes

log = logging.getLogger(__name__)


class TextMarks(Protocol):
    """The part of a FeedWriter that publishes texts."""

    def set_text(self, key: str, value: object) -> None: ...


class WantsKeeper:
    """The keeper of one feeder's wants. Only the main loop uses it.

    Attributes:
        unlinks: True if a manager that left has asked for the segment's removal at the
            feeder's end.
    """

    def __init__(
        self,
        wants: Wants,
        queue: SubscriptionQueue,
        symbols: SymbolGate,
        marks: TextMarks,
        settings: Callable[[], Settings],
        refusal: Callable[[StreamKey], str],
    ) -> None:
        """Take the parts.

        Args:
            wants: The claimants.
            queue: The queue of their changes.
            symbols: The gate that changes pass before.
            marks: Publishes the wants for readers.
            settings: Returns the settings in force.
            refusal: Returns the venue's words about a stream that it has refused, ""
                for any other.
        """
        self.unlinks = False
        self._wants = wants
        self._queue = queue
        self._symbols = symbols
        self._marks = marks
        self._settings = settings
        self._refusal = refusal
        self._ends_with_leases = False  # the last manager has left, leases remain
        self._next_tick = self._next_look = 0.0

    def admit(self, kind: Kind, request: ControlRequest, connection: int) -> None:
        """Take the sender of a request, which holds this connection, as a claimant."""
        claimant = self._claimant(kind, request)
        claimant.connection = connection
        if kind == "manager":
            claimant.linger = request.linger
        self._wants.admit(request.manager, claimant)
        if kind == "manager":
            self._ends_with_leases = self.unlinks = False

    def admit_sender(self, request: ControlRequest) -> None:
        """Take the sender of a request as a manager, unless it is known already."""
        if self._wants.get(request.manager) is None:
            self._wants.admit(request.manager, self._claimant("manager", request))

    def check_lease(self, streams: Iterable[StreamKey]) -> None:
        """Raise WebSocketSubscriptionError for a stream that the venue has refused."""
        for key in streams:
            words = self._refusal(key)
            if words:
                raise WebSocketSubscriptionError(f"{' '.join(key)}: {words}")

    def refused(self, claimant: str, connection: int) -> None:
        """Drop a lease that was refused on this connection."""
        known = self._wants.get(claimant)
        if known is not None and known.connection == connection:
            self._drop(claimant)

    def leave(self, claimant: str, unlink: bool) -> None:
        """Drop a manager that gives its wants back."""
        self._drop(claimant)
        self._ends_with_leases = not self._wants.has_manager(boot_seconds())
        self.unlinks = unlink

    def disconnected(self, connection: int) -> None:
        """Let the wants of a connection that has ended linger.

        A lease that the venue has not acknowledged yet holds nothing. The change of a
        manager goes on, and its earlier streams come back if the venue refuses it.
        """
        for claimant_id in self._wants.on_connection(connection):
            one = self._wants.get(claimant_id)
            is_lease = one is not None and one.kind == "lease"
            if is_lease and self._queue.is_asking(claimant_id):
                self._drop(claimant_id)
        self._wants.disconnected(connection, boot_seconds())

    def keeps_feeder(self) -> bool:
        """Return True if a run, a manager or a lease wants streams and is there."""
        return self._wants.keep_feeder(boot_seconds())

    def tick(self, now: float) -> bool:
        """Let go what is no longer wanted; return True if the feeder has to end."""
        if self._wants.has_changed:
            self._wants.has_changed = False
            self._marks.set_text("wants", self._wants.facts())
        if now < self._next_tick:
            return False
        self._next_tick = now + TICK_SECONDS
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._wants.look(now)
        for claimant_id in self._wants.due(now):
            self._log_end(claimant_id)
            self._drop(claimant_id)
        if not self._wants.is_empty() and not (
            self._ends_with_leases
            and not self._wants.has_lease()
            and not self._wants.keep_feeder(now)
        ):
            return False
        log.info("nothing is wanted of this feeder any more, so it ends")
        return True

    def _claimant(self, kind: Kind, request: ControlRequest) -> Claimant:
        process = Peer.of(request.pid)
        return Claimant.new(kind, request.name, process, self._settings())

    def _drop(self, claimant: str) -> None:
        self._symbols.drop(claimant)
        self._queue.drop(claimant)

    def _log_end(self, claimant_id: str) -> None:
        one = self._wants.get(claimant_id)
        if one is not None:
            log.info(
                "%s %s (pid %d) has not come back; %s of it let go",
                one.kind,
                one.name,
                one.process.pid,
                counted(len(one.streams), "stream"),
            )
