"""The client of a venue on one open connection.

It subscribes, receives, and enforces the time limits. The connection fails if the venue

- refuses the subscription, or does not acknowledge it in time;
- sends no bar, or no frame of any kind, for too long;
- begins a message and does not complete it in time.

It is replaced on purpose before the age at which the venue would end it, and when the
venue announces its end.
"""

import math
from collections.abc import Callable
from typing import Protocol

from shmfeed.bar import stale_after
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
from shmfeed.wire.connection import Connection, ConnectionLostError
from shmfeed.wire.events import (
    ChangeOutcome,
    Received,
    SessionEvent,
    Streams,
    Subscribed,
)
from shmfeed.wire.subscription import Subscription

EARLY_BARS = 20_000  # before the acknowledgement: two for each stream there can be

_REST_READS = 100  # reads after a failed send, to drain what the kernel received


class LeavingError(ConnectionLostError):
    """The end of a connection left on purpose; another one follows at once."""


class RefusedError(ConnectionLostError):
    """The venue refused the subscription, or never acknowledged it."""


class Limits(Protocol):
    """The settings of a client, in seconds."""

    @property
    def ack_timeout(self) -> float: ...
    @property
    def data_timeout(self) -> float | None: ...
    @property
    def heartbeat_interval(self) -> float: ...
    @property
    def heartbeat_timeout(self) -> float: ...
    def redact(self, text: str) -> str: ...


