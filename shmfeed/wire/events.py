"""The events of a session: everything that it tells the feeder, in order.

A session hands over lists of events. The venue's messages are by far the most frequent
ones, so all messages of one read are one `Received`.
"""

from typing import NamedTuple

from shmfeed.bar import StreamKey
from shmfeed.codecs import Event

Streams = tuple[StreamKey, ...]


class SessionStatus(NamedTuple):
    """The state of a session, as a feed's status shows it.

    Attributes:
        state: `disconnected`, `connecting`, `connected`, `reconnecting` or `error`.
        phase: `connecting`, `subscribing`, `streaming` or `waiting`.
        endpoint: The endpoint in use, without its query.
        attempts: Failed attempts in a row.
        reconnects: Connections acknowledged after the first one.
        last_error: The last failure, without secrets.
        error_kind: `connection` or `subscription`; empty since the last
            acknowledgement.
        next_attempt_at: When a connection is dialled again, by CLOCK_BOOTTIME in
            seconds; 0 if none waits.
    """

    state: str = "disconnected"
    phase: str = "waiting"
    endpoint: str = ""
    attempts: int = 0
    reconnects: int = 0
    last_error: str = ""
    error_kind: str = ""
    next_attempt_at: float = 0.0


class StatusChanged(NamedTuple):
    """A change of the session's status."""

    old: SessionStatus
    new: SessionStatus


class Connected(NamedTuple):
    """The venue's first acknowledgement on a connection.

    `connection` is the connection's number, which rises over the session.
    `is_planned` is True if it replaces one that is still open.
    """

    is_reconnect: bool
    connection: int = 0
    is_planned: bool = False
    endpoint: str = ""


class ConnectionLost(NamedTuple):
    """The end of a connection, or of the attempt to open one.

    `was_connected` is True after an acknowledgement, `is_oversized` if a frame over the
    limit was the reason. `uncovered` are the streams that no connection carries now.
    `is_planned` is True if another connection had taken its place, or takes it at once.
    """

    was_connected: bool
    is_oversized: bool
    connection: int = 0
    uncovered: Streams = ()
    is_planned: bool = False
    reason: str = ""
    endpoint: str = ""


class Subscribed(NamedTuple):
    """The streams that the venue sends from now on, over all connections.

    `ends_change` is True if this answers the change in progress. `covered` are the
    streams that a connection carries since this answer and that none carried before.
    """

    streams: Streams
    ends_change: bool = False
    covered: Streams = ()


class ChangeRefused(NamedTuple):
    """The end of the change in progress: the venue refused it, and nothing changed."""

    message: str


class StreamsRefused(NamedTuple):
    """Streams that a connection does without, because the venue refused them."""

    streams: Streams
    message: str


class SettingsRefused(NamedTuple):
    """The venue refuses a connection with new settings, and the old one stays.

    The settings are those that `replace_connections` has put in force.
    """

    message: str


class NextAttempt(NamedTuple):
    """The wait before a connection is dialled again, in seconds, and its reason.

    After a loss or a failed attempt the reason is the `last_error` of its connection.
    """

    seconds: float
    reason: str
    endpoint: str = ""


class VenueTime(NamedTuple):
    """The time that a venue's handshake states, ms UTC; `read_at` by time.monotonic."""

    time: int
    read_at: float


class Received(NamedTuple):
    """Events of the venue, oldest first, and the number of their connection.

    `line` is 0 or 1 where each stream is carried by two connections. `read_at` is when
    the first of them was read, by the session's clock; 0 if that is not known.
    """

    events: list[Event]
    connection: int = 0
    line: int = 0
    read_at: float = 0.0


class Delivery:
    """News that a source has made into rows itself; the feeder's intake takes it.

    A venue's session has none: its messages come as `Received`.
    """

    __slots__ = ()


ChangeOutcome = Subscribed | ChangeRefused
SessionEvent = (
    StatusChanged
    | Connected
    | ConnectionLost
    | ChangeOutcome
    | StreamsRefused
    | SettingsRefused
    | NextAttempt
    | VenueTime
    | Received
    | Delivery
)
