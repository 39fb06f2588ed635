"""The feeder: the process that owns a venue's socket and writes one feed.

    session --events--> intake --rows--> ring       the main loop, the one writer
    control socket --requests--> main loop          answered when they are done
    heartbeat thread --time--> header

Readers see the feeder's state, counters and last error in the segment.
"""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any

from shmfeed.bar import StreamKey
from shmfeed.control.messages import VERSION, ControlRequest
from shmfeed.control.platform import check_feeder_platform
from shmfeed.errors import ShmfeedError
from shmfeed.feeder import handover
from shmfeed.feeder.credentials import DialGate
from shmfeed.feeder.feed_history import ShowWarmup
from shmfeed.feeder.feed_publisher import FeedPublisher
from shmfeed.feeder.feed_status import FeedStatus, gave_up_error
from shmfeed.feeder.feed_store import open_feed_store
from shmfeed.feeder.feeder_events import FeederEvents
from shmfeed.feeder.handover_channel import Handover, Taken
from shmfeed.feeder.heartbeat import HeartbeatThread
from shmfeed.feeder.inherited_wants import first_wants, inherit_told, own_claimant
from shmfeed.feeder.journal import Journal, describe_refused
from shmfeed.feeder.latency import LatencyMeter
from shmfeed.feeder.logs import FeederLog
from shmfeed.feeder.mute import MuteStreams, attend_mute
from shmfeed.feeder.reasons import Reasons
from shmfeed.feeder.relay_source import Pause
from shmfeed.feeder.reload import Reloader, ReloadTargets
from shmfeed.feeder.request_handler import FeederParts, RequestHandler, serve_beside
from shmfeed.feeder.requests import PendingRequest, RequestQueue
from shmfeed.feeder.service import ServiceManager
from shmfeed.feeder.source import open_source
from shmfeed.feeder.stream_reset import StreamReset
from shmfeed.feeder.subscriptions import SubscriptionQueue
from shmfeed.feeder.symbol_gate import SymbolGate
from shmfeed.feeder.taking import in_venue_spelling, reserve_capacity, take_feed
from shmfeed.segment.locking import FeedLocks
from shmfeed.segment.mapping import place
from shmfeed.settings.model import Settings
from shmfeed.validation import check_case
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.dial_budget import DialBudget
from shmfeed.wire.events import (
    ChangeOutcome,
    ChangeRefused,
    Connected,
    ConnectionLost,
    Delivery,
    Received,
    SessionEvent,
    SessionStatus,
    SettingsRefused,
    StatusChanged,
    Streams,
    StreamsRefused,
    Subscribed,
    VenueTime,
)
from shmfeed.wire.interface import Batches, FeedSession

STALL_SECONDS = 1.0  # between two turns of the main loop: it was stopped, or starved
RUN = "run"  # the manager's name of a feeder that runs in the foreground
RELOAD = ControlRequest(v=VERSION, id=0, op="reload")  # as a signal asks for it


