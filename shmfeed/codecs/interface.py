"""The interface of a venue's protocol: `Codec`, and the events that it decodes.

To add a venue:

1. Write `codecs/VENUE.py` with a class that has the members of `Codec`. It does no I/O;
   `codecs.decoding` has the checks of untrusted bytes that all codecs share, and
   `wealthai.py` is the shortest example.
2. Add its row to the table in `codecs/registry.py`. Its name is the setting `protocol`.
3. Test it beside `tests/unit/codecs`, with recorded frames, and fuzz it as
   `fuzz/codec_wealthai.py` does.

Nothing else depends on the venue: endpoints, limits, pace and the way to subscribe
belong to the codec.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import msgspec

from shmfeed.bar import StreamKey, Timeframe


class Request(NamedTuple):
    """A frame to send, and the id by which its answer names it."""

    id: str
    frame: str

    def __repr__(self) -> str:
        # A frame may carry the session's token, and a repr ends up in logs.
        return f"Request(id={self.id!r}, {len(self.frame)} characters)"


class BarEvent(msgspec.Struct, gc=False):
    """A message about one bar, before any check of its values.

    Attributes:
        symbol: The symbol, as the venue writes it.
        timeframe: The timeframe, in its canonical spelling.
        open_time: The bar's begin, in ms UTC.
        close_time: The bar's end as the venue states it, in ms UTC; 0 without one.
        open: The first price.
        high: The highest price.
        low: The lowest price.
        close: The last price.
        volume: The traded volume.
        money: The quote turnover; NaN where the venue sends none.
        closed: The venue's flag that the bar is final; None where it sends none.
        event_time: When the venue made the message, in ms UTC; 0 without it.
        sequence: The number that the venue gave the message; -1 without one.
        first_id: The first trade of the bar, by the venue's number; -1 without one.
        last_id: The last trade of the bar so far; -1 without one.
        no_trade: True if the venue says that nothing has traded in the bar.
    """

    symbol: str
    timeframe: Timeframe
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
    sequence: int = -1
    first_id: int = -1
    last_id: int = -1
    no_trade: bool = False


class Acknowledged(msgspec.Struct, gc=False):
    """The server accepts a request; the id is None if it does not say which."""

    request_id: str | None


class Refused(msgspec.Struct, gc=False):
    """The server refuses a request; `message` is its own text.

    `symbol` has the refused symbols that a field of the message names, separated by
    spaces; "" without such a field. `refusals.named_symbols` finds the subscribed ones
    in it, and in the message's words.
    """

    request_id: str | None
    message: str
    symbol: str = ""


class Heartbeat(msgspec.Struct, gc=False):
    """A heartbeat message. The client must send `reply` back, unless it is None."""

    reply: str | None = None


class GoingAway(msgspec.Struct, gc=False):
    """The server is about to close; the client should connect again at once."""


class Ignored(msgspec.Struct, gc=False):
    """A well-formed message that is neither a bar nor an answer."""


class Malformed(msgspec.Struct, gc=False):
    """A message that does not follow the protocol; `reason` repeats no data of it."""

    reason: str


Event = BarEvent | Acknowledged | Refused | Heartbeat | GoingAway | Ignored | Malformed


class Codec(Protocol):
    """One venue's protocol and limits, reusable for successive connections.

    No method waits or does I/O. One thread calls all of them. The ids of requests, and
    the streams that the URL subscribes, belong to one connection: where several are
    open at a time, each has a codec of its own, which `fresh` makes. `decode` has no
    state.

    Attributes:
        name: The protocol's name, as in the setting `protocol`.
        csrf_token: The session's token, "" without one. It may be replaced at any time:
            later requests carry the new one, and no event shows the new one or the one
            before. The codecs that `fresh` made share it.
        market_type: The market's name in the feed's identity: one for each market.
        flags_closed: True if the venue flags every bar as closed or not. If so, the
            clock closes no bar.
        answers_pings: True if the venue answers pings of the client.
        max_streams: The most streams on one connection.
        control_interval: Seconds between two frames of the client.
        max_connection_age: Seconds after which the client replaces a connection,
            before the venue ends it; None for no limit.
        push_interval: The longest time, in seconds, between two messages about a
            stream that trades.
        numbers_trades: True if the trades of a symbol are numbered without a break, so
            that `first_id` and `last_id` prove which bars are whole.
    """

    name: str
    csrf_token: str
    market_type: str
    flags_closed: bool
    answers_pings: bool
    max_streams: int
    control_interval: float
    max_connection_age: float | None
    push_interval: float
    numbers_trades: bool

    def stream_key(self, symbol: str, timeframe: str) -> StreamKey:
        """Return the stream in the venue's case, its timeframe in canonical spelling.

        Raises:
            BadArgumentError: The venue cannot have such a stream.
        """
        ...

    def endpoints(self, given: Sequence[str], ports: Sequence[int]) -> list[str]:
        """Return complete URLs, in the order in which they are to be tried.

        Args:
            given: Endpoints from the settings; empty for the venue's own.
            ports: The ports for endpoints that name none, each in turn.

        Raises:
            BadArgumentError: An endpoint is not the URL of a WebSocket, or names a
                port that is not among `ports`.
        """
        ...

    def fresh(self) -> Self:
        """Return a codec of the same venue and token, for another open connection."""
        ...

    def url(self, endpoint: str, streams: Sequence[StreamKey]) -> str:
        """Return the URL for a new connection, which may name the streams.

        Request ids begin again at 1, and earlier subscriptions are forgotten.
        """
        ...

    def subscribe(self, streams: Sequence[StreamKey]) -> list[Request]:
        """Return the requests to send after the handshake; each is acknowledged.

        The list is empty if the URL has subscribed the streams.
        """
        ...

    def change(
        self, old: Sequence[StreamKey], new: Sequence[StreamKey]
    ) -> list[Request]:
        """Return the requests that change a live connection's streams, maybe none."""
        ...

    def ask_again(
        self, streams: Sequence[StreamKey], subscribed: Sequence[StreamKey]
    ) -> list[Request]:
        """Return the requests that make a live connection send mute streams again.

        Args:
            streams: The streams that are mute.
            subscribed: All streams of the connection; they stay subscribed.
        """
        ...

    def decode(self, data: bytes) -> tuple[Event, ...]:
        """Return the events of one message; anything unreadable is Malformed.

        It never raises, whatever the bytes are.
        """
        ...
