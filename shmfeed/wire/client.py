"""One open connection at work: it subscribes, hands over events, and is watched.

It is given up when the venue refuses or does not acknowledge what it was opened for,
when no bar comes for too long, when no frame of any kind does, when a message that has
begun is not whole in time, and on purpose: before the age at which the venue would end
it, or when the venue is about to.
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
from shmfeed.wire.subscription import ChangeRefused, Streams, Subscribed, Subscription

Output = Event | Subscribed | ChangeRefused

HELD_BARS = 20_000  # before the acknowledgement: two for each stream there can be

_REST_READS = 100  # of a connection that cannot be spoken on: what a kernel keeps


class LeavingError(ConnectionLostError):
    """Given up on purpose, to be followed by another connection at once."""


class RefusedError(ConnectionLostError):
    """The venue refused the subscription, or never acknowledged it."""


class Limits(Protocol):
    """The settings that matter here; seconds."""

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
    """What goes on between the handshake and the loss of one connection.

    `since` is when the venue acknowledged, by `clock`, None before; `has_data` whether
    a bar has come.
    """

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        subscription: Subscription,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self.since: float | None = None
        self.has_data = False
        self._connection = connection
        self._codec = codec
        self._subscription = subscription
        self._limits = limits
        self._clock = clock
        self._opened_at = clock()
        self._data_at = self._ping_at = self._silence = 0.0  # once acknowledged
        self._held: list[Output] = []  # bars before the acknowledgement
        self._end: ConnectionLostError | None = None
        self._is_mute = False  # nothing more can be sent

    def begin(self, streams: Streams) -> None:
        """Ask for the streams that the connection was opened for."""
        try:
            self._subscription.begin(streams)
        except BadArgumentError as error:
            self._refused(str(error))

    def turn(self, patience: float) -> list[Output]:
        """Send what is due, wait up to `patience` s, and return what came, in order.

        Raises ConnectionLostError at the turn after the one that found it out, so that
        no event is lost.
        """
        if self._end is not None:
            raise self._end
        batch: list[Output] = []
        try:
            self._send_due()
            self._tell(batch)
            due = self._subscription.due_in(self._clock())
            wait = 0.0 if batch or self._is_mute else min(patience, due)
            if self._connection.wait(wait) == "readable":
                self._read(batch)
            self._watch(self._clock())
            if self._is_mute:
                self._read_rest(batch)
        except ConnectionLostError as failure:
            if not isinstance(self._end, RefusedError | LeavingError):
                self._end = failure
        self._tell(batch)
        return batch

    def _send_due(self) -> None:
        frame = self._subscription.next_frame(self._clock())
        if frame is not None:
            self._say(frame)

    def _say(self, text: str | None) -> None:
        """Send a text; None: a ping."""
        try:
            if text is None:
                self._connection.ping()
            else:
                self._connection.send(text)
        except ConnectionLostError as failure:
            # It is the end, but of what had come before nothing is lost.
            self._end = self._end or failure
            self._is_mute = True

    def _read_rest(self, batch: list[Output]) -> None:
        for _ in range(_REST_READS):
            if not self._read(batch):
                return

    def _read(self, batch: list[Output]) -> bool:
        decode = self._codec.decode
        bars = self._bars(batch)
        heard = False
        messages = self._connection.receive()
        for data in messages:
            for event in decode(data):
                if type(event) is BarEvent:
                    bars.append(event)
                    heard = True
                else:
                    self._hear(event, batch)
                    bars = self._bars(batch)
        if heard:
            self.has_data = True
            self._data_at = self._connection.last_data_at
        return bool(messages)

    def _bars(self, batch: list[Output]) -> list[Output]:
        return batch if self._subscription.begun else self._held

    def _hear(self, event: Event, batch: list[Output]) -> None:
        match event:
            case Acknowledged(request_id):
                self._subscription.acknowledge(request_id)
                self._tell(batch)
            case Refused(request_id, message):
                event.message = self._limits.redact(message)
                self._hear_refusal(event, batch)
            case GoingAway():
                self._leave("the server is about to close")
            case Heartbeat(reply):
                batch.append(event)
                if reply is not None:
                    self._say(reply)
            case _:
                batch.append(event)

    def _hear_refusal(self, event: Refused, batch: list[Output]) -> None:
        if self._subscription.concerns(event.request_id):
            self._refused(event.message)
            self._tell(batch)
        else:
            batch.append(event)

    def _tell(self, batch: list[Output]) -> None:
        """Hand over what became of the questions, and bars held for an answer."""
        for outcome in self._subscription.take_outcomes():
            batch.append(outcome)
            if isinstance(outcome, Subscribed):
                self._start(outcome.streams)
                batch.extend(self._held)
                self._held.clear()

    def _start(self, streams: Streams) -> None:
        now = self._clock()
        self._data_at = now
        self._silence = silence_limit(self._limits.data_timeout, streams)
        if self.since is None:
            self.since = now
            self._ping_at = now + self._limits.heartbeat_interval

    def _refused(self, message: str) -> None:
        where = self._connection.shown
        if not self._subscription.refuse(message):
            text = f"{where} refused the subscription: {message}"
            self._end = RefusedError(text)
        elif not self._subscription.begun or self._subscription.tangled:
            self._end = LeavingError(f"{where} refused a change")

    def _leave(self, reason: str) -> None:
        # Before the acknowledgement it is a failure: else this would go on for ever.
        planned = self.since is not None
        self._end = LeavingError(reason) if planned else ConnectionLostError(reason)

    def _watch(self, now: float) -> None:
        if self._end is not None:
            return
        self._watch_part(now)
        if self._subscription.overdue(now):
            self._unanswered()
        elif self.since is not None:
            self._watch_data(now)
            self._watch_life(now)
        elif len(self._held) > HELD_BARS:
            raise ConnectionLostError(
                f"more than {HELD_BARS} bars before the acknowledgement"
            )

    def _unanswered(self) -> None:
        seconds, where = self._limits.ack_timeout, self._connection.shown
        message = f"no acknowledgement within {seconds:g} s from {where}"
        if not self._subscription.begun:
            raise RefusedError(message)
        self._refused(message)
        # It may have changed what it sends all the same: begin anew, and know.
        self._end = self._end or LeavingError(message)

    def _watch_part(self, now: float) -> None:
        since, patience = self._connection.part_since, self._limits.heartbeat_timeout
        if since is not None and now - since > patience:
            raise ConnectionLostError(f"a message is not whole after {patience:g} s")

    def _watch_data(self, now: float) -> None:
        if now - self._data_at > self._silence:
            raise ConnectionLostError(f"no data for {self._silence:g} s")
        age = self._codec.max_connection_age
        if age is not None and now - self._opened_at > age:
            raise LeavingError(f"planned, after {age:g} s")

    def _watch_life(self, now: float) -> None:
        if not self._codec.heartbeat:
            return
        silence = self._limits.heartbeat_timeout
        if now - self._connection.last_frame_at > silence:
            raise ConnectionLostError(f"no sign of life for {silence:g} s")
        if now >= self._ping_at:
            self._ping_at = now + self._limits.heartbeat_interval
            self._say(None)


def silence_limit(data_timeout: float | None, streams: Streams) -> float:
    """Seconds without a bar after which something is wrong.

    None: three bars of the smallest timeframe, at least 30 s. Without streams, never.
    """
    if not streams:
        return math.inf
    if data_timeout is not None:
        return data_timeout
    return min(stale_after(timeframe) for _, timeframe in streams)
