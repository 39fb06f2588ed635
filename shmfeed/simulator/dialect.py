"""The server's half of a venue protocol, as the venue's server uses it."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from shmfeed.bar import Bar, StreamKey
from shmfeed.errors import BadArgumentError
from shmfeed.simulator.market import BarState

POLICY_VIOLATION = 1008  # WebSocket close code


# Returns those of these symbols that the venue refuses now.
RefusedSymbols = Callable[[Iterable[str]], list[str]]


def refuse_none(symbols: Iterable[str]) -> list[str]:  # noqa: ARG001  # one signature
    """Refuse no symbol."""
    return []


class Outcome(NamedTuple):
    """The venue's answer to a connection or to a client's message.

    Attributes:
        replies: Text messages to send.
        keys: The client's whole subscription from now on; None leaves it unchanged.
        request: The subscription request, parsed; None if the message was not one.
        close_code: Code to close the connection with after the replies, or None.
        reason: The reason in the close frame.
        asked: The streams that the request names; None: all of `keys`.
    """

    replies: tuple[str, ...] = ()
    keys: tuple[StreamKey, ...] | None = None
    request: dict[str, Any] | None = None
    close_code: int | None = None
    reason: str = ""
    asked: tuple[StreamKey, ...] | None = None


def check_stream_count(count: int, most: int) -> None:
    """Raise BadArgumentError for a subscription to too many streams."""
    if count > most:
        raise BadArgumentError(
            f"{count} streams requested; at most {most} per connection"
        )


class Dialect(Protocol):
    """The protocol state of one connection. It does no I/O."""

    max_rate: int  # messages a second that a client may send

    @property
    def numbers_messages(self) -> bool:
        """True if frames must be encoded in the order in which they are sent."""
        ...

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

    def error(self, text: str) -> str:
        """Return a message that reports an error and answers no request."""
        ...

    def encode_copy(self, key: StreamKey, state: BarState) -> bytes:
        """Return the frame of one state, without a number of its own."""
        ...

    def going_away(self) -> str | None:
        """Return the message that announces the connection's end; None without one."""
        ...

    def encode_bar(
        self, key: StreamKey, bar: Bar, closed: bool | None, event_time: int | None
    ) -> bytes:
        """Return the frame of a bar that a test made.

        `closed` None omits the flag, `event_time` None the time or has a default.
        """
        ...
