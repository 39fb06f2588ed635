"""The client of a venue on one open connection.

It subscribes, receives, and enforces the time limits. The connection fails if the venue

- refuses the subscription, or does not acknowledge it in time;
- sends no bar, or no frame of any kind, for too long;
- begins a message and does not complete it in time.

The client asks for a replacement before the age at which the venue would end the
connection, and when the venue announces its end; it goes on receiving meanwhile.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from shmfeed.codecs import Codec
from shmfeed.codecs.interface import (
    Acknowledged,
    BarEvent,
    Event,
    GoingAway,
    Heartbeat,
    Refused,
)
from shmfeed.errors import BadArgumentError
from shmfeed.wire.asked_wait import wait_of_error
from shmfeed.wire.connection import ClosedError, Connection, ConnectionLostError
from shmfeed.wire.events import (
    ChangeOutcome,
    ChangeRefused,
    Received,
    SessionEvent,
    Streams,
)
from shmfeed.wire.refusals import RefusalSearch
from shmfeed.wire.silence import SilenceWatch
from shmfeed.wire.subscription import Subscription

CHECK_SECONDS = 0.05  # between two looks at the time limits
EARLY_BARS = 20_000  # before the acknowledgement: two for each stream there can be

_REST_READS = 100  # reads after a failed send, to drain what the kernel received


class LeavingError(ConnectionLostError):
    """The end of a connection left on purpose; another one follows at once."""


class SilentError(ConnectionLostError):
    """The venue sent no bar for too long."""


class RefusedError(ConnectionLostError):
    """The venue refused the subscription, or never acknowledged it.

    `code` is that of the close frame that followed, 0 without one.
    """

    code = 0


class Limits(Protocol):
    """The settings of a client, in seconds."""

    @property
    def ack_timeout(self) -> float: ...
    @property
    def heartbeat_interval(self) -> float: ...
    @property
    def heartbeat_timeout(self) -> float: ...
    @property
    def max_connection_age(self) -> float | None: ...
    def redact(self, text: str) -> str: ...


class ClientTag(NamedTuple):
    """The number of a connection and its line, which its messages carry."""

    number: int
    line: int


FIRST = ClientTag(0, 0)


class VenueClient:
    """The client of one connection, from the handshake to its loss.

    Attributes:
        tag: The number of the connection and its line.
        search: The search for refused symbols; None if refused ones are not left out.
        acknowledged_at: The time of the venue's acknowledgement, by `clock`; None
            before.
        has_data: True once a bar has come.
        leaving: The reason to replace the connection; empty if it stays.
        is_going_away: True once the venue has announced the connection's end.
    """

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        subscription: Subscription,
        limits: Limits,
        clock: Callable[[], float],
        silence: SilenceWatch,
        search: RefusalSearch | None = None,
        tag: ClientTag = FIRST,
    ) -> None:
        """`search` finds the symbols to do without; None: a refusal is a failure."""
        self.acknowledged_at: float | None = None
        self.has_data = False
        self.leaving = ""
        self.is_going_away = False
        self._connection = connection
        self._codec = codec
        self._subscription = subscription
        self._limits = limits
        self._clock = clock
        self._silence = silence
        self.search = search
        self.tag = tag
        self._opened_at = clock()
        self._check_at = -math.inf
        self._data_at = self._ping_at = 0.0  # once acknowledged
        self._early: list[Event] = []  # bars before the acknowledgement
        self._wait_until = -math.inf  # as a message of the venue asks
        self._end: ConnectionLostError | None = None
        self._cannot_send = False  # what was received is still read

    def opened(self) -> None:
        """Count the connection's age from now on."""
        self._opened_at = self._clock()

    def begin(self, streams: Streams) -> list[SessionEvent]:
        """Request the streams that the connection was opened for."""
        batch: list[SessionEvent] = []
        self._request(streams, batch)
        return batch

    def due_in(self, now: float) -> float:
        """Return the seconds until `step` has something to do without the socket."""
        if self._end or self._cannot_send or self._connection.has_pending():
            return 0.0
        return self._subscription.due_in(now)

    def step(self, is_readable: bool, now: float) -> list[SessionEvent]:
        """Send what is due, read what has come, and return the events in order.

        It never waits.

        Raises:
            ConnectionLostError: The connection has ended. It is raised at the call
                after the one that noticed, so that no event is lost.
        """
        if self._end is not None:
            raise self._end
        batch: list[SessionEvent] = []
        try:
            if self._subscription.has_work:
                self._send_due(batch, now)
            if is_readable or self._connection.has_pending():
                self._read(batch)
            if now >= self._check_at:
                self._check_limits(now, batch)
            if self._cannot_send:
                self._read_rest(batch)
        except ConnectionLostError as failure:
            if not isinstance(self._end, RefusedError | LeavingError):
                self._end = self._explained(failure)
        return batch

    def use_limits(self, limits: Limits) -> None:
        """Obey these limits from now on."""
        self._limits = limits

    def leave(self, reason: str) -> None:
        """Ask for a replacement of the connection, which stays in use until then."""
        self.leaving = self.leaving or reason

    def stay(self) -> None:
        """Withdraw the reason to replace the connection, unless the venue ends it."""
        if not self.is_going_away:
            self.leaving = ""

    def read_rest(self) -> list[SessionEvent]:
        """Return the events of what has come, before the connection is closed."""
        batch: list[SessionEvent] = []
        with suppress(ConnectionLostError):
            self._read_rest(batch)
        return batch

    def _request(self, streams: Streams, batch: list[SessionEvent]) -> None:
        try:
            self._settle(self._subscription.begin(streams), batch)
        except BadArgumentError as error:
            self._refused(str(error), batch)

    def _send_due(self, batch: list[SessionEvent], now: float) -> None:
        self._settle(self._subscription.begin_change(), batch)
        frame = self._subscription.next_frame(now)
        if frame is not None:
            self._send(frame)

    def _send(self, text: str | None) -> None:
        """Send a text, or a ping for None."""
        try:
            if text is None:
                self._connection.ping()
            else:
                self._connection.send(text)
        except ConnectionLostError as failure:
            # The connection has ended, but what it has received is still to be read.
            self._end = self._end or self._explained(failure)
            self._cannot_send = True

    def _explained(self, failure: ConnectionLostError) -> ConnectionLostError:
        """Return the end of a connection with what the venue said before it.

        A hang-up behind a refusal is a refusal, and a wait that a message has asked for
        is kept.
        """
        words = "" if self.search is None else self.search.refusal
        if words and not isinstance(failure, RefusedError):
            failure = self._refusal(words, failure)
        left = self._wait_until - self._clock()
        failure.retry_after = max(failure.retry_after, left)
        return failure

    def _refusal(
        self, message: str, failure: ConnectionLostError | None = None
    ) -> RefusedError:
        where = self._connection.label
        refusal = RefusedError(f"{where} refused the subscription: {message}")
        if failure is not None:
            refusal.retry_after = failure.retry_after
            refusal.code = failure.code if isinstance(failure, ClosedError) else 0
        return refusal

    def _read_rest(self, batch: list[SessionEvent]) -> None:
        for _ in range(_REST_READS):
            if not self._read(batch):
                return

    def _read(self, batch: list[SessionEvent]) -> bool:
        decode = self._codec.decode
        messages = self._connection.receive()
        bars: list[Event] = []
        for data in messages:
            for event in decode(data):
                if type(event) is BarEvent:
                    bars.append(event)
                else:
                    self._take_bars(bars, batch)
                    bars = []
                    self._take(event, batch)
        self._take_bars(bars, batch)
        return bool(messages)

    def _take_bars(self, bars: list[Event], batch: list[SessionEvent]) -> None:
        if not bars:
            return
        self.has_data = True
        self._data_at = self._connection.last_data_at
        if self._subscription.is_live:
            self._deliver(bars, batch)
        else:
            self._early += bars
            if len(self._early) > EARLY_BARS:
                raise ConnectionLostError(
                    f"the venue sent more than {EARLY_BARS} bars before it acknowledged"
                    " the subscription"
                )

    def _take(self, event: Event, batch: list[SessionEvent]) -> None:
        match event:
            case Acknowledged(request_id):
                self._settle(self._subscription.acknowledge(request_id), batch)
            case Refused():
                self._take_refusal(event, batch)
            case GoingAway():
                self._go_away("the server is about to close")
            case Heartbeat(reply):
                self._deliver([event], batch)
                if reply is not None:
                    self._send(reply)
            case _:
                self._deliver([event], batch)

    def _take_refusal(self, event: Refused, batch: list[SessionEvent]) -> None:
        event.message = self._limits.redact(event.message)
        if wait := wait_of_error(event.message):
            self._wait_until = max(self._wait_until, self._clock() + wait)
        if self._subscription.concerns(event.request_id):
            self._refused(event.message, batch, event.symbol)
        else:
            self._deliver([event], batch)

    def _settle(self, outcome: ChangeOutcome | None, batch: list[SessionEvent]) -> None:
        """Hand over the outcome of an exchange, and the bars that came before it."""
        if outcome is None:
            return
        if isinstance(outcome, ChangeRefused):
            batch.append(outcome)
            return
        if self.acknowledged_at is None and self.search is not None:
            following = self.search.accept()
            if following is not None:
                self._ask_for(following, batch)
                return
            batch += self.search.refused()
        batch.append(outcome)
        self._start(outcome.streams)
        if self._early:
            self._deliver(self._early, batch)
            self._early = []

    def _start(self, streams: Streams) -> None:
        now = self._clock()
        self._data_at = now
        self._silence.carry(streams)
        if self.acknowledged_at is None:
            self.acknowledged_at = now
            self._ping_at = now + self._limits.heartbeat_interval

    def _ask_for(self, streams: Streams, batch: list[SessionEvent]) -> None:
        self._subscription.narrow(streams)
        self._request(streams, batch)

    def _refused(
        self, message: str, batch: list[SessionEvent], symbol: str = ""
    ) -> None:
        if self._may_search():
            following = self.search and self.search.refuse(message, symbol)
            if following:
                self._ask_for(following, batch)
                return
        refusal = self._subscription.refuse(message)
        self._settle(refusal.outcome, batch)
        if refusal.then == "fail":
            self._end = self._explained(self._refusal(message))
        elif refusal.then == "leave":
            self._leave(f"{self._connection.label} refused a change")

    def _may_search(self) -> bool:
        # A venue that asks for a wait refuses no symbol.
        is_early = self._clock() < self._wait_until
        is_new = self.acknowledged_at is None and not self._subscription.is_changing
        return is_new and not is_early

    def _leave(self, reason: str) -> None:
        if self.acknowledged_at is None:
            self._end = LeavingError(reason)
        else:
            self.leave(reason)

    def _go_away(self, reason: str) -> None:
        # Before the acknowledgement this counts as a failed attempt. Otherwise a server
        # that always says goodbye would be retried without end.
        if self.acknowledged_at is None:
            self._end = ConnectionLostError(reason)
        else:
            self.is_going_away = True
            self.leave(reason)

    def _check_limits(self, now: float, batch: list[SessionEvent]) -> None:
        if self._end is not None:
            return
        self._check_at = now + CHECK_SECONDS
        self._check_partial_message(now)
        if self._subscription.is_overdue(now):
            self._unanswered(batch)
        elif self.acknowledged_at is not None:
            self._check_data(now)
            self._check_frames(now)

    def _unanswered(self, batch: list[SessionEvent]) -> None:
        seconds, where = self._limits.ack_timeout, self._connection.label
        message = f"{where} did not acknowledge the subscription within {seconds:g} s"
        if not self._subscription.is_live:
            raise RefusedError(message)
        is_repeating = self._subscription.is_repeating
        self._refused(message, batch)
        if not is_repeating:
            # The venue may have applied the change without saying so. A new connection
            # settles which streams it sends.
            self.leave(message)

    def _check_partial_message(self, now: float) -> None:
        since, limit = self._connection.part_since, self._limits.heartbeat_timeout
        if since is not None and now - since > limit:
            raise ConnectionLostError(
                f"the rest of a message did not arrive within {limit:g} s"
            )

    def _check_data(self, now: float) -> None:
        silence, limit = now - self._data_at, self._silence.limit
        if silence > limit:
            raise SilentError(f"the venue sent no bar for {limit:g} s")
        self._silence.observe(silence, now)
        age = self._limits.max_connection_age
        if age is None:
            age = self._codec.max_connection_age
        if age is not None and now - self._opened_at > age:
            self.leave(f"connection replaced as planned, after {age:g} s")

    def _check_frames(self, now: float) -> None:
        if not self._codec.answers_pings:
            return
        silence = self._limits.heartbeat_timeout
        if now - self._connection.last_frame_at > silence:
            raise ConnectionLostError(f"the venue sent no frame for {silence:g} s")
        if now >= self._ping_at:
            self._ping_at = now + self._limits.heartbeat_interval
            self._send(None)

    def _deliver(self, events: list[Event], batch: list[SessionEvent]) -> None:
        last = batch[-1] if batch else None
        if type(last) is Received:
            last.events.extend(events)
        else:
            read_at = self._connection.last_data_at
            batch.append(Received(events, *self.tag, read_at))
