"""The interface of a source of history, and what travels between it and the feeder.

The feeder's main loop asks by a `HistoryJob`. A worker's thread calls the source, page
by page, and the main loop gets a `HistoryOutcome`. Rows travel as a block: float64 (9,
n), the columns of `layout.COLUMNS`, the int64 ones by their bits, as `Rows.block` has
them. A block is sorted by open time, each time once, and holds closed bars alone.
"""

from collections.abc import Collection
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import StreamKey
from shmfeed.errors import ShmfeedError

Block = NDArray[np.float64]

# Why history is asked for, in the order of precedence. Jobs of one purpose: the newest
# and shortest first.
Purpose = Literal["reconnect", "poll", "hole", "confirm", "warmup", "retry", "audit"]

# The kinds of failure: `away` (the service gives no answer, or a 5xx, a redirect
# or a proxy's 403), `blocked` (the venue asks to wait), `refused` (the request is wrong
# for this venue, as an unknown symbol) and `malformed` (an answer that is no history).
FailureKind = Literal["away", "blocked", "refused", "malformed"]


class HistoryError(ShmfeedError):
    """A source could not answer.

    Attributes:
        kind: The kind of failure.
        retry_after: Seconds that the venue asks to wait, 0.0 without such a wish.
    """

    def __init__(
        self, message: str, kind: FailureKind, retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class RateLimitError(HistoryError):
    """A request that may not begin yet, as the user's share of the limit is used up.

    Nothing was asked for. The same request may begin after `retry_after` seconds.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message, "blocked", retry_after)


class HistoryRequest(NamedTuple):
    """Bars of one stream. `first` and `last` are open times in ms UTC, both included.

    `newest` asks for the newest closed bars, at most as many: used where the grid or
    the venue's clock is not known. `first` is 0 then, and `last` the newest open time,
    0 for any.
    """

    key: StreamKey
    first: int
    last: int
    newest: int = 0


class HistoryPage(NamedTuple):
    """One page of an answer.

    Attributes:
        block: The closed bars, oldest first.
        venue_now: The venue's time in ms UTC, 0 if the answer does not tell it.
        follows: The request for the rest, None if the answer is complete.
    """

    block: Block
    venue_now: int
    follows: HistoryRequest | None


class SymbolState(NamedTuple):
    """The state of a symbol, as its venue says.

    Attributes:
        is_known: False if the venue has no such symbol.
        trades: False if it does not trade now.
        text: The reason in words: since when, or the nearest known symbol.
    """

    is_known: bool
    trades: bool
    text: str


class HistorySource(Protocol):
    """A source of closed bars.

    Attributes:
        name: Names the source in messages, as "REST of binance spot".
        is_own: True for the codec's own REST service of the feed's own market, which
            alone may correct rows.

    Thread safety: several threads may call the methods at once.
    """

    name: str
    is_own: bool

    def fetch(self, request: HistoryRequest) -> HistoryPage:
        """Return a page of closed bars; wait for the answer.

        Raises:
            RateLimitError: The request must wait.
            HistoryError: There is no answer, or none that can be used.
        """
        ...

    def symbols(self, wanted: Collection[str]) -> dict[str, SymbolState] | None:
        """Return the states of symbols, or None if the source does not tell them.

        Raises:
            RateLimitError: The request must wait.
            HistoryError: There is no answer, or none that can be used.
        """
        ...

    def close(self) -> None:
        """End waits and connections; a `fetch` under way raises HistoryError."""
        ...


class HistoryJob(NamedTuple):
    """A request on its way to the source; `token` comes back with the outcome."""

    request: HistoryRequest
    purpose: Purpose
    token: object = None


class HistoryAnswer(NamedTuple):
    """All rows of a job's answer.

    Attributes:
        request: The request.
        block: The closed bars of the range, oldest first; maybe none.
        is_own: As the source's: the rows may correct rows of the ring.
        source: The source's name, for messages.
        venue_now: The venue's time in ms UTC, 0 if it was not told.
        asked_at: CLOCK_BOOTTIME seconds at which the last page was asked for.
    """

    request: HistoryRequest
    block: Block
    is_own: bool
    source: str
    venue_now: int
    asked_at: float


class HistoryOutcome(NamedTuple):
    """The end of a job: `answer`, or `error` if the source could not answer.

    Of an answer that broke off, `answer` has the pages up to the error.
    """

    job: HistoryJob
    answer: HistoryAnswer | None
    error: HistoryError | None
