"""One subscription kept alive: endpoints in turn, acknowledgement, watchdogs, backoff.

    disconnected -> connecting -> connected <-> reconnecting
                        |                            |
                        +---------> error <----------+

An *attempt* is one pass over all endpoints, without a pause between them. It succeeds
with the venue's acknowledgement; then the connection serves until it is lost. The first
attempt after the loss of a working connection comes at once, each one after a failure
later: a random part of a limit that doubles. `max_reconnect_attempts` failures in a row
end in `error`, until `retry`.
"""

import math
import random
import time
from collections.abc import Callable, Iterator
from functools import partial

from shmfeed.codecs import Codec
from shmfeed.errors import BadArgumentError
from shmfeed.settings.endpoint import redact
from shmfeed.settings.model import Settings
from shmfeed.wire.backoff import full_jitter
from shmfeed.wire.client import LeavingError, Output, RefusedError, VenueClient
from shmfeed.wire.connect import ConnectPolicy, start
from shmfeed.wire.connection import (
    TICK,
    Connection,
    ConnectionLostError,
    OversizedError,
    poll,
)
from shmfeed.wire.subscription import ChangeRefused, Streams, Subscribed, Subscription

__all__ = ["ChangeRefused", "Output", "Session", "Subscribed"]

SHORT_LIFE = 1.0  # s; a connection lost sooner after its acknowledgement proves little
# Seconds that the host has slept count: what it slept through is given up as it wakes.
SINCE_BOOT: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME") and hasattr(time, "clock_gettime")
    else time.monotonic
)
_GOODBYE = 0.5  # s; for the server's answer to our close

_Batches = Iterator[list[Output]]


