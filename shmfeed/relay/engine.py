"""The engine of the relay: a fenced write, a join with history, a log of flushes.

An engine keeps, for each feed by name, the newest rows of each stream, the last head
and catalog, and a bounded log of flushes. Redis is one; another one is another module
with these calls. All raise

    EngineAwayError     it cannot be reached or is not ready; try again later
    EngineRefusedError  trying again will not help: authentication, rights, an old
                        version, something under our name that is not ours

both with words for the operator. One thread uses an engine at a time: a publisher and a
follower each make their own.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from shmfeed.bar import StreamKey
from shmfeed.errors import WebSocketConnectionError
from shmfeed.relay.flush import Catalog, Flush, Head, RowsOfStreams, StreamMarks

LEADER_SECONDS = 3.0  # a leader that does not renew its leadership loses it
MEMBER_SECONDS = 3.0
REQUEST_SECONDS = 10.0


class EngineAwayError(WebSocketConnectionError):
    """The engine cannot be reached now, or is not ready to answer."""


class EngineRefusedError(WebSocketConnectionError):
    """The engine refuses, or holds what this version cannot use."""


class FencedError(WebSocketConnectionError):
    """Another leader has a higher epoch: this one stands by."""


class MustJoinError(WebSocketConnectionError):
    """A follower's position is of no use any more: join again. The message says why."""


class Position(NamedTuple):
    """A follower's place in the log of flushes.

    Attributes:
        incarnation: Tells the data from those that came after a loss of all.
        entry: The engine's own name of the last entry that was taken.
        epoch, sequence: Of that entry.
    """

    incarnation: str
    entry: str
    epoch: int
    sequence: int


class Entry(NamedTuple):
    """A flush from the log.

    Attributes:
        position: The place after it.
        flush: The changes.
        delay: An upper bound of the seconds since the leader made the flush, by the
            engine's clock and measured round trips, never by the leader's clock.
    """

    position: Position
    flush: Flush
    delay: float


class Joined(NamedTuple):
    """The state of a feed at a position.

    Attributes:
        position: Follow from here. Flushes up to it may come again in the rows.
        head, catalog: The last ones.
        marks, forming: Of each stream, as of `delay` seconds ago at most.
        delay: As in Entry.
    """

    position: Position
    head: Head
    catalog: Catalog
    marks: dict[int, StreamMarks]
    forming: RowsOfStreams
    delay: float


class Leadership(NamedTuple):
    """The present leader, host:pid, its epoch, and ms UTC by its clock since when."""

    leader: str
    epoch: int
    since: int


NO_LEADER = Leadership("", 0, 0)  # none leads now


class Member(NamedTuple):
    """A publisher that stands by or leads, as it has told the engine.

    Attributes:
        name: host:pid.
        is_connected: Its own feed is connected.
        rank: The health of its own feed, lower is better.
    """

    name: str
    is_connected: bool
    rank: int


class Request(NamedTuple):
    """The streams that a follower wants beside those that the leader carries."""

    follower: str
    streams: tuple[StreamKey, ...]


class Answer(NamedTuple):
    """The leader's answer to a request: by stream "" or why it is refused."""

    streams: tuple[StreamKey, ...]
    refused: dict[StreamKey, str]


class Engine(Protocol):
    """One feed in an engine, under `name`."""

    name: str

    # The leader's side

    def lead(self, member: str, since: int) -> int | None:
        """Become the leader and return the new epoch; None if another one leads."""

    def renew(self) -> None:
        """Stay the leader for LEADER_SECONDS more. Raises FencedError."""

    def resign(self) -> None:
        """Stop leading, so that another can at once. Never raises FencedError."""

    def leadership(self) -> Leadership:
        """Return who leads now."""

    def head(self) -> Head | None:
        """Return the head that any leader wrote last, None without one."""

    def stand_by(self, member: Member) -> list[Member]:
        """Tell that a publisher lives, for MEMBER_SECONDS; return all that do."""

    def flush(self, flush: Flush) -> None:
        """Write a flush, which counts in one step.

        Raises FencedError, and has then written nothing that counts. After any other
        error, and as the first of an epoch, the next flush must be a whole one. Raises
        BadArgumentError for one that is not, and stays as it was.
        """

    def requests(self) -> list[Request]:
        """Return the requests of followers that live."""

    def answer(self, follower: str, answer: Answer) -> None:
        """Answer a follower's request."""

    # The follower's side

    def join(self) -> Joined:
        """Return the state of the feed now. Raises EngineAwayError if it has none."""

    def rings(self, catalog: Catalog) -> Iterator[RowsOfStreams]:
        """Return the closed rows of all streams of a catalog, in pieces.

        Of a stream with holes these may be fewer than `Catalog.history`: a ring has
        the bars of the newest `history` timeframes. Raises MustJoinError.
        """

    def follow(self, position: Position, timeout: float) -> list[Entry]:
        """Return the entries after a position, waiting for the first up to a time.

        Raises MustJoinError, also at a whole flush: its rows are in the rings alone, as
        are those of a very large one.
        """

    def request(self, request: Request) -> Answer | None:
        """Tell which streams a follower wants, for REQUEST_SECONDS; return the answer.

        None: the leader has not answered this request yet.
        """

    # Both

    def warnings(self) -> list[str]:
        """Return what the operator should change, such as an eviction policy."""

    def close(self) -> None:
        """Close all connections."""
