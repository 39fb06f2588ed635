"""Binance's REST services: requests, weights, and parsers of answers. No I/O.

Limits are data: the rows of a page, its weight by the number of rows, and the weight
that an address may use in a minute.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from math import nan
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from shmfeed.bar import NO_TRADE, close_time, step
from shmfeed.codecs.decoding import Time
from shmfeed.history.blocks import Row
from shmfeed.history.interface import HistoryError, HistoryRequest, SymbolState
from shmfeed.text import one_line

_DAY = 86_400_000


class Market(NamedTuple):
    """The REST service of one market.

    Attributes:
        hosts: Its base addresses, tried in turn.
        path: The prefix of each path.
        weights: The weight of a page of at most so many rows, ascending.
        weight_limit: The weight that an address may use in a minute.
        longest_span: The longest span of one request in ms, 0 for any.
        has_quote_money: True if the quote volume is turnover in the quote asset.
        takes_symbols: True if exchangeInfo can be asked for some symbols alone.
        info_weight: The weight of exchangeInfo.
    """

    hosts: tuple[str, ...]
    path: str
    weights: tuple[tuple[int, int], ...]
    weight_limit: int
    longest_span: int = 0
    has_quote_money: bool = True
    takes_symbols: bool = False
    info_weight: int = 1

    def weight_of(self, rows: int) -> int:
        """Return the weight of a page of so many rows."""
        return next(weight for most, weight in self.weights if rows <= most)

    def page_rows(self, wanted: int, timeframe: str) -> int:
        """Return the rows to ask for, so that all pages together weigh least."""
        length = step(timeframe) or 31 * _DAY
        if self.longest_span:
            wanted = min(wanted, self.longest_span // length)

        def cost(rows: int) -> tuple[int, int]:
            pages, rest = divmod(wanted, rows)
            weight = pages * self.weight_of(rows)
            weight += self.weight_of(rest) if rest else 0
            return weight, pages + bool(rest)

        return min((min(most, wanted) for most, _ in self.weights), key=cost)


_FUTURES_WEIGHTS = ((99, 1), (499, 2), (1000, 5), (1500, 10))
MARKETS = {
    "spot": Market(
        hosts=("https://api.binance.com", "https://data-api.binance.vision"),
        path="/api/v3",
        weights=((1000, 2),),
        weight_limit=6000,
        takes_symbols=True,
        info_weight=20,
    ),
    "usdm": Market(
        hosts=("https://fapi.binance.com",),
        path="/fapi/v1",
        weights=_FUTURES_WEIGHTS,
        weight_limit=2400,
    ),
    "coinm": Market(
        hosts=("https://dapi.binance.com",),
        path="/dapi/v1",
        weights=_FUTURES_WEIGHTS,
        weight_limit=2400,
        longest_span=200 * _DAY,
        has_quote_money=False,
    ),
}
MARKETS["testnet"] = MARKETS["spot"]._replace(hosts=("https://testnet.binance.vision",))
UNKNOWN_SYMBOL = frozenset({"-1121", "-1100"})  # the codes of a refused symbol
_MOST_WEIGHT = 1_000_000  # in a minute; a larger limit is absurd
_TRADING = frozenset({"TRADING", ""})
USED_WEIGHT = "x-mbx-used-weight-1m"  # the header with the venue's own count


class PageQuery(NamedTuple):
    """A page to ask for.

    Attributes:
        resource: Path and query, without the base address.
        weight: The weight of the request.
        rows: The most rows of the answer.
        first, last: The open times that the page covers; 0 where it has no bound.
    """

    resource: str
    weight: int
    rows: int
    first: int
    last: int


class _Kline(msgspec.Struct, array_like=True, gc=False):
    # The venue may add columns behind these.
    open_time: Time
    open: float
    high: float
    low: float
    close: float
    volume: float
    close_time: Time
    money: float = nan
    trades: int = -1


class _Symbol(msgspec.Struct, gc=False):
    symbol: str
    status: str = ""  # of spot and USD-M
    contract_status: str = msgspec.field(name="contractStatus", default="")  # COIN-M
    delivery: int = msgspec.field(name="deliveryDate", default=0)


class _RateLimit(msgspec.Struct, gc=False):
    kind: str = msgspec.field(name="rateLimitType", default="")
    interval: str = ""
    number: int = msgspec.field(name="intervalNum", default=0)
    limit: int = 0


class _Info(msgspec.Struct):
    symbols: list[_Symbol]
    limits: list[_RateLimit] = msgspec.field(name="rateLimits", default_factory=list)


class VenueInfo(NamedTuple):
    """The content of exchangeInfo.

    Attributes:
        states: The states of the symbols in it.
        weight_limit: The weight that an address may use in a minute, 0 if not told.
    """

    states: dict[str, SymbolState]
    weight_limit: int


class _Failure(msgspec.Struct):
    code: int | str = ""
    msg: str = ""


_decode_klines = msgspec.json.Decoder(list[_Kline], strict=False).decode
_decode_info = msgspec.json.Decoder(_Info).decode
_decode_failure = msgspec.json.Decoder(_Failure).decode


def page_query(
    market: Market, request: HistoryRequest, newest_closed: int = 0
) -> PageQuery:
    """Return the page to ask for first.

    A request for the newest bars is answered from the newest page backwards, any other
    from the oldest page on. `newest_closed` is the open time of the newest closed bar,
    0 if it is not known for certain.
    """
    timeframe = request.key[1]
    if not request.newest:
        wanted = _count(request.first, request.last, timeframe)
        rows = market.page_rows(wanted, timeframe)
        last = min(request.last, _add(request.first, rows - 1, timeframe))
        return _query(market, request, rows, request.first, last)
    last = request.last or newest_closed
    # The newest row of all is the one that has not closed.
    wanted = request.newest if last else request.newest + 1
    rows = market.page_rows(wanted, timeframe)
    return _query(market, request, rows, 0, last)


def parse_klines(data: bytes, market: Market) -> list[Row]:
    """Return the rows of an answer, before any check of them.

    Raises:
        HistoryError: The answer is no list of klines.
    """
    try:
        klines = _decode_klines(data)
    except (ValueError, RecursionError) as error:
        raise HistoryError(
            f"the answer is no list of klines: {_describe(data, error)}", "malformed"
        ) from None
    keeps_money = market.has_quote_money
    return [
        (
            one.open_time,
            one.close_time,
            one.open,
            one.high,
            one.low,
            one.close,
            one.volume,
            one.money if keeps_money else nan,
            0 if one.trades else NO_TRADE,
        )
        for one in klines
    ]


def info_resource(market: Market, wanted: Collection[str] = ()) -> str:
    """Return the resource of exchangeInfo, of some symbols alone if that is offered."""
    resource = f"{market.path}/exchangeInfo"
    if not market.takes_symbols:
        return resource
    if not wanted:
        return f"{resource}?showPermissionSets=false"  # most of the bytes
    names = msgspec.json.encode(sorted(wanted)).decode()
    return f"{resource}?{urlencode({'symbols': names})}"


def parse_info(data: bytes, now: int) -> VenueInfo:
    """Return what an answer tells; `now` is the venue's time, ms UTC.

    Raises:
        HistoryError: The answer lists no symbols.
    """
    try:
        info = _decode_info(data)
    except (ValueError, RecursionError) as error:
        raise HistoryError(
            f"the answer is no list of symbols: {_describe(data, error)}", "malformed"
        ) from None
    states = {one.symbol: _state_of(one, now) for one in info.symbols}
    limits = [
        one.limit
        for one in info.limits
        if (one.kind, one.interval, one.number) == ("REQUEST_WEIGHT", "MINUTE", 1)
        and 0 < one.limit <= _MOST_WEIGHT
    ]
    return VenueInfo(states, min(limits, default=0))


def _state_of(listed: _Symbol, now: int) -> SymbolState:
    status = listed.status or listed.contract_status
    if status in _TRADING:
        return SymbolState(True, True, "")
    text = f"status {one_line(status, 40)}"
    if 0 < listed.delivery <= now:
        moment = datetime.fromtimestamp(listed.delivery / 1000, UTC)
        text += f" since {moment:%Y-%m-%d %H:%M} UTC"
    return SymbolState(True, False, text)


def failure_of(data: bytes) -> tuple[str, str]:
    """Return the code and the words of an answer that states an error, else ""."""
    try:
        failure = _decode_failure(data)
    except (ValueError, RecursionError):
        return "", ""
    return str(failure.code), failure.msg


def _query(
    market: Market, request: HistoryRequest, rows: int, first: int, last: int
) -> PageQuery:
    symbol, timeframe = request.key
    fields: dict[str, str | int] = {"symbol": symbol, "interval": timeframe}
    if first:
        fields["startTime"] = first
    if last:
        fields["endTime"] = last
    fields["limit"] = rows
    resource = f"{market.path}/klines?{urlencode(fields)}"
    return PageQuery(resource, market.weight_of(rows), rows, first, last)


def _count(first: int, last: int, timeframe: str) -> int:
    length = step(timeframe) or 28 * _DAY
    return max(1, (last - first) // length + 1)


def _add(open_time: int, bars: int, timeframe: str) -> int:
    length = step(timeframe)
    if length:
        return open_time + bars * length
    for _ in range(bars):
        open_time = close_time(open_time, timeframe)
    return open_time


def _describe(data: bytes, error: Exception) -> str:
    if data.lstrip()[:1] == b"<":
        return "HTML or XML, not JSON"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return str(error)  # msgspec's words name places and types only
