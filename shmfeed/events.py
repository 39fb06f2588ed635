"""What a codec says that a venue said: the words between the wire and the ledger."""

import math

import msgspec


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
