"""One connection from its dial to its end, moved on by steps that never wait.

    dialled -> open -> subscribed, and then as long as it lives

The caller waits for `interest`, together with all other channels, and calls `step`.
"""

import math
import random
import select
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

from shmfeed.bar import StreamKey
from shmfeed.codecs import Codec
from shmfeed.settings.endpoint import redact
from shmfeed.settings.model import Settings
from shmfeed.wire.client import ClientTag, RefusedError, VenueClient
from shmfeed.wire.connect import policy_of
from shmfeed.wire.connection import Connection
from shmfeed.wire.events import SessionEvent, Streams, VenueTime
from shmfeed.wire.poller import Ready
from shmfeed.wire.refusals import RefusalSearch
from shmfeed.wire.retry import Life
from shmfeed.wire.silence import SilenceWatch
from shmfeed.wire.subscription import Subscription

# Seconds between two dials of a session, so that many connections do not begin at once.
STAGGER = 0.02


class DialLimit(Protocol):
    """The budget of dials that all feeders of a user share."""

    @property
    def is_banned(self) -> bool:
        """True if a venue's ban made the last `reserve` wait."""
        ...

    def reserve(self, host: str, port: int) -> float:
        """Record a dial and return 0.0, or return the seconds until one may begin."""
        ...

    def block(self, host: str, port: int, seconds: float) -> None:
        """Let no feeder dial for so long, because the venue asks for it."""
        ...


class Dialer:
    """The parts that a session's connections share: settings, codec, clock and dials.

    Attributes:
        codec: The venue's protocol; each connection gets a codec of its own from it.
        settings: The settings in force. They may be replaced between two steps.
        refused: Streams with which no connection may serve, and the reason of each.
    """

    def __init__(
        self,
        codec: Codec,
        settings: Settings,
        rng: random.Random,
        clock: Callable[[], float],
        budget: DialLimit | None,
    ) -> None:
        self.codec = codec
        self.settings = settings
        self.rng = rng
        self.clock = clock
        self.refused: dict[StreamKey, str] = {}
        self._budget = budget
        self._next_dial_at = 0.0
        self._probers: dict[str, object] = {}
        self._number = 0

    def due_in(self, now: float) -> float:
        """Return the seconds until the session may dial again."""
        return max(0.0, self._next_dial_at - now)

    @property
    def is_banned(self) -> bool:
        """True if a venue's ban made the last `reserve` wait."""
        return self._budget is not None and self._budget.is_banned

    def reserve(self, url: str, now: float) -> float:
        """Record a dial and return 0.0, or return the seconds until one may begin."""
        wait = 0.0 if self._budget is None else self._budget.reserve(*_place(url))
        if not wait:
            self._next_dial_at = now + STAGGER
        return wait

    # An endpoint that cannot be reached is probed by one link; the others wait for it,
    # so that an outage does not use up the budget.

    def may_dial(self, url: str, link: object) -> bool:
        """Return True if no other link probes this endpoint."""
        return self._probers.get(url, link) is link

    def opened(self, url: str) -> None:
        """Record that an endpoint can be reached."""
        self._probers.pop(url, None)

    def failed(self, url: str, link: object) -> None:
        """Record that a link could not open a connection to an endpoint."""
        self._probers.setdefault(url, link)

    def forget(self, link: object) -> None:
        """Let other links probe the endpoints that this one has probed."""
        for url in [url for url, prober in self._probers.items() if prober is link]:
            del self._probers[url]

    def block(self, url: str, seconds: float) -> None:
        """Keep a wait that the venue asks for, for all feeders of this user."""
        if self._budget is not None:
            self._budget.block(*_place(url), seconds)

    def dial(
        self,
        url: str,
        subscribed: Streams,
        streams: Streams,
        silence: SilenceWatch,
        line: int,
        search: RefusalSearch | None,
    ) -> "Channel":
        """Return a new connection for `streams`; its first step begins to open it.

        `subscribed` are the streams to go back to if the venue refuses a change.
        """
        self._number += 1
        settings, codec = self.settings, self.codec.fresh()
        connection = Connection(
            codec.url(url, streams),
            max_frame_bytes=settings.max_frame_bytes,
            policy=policy_of(settings),
            clock=self.clock,
        )
        subscription = Subscription(
            codec, subscribed, settings.ack_timeout, settings.control_interval
        )
        if streams != subscribed:
            subscription.change(streams)
        tag = ClientTag(self._number, line)
        client = VenueClient(
            connection, codec, subscription, settings, self.clock, silence, search, tag
        )
        return Channel(
            url,
            connection,
            subscription,
            client,
            settings.connect_timeout,
            self.refused,
        )


class Channel:
    """One connection, its subscription and its client.

    Attributes:
        number: The number of the connection, which rises over the session.
        url: The endpoint as the settings name it; it may hold a secret.
        client: The client; of use once `is_open`.
        subscription: The streams of the connection.
        interest: The descriptor to poll, and for which events.
    """

    def __init__(
        self,
        url: str,
        connection: Connection,
        subscription: Subscription,
        client: VenueClient,
        timeout: float,
        refused: Mapping[StreamKey, str],
    ) -> None:
        self.number = client.tag.number
        self.url = url
        self.client = client
        self.subscription = subscription
        self.is_open = False
        self._refused = refused
        self._connection = connection
        self._opening = connection.opening_steps(timeout)
        self.interest = (-1, 0)  # no events before the first step
        self._has_begun = False

    @property
    def label(self) -> str:
        """The endpoint without its query, fit for logs."""
        return redact(self.url)

    @property
    def is_acknowledged(self) -> bool:
        """True once the venue has acknowledged the subscription."""
        return self.client.acknowledged_at is not None

    def life(self, now: float) -> Life:
        """Return the life of the connection since its acknowledgement."""
        since = self.client.acknowledged_at
        return Life(0.0 if since is None else now - since, self.client.has_data)

    def due_in(self, now: float) -> float:
        """Return the seconds until `step` has something to do without the socket."""
        if self._has_begun:
            return self.client.due_in(now)
        return math.inf if self.interest[1] and not self.is_open else 0.0

    def step(self, ready: Ready, now: float) -> list[SessionEvent]:
        """Open the connection, subscribe, or receive; return the events in order.

        `ready` are the descriptors that have something to read.

        Raises:
            ConnectionLostError: The connection has ended.
        """
        if self.is_open:
            if self._has_begun:
                batch = self.client.step(self.interest[0] in ready, now)
            else:  # a venue that is subscribed by URL has acknowledged then
                self._has_begun = True
                batch = self.client.begin(self.subscription.wanted)
            if self._refused:
                self._check_refused()
            return batch
        try:
            sock, events = next(self._opening)
            self.interest = (sock.fileno(), events)
        except StopIteration:
            self.is_open = True
            self.interest = (self._connection.fileno(), select.POLLIN)
            self.client.opened()
            stated = self._connection.server_time
            return [] if stated is None else [VenueTime(*stated)]
        return []

    def _check_refused(self) -> None:
        """Raise RefusedError if it serves with streams that it may not have."""
        if not self.is_acknowledged or self.subscription.is_changing:
            return
        carried = self.subscription.acknowledged
        reasons = [self._refused[key] for key in carried if key in self._refused]
        if reasons:
            raise RefusedError("; ".join(dict.fromkeys(reasons)))

    def close(self, timeout: float = 0.0) -> None:
        """Close the connection, and wait up to `timeout` s for the server's answer."""
        self._opening.close()
        self.subscription.end()
        self._connection.close(timeout)


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
