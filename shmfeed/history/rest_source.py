"""History by a venue's REST service: requests, answers, and what they mean."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from shmfeed.bar import Bar, StreamKey, close_time, duration, floor
from shmfeed.codecs.binance import BinanceCodec
from shmfeed.errors import BadArgumentError
from shmfeed.history import binance
from shmfeed.history.binance import Market, PageQuery
from shmfeed.history.blocks import check_rows, cut_to, empty_block, times_of
from shmfeed.history.interface import (
    Block,
    HistoryError,
    HistoryPage,
    HistoryRequest,
    RateLimitError,
    SymbolState,
)
from shmfeed.history.rest_budget import FIRST_WAIT, RestBudget
from shmfeed.history.venue_time import VenueTime
from shmfeed.memory.rows import Rows
from shmfeed.settings.schema import nearest
from shmfeed.text import one_line
from shmfeed.wire.answers import words_of
from shmfeed.wire.asked_wait import wait_of_answer
from shmfeed.wire.boot_clock import boot_seconds
from shmfeed.wire.errors import ConnectionLostError
from shmfeed.wire.http_client import TIMEOUT, HttpAnswer, HttpClient

# The longest answers: of a page, by its rows, and of exchangeInfo.
ROWS_BYTES, ROW_BYTES, INFO_BYTES = 1 << 20, 1 << 10, 32 << 20
BAN_WAIT = 120.0  # s; a 418 without a time: Binance bans for two minutes at least
_WAITS = {418: BAN_WAIT, 429: FIRST_WAIT}
_MOST_NAMED = 200  # symbols in one request, so that its URL stays short
_AHEAD = 60_000  # ms by which a row may lie ahead of the venue's clock


class _UnknownSymbolError(HistoryError):
    """The venue does not know a symbol of the request."""


class _ThisHostError(HistoryError):
    """The service does not answer here, but may at another base address."""


class BinanceSource:
    """History of one of Binance's markets.

    Thread safety: any thread may call the methods.
    """

    def __init__(
        self,
        market_type: str,
        clients: Sequence[HttpClient],
        budget: RestBudget,
        *,
        is_own: bool,
        redact: Callable[[str], str] = str,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        """Take the parts; nothing is asked for yet.

        Args:
            market_type: The market, as spot.
            clients: The clients of the base addresses, which are tried in turn.
            budget: The weight that all feeders of this user may spend.
            is_own: True for the REST service of the feed's own market.
            redact: Takes the secrets out of a server's words.
            clock: The clock by which the clients time their answers, in seconds.
        """
        self.name = f"REST of binance {market_type}"
        self.is_own = is_own
        self._codec = BinanceCodec(market_type)
        self._market: Market = binance.MARKETS[market_type]
        self._clients = clients
        self._budget = budget
        self._weight_limit = self._market.weight_limit
        self._redact, self._clock = redact, clock
        self._used_weight = 0
        self._time = VenueTime()
        self._turn = 0
        self._lock = threading.Lock()

    def fetch(self, request: HistoryRequest) -> HistoryPage:
        if request.first > request.last and not request.newest:
            return HistoryPage(empty_block(), 0, None)
        asked = request._replace(key=self._key(request.key))
        newest = self._newest_closed(asked) if request.newest else 0
        query = binance.page_query(self._market, asked, newest)
        answer, label = self._get(
            query.resource, query.weight, ROWS_BYTES + ROW_BYTES * query.rows
        )
        timeframe = request.key[1]
        with _named(label):
            rows = binance.parse_klines(answer.body, self._market)
            block = check_rows(rows, timeframe)
            block = self._closed_rows(block, timeframe, answer)
        is_full = len(rows) >= query.rows
        if query.last:
            block = cut_to(block, query.first, query.last)
        if request.newest:
            block = block[:, -request.newest :]
        follows = _follows(request, query, block, is_full or self._has_spans)
        return HistoryPage(block, answer.head.server_time or 0, follows)

    @property
    def weight(self) -> tuple[int, int]:
        """The weight used in this minute, by the venue's count, and its limit."""
        return self._used_weight, self._weight_limit

    def bar_at(self, key: StreamKey, open_time: int) -> Bar | None:
        """Return a bar, also one that has not closed; None if the venue has none.

        Raises:
            RateLimitError: The request must wait.
            HistoryError: There is no answer, or none that can be used.
        """
        asked = HistoryRequest(self._key(key), open_time, open_time)
        query = binance.page_query(self._market, asked)
        answer, label = self._get(query.resource, query.weight, ROWS_BYTES)
        with _named(label):
            rows = binance.parse_klines(answer.body, self._market)
            block = cut_to(check_rows(rows, key[1]), open_time, open_time)
        return Rows(block, 0).bar(0) if block.shape[1] else None

    def symbols(self, wanted: Collection[str]) -> dict[str, SymbolState] | None:
        if not self.is_own:  # the feed's venue may have others
            return None
        market = self._market
        if market.takes_symbols and len(wanted) <= _MOST_NAMED:
            try:
                known = self._info(binance.info_resource(market, wanted))
            except _UnknownSymbolError:
                known = {}
            if known.keys() >= set(wanted):
                return {name: known[name] for name in wanted}
        known = self._info(binance.info_resource(market))
        if not known:  # a venue that lists none may carry any
            return None
        return {name: known.get(name) or self._unknown(name, known) for name in wanted}

    def _unknown(self, name: str, known: dict[str, SymbolState]) -> SymbolState:
        near = self._redact(one_line(nearest(name, list(known)), 60))
        text = f"the venue has no such symbol; the nearest is {near}"
        return SymbolState(False, False, text)

    def _info(self, resource: str) -> dict[str, SymbolState]:
        answer, label = self._get(resource, self._market.info_weight, INFO_BYTES)
        _, now = self._time.bounds_at(self._clock())
        with _named(label):
            info = binance.parse_info(answer.body, now)
        self._weight_limit = info.weight_limit or self._weight_limit
        return info.states

    def close(self) -> None:
        for client in self._clients:
            client.close()

    @property
    def _has_spans(self) -> bool:
        # A page that is not full may end at the longest span.
        return bool(self._market.longest_span)

    def _key(self, key: StreamKey) -> StreamKey:
        try:
            return self._codec.stream_key(*key)
        except BadArgumentError as error:
            raise HistoryError(f"{self.name}: {error}", "refused") from None

    def _newest_closed(self, request: HistoryRequest) -> int:
        """Return the open time of the newest closed bar, 0 if it is not certain."""
        timeframe = request.key[1]
        if not self._time.is_known or timeframe == "3d":
            return 0
        early, late = self._time.bounds_at(self._clock())
        late += duration("1s") * 2  # while the request is on its way
        if floor(early, timeframe) != floor(late, timeframe):
            return 0
        return floor(floor(early, timeframe) - 1, timeframe)

    def _closed_rows(self, block: Block, timeframe: str, answer: HttpAnswer) -> Block:
        """Return the rows without those that may not have closed."""
        if not block.shape[1]:
            return block
        newest = int(times_of(block)[-1])
        early, late = self._time.bounds_at(answer.sent)
        ahead = newest - late - max(duration(timeframe), _AHEAD)
        if self._time.is_known and ahead > 0:
            raise HistoryError("a row begins after the venue's own time", "malformed")
        # As of the time when the request was sent: the venue may have put the answer
        # together before it wrote the date. A bar behind which there is another one has
        # closed, unless the venue's clock contradicts it.
        opens = times_of(block)
        closed = len(opens) - (close_time(newest, timeframe) > early)
        while closed and close_time(int(opens[closed - 1]), timeframe) > late:
            closed -= 1
        return block[:, :closed]

    def _get(
        self, resource: str, weight: int, max_bytes: int
    ) -> tuple[HttpAnswer, str]:
        """Return an answer, and the address that gave it."""
        failure: HistoryError | None = None
        end = self._clock() + TIMEOUT
        first = self._turn
        for turn in range(first, first + len(self._clients)):
            client = self._clients[turn % len(self._clients)]
            recorded = self._reserve(client, weight)
            try:
                left = round(end - self._clock(), 1)  # which a message may name
                answer = client.get(resource, max_bytes, left)
                self._note(answer, client)
            except ConnectionLostError as error:
                text = str(error.behind(f"{client.label}: "))
                failure = HistoryError(self._redact(text), "away")
            except _ThisHostError as error:
                failure = error
            else:
                return answer, client.label
            finally:
                self._budget.settle(*client.host, weight, recorded)
            self._turn = turn + 1
        assert failure is not None  # noqa: S101 # there is a client
        raise failure

    def _reserve(self, client: HttpClient, weight: int) -> int:
        """Return when the weight was recorded; raise an error if it must wait."""
        wait = self._budget.reserve(*client.host, weight, self._weight_limit)
        if wait.is_asked:
            raise HistoryError(
                f"{client.label}: the venue asked to wait, for {wait.seconds:.0f} s"
                " from now",
                "blocked",
                wait.seconds,
            )
        if wait.seconds:
            raise RateLimitError(
                f"{client.label}: the weight that this user's feeders may use in a"
                f" minute is used up; the next request in {wait.seconds:.0f} s",
                wait.seconds,
            )
        return wait.recorded

    def _note(self, answer: HttpAnswer, client: HttpClient) -> None:
        """Take the status and the header of an answer, or raise its error."""
        stated = answer.head.server_time
        if stated is not None:
            self._time.observe(stated, answer.sent, answer.received)
        if answer.head.code != 200:
            raise self._error_of(answer, client)
        counts = answer.head.fields.get(binance.USED_WEIGHT, [])
        used = [int(count) for count in counts if count[:9].isdecimal()]
        self._used_weight = max(used, default=0)
        self._budget.note_used(*client.host, self._used_weight, stated)

    def _error_of(self, answer: HttpAnswer, client: HttpClient) -> HistoryError:
        """Return the error for an answer of another status than 200."""
        head = answer.head
        code, stated = binance.failure_of(answer.body)
        plain = one_line(stated) or words_of(head, answer.body[:2048])
        words = f"{plain} (code {code})" if code else plain
        status = self._redact(head.status_with(words))
        text = f"{client.label}: the server answered {status}"
        asked = head.fields.get("retry-after", [])
        named = wait_of_answer(0, asked, words, head.server_time)
        if named or head.code in _WAITS:
            first = _WAITS.get(head.code, 0.0)
            wait = self._budget.block(*client.host, named, first)
            text += f"; the next request in {wait:.0f} s"
            return HistoryError(text, "blocked", wait)
        if head.code // 100 == 3:
            return _ThisHostError(
                f"{client.label}: the server redirects ({head.code}), which a request"
                " for history does not follow",
                "away",
            )
        if code in binance.UNKNOWN_SYMBOL:
            return _UnknownSymbolError(text, "refused")
        # The service's own refusal has a code; one of a proxy or a country has none,
        # and is about every stream.
        if head.code >= 500 or not code:
            return _ThisHostError(text, "away")
        return HistoryError(text, "refused")


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Begin the error of an answer with the address that gave it."""
    try:
        yield
    except HistoryError as error:
        raise HistoryError(f"{label}: {error}", error.kind) from None


def _follows(
    request: HistoryRequest, query: PageQuery, block: Block, may_go_on: bool
) -> HistoryRequest | None:
    """Return the request for the rest."""
    timeframe = request.key[1]
    if not request.newest:
        following = close_time(query.last, timeframe)
        if following > request.last:
            return None
        return request._replace(first=following)
    left = request.newest - block.shape[1]
    if left <= 0 or not block.shape[1] or not may_go_on:
        return None
    oldest = int(times_of(block)[0])
    return request._replace(newest=left, last=oldest - 1)
