"""What every codec is: a venue's protocol as a plain object, without any I/O."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from shmfeed.events import Event

Stream = tuple[str, str]  # (symbol, timeframe), in the venue's and the feed's spelling


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

    def stream(self, symbol: str, timeframe: str) -> Stream:
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

    def url(self, endpoint: str, streams: Sequence[Stream]) -> str:
        """What to connect to: one of `endpoints()`, perhaps naming the streams.

        Begins a connection: what the former one was asked is forgotten.
        """
        ...

    def subscribe(self, streams: Sequence[Stream]) -> list[Request]:
        """What to send after the handshake, each to be acknowledged.

        Empty where the last `url()` has subscribed them: then nothing is to be waited
        for.
        """
        ...

    def change(self, old: Sequence[Stream], new: Sequence[Stream]) -> list[Request]:
        """What turns a live connection's `old` streams into `new`; maybe nothing."""
        ...

    def decode(self, data: bytes) -> tuple[Event, ...]:
        """The events of one message; never raises: anything bad is Malformed."""
        ...
