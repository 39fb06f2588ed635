"""One subscription kept alive: endpoints in turn, one connection after another.

    disconnected -> connecting -> connected <-> reconnecting
                        |                            |
                        +---------> error <----------+

An *attempt* is one pass over all endpoints, without a pause between them. It succeeds
when the venue acknowledges the subscription; the connection is then used until it is
lost. The first attempt after the loss of a working connection comes at once. Each
attempt after a failure waits a random part of a limit that doubles.
`max_reconnect_attempts` failures in a row end in `error`, until `retry`.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

from shmfeed.codecs import Codec
from shmfeed.errors import BadArgumentError
from shmfeed.settings.endpoint import redact
from shmfeed.settings.model import Settings
from shmfeed.wire.backoff import full_jitter
from shmfeed.wire.client import LeavingError, RefusedError, VenueClient
from shmfeed.wire.connect import ConnectPolicy, check_target
from shmfeed.wire.connection import (
    TICK,
    Connection,
    ConnectionLostError,
    OversizedError,
    poll,
)
from shmfeed.wire.events import (
    Connected,
    ConnectionLost,
    SessionEvent,
    SessionStatus,
    StatusChanged,
    Streams,
    Subscribed,
)
from shmfeed.wire.subscription import Subscription

# Seconds. A connection that is lost sooner after its acknowledgement, without a bar,
# counts as a failed attempt.
SHORT_LIFE = 1.0
# A clock that counts suspended time, so that a connection which did not survive a
# suspend is replaced as soon as the host wakes.
SINCE_BOOT: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME") and hasattr(time, "clock_gettime")
    else time.monotonic
)
_CLOSE_SECONDS = 0.5  # s; for the server's answer to our close

_Batches = Iterator[list[SessionEvent]]


class Session:
    """The connections to a venue, to the first of `endpoints` that accepts `streams`.

    All methods belong to the thread that iterates `batches`, except `stop`: another
    thread may call it, and then writes to the pipe of `wake_fd`.

    Attributes:
        status: The status now; every change of it is also an event.
    """

    def __init__(
        self,
        codec: Codec,
        settings: Settings,
        endpoints: list[str],
        streams: Streams,
        *,
        wake_fd: int | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = SINCE_BOOT,
        tick: float = TICK,
    ) -> None:
        """Check the endpoints, without touching the network.

        Args:
            codec: The venue's protocol.
            settings: Limits, delays and the policy of connections.
            endpoints: Complete URLs, as `codec.endpoints` returns them.
            streams: The streams to subscribe.
            wake_fd: The read end of a pipe; a byte in it ends every wait.
            rng: The source of random delays.
            clock: A clock in seconds that never goes back.
            tick: The longest time without a batch, in seconds.

        Raises:
            BadArgumentError: There is no endpoint, or one may not be used.
        """
        if not endpoints:
            raise BadArgumentError("a session needs at least one endpoint")
        for url in endpoints:
            check_target(url, _policy(settings))
        self.status = SessionStatus()
        self._codec = codec
        self._settings = settings
        self._endpoints = endpoints
        self._first = 0  # the endpoint that an attempt begins with
        self._subscription = Subscription(codec, streams, settings.ack_timeout)
        self._wake_fd = wake_fd
        self._rng = rng or random.Random()  # noqa: S311 - it spreads load, no secrets
        self._clock = clock
        self._tick = tick
        self._events: list[SessionEvent] = []  # not handed over yet
        self._connection: Connection | None = None
        self._client: VenueClient | None = None
        self._delay = 0.0  # before the next attempt
        self._failures_before = 0  # attempts that failed before the acknowledgement
        self._short_lives = 0  # in a row
        self._was_connected = self._is_retrying = False
        self._stopping = threading.Event()

    @property
    def acknowledged(self) -> Streams:
        """The streams acknowledged last; before that, the streams to subscribe."""
        return self._subscription.acknowledged

    @property
    def is_changing(self) -> bool:
        """True while a change of the subscription has no outcome."""
        return self._subscription.is_changing

    def batches(self) -> _Batches:
        """Yield the events in order, a batch at a time, until `stop`. Call it once.

        An empty batch comes at least each `tick`, at each wake-up, and after a change
        of state before anything waits. The bars that came before an acknowledgement
        follow its Subscribed.
        """
        try:
            while not self._stopping.is_set():
                yield from self._attempt()
                if self._delay and not self._stopping.is_set():
                    yield from self._pause()
        finally:
            self._hang_up()
            self._update(state="disconnected", phase="waiting")

    def change(self, streams: Streams) -> None:
        """Replace the wanted streams; a change in progress is superseded.

        The live connection requests them, else the next one. The outcome is a
        ChangeRefused, or a Subscribed with `ends_change`.
        """
        self._subscription.change(streams)

    def retry(self) -> list[SessionEvent]:
        """Connect again at once, out of `error` or a pause, as if nothing had failed.

        Return the resulting events. Earlier failures do not count for this attempt.
        """
        self._is_retrying = True
        self._update(error_kind="")
        return self._take_events()

    def stop(self) -> None:
        """End `batches` at its next turn; any thread may call it."""
        self._stopping.set()

    def _attempt(self) -> _Batches:
        self._delay = 0.0
        is_first = not self.status.error_kind
        failures: list[tuple[str, ConnectionLostError]] = []
        for turn in range(len(self._endpoints)):
            index = (self._first + turn) % len(self._endpoints)
            failure = yield from self._try(self._endpoints[index])
            if failure is None:
                return  # stopping
            if self._record_end(failure, index):
                # Yield first: the caller may change the wanted streams before the next
                # connection opens.
                yield self._take_events()
                return
            if isinstance(failure, LeavingError):
                return
            failures.append((self.status.endpoint, failure))
            if is_first:  # a pass can take long, so show what is known of it
                self._update(**self._last_error("connection", _listed(failures)))
        self._record_failed_attempt(failures)

    def _try(
        self, url: str
    ) -> Generator[list[SessionEvent], None, ConnectionLostError | None]:
        """Use one endpoint. Return the failure that ended it, or None after `stop`."""
        try:
            yield from self._serve(url)
        except ConnectionLostError as failure:
            return failure
        finally:
            self._hang_up()
        return None

    def _serve(self, url: str) -> _Batches:
        streams = self._subscription.wanted
        self._client = None
        self._update(
            state="reconnecting" if self._was_connected else "connecting",
            phase="connecting",
            endpoint=redact(url),
        )
        self._connection = connection = Connection(
            self._codec.url(url, streams),
            max_frame_bytes=self._settings.max_frame_bytes,
            policy=_policy(self._settings),
            wake_fd=self._wake_fd,
            clock=self._clock,
        )
        yield self._take_events()
        for _ in connection.opening(self._settings.connect_timeout, self._tick):
            yield self._take_events()
            if self._stopping.is_set():
                return
        self._update(phase="subscribing")
        yield self._take_events()
        if self._stopping.is_set():
            return
        self._client = client = VenueClient(
            connection, self._codec, self._subscription, self._settings, self._clock
        )
        batch = client.begin(streams) or client.run_once(self._tick)
        is_connected = False
        while True:
            if not is_connected and any(isinstance(e, Subscribed) for e in batch):
                is_connected = True
                self._connected()
                batch = self._take_events() + batch
            yield batch
            if self._stopping.is_set():
                return
            batch = client.run_once(self._tick)

    def _connected(self) -> None:
        is_reconnect = self._was_connected
        self._was_connected = True
        self._failures_before = self.status.attempts
        self._update(
            state="connected",
            phase="streaming",
            error_kind="",
            attempts=0,
            reconnects=self.status.reconnects + is_reconnect,
        )
        self._events.append(Connected(is_reconnect))

    def _record_end(self, failure: ConnectionLostError, index: int) -> bool:
        """Record the end of a connection. Return True if it had been connected."""
        client, is_oversized = self._client, isinstance(failure, OversizedError)
        if client is None or client.acknowledged_at is None:
            self._events.append(ConnectionLost(False, is_oversized))
            return False
        life = self._clock() - client.acknowledged_at
        self._record_loss(failure, index, life < SHORT_LIFE, client.has_data)
        self._events.append(ConnectionLost(True, is_oversized))
        return True

    def _record_loss(
        self, failure: ConnectionLostError, index: int, is_short: bool, had_data: bool
    ) -> None:
        is_planned = isinstance(failure, LeavingError)
        self._first = index if is_planned or had_data else index + 1
        self._short_lives = self._short_lives + 1 if is_short else 0
        changes = {"state": "reconnecting", "phase": "waiting"}
        if not is_planned:
            lost = f"lost {self.status.endpoint}: {failure}"
            changes |= self._last_error("connection", lost)
        if is_short and not is_planned and not had_data:
            changes |= self._count_failure(self._failures_before + 1)
        elif self._short_lives > 1:
            self._delay = self._backoff(self._short_lives - 2)
        self._update(**changes)

    def _record_failed_attempt(
        self, failures: list[tuple[str, ConnectionLostError]]
    ) -> None:
        changes = self._count_failure(self.status.attempts + 1)
        refusals = [error for _, error in failures if isinstance(error, RefusedError)]
        if refusals:
            changes |= self._last_error("subscription", str(refusals[-1]))
        else:
            listed = _listed(failures, changes["attempts"])
            changes |= self._last_error("connection", listed)
        if self._delay:
            changes["phase"] = "waiting"
        self._update(**changes)

    def _last_error(self, kind: str, text: str) -> dict[str, Any]:
        # A server may repeat our secrets.
        return {"error_kind": kind, "last_error": self._settings.redact(text)}

    def _count_failure(self, attempts: int) -> dict[str, Any]:
        most = self._settings.max_reconnect_attempts
        if most is not None and attempts >= most:
            self._delay = math.inf
            return {"attempts": attempts, "state": "error"}
        self._delay = self._backoff(attempts - 1)
        return {"attempts": attempts}

    def _backoff(self, doublings: int) -> float:
        base = self._settings.reconnect_delay_base
        most = self._settings.reconnect_delay_max
        return full_jitter(self._rng, base, most, doublings)

    def _pause(self) -> _Batches:
        self._update(phase="waiting")
        self._is_retrying = False
        end = self._clock() + self._delay
        yield self._take_events()
        while not (self._stopping.is_set() or self._is_retrying):
            left = end - self._clock()
            if left <= 0:
                return
            poll(None, 0, self._wake_fd, min(self._tick, left))
            yield []
        self._update(attempts=0)
        self._short_lives = 0

    def _update(self, **changes: Any) -> None:
        old = self.status
        self.status = old._replace(**changes)
        if self.status != old:
            self._events.append(StatusChanged(old, self.status))

    def _take_events(self) -> list[SessionEvent]:
        events, self._events = self._events, []
        return events

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close(
                timeout=_CLOSE_SECONDS if self._stopping.is_set() else 0.0
            )
        self._connection = None
        self._subscription.end()


def _policy(settings: Settings) -> ConnectPolicy:
    return ConnectPolicy(
        settings.allow_insecure,
        settings.proxy,
        settings.max_redirects,
        has_token=bool(settings.csrf_token),
    )


def _listed(failures: list[tuple[str, ConnectionLostError]], attempts: int = 0) -> str:
    count = f"{attempts} attempt{'' if attempts == 1 else 's'}"
    after = f" after {count}" if attempts else ""
    if len(failures) == 1:
        ((where, error),) = failures
        return f"could not connect to {where}{after}: {error}"
    each = ", ".join(f"{where} ({error})" for where, error in failures)
    return f"could not connect to {each}{after}"
