"""What a venue's protocol is to the server: who asks for what, and in which words."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from shmfeed.bar import Bar, StreamKey
from shmfeed.simulator.frames import Row

MAX_STREAMS = 1024  # a connection


class Answer(NamedTuple):
    """What follows from something that a client did.

    streams: the whole subscription from now on, None: unchanged. asked: the
    request, parsed, None: it was none. close: a code to close the connection with,
    after the replies.
    """

    replies: tuple[str, ...] = ()
    streams: tuple[StreamKey, ...] | None = None
    asked: dict[str, Any] | None = None
    close: int | None = None


class Dialect(Protocol):
    """One connection's half of a protocol; it does no I/O."""

    max_rate: int  # messages a second that a client may send

    @property
    def form(self) -> str:
        """What the frames depend on: two dialects of one form share them."""
        ...

    def opened(self, path: str) -> Answer | None:
        """A client connected to this path; None: there is no such path."""
        ...

    def received(self, text: str) -> Answer:
        """A client sent this message."""
        ...

    def stream(self, symbol: str, timeframe: str) -> StreamKey:
        """The stream, as this protocol spells it."""
        ...

    def encode(self, stream: StreamKey, rows: Iterable[Row]) -> list[bytes]:
        """The market's bars as frames."""
        ...

    def fed(self, stream: StreamKey, bar: Bar, closed: bool | None) -> bytes:
        """A bar that a test feeds, as a frame."""
        ...