class Feeder:
    """One feeder, from its construction, which takes the feed, to the end of `run`."""

    def __init__(
        self,
        settings: Settings,
        manager: str = RUN,
        pid: int = 0,
        *,
        name: str = "",
        replace: bool = False,
        source: Callable[[], Settings] | None = None,
        feeder_log: FeederLog | None = None,
        beside: Streams | None = None,
        pause: Pause | None = None,
    ) -> None:
        """Open the feed for writing, without touching the network of a venue.

        `manager`, `pid` and `name` are of the process that wants the settings' streams;
        pid 0 is this process. Streams of an earlier feeder that others still want are
        carried too. `replace` drops stored bars of another identity. `source` returns
        the settings of a reload, and `feeder_log` takes its log settings. `beside` are
        the streams of a feeder that has the feed until `take_over`. `pause` is that of
        `open_source`.

        Raises:
            BadArgumentError: There are no streams, or the venue does not offer them.
            ShmfeedError: `create` could not take the feed.
        """
        check_feeder_platform()
        self._source = open_source(settings, pause)
        self._codec, self._identity = self._source.codec, self._source.identity
        self._own, self._is_foreground = manager, manager == RUN
        first = own_claimant(self._is_foreground, name, pid, settings)
        self._wants = first_wants(
            settings, manager, first, self._source.streams, self._codec, self._identity
        )
        streams = tuple(dict.fromkeys((*self._wants.union(), *(beside or ()))))
        self._events = FeederEvents(settings)
        self._service = ServiceManager(os.environ if self._is_foreground else {})
        self._failure: ShmfeedError | None = None
        self._unlink = self._is_reload_due = False
        self._left_out: set[StreamKey] = set()  # the venue refuses them
        directory = place(settings.feed).directory
        self._budget = DialBudget(directory, settings.dials_per_minute)
        self._gate = DialGate(self._budget, self._codec, self._tell_wanted)
        self._requests = RequestQueue()
        self._journal = Journal(settings.feed)
        self._replace = replace
        self._has_feed = False
        self._handover: PendingRequest | None = None  # asked for by another feeder
        self._taken: Taken | None = None  # its former feeder waits for a confirmation
        try:
            self._history = self._source.make_history(
                self._requests.wake, lambda: self._settings
            )
            self._session = self._source.make_session(
                streams, self._requests, self._gate
            )
            self._prepare_requests(settings, source, feeder_log)
            if beside is None:
                self._take_feed()
        except BaseException:
            self._requests.close()
            raise

    def _prepare_requests(
        self,
        settings: Settings,
        source: Callable[[], Settings] | None,
        feeder_log: FeederLog | None,
    ) -> None:
        session = self._session
        self._batches = session.batches()
        self._queue = SubscriptionQueue(self._wants, session, self._check_union)
        self._symbols = SymbolGate(self._history.symbols, self._queue.subscribe)
        self._publisher = FeedPublisher(settings)
        parts = self._codec, session, self._queue, self._budget
        targets = ReloadTargets(*parts, feeder_log, self._publisher)
        own_list = RUN if self._is_foreground else ""
        self._reloader = Reloader(settings, targets, own_list, source)

    def _take_feed(self, locks: FeedLocks | None = None) -> None:
        """Take the feed's segment, with the locks of a feeder that hands it over."""
        settings, streams = self._settings, self._session.acknowledged
        identity, state = self._identity, self._session.status.state
        self._events.note_predecessor(is_alive=locks is not None)
        self._writer = take_feed(
            settings,
            identity,
            streams,
            self._replace,
            state=state,
            locks=locks,
            is_relayed=self._source.is_relayed,
        )
        self._store = open_feed_store(settings, identity, self._writer, self._replace)
        self._store.warm(streams)
        self._begin_rows(settings, streams)
        self._handler = self._make_handler()
        self._mute = MuteStreams()
        self._status = FeedStatus(
            self._writer, self._session, self._gate, lambda: self._settings
        )
        self._has_feed = True

    def _begin_rows(self, settings: Settings, streams: Streams) -> None:
        self._reasons = Reasons(self._writer)
        history = self._history.source is not None
        self._intake = self._source.make_intake(
            settings, self._writer, self._store, self._reasons, history
        )
        self._latency = LatencyMeter(self._writer, self._intake.clock)
        self._history.begin(self._intake, self._writer, self._reasons)
        self._set_streams(streams)
        self._writer.set_repair_grace(settings.repair_grace)

    def _make_handler(self) -> RequestHandler:
        self._parts = FeederParts(
            self._wants,
            self._reasons,
            self._queue,
            self._symbols,
            self._session,
            self._writer,
            self._history,
            self._gate,
            self._reloader,
            self._identity,
        )
        return RequestHandler(
            self._parts,
            partial(in_venue_spelling, self._codec),
            self._take,
            self.stop,
            self._ask_handover,
            StreamReset(self._writer, self._intake, self._history, self._store).reset,
        )

    @property
    def _settings(self) -> Settings:
        return self._reloader.settings

    def run(self) -> None:
        """Receive and write bars until `stop`.

        Raises:
            FeedLostError: The segment or its lock was removed, replaced or truncated.
            WebSocketConnectionError: The feeder runs in the foreground and, as the
                setting `give_up` says, has ended its attempts to connect.
        """
        self._journal.started(len(self._session.acknowledged))
        try:
            socket = place(self._settings.feed).socket
            with closing(self._batches), self._events, self._publisher:
                handover.keep_serving(
                    socket,
                    (self._serve, self._requests.post_held),
                    self._serve_once,
                    self._end_requests,
                )
        finally:
            self._service.stopping()
            self._requests.close()
            self._writer.close(unlink=self._unlink)
            self._store.close()
        if self._failure is not None:
            raise self._failure

    def take_over(
        self,
        beside: Callable[[Settings, FeedSession, Batches, Journal], handover.Following],
    ) -> bool:
        """Take the place of the feeder that runs, once this one is connected.

        Return False if `stop` came first.

        Raises:
            ShmfeedError: There is no connection, or the feed cannot be taken; the
                other feeder goes on.
        """
        follower = beside(self._settings, self._session, self._batches, self._journal)
        take = self._take_feed, self._catch_up
        try:
            self._taken = handover.take_place(follower, self._requests.wake, *take)
        finally:
            if not self._has_feed:
                self._batches.close()
                self._requests.close()
        return self._has_feed

    def _serve_once(self) -> bool:
        """Serve until the end, or until a hand-over; return False if one failed."""
        with HeartbeatThread(self._writer, self._fail):
            self._service.ready()
            if self._taken is not None:
                self._taken.confirm()
            self._loop()
        pending, self._handover = self._handover, None
        return pending is None or self._hand_over(pending)

    def _ask_handover(self, pending: PendingRequest) -> None:
        self._handover = pending  # the loop ends after this turn

    def _hand_over(self, pending: PendingRequest) -> bool:
        """Hand the feed over to another feeder; return False if this one goes on."""
        told = handover.describe_feed(self._parts, self._intake)
        is_done, locks = handover.hand_over(pending, told, self._writer)
        if locks is not None:
            self._writer.close()
            self._store.close()
            self._take_feed(locks)
            self._catch_up(told, ())
        self._unlink = self._unlink and not is_done
        return is_done

    def _catch_up(self, told: Handover | None, events: Sequence[SessionEvent]) -> None:
        if told is not None:
            inherit_told(self._wants, told.wants, self._settings, self._codec)
        handover.catch_up(self._parts, self._intake, told, events, self._take_status)
        self._status.changed(self._session.status)

    def stop(self, unlink: bool = False) -> None:
        """End `run` soon, and remove the segment with `unlink`. Any thread may call."""
        self._unlink = self._unlink or unlink
        self._session.stop()
        self._requests.wake()

    def ask_for_tokens(self, manager: str, pid: int) -> None:
        """Ask a manager for a token before each dial; the next one has its token."""
        self._gate.ask_manager(manager, pid)

    def show_warmup(self, show: ShowWarmup) -> None:
        """Call `show` with the progress of each warm-up, and with None at its end."""
        self._history.on_warmup = show

    def reload_soon(self) -> None:
        """Read the settings again soon; the log says what has changed.

        Thread safety: Any thread or signal handler may call it.
        """
        self._is_reload_due = True
        self._requests.wake()

    def release(self, manager: str) -> None:
        """Drop the streams of a manager that has ended; stop if no other is left.

        Thread safety: Any thread but the main loop's may call it.
        """
        with suppress(ShmfeedError):  # stopping already
            self._requests.ask(ControlRequest(v=1, id=0, op="release", manager=manager))

    def _check_union(self, union: Streams) -> None:
        check_case(symbol for symbol, _ in union)
        if reserve_capacity(self._writer, union, self._settings.max_streams):
            self._intake.segment_replaced()
        self._store.read_ahead(union)

    def _fail(self, error: ShmfeedError) -> None:
        self._failure = error
        self.stop()

    def _loop(self) -> None:
        turned = boot_seconds()
        for batch in self._batches:
            now = boot_seconds()
            self._note_stall(now - turned)
            self._take(batch)
            taken = boot_seconds()
            self._note_stall(taken - now)
            self._intake.tick(taken)
            self._latency.tick(taken)
            new = self._status.tell_new(self._intake.last_error, self._store.last_error)
            self._events.tell_all(new, self._intake.clock_error)
            self._attend_history(taken)
            if self._mute.is_due(now):
                quiet = self._history.quiet
                steps = attend_mute(self._mute, self._session, self._intake, quiet, now)
                self._journal.muted(*steps)
            self._writer.tick()
            self._service.beat(now)
            for pending in self._requests.drain():
                self._handler.answer(pending)
            self._handler.tick(taken)
            if self._is_reload_due:
                self._is_reload_due = False
                self._reloader.reload(self._service.announce(PendingRequest(RELOAD)))
            if self._handover is not None:
                return
            turned = boot_seconds()

    def _note_stall(self, seconds: float) -> None:
        if seconds > STALL_SECONDS:
            self._intake.stalled()
            self._journal.stalled(seconds)

    def _end_requests(self) -> None:
        self._intake.missing.log(math.inf)
        self._history.close()  # managers that wait for a question go
        self._symbols.end()
        self._queue.end()
        self._requests.end()

    def _serve(self, request: ControlRequest) -> dict[str, Any]:
        """Answer a request, in a control thread."""
        answer = serve_beside(request, self._history, self._settings)
        return self._requests.ask(request) if answer is None else answer

    # Events of the session

    def _take(self, batch: list[SessionEvent]) -> None:
        for event in batch:
            if isinstance(event, Received):
                self._intake.take(event.events, event.connection, event.line)
                self._latency.observe(event.events, event.read_at)
            else:
                # A reload that is refused says so itself.
                is_told = isinstance(event, ChangeRefused) and self._queue.is_asking(
                    RUN
                )
                self._take_status(event)
                if not is_told:
                    self._journal.take(event)
        if self._journal.is_pending:
            self._journal.flush()

    def _take_status(self, event: SessionEvent) -> None:
        match event:
            case VenueTime(time, read_at):
                self._intake.venue_time(time, read_at)
            case StatusChanged(_, new):
                self._publish(new)
            case Connected(is_reconnect=True, is_planned=False):
                self._writer.count("reconnects")
                self._status.count_loss()
            case ConnectionLost():
                self._connection_lost(event)
            case Delivery():
                self._source.take(event)
            case Subscribed() | ChangeRefused():
                self._settle(event)
            case StreamsRefused(streams, message):
                self._left_out.update(streams)
                self._refuse(streams, message)
            case SettingsRefused():
                self._gate.refuse_token(self._reloader.revert())
            case _:
                pass

    def _connection_lost(self, event: ConnectionLost) -> None:
        if event.is_oversized:
            self._writer.count("oversized")
        carried = set(self._writer.streams()).intersection(event.uncovered)
        self._intake.connection_lost(event.connection, carried)
        if event.uncovered:
            self._status.streams_uncovered()
            self._writer.mark_connection(carried, False)
            self._history.disconnected(carried)
            self._queue.connection_lost()

    def _settle(self, outcome: ChangeOutcome) -> None:
        if isinstance(outcome, Subscribed):
            said = self._source.adjust(self._wants, self._own, self._check_union)
            if said:
                self._status.tell(said)
            self._set_streams(outcome.streams)
            covered = set(self._writer.streams()).intersection(outcome.covered)
            self._writer.mark_connection(covered, True)
            for key in covered & self._left_out:
                self._reasons.clear(key, "refused")
            self._left_out -= covered
            self._intake.connected(covered)
            self._history.connected(covered, boot_seconds())
        self._queue.settle(outcome)

    def _attend_history(self, now: float) -> None:
        leave, refused, said, forbidden, blocked = self._history.turn(now)
        self._events.tell("rest_blocked", blocked)
        self._symbols.tick(now)
        if leave:
            self._session.move(leave)
        for refusal in refused:
            # An acknowledgement does not take it back: the venue accepts any symbol.
            self._refuse(*refusal)
            self._journal.refused(*refusal)
        if forbidden is not None:
            self._session.forbid(forbidden)
        if said:
            self._status.tell(said)

    def _set_streams(self, streams: Streams) -> None:
        self._intake.set_streams(streams)
        self._history.set_streams(self._writer.streams(), boot_seconds())
        self._store.follow(self._writer.streams())
        if self._settings.stale_after is not None:
            for key in self._writer.streams():
                self._writer.set_silence(key, self._settings.stale_after_in(key[1]))

    def _refuse(self, streams: Streams, message: str, fails: bool = False) -> None:
        for key in set(self._writer.streams()).intersection(streams):
            self._reasons.put(key, "refused", message)
        said = describe_refused(streams, message, fails)
        self._status.tell(said)
        self._events.tell("refused", said, streams)

    def _publish(self, new: SessionStatus) -> None:
        self._status.changed(new)
        self._service.show(new.state, new.last_error)
        gives_up = self._settings.give_up and self._is_foreground
        if self._source.is_relayed and not new.attempts:
            gives_up = False  # the leader's feeder goes on trying
        if gives_up and new.state == "error":
            self._fail(gave_up_error(new))

    def _tell_wanted(self) -> Settings:
        """Publish that a token is wanted, and return the settings in force."""
        if self._has_feed:
            self._status.publish()
        return self._settings
