"""What every codec is: a venue's protocol as a plain object, without any I/O.

What a codec says that a venue said: the words between the wire and the ledger.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from shmfeed.bar import StreamKey


class BarEvent(msgspec.Struct, gc=False):
    """A venue's message about one bar, not judged yet.

    Times are ms UTC. `close_time` 0: the venue sent none. `closed` None: the venue
    sends no flag. `event_time` 0: the message does not say when it was made.
    """

    symbol: str
    timeframe: str
    open_time: int
    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    money: float = math.nan
    closed: bool | None = None
    event_time: int = 0


class Acknowledged(msgspec.Struct, gc=False):
    """The server accepts a request; `request_id` None where it does not say which."""

    request_id: str | None


class Refused(msgspec.Struct, gc=False):
    """The server refuses a request, in its own words."""

    request_id: str | None
    message: str


class Heartbeat(msgspec.Struct, gc=False):
    """A sign of life that is no data; `reply` is to be sent back, None: nothing is."""

    reply: str | None = None


class GoingAway(msgspec.Struct, gc=False):
    """The server is about to close: connect anew at once."""


class Ignored(msgspec.Struct, gc=False):
    """A well-formed message about something else."""


class Malformed(msgspec.Struct, gc=False):
    """A message that is not of the protocol; `reason` is for the log, without data."""

    reason: str


Event = BarEvent | Acknowledged | Refused | Heartbeat | GoingAway | Ignored | Malformed


class Request(NamedTuple):
    """A frame to send, and the id by which its answer will name it."""

    id: str
    frame: str

    def __repr__(self) -> str:
        # A frame may carry the session's token, and a repr ends up in logs.
        return f"Request(id={self.id!r}, {len(self.frame)} characters)"


class Codec(Protocol):
    """One venue's protocol and limits, for one connection after another.

    Request ids count up from 1 on each connection. No method waits or does I/O; one
    thread calls them.
    """

    name: str
    flags_closed: bool  # the venue says which bars are closed: no clock closes one
    heartbeat: bool  # pings of ours are welcome
    max_streams: int  # on one connection
    control_interval: float  # seconds to leave between two frames of ours
    max_connection_age: float | None  # seconds; the venue ends a connection after it

    def stream(self, symbol: str, timeframe: str) -> StreamKey:
        """The stream in the venue's case and the one spelling of its timeframe.

        Raises BadArgumentError for one that the venue cannot have.
        """
        ...

    def endpoints(self, given: Sequence[str], ports: Sequence[int]) -> list[str]:
        """Complete URLs in the order to be tried; the venue's own for none given.

        `ports` go into endpoints without one, each in turn. BadArgumentError for what
        is no WebSocket URL, or has a port that is not among `ports`.
        """
        ...

    def url(self, endpoint: str, streams: Sequence[StreamKey]) -> str:
        """What to connect to: one of `endpoints()`, perhaps naming the streams.

        Begins a connection: what the former one was asked is forgotten.
        """
        ...

    def subscribe(self, streams: Sequence[StreamKey]) -> list[Request]:
        """What to send after the handshake, each to be acknowledged.

        Empty where the last `url()` has subscribed them: then nothing is to be waited
        for.
        """
        ...

    def change(
        self, old: Sequence[StreamKey], new: Sequence[StreamKey]
    ) -> list[Request]:
        """What turns a live connection's `old` streams into `new`; maybe nothing."""
        ...

    def decode(self, data: bytes) -> tuple[Event, ...]:
        """The events of one message; never raises: anything bad is Malformed."""
        ...
