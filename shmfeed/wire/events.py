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
    """

    state: str = "disconnected"
    phase: str = "waiting"
    endpoint: str = ""
    attempts: int = 0
    reconnects: int = 0
    last_error: str = ""
    error_kind: str = ""


class StatusChanged(NamedTuple):
    """A change of the session's status."""

    old: SessionStatus
    new: SessionStatus


class Connected(NamedTuple):
    """The venue's first acknowledgement on a connection."""

    is_reconnect: bool


class ConnectionLost(NamedTuple):
    """The end of a connection, or of the attempt to open one.

    `was_connected` is True after an acknowledgement, `is_oversized` if a frame over the
    limit was the reason.
    """

    was_connected: bool
    is_oversized: bool


class Subscribed(NamedTuple):
    """The streams that the venue sends from now on.

    `ends_change` is True if this answers the change in progress.
    """

    streams: Streams
    ends_change: bool = False


class ChangeRefused(NamedTuple):
    """The end of the change in progress: the venue refused it, and nothing changed."""

    message: str


class Received(NamedTuple):
    """Events of the venue, oldest first."""

    events: list[Event]


ChangeOutcome = Subscribed | ChangeRefused
SessionEvent = StatusChanged | Connected | ConnectionLost | ChangeOutcome | Received
