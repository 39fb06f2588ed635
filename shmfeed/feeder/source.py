"""The source of a feeder's rows: a venue, or a leader on another host.

A source makes the parts that differ between the two: the session, the intake of what
the session brings, and the history.
"""

from collections.abc import Callable
from typing import Protocol

from shmfeed.codecs import Codec, get_codec
from shmfeed.codecs.identity import identity_of
from shmfeed.feeder.credentials import DialGate
from shmfeed.feeder.feed_history import FeedHistory
from shmfeed.feeder.feed_store import FeedStore
from shmfeed.feeder.intake import Intake
from shmfeed.feeder.reasons import Reasons
from shmfeed.feeder.relay_source import Pause, open_relay
from shmfeed.feeder.requests import RequestQueue
from shmfeed.feeder.taking import first_streams, make_intake
from shmfeed.feeder.wants import Wants
from shmfeed.identity import FeedIdentity
from shmfeed.settings.model import Settings
from shmfeed.wire.events import Delivery, Streams
from shmfeed.wire.interface import FeedSession
from shmfeed.wire.session import Session
from shmfeed.writer import FeedWriter


class FeedSource(Protocol):
    """A source. Only the main loop uses it.

    Attributes:
        codec: Spells streams, and decodes a venue's messages.
        identity: The identity of the rows.
        is_relayed: True if a leader on another host has made the rows.
        streams: The streams that the feeder itself wants at its start.
    """

    codec: Codec
    identity: FeedIdentity
    is_relayed: bool
    streams: Streams

    def make_session(
        self, streams: Streams, requests: RequestQueue, gate: DialGate
    ) -> FeedSession: ...

    def make_history(
        self, wake: Callable[[], None], current: Callable[[], Settings]
    ) -> FeedHistory: ...

    def make_intake(
        self,
        settings: Settings,
        writer: FeedWriter,
        store: FeedStore,
        reasons: Reasons,
        history: bool,
    ) -> Intake: ...

    def take(self, news: Delivery) -> None:
        """Have the intake take what the session has delivered."""

    def adjust(
        self, wants: Wants, own: str, check_union: Callable[[Streams], None]
    ) -> str:
        """Let the feeder's own list be what it follows; return an error's text."""


def open_source(settings: Settings, pause: Pause | None = None) -> FeedSource:
    """Return the source that the settings name.

    `pause` waits for some seconds between two attempts to find a leader, and returns
    True to end them.

    Raises:
        BadArgumentError: There are no streams, or the venue does not offer them.
        ShmfeedError: No leader has told its identity, which is not known here.
    """
    if settings.follows_relay:
        return open_relay(settings, pause)
    return VenueSource(settings)


class VenueSource:
    """A venue, whose messages a codec decodes and a ledger judges."""

    is_relayed = False

    def __init__(self, settings: Settings) -> None:
        self.codec = get_codec(
            settings.protocol, settings.market_type, settings.read_token()
        )
        self.identity = identity_of(settings)
        self.streams = first_streams(settings, self.codec)
        self._settings = settings
        self._endpoints = self.codec.endpoints(settings.endpoint, settings.port)

    def make_session(
        self, streams: Streams, requests: RequestQueue, gate: DialGate
    ) -> FeedSession:
        return Session(
            self.codec,
            self._settings,
            self._endpoints,
            streams,
            wake_fd=requests.wake_fd,
            budget=gate,
        )

    def make_history(
        self, wake: Callable[[], None], current: Callable[[], Settings]
    ) -> FeedHistory:
        return FeedHistory(self._settings, self.codec, wake, current)

    def make_intake(
        self,
        settings: Settings,
        writer: FeedWriter,
        store: FeedStore,
        reasons: Reasons,
        history: bool,
    ) -> Intake:
        return make_intake(settings, self.codec, writer, store, reasons, history)

    def take(self, news: Delivery) -> None:
        """Do nothing: a venue's messages are `Received`."""

    def adjust(
        self,
        wants: Wants,  # noqa: ARG002 # of a follower
        own: str,  # noqa: ARG002 # as above
        check_union: Callable[[Streams], None],  # noqa: ARG002 # as above
    ) -> str:
        """Do nothing: the settings name the streams."""
        return ""