class Session:
    """Keeps `streams` coming from the first of `endpoints` that serves them.

    To be read between batches: `state` (one of layout.STATES), `phase` (connecting,
    subscribing, streaming, waiting), `endpoint` (as it may be shown), `attempts`
    (failures in a row), `reconnects`, `last_error` and its `error_kind` (connection,
    subscription, or "" since the venue acknowledged), `oversized` (connections lost by
    a frame over the limit). All belongs to the thread that iterates `batches`; only
    `stop` may be called by another one, with a write to the pipe of `wake_fd`.
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
        """`endpoints` are the codec's; BadArgumentError for one that may not be used.

        `clock` counts seconds and never goes back; `tick` is the longest silence of
        `batches`.
        """
        if not endpoints:
            raise BadArgumentError("a session needs at least one endpoint")
        for url in endpoints:
            start(url, _rules(settings))
        self.state, self.phase, self.endpoint = "disconnected", "waiting", ""
        self.attempts = self.reconnects = self.oversized = 0
        self.last_error = self.error_kind = ""
        self._codec = codec
        self._settings = settings
        self._endpoints = endpoints
        self._first = 0  # the endpoint that an attempt begins with
        self._subscription = Subscription(codec, streams, settings.ack_timeout)
        self._wake_fd = wake_fd
        self._rng = rng or random.Random()  # noqa: S311 - it spreads load, no secrets
        self._clock = clock
        self._tick = tick
        self._connection: Connection | None = None
        self._serving: VenueClient | None = None
        self._delay = 0.0  # before the next attempt
        self._failures_before = 0  # the acknowledgement
        self._short_lives = 0  # in a row
        self._was_connected = self._again = self._stopping = False

    def batches(self) -> _Batches:
        """What happens, in order, a batch at a time, until `stop`; to be called once.

        An empty batch comes at least each `tick`, at each wake-up, and after a change
        of state before anything waits. Subscribed comes when the venue serves the
        streams that it names, and behind it the bars that had come before.
        """
        try:
            while not self._stopping:
                yield from self._attempt()
                if self._delay and not self._stopping:
                    yield from self._pause()
        finally:
            self._hang_up()
            self.state, self.phase = "disconnected", "waiting"

    def change(self, streams: Streams) -> None:
        """Want these streams instead; Subscribed or ChangeRefused will tell.

        Asked of the live connection, else of the next one; the latest wins.
        """
        self._subscription.change(streams)

    def retry(self) -> None:
        """Try anew at once, out of `error` or of a pause, as if nothing had failed."""
        self._again = True

    def stop(self) -> None:
        """End `batches` at its next turn; any thread may call it."""
        self._stopping = True

    def _attempt(self) -> _Batches:
        self.state = "reconnecting" if self._was_connected else "connecting"
        self._delay = 0.0
        untold = not self.error_kind
        failures: list[tuple[str, ConnectionLostError]] = []
        for turn in range(len(self._endpoints)):
            place = (self._first + turn) % len(self._endpoints)
            try:
                yield from self._serve(self._endpoints[place])
            except ConnectionLostError as failure:
                if not self._is_failure(failure, place):
                    return
                failures.append((self.endpoint, failure))
                if untold:  # a pass can take long: say what is known of it
                    self._note("connection", _unreached(failures))
            else:
                return  # stopping
            finally:
                self._hang_up()
        self._failed(failures)

    def _serve(self, url: str) -> _Batches:
        streams = self._subscription.wanted
        self.phase, self.endpoint = "connecting", redact(url)
        self._connection = connection = Connection(
            self._codec.url(url, streams),
            max_frame_bytes=self._settings.max_frame_bytes,
            rules=_rules(self._settings),
            wake_fd=self._wake_fd,
            clock=self._clock,
        )
        yield self._news()
        for _ in connection.opening(self._settings.connect_timeout, self._tick):
            yield self._news()
            if self._stopping:
                return
        self.phase = "subscribing"
        yield self._news()
        self._serving = serving = VenueClient(
            connection, self._codec, self._subscription, self._settings, self._clock
        )
        serving.begin(streams)
        while not self._stopping:
            batch = serving.turn(self._tick)
            if serving.since is not None and self.state != "connected":
                self._connected()
            yield batch

    def _connected(self) -> None:
        self.state, self.phase, self.error_kind = "connected", "streaming", ""
        self.reconnects += self._was_connected
        self._was_connected = True
        self._failures_before, self.attempts = self.attempts, 0

    def _is_failure(self, failure: ConnectionLostError, place: int) -> bool:
        """Whether the attempt goes on; otherwise it has led to a connection."""
        self.oversized += isinstance(failure, OversizedError)
        if self._serving is not None and self._serving.since is not None:
            self._lost(self._serving, failure, place)
            return False
        return not isinstance(failure, LeavingError)

    def _lost(
        self, serving: VenueClient, failure: ConnectionLostError, place: int
    ) -> None:
        planned = isinstance(failure, LeavingError)
        self.state = "reconnecting"
        self._first = place if planned or serving.has_data else place + 1
        if not planned:
            self._note("connection", f"lost {self.endpoint}: {failure}")
        short = self._clock() - (serving.since or 0.0) < SHORT_LIFE
        self._short_lives = self._short_lives + 1 if short else 0
        if short and not planned and not serving.has_data:
            self._count_failure(self._failures_before + 1)
        elif self._short_lives > 1:
            self._delay = self._backoff(self._short_lives - 2)

    def _failed(self, failures: list[tuple[str, ConnectionLostError]]) -> None:
        self._count_failure(self.attempts + 1)
        refusals = [error for _, error in failures if isinstance(error, RefusedError)]
        if refusals:
            self._note("subscription", str(refusals[-1]))
        else:
            self._note("connection", _unreached(failures, self.attempts))

    def _note(self, kind: str, text: str) -> None:
        self.error_kind = kind
        # A server may say our secrets back to us.
        self.last_error = self._settings.redact(text)

    def _count_failure(self, attempts: int) -> None:
        self.attempts = attempts
        most = self._settings.max_reconnect_attempts
        if most is not None and attempts >= most:
            self.state, self._delay = "error", math.inf
        else:
            self._delay = self._backoff(attempts - 1)

    def _backoff(self, doublings: int) -> float:
        base = self._settings.reconnect_delay_base
        most = self._settings.reconnect_delay_max
        return full_jitter(self._rng, base, most, doublings)

    def _pause(self) -> _Batches:
        self.phase = "waiting"
        self._again = False
        end = self._clock() + self._delay
        yield self._news()
        while not (self._stopping or self._again):
            left = end - self._clock()
            if left <= 0:
                return
            poll(None, 0, self._wake_fd, min(self._tick, left))
            yield self._news()
        self.attempts = self._short_lives = 0

    def _news(self) -> list[Output]:
        return [*self._subscription.take_outcomes()]

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close(timeout=_GOODBYE if self._stopping else 0.0)
        self._connection = self._serving = None
        self._subscription.end()


def _rules(settings: Settings) -> ConnectPolicy:
    return ConnectPolicy(
        settings.allow_insecure,
        settings.proxy,
        settings.max_redirects,
        has_token=bool(settings.csrf_token),
    )


def _unreached(
    failures: list[tuple[str, ConnectionLostError]], attempts: int = 0
) -> str:
    count = f"{attempts} attempt{'' if attempts == 1 else 's'}"
    after = f" after {count}" if attempts else ""
    if len(failures) == 1:
        ((where, error),) = failures
        return f"could not connect to {where}{after}: {error}"
    each = ", ".join(f"{where} ({error})" for where, error in failures)
    return f"could not connect to {each}{after}"
