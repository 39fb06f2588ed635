"""The venue's REST: klines, exchangeInfo and time of Binance's three markets. No I/O.

All three markets are answered on the venue's own port, each below its own path and with
its own limits. A venue that carries any symbol lists none in its exchangeInfo.
"""

import json
import math
import re
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl, urlsplit

from shmfeed.bar import TIMEFRAMES, StreamKey, Timeframe
from shmfeed.simulator.archive import Archive
from shmfeed.simulator.faults.injection import FaultSchedule
from shmfeed.simulator.faults.rest import Answer, RestFaults
from shmfeed.simulator.log import RestRequest, VenueLog
from shmfeed.simulator.market import STEPS, BarState
from shmfeed.simulator.options import VenueOptions
from shmfeed.simulator.request_weights import Excess, RequestWeights
from shmfeed.simulator.schedule import TRADE_MS

PATH = re.compile(rb"[A-Z]+ /(?:api/v\d|[fd]api/v\d)/")  # of a request that is REST's
OK, BAD_REQUEST, NOT_FOUND, BAD_METHOD = 200, 400, 404, 405
_DEFAULT_ROWS = 500
_MOST_DAYS = 200  # between startTime and endTime on COIN-M
_DAY = 86_400_000
_SYMBOL = re.compile(r"[A-Z0-9_.-]{1,48}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_QUOTES = ("USDT", "USDC", "USD_PERP", "FDUSD", "BUSD", "USD", "BTC", "ETH", "EUR")
_UNKNOWN, _BAD_CHARACTERS, _MISSING, _BAD_TIMES = -1000, -1100, -1102, -1023
_BAD_INTERVAL, _BAD_SYMBOL, _TOO_LONG, _BAD_VALUE = -1120, -1121, -1127, -1130
_TOO_MUCH_WEIGHT = -1003


class RestMarket(NamedTuple):
    """A market of Binance, as its REST differs from the others'.

    Attributes:
        name: "spot", "usdm" or "coinm".
        prefix: Path of its endpoints.
        limit: Request weight of a minute.
        rows: The most rows of an answer.
        caps_rows: A larger limit gets that many; False: it is refused.
        info_weight: Weight of exchangeInfo.
        status_key: Key of a symbol's status in exchangeInfo.
        not_trading: Status of a symbol that does not trade.
    """

    name: str
    prefix: str
    limit: int
    rows: int
    caps_rows: bool
    info_weight: int
    status_key: str
    not_trading: str

    def klines_weight(self, limit: int) -> int:
        """Return the weight of a request for so many rows."""
        if self.name == "spot":
            return 2
        return next(
            w
            for most, w in ((99, 1), (499, 2), (1000, 5), (math.inf, 10))
            if limit <= most
        )


MARKETS = (
    RestMarket("spot", "/api/v3/", 6000, 1000, True, 20, "status", "BREAK"),
    RestMarket("usdm", "/fapi/v1/", 2400, 1500, False, 1, "status", "CLOSE"),
    RestMarket("coinm", "/dapi/v1/", 2400, 1500, False, 1, "contractStatus", "CLOSE"),
)


class _RefusedError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class BinanceRest:
    """The answers of one venue's REST.

    Args:
        options: The venue's options.
        archive: Its bars.
        log: Takes every request.

    Attributes:
        weights: The count of request weights, by the market's name.
        faults: The faults of its answers.
    """

    def __init__(
        self,
        options: VenueOptions,
        archive: Archive,
        log: VenueLog,
    ) -> None:
        self._archive, self._log = archive, log
        self._symbols = [symbol.upper() for symbol in options.symbols]
        self.faults = RestFaults(FaultSchedule((), ""))
        self._limits = {one.name: options.rest_limit or one.limit for one in MARKETS}
        self.weights = {name: RequestWeights(n) for name, n in self._limits.items()}

    def answer(self, method: str, target: str, now: int) -> Answer:
        """Answer one request as of `now`, the venue's time."""
        parts = urlsplit(target)
        params = dict(parse_qsl(parts.query, keep_blank_values=True))
        market = next((m for m in MARKETS if parts.path.startswith(m.prefix)), None)
        if market is None:
            return _json(NOT_FOUND, _error(_UNKNOWN, "Not found."), {})
        name = parts.path.removeprefix(market.prefix)
        weight = self._weight(market, name, params)
        excess = self.weights[market.name].take(weight)
        found: object
        if method != "GET":
            status, found = BAD_METHOD, _error(_UNKNOWN, "Method not allowed.")
        elif excess is not None:
            status, found = excess.status, _error(_TOO_MUCH_WEIGHT, excess.words)
        else:
            status, found = self._found(market, name, params, now)
        answer = _json(status, found, self._headers(market, excess))
        answer = self.faults.answer(answer, target)
        status = answer.status if answer.sent != 0 else 0
        self._log.add_rest(RestRequest.now(parts.path, params, weight, status))
        return answer

    def _found(
        self, market: RestMarket, name: str, params: dict[str, str], now: int
    ) -> tuple[int, object]:
        try:
            if name == "klines":
                return OK, self._klines(market, params, now)
            if name == "exchangeInfo":
                return OK, self._exchange_info(market, params, now)
        except _RefusedError as error:
            return BAD_REQUEST, _error(error.code, str(error))
        if name in {"time", "ping"}:
            return OK, {"serverTime": now} if name == "time" else {}
        return NOT_FOUND, _error(_UNKNOWN, "Not found.")

    def _headers(self, market: RestMarket, excess: Excess | None) -> dict[str, str]:
        used = str(self.weights[market.name].used)
        headers = {"X-MBX-USED-WEIGHT-1M": used}
        if market.name == "spot":
            headers["X-MBX-USED-WEIGHT"] = used
        if excess is not None:
            headers["Retry-After"] = str(excess.wait)
        return headers

    def _weight(self, market: RestMarket, name: str, params: dict[str, str]) -> int:
        if name == "exchangeInfo":
            return market.info_weight
        limit = params.get("limit", "")
        if name != "klines":
            return 1
        return market.klines_weight(
            int(limit) if _NUMBER.fullmatch(limit) else _DEFAULT_ROWS
        )

    def _klines(self, market: RestMarket, params: dict[str, str], now: int) -> Any:
        key = self._key(market, params)
        first, last = _number(params, "startTime"), _number(params, "endTime")
        limit = _limit(market, params)
        if first is not None and last is not None and first > last:
            if market.name == "spot":
                return []
            raise _RefusedError(_BAD_TIMES, "Start time is greater than end time.")
        if market.name == "coinm" and first is not None and last is not None:
            _check_span(last - first)
        age = self.faults.age
        moment = now - int(age * 1000)
        until = moment if last is None else last
        if first is None:
            states = self._archive.newest(key, until, limit, moment)
        else:
            states = self._archive.oldest(key, first, until, limit, moment)
        rows = [kline_row(one) for one in states if not age or one[1] <= moment]
        forming = self._archive.newest
        return self.faults.rows(
            rows, lambda: [kline_row(one) for one in forming(key, now, 1, now)]
        )

    def _key(self, market: RestMarket, params: dict[str, str]) -> StreamKey:
        symbol, interval = _text(params, "symbol"), _text(params, "interval")
        if market.name != "spot":
            symbol = symbol.upper()
        if not _SYMBOL.fullmatch(symbol):
            raise _illegal("symbol", "^[A-Z0-9-_.]{1,20}$")
        if self._symbols and symbol not in self._symbols:
            raise _RefusedError(_BAD_SYMBOL, "Invalid symbol.")
        if interval not in TIMEFRAMES or (interval == "1s" and market.name != "spot"):
            raise _RefusedError(_BAD_INTERVAL, "Invalid interval.")
        return symbol, cast("Timeframe", interval)

    def _exchange_info(
        self, market: RestMarket, params: dict[str, str], now: int
    ) -> dict[str, Any]:
        symbols = self._symbols
        if market.name == "spot" and (asked := _asked_symbols(params)) is not None:
            if self._symbols and not set(asked) <= set(self._symbols):
                raise _RefusedError(_BAD_SYMBOL, "Invalid symbol.")
            symbols = asked
        closed = self._archive.faults.halted(now)
        return {
            "timezone": "UTC",
            "serverTime": now,
            "rateLimits": [
                {
                    "rateLimitType": "REQUEST_WEIGHT",
                    "interval": "MINUTE",
                    "intervalNum": 1,
                    "limit": self._limits[market.name],
                }
            ],
            "exchangeFilters": [],
            "symbols": [_symbol_info(market, one, one in closed) for one in symbols],
        }


def kline_row(state: BarState) -> list[Any]:
    """Return a bar as a row of 12 columns. Takers bought half of the volume."""
    begin, end, first, high, low, last, volume, money, step, _ = state
    money = 0.0 if math.isnan(money) else money
    values = [f"{value:.8f}" for value in (first, high, low, last, volume)]
    trades = (end - begin) * step // (STEPS * TRADE_MS)
    taken = f"{volume / 2:.8f}", f"{money / 2:.8f}"
    return [begin, *values, end - 1, f"{money:.8f}", trades, *taken, "0"]


def _json(status: int, found: object, headers: dict[str, str]) -> Answer:
    return Answer(status, json.dumps(found, separators=(",", ":")).encode(), headers)


def _error(code: int, text: str) -> dict[str, object]:
    return {"code": code, "msg": text}


def _text(params: dict[str, str], name: str) -> str:
    if not params.get(name):
        raise _RefusedError(
            _MISSING,
            f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.",
        )
    return params[name]


def _illegal(name: str, pattern: str) -> _RefusedError:
    text = (
        f"Illegal characters found in parameter '{name}'; legal range is '{pattern}'."
    )
    return _RefusedError(_BAD_CHARACTERS, text)


def _number(params: dict[str, str], name: str) -> int | None:
    text = params.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise _illegal(name, "^[0-9]{1,20}$")
    return int(text)


def _limit(market: RestMarket, params: dict[str, str]) -> int:
    limit = _number(params, "limit")
    if limit is None:
        return _DEFAULT_ROWS
    if limit < 1 or (limit > market.rows and not market.caps_rows):
        raise _RefusedError(_BAD_VALUE, "Data sent for parameter 'limit' is not valid.")
    return min(limit, market.rows)


def _check_span(span: int) -> None:
    if span > _MOST_DAYS * _DAY:
        raise _RefusedError(
            _TOO_LONG,
            f"Lookup interval is too big. More than {_MOST_DAYS * 24} hours between "
            "startTime and endTime.",
        )


def _asked_symbols(params: dict[str, str]) -> list[str] | None:
    if "symbol" in params:
        return [params["symbol"]]
    if "symbols" not in params:
        return None
    try:
        found = json.loads(params["symbols"])
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise _illegal("symbols", r'^\["[A-Z0-9-_.]{1,20}"(,..)*\]$')
    return found


def _symbol_info(market: RestMarket, symbol: str, closed: bool) -> dict[str, Any]:
    quote = next((one for one in _QUOTES if symbol.endswith(one)), symbol[-3:])
    info: dict[str, Any] = {"symbol": symbol}
    info[market.status_key] = market.not_trading if closed else "TRADING"
    info |= {
        "baseAsset": symbol.removesuffix(quote),
        "quoteAsset": quote[:4].rstrip("_"),
    }
    if market.name == "spot":
        return info | {"isSpotTradingAllowed": True, "permissions": ["SPOT"]}
    pair = symbol.partition("_")[0]
    return info | {"pair": pair, "contractType": "PERPETUAL", "filters": []}
