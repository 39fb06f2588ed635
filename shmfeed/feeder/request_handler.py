"""The requests of managers and commands, carried out by the main loop."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from shmfeed.control.messages import ABSENT, ControlRequest
from shmfeed.errors import BadArgumentError, ShmfeedError, WebSocketConnectionError
from shmfeed.feeder.audit_bars import serve_bars
from shmfeed.feeder.credentials import DialGate
from shmfeed.feeder.feed_history import FeedHistory
from shmfeed.feeder.manager_history import send_managers_away, serve_history
from shmfeed.feeder.reasons import Reasons
from shmfeed.feeder.relay_reports import RelayReports
from shmfeed.feeder.reload import Reloader
from shmfeed.feeder.requests import DISCONNECTED, PendingRequest, asked_pairs
from shmfeed.feeder.subscriptions import SubscriptionQueue
from shmfeed.feeder.symbol_gate import SymbolGate
from shmfeed.feeder.wants import Wants
from shmfeed.feeder.wants_keeper import WantsKeeper
from shmfeed.identity import FeedIdentity
from shmfeed.settings.digest import digests
from shmfeed.settings.model import Settings
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.events import SessionEvent, Streams
from shmfeed.wire.interface import FeedSession
from shmfeed.writer import FeedWriter


class FeederParts(NamedTuple):
    """The parts of a feeder that requests read and change."""

    wants: Wants
    reasons: Reasons
    queue: SubscriptionQueue
    symbols: SymbolGate
    session: FeedSession
    writer: FeedWriter
    history: FeedHistory
    gate: DialGate
    reloader: Reloader
    identity: FeedIdentity


class RequestHandler:
    """The handler of one feeder's requests. Only the main loop uses it.

    `checked` returns streams as the codec spells them, `take` takes events of the
    session, and `stop` ends the feeder, removing the segment if it is given True.
    `hand_over` answers the request of a feeder that takes over, `reset` one to drop
    rows.
    """

    def __init__(
        self,
        parts: FeederParts,
        checked: Callable[[Iterable[tuple[str, str]]], Streams],
        take: Callable[[list[SessionEvent]], None],
        stop: Callable[[bool], None],
        hand_over: Callable[[PendingRequest], None],
        reset: Callable[[PendingRequest], None],
    ) -> None:
        self._parts = parts
        self._wants = WantsKeeper(
            parts.wants,
            parts.queue,
            parts.symbols,
            parts.writer,
            lambda: parts.reloader.settings,
            lambda key: parts.reasons.words(key, "refused"),
        )
        self._relay_reports = RelayReports(parts.writer)
        self._checked = checked
        self._take = take
        self._stop = stop
        self._operations: dict[str, Callable[[PendingRequest], None]] = {
            "status": self._status,
            "subscribe": self._subscribe,
            "release": self._release,
            "start": self._start,
            "stop": self._end,
            "settings": self._settings,
            "token": self._token,
            "reload": self._reload,
            "retry": self._settle_holes,
            "accept": self._settle_holes,
            "takeover": hand_over,
            "reset": reset,
            "hold": self._hold,
            "lease": self._lease,
            "relay": self._relay,
            DISCONNECTED: self._disconnected,
        }

    def answer(self, pending: PendingRequest) -> None:
        """Carry out a request, and answer it now or when the venue has answered."""
        try:
            self._operations[pending.request.op](pending)
        except ShmfeedError as error:
            pending.fail(error)

    def _status(self, pending: PendingRequest) -> None:
        parts, settings = self._parts, self._parts.reloader.settings
        pending.finish(
            pid=os.getpid(),
            state=parts.session.status.state,
            identity=str(parts.identity),
            source_feed=settings.source_name if settings.follows_relay else None,
            epoch=parts.writer.epoch,
            wanted=self._wants.keeps_feeder(),
        )

    def _subscribe(self, pending: PendingRequest) -> None:
        streams = self._checked(asked_pairs(pending.request))
        self._wants.admit_sender(pending.request)
        self._parts.symbols.ask(pending, streams, boot_seconds())

    def _hold(self, pending: PendingRequest) -> None:
        self._wants.admit("manager", pending.request, pending.connection)
        pending.finish(pid=os.getpid(), epoch=self._parts.writer.epoch)

    def _lease(self, pending: PendingRequest) -> None:
        streams = self._checked(asked_pairs(pending.request))
        self._wants.check_lease(streams)
        self._wants.admit("lease", pending.request, pending.connection)
        pending.answer.add_done_callback(partial(self._leased, pending))
        self._parts.symbols.ask(pending, streams, boot_seconds())

    def _leased(self, pending: PendingRequest, answer: Future[dict[str, Any]]) -> None:
        """Drop a lease that the venue, or the feed's capacity, has refused.

        One that could not be asked for, as there is no connection, asks again.
        """
        error = answer.exception()
        if error is not None and not isinstance(error, WebSocketConnectionError):
            self._wants.refused(pending.request.manager, pending.connection)

    def _disconnected(self, pending: PendingRequest) -> None:
        self._wants.disconnected(pending.connection)
        self._relay_reports.disconnected(pending.connection)
        pending.finish()

    def _relay(self, pending: PendingRequest) -> None:
        settings, report = self._parts.reloader.settings, pending.request.relay
        if settings.follows_relay:
            raise BadArgumentError(
                f"feed {settings.feed!r} follows Redis, and its leader publishes it;"
                " publish a feed that has a venue"
            )
        if report is None:
            raise BadArgumentError("a request relay needs the key relay")
        self._relay_reports.take(report, pending.connection)
        pending.finish()

    def _start(self, pending: PendingRequest) -> None:
        # Its events are published before the request is answered.
        self._take(self._parts.session.retry())
        pending.finish()

    def _end(self, pending: PendingRequest) -> None:
        pending.finish(stopping=True, pid=os.getpid())
        self._stop(pending.request.unlink)

    def _settings(self, pending: PendingRequest) -> None:
        settings = self._parts.reloader.settings
        pending.finish(digests=digests(settings, pending.request.nonce))

    def _token(self, pending: PendingRequest) -> None:
        gate, request = self._parts.gate, pending.request
        is_answer = gate.is_asking
        if request.asks:
            gate.ask_manager(request.manager, request.pid)
        if request.token:
            self._parts.reloader.take_token(request.token, is_answer=is_answer)
        gate.answered()
        pending.finish()

    def _reload(self, pending: PendingRequest) -> None:
        pending.answer.add_done_callback(partial(self._reloaded, pending.request))
        self._parts.reloader.reload(pending)

    def _reloaded(
        self, request: ControlRequest, answer: Future[dict[str, Any]]
    ) -> None:
        """Ask the manager for tokens, or no more, once its settings are in force."""
        if request.settings == ABSENT or answer.exception() is not None:
            return
        if request.asks:
            self._parts.gate.ask_manager(request.manager, request.pid)
        else:
            self._parts.gate.forget_manager(request.manager)

    def _settle_holes(self, pending: PendingRequest) -> None:
        pending.finish(holes=self._parts.history.settle_holes(pending.request))

    def _release(self, pending: PendingRequest) -> None:
        parts, manager = self._parts, pending.request.manager
        parts.gate.forget_manager(manager)
        self._wants.leave(manager, pending.request.unlink)
        send_managers_away(parts.history.source)
        is_stopping = not self._wants.keeps_feeder()
        pending.finish(stopping=is_stopping, pid=os.getpid())
        if is_stopping:
            self._stop(pending.request.unlink)

    def tick(self, now: float) -> None:
        """End the feeder where nothing is wanted of it any more."""
        if self._wants.tick(now):
            self._stop(self._wants.unlinks)


def serve_beside(
    request: ControlRequest, history: FeedHistory, settings: Settings
) -> dict[str, Any] | None:
    """Answer a request that the main loop need not carry out, None for another one.

    Any thread may call it.
    """
    if request.op == "history":
        return serve_history(history.source, request)
    if request.op == "bars":
        return serve_bars(history.source, settings, request, history.is_busy)
    return None
