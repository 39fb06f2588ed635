"""The server's half of a venue protocol, as the venue's server uses it."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from shmfeed.bar import Bar, StreamKey
from shmfeed.simulator.market import BarState

MAX_STREAMS = 1024  # a connection


class Outcome(NamedTuple):
    """The venue's answer to a connection or to a client's message.

    Attributes:
        replies: Text messages to send.
        keys: The client's whole subscription from now on; None leaves it unchanged.
        request: The subscription request, parsed; None if the message was not one.
        close_code: Code to close the connection with after the replies, or None.
    """

    replies: tuple[str, ...] = ()
    keys: tuple[StreamKey, ...] | None = None
    request: dict[str, Any] | None = None
    close_code: int | None = None


class Dialect(Protocol):
    """The protocol state of one connection. It does no I/O."""

    max_rate: int  # messages a second that a client may send

    @property
    def encoding(self) -> str:
        """Name of the frames' form; connections of the same form share frames."""
        ...

    def connect(self, path: str) -> Outcome | None:
        """Handle a connection to this path; None if the venue has no such path."""
        ...

    def receive(self, text: str) -> Outcome:
        """Handle a client's message."""
        ...

    def stream_key(self, symbol: str, timeframe: str) -> StreamKey:
        """Return the stream's key in this protocol's case."""
        ...

    def encode(self, key: StreamKey, states: Iterable[BarState]) -> list[bytes]:
        """Return one frame for each state of the market's bars."""
        ...

    def encode_bar(self, key: StreamKey, bar: Bar, closed: bool | None) -> bytes:
        """Return the frame of a bar that a test made; `closed` None omits the flag."""
        ...