class VenueClient:
    """The client of one connection, from the handshake to its loss.

    Attributes:
        acknowledged_at: When the venue acknowledged the subscription, by `clock`; None
            before.
        has_data: True once a bar has come.
    """

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        subscription: Subscription,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self.acknowledged_at: float | None = None
        self.has_data = False
        self._connection = connection
        self._codec = codec
        self._subscription = subscription
        self._limits = limits
        self._clock = clock
        self._opened_at = clock()
        self._data_at = self._ping_at = self._silence = 0.0  # once acknowledged
        self._early: list[Event] = []  # bars before the acknowledgement
        self._end: ConnectionLostError | None = None
        self._cannot_send = False  # what was received is still read

    def begin(self, streams: Streams) -> list[SessionEvent]:
        """Request the streams that the connection was opened for."""
        batch: list[SessionEvent] = []
        try:
            self._settle(self._subscription.begin(streams), batch)
        except BadArgumentError as error:
            self._refused(str(error), batch)
        return batch

    def run_once(self, timeout: float) -> list[SessionEvent]:
        """Send what is due, wait up to `timeout` s, and return the events in order.

        Raises:
            ConnectionLostError: The connection has ended. It is raised at the call
                after the one that noticed, so that no event is lost.
        """
        if self._end is not None:
            raise self._end
        batch: list[SessionEvent] = []
        try:
            self._send_due(batch)
            due = self._subscription.due_in(self._clock())
            wait = 0.0 if batch or self._cannot_send else min(timeout, due)
            if self._connection.wait(wait) == "readable":
                self._read(batch)
            self._check_limits(self._clock(), batch)
            if self._cannot_send:
                self._read_rest(batch)
        except ConnectionLostError as failure:
            if not isinstance(self._end, RefusedError | LeavingError):
                self._end = failure
        return batch

    def _send_due(self, batch: list[SessionEvent]) -> None:
        self._settle(self._subscription.begin_change(), batch)
        frame = self._subscription.next_frame(self._clock())
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
            self._end = self._end or failure
            self._cannot_send = True

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
            _deliver(bars, batch)
        else:
            self._early += bars

    def _take(self, event: Event, batch: list[SessionEvent]) -> None:
        match event:
            case Acknowledged(request_id):
                self._settle(self._subscription.acknowledge(request_id), batch)
            case Refused(request_id, message):
                event.message = self._limits.redact(message)
                if self._subscription.concerns(request_id):
                    self._refused(event.message, batch)
                else:
                    _deliver([event], batch)
            case GoingAway():
                self._leave("the server is about to close")
            case Heartbeat(reply):
                _deliver([event], batch)
                if reply is not None:
                    self._send(reply)
            case _:
                _deliver([event], batch)

    def _settle(self, outcome: ChangeOutcome | None, batch: list[SessionEvent]) -> None:
        """Hand over the outcome of an exchange, and the bars that came before it."""
        if outcome is None:
            return
        batch.append(outcome)
        if isinstance(outcome, Subscribed):
            self._start(outcome.streams)
            if self._early:
                _deliver(self._early, batch)
                self._early = []

    def _start(self, streams: Streams) -> None:
        now = self._clock()
        self._data_at = now
        self._silence = silence_limit(self._limits.data_timeout, streams)
        if self.acknowledged_at is None:
            self.acknowledged_at = now
            self._ping_at = now + self._limits.heartbeat_interval

    def _refused(self, message: str, batch: list[SessionEvent]) -> None:
        refusal = self._subscription.refuse(message)
        self._settle(refusal.outcome, batch)
        where = self._connection.label
        if refusal.then == "fail":
            self._end = RefusedError(f"{where} refused the subscription: {message}")
        elif refusal.then == "leave":
            self._end = LeavingError(f"{where} refused a change")

    def _leave(self, reason: str) -> None:
        # Before the acknowledgement this counts as a failed attempt. Otherwise a server
        # that always says goodbye would be retried without end.
        planned = self.acknowledged_at is not None
        self._end = LeavingError(reason) if planned else ConnectionLostError(reason)

    def _check_limits(self, now: float, batch: list[SessionEvent]) -> None:
        if self._end is not None:
            return
        self._check_partial_message(now)
        if self._subscription.is_overdue(now):
            self._unanswered(batch)
        elif self.acknowledged_at is not None:
            self._check_data(now)
            self._check_frames(now)
        elif len(self._early) > EARLY_BARS:
            raise ConnectionLostError(
                f"the venue sent more than {EARLY_BARS} bars before it acknowledged the"
                " subscription"
            )

    def _unanswered(self, batch: list[SessionEvent]) -> None:
        seconds, where = self._limits.ack_timeout, self._connection.label
        message = f"{where} did not acknowledge the subscription within {seconds:g} s"
        if not self._subscription.is_live:
            raise RefusedError(message)
        self._refused(message, batch)
        # The venue may have applied the change without saying so. A new connection
        # settles which streams it sends.
        self._end = self._end or LeavingError(message)

    def _check_partial_message(self, now: float) -> None:
        since, limit = self._connection.part_since, self._limits.heartbeat_timeout
        if since is not None and now - since > limit:
            raise ConnectionLostError(
                f"the rest of a message did not arrive within {limit:g} s"
            )

    def _check_data(self, now: float) -> None:
        if now - self._data_at > self._silence:
            raise ConnectionLostError(f"the venue sent no bar for {self._silence:g} s")
        age = self._codec.max_connection_age
        if age is not None and now - self._opened_at > age:
            raise LeavingError(f"connection replaced as planned, after {age:g} s")

    def _check_frames(self, now: float) -> None:
        if not self._codec.answers_pings:
            return
        silence = self._limits.heartbeat_timeout
        if now - self._connection.last_frame_at > silence:
            raise ConnectionLostError(f"the venue sent no frame for {silence:g} s")
        if now >= self._ping_at:
            self._ping_at = now + self._limits.heartbeat_interval
            self._send(None)


def silence_limit(data_timeout: float | None, streams: Streams) -> float:
    """Return the seconds without a bar after which a connection has failed.

    For None, three bars of the smallest timeframe, at least 30 s. Without streams there
    is no limit.
    """
    if not streams:
        return math.inf
    if data_timeout is not None:
        return data_timeout
    return min(stale_after(timeframe) for _, timeframe in streams)


def _deliver(events: list[Event], batch: list[SessionEvent]) -> None:
    last = batch[-1] if batch else None
    if isinstance(last, Received):
        last.events.extend(events)
    else:
        batch.append(Received(events))
