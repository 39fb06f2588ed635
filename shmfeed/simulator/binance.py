"""The server's half of Binance's market streams, limited to klines.

A stream that the venue does not carry, or that is not a kline, is acknowledged and
stays silent, as on the real venue.
"""

import json
import math
import re
import time
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import msgspec

from shmfeed.bar import TIMEFRAMES, Bar, StreamKey, Timeframe, check_timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.simulator.dialect import (
    POLICY_VIOLATION,
    Outcome,
    RefusedSymbols,
    check_stream_count,
    refuse_none,
)
from shmfeed.simulator.frames import text_frame, text_frames
from shmfeed.simulator.market import STEPS, BarState
from shmfeed.simulator.options import VenueOptions
from shmfeed.simulator.schedule import TRADE_MS

_PATH = re.compile(r"(?:/market)?/(stream|ws)(?:/(.+))?")
_STREAM_NAME = re.compile(r"([a-z0-9_-]{1,48})@kline_(\w+)")
_METHODS = (
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "LIST_SUBSCRIPTIONS",
    "SET_PROPERTY",
    "GET_PROPERTY",
)
_UNKNOWN_PROPERTY, _BAD_VALUE, _BAD_REQUEST, _BAD_JSON = range(4)
_MAX_ID_LENGTH = 36
_STEP = 8  # of a BarState
_SPREAD = 2_654_435_761


class _RequestError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class BinanceDialect:
    """Subscriptions by URL and by message; raw or combined-stream klines."""

    max_rate = 5
    numbers_messages = False  # klines have trade ids instead

    def __init__(
        self, options: VenueOptions, refused: RefusedSymbols = refuse_none
    ) -> None:
        self._options = options
        self._refused = refused
        self._combined = False
        self._stream_names: dict[str, None] = {}  # in the order of subscription

    @property
    def encoding(self) -> str:
        return "combined" if self._combined else "raw"

    def connect(self, path: str) -> Outcome | None:
        parts = urlsplit(path)
        match = _PATH.fullmatch(parts.path.rstrip("/"))
        if match is None:
            return None
        self._combined = match[1] == "stream"
        in_query = parse_qs(parts.query).get("streams", [])
        names = "/".join([match[2] or "", *in_query]).split("/")
        self._stream_names = dict.fromkeys(name for name in names if name)
        if not self._stream_names:
            return Outcome()
        request = {"method": "URL", "params": list(self._stream_names), "path": path}
        try:
            check_stream_count(len(self._stream_names), self._options.max_streams)
        except BadArgumentError as error:
            self._stream_names.clear()
            return _closed_for_excess(str(error), request)
        keys = self._keys()
        refused = set(self._refused(key[0] for key in keys))  # a URL gets no error
        keys = tuple(key for key in keys if key[0] not in refused)
        return Outcome((), keys, request)

    def receive(self, text: str) -> Outcome:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            return _failure(_BAD_JSON, f"Invalid JSON: {error}", None)
        try:
            request = _check_request(message)
            result = self._perform(request["method"], request.get("params"))
        except BadArgumentError as error:
            if self._options.excess == "close":
                return _closed_for_excess(str(error), request)
            return _failure(
                _BAD_REQUEST, f"Invalid request: {error}", request.get("id")
            )
        except _RequestError as error:
            request_id = message.get("id") if isinstance(message, dict) else None
            return _failure(error.code, str(error), request_id)
        reply = json.dumps({"result": result, "id": request.get("id")})
        if request["method"] not in {"SUBSCRIBE", "UNSUBSCRIBE"}:
            return Outcome((reply,), None, request)
        subscribed = request["params"] if request["method"] == "SUBSCRIBE" else ()
        asked = self._keys(subscribed)
        return Outcome((reply,), self._keys(), request, asked=asked)

    def stream_key(self, symbol: str, timeframe: str) -> StreamKey:
        return symbol.upper(), check_timeframe(timeframe)

    def encode(self, key: StreamKey, states: Iterable[BarState]) -> list[bytes]:
        dense = self._options.trade_ids == "dense"
        return binance_frames(key, states, self._combined, dense)

    def error(self, text: str) -> str:
        return json.dumps({"error": {"code": _BAD_REQUEST, "msg": text}})

    def encode_copy(self, key: StreamKey, state: BarState) -> bytes:
        return self.encode(key, [state])[0]

    def going_away(self) -> str | None:
        message: dict[str, object] = {"e": "serverShutdown"}
        message["E"] = time.time_ns() // 1_000_000
        if self._combined:
            message = {"stream": "!serverShutdown", "data": message}
        return json.dumps(message)

    def encode_bar(
        self, key: StreamKey, bar: Bar, closed: bool | None, event_time: int | None
    ) -> bytes:
        return binance_bar_frame(key, bar, bool(closed), self._combined, event_time)

    def _perform(self, method: str, params: Any) -> object:
        if method == "LIST_SUBSCRIPTIONS":
            return list(self._stream_names)
        if method.endswith("_PROPERTY"):
            return self._property(method, params)
        if not _are_names(params):
            raise _RequestError(_BAD_REQUEST, "Invalid request: params is not a list")
        if method == "UNSUBSCRIBE":
            self._stream_names = {
                name: None for name in self._stream_names if name not in params
            }
            return None
        refused = self._refused(key[0] for key in self._keys(params))
        if refused:
            text = f"Invalid request: symbols not available: {', '.join(refused)}"
            raise _RequestError(_BAD_REQUEST, text)
        names = self._stream_names | dict.fromkeys(params)
        check_stream_count(len(names), self._options.max_streams)
        self._stream_names = names
        return None

    def _property(self, method: str, params: Any) -> object:
        given = params if isinstance(params, list) else []
        if given[:1] != ["combined"]:
            raise _RequestError(_UNKNOWN_PROPERTY, "Unknown property")
        if method == "GET_PROPERTY":
            return self._combined
        if len(given) != 2 or not isinstance(given[1], bool):
            text = "Invalid value type: expected Boolean"
            raise _RequestError(_BAD_VALUE, text)
        self._combined = given[1]
        return None

    def _keys(self, names: Iterable[str] | None = None) -> tuple[StreamKey, ...]:
        found = map(self._parse, self._stream_names if names is None else names)
        return tuple(key for key in found if key is not None)

    def _parse(self, name: str) -> StreamKey | None:
        match = _STREAM_NAME.fullmatch(name)
        if match is None or match[2] not in TIMEFRAMES:
            return None
        key = match[1].upper(), cast("Timeframe", match[2])
        symbols = {symbol.upper() for symbol in self._options.symbols}
        known = (not symbols or key[0] in symbols) and (
            not self._options.resolutions or key[1] in self._options.resolutions
        )
        return key if known and _stream_name(key) == name else None


def _are_names(params: Any) -> bool:
    return isinstance(params, list) and all(isinstance(name, str) for name in params)


def _check_request(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict) or "method" not in message:
        raise _RequestError(_BAD_REQUEST, "Invalid request: missing field `method`")
    if message["method"] not in _METHODS:
        known = ", ".join(_METHODS)
        text = f"Invalid request: unknown variant, expected one of {known}"
        raise _RequestError(_BAD_REQUEST, text)
    if not _is_id(message.get("id")):
        text = "Invalid request: request ID must be an integer, a string or null"
        raise _RequestError(_BAD_REQUEST, text)
    return message


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return value.isalnum() and len(value) <= _MAX_ID_LENGTH
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _failure(code: int, text: str, request_id: object) -> Outcome:
    return Outcome((json.dumps({"code": code, "msg": text, "id": request_id}),))


def _closed_for_excess(text: str, request: dict[str, Any]) -> Outcome:
    return Outcome((), request=request, close_code=POLICY_VIOLATION, reason=text)


def _stream_name(key: StreamKey) -> str:
    return f"{key[0].lower()}@kline_{key[1]}"


def binance_frames(
    key: StreamKey, states: Iterable[BarState], combined: bool, dense: bool = True
) -> list[bytes]:
    """Return kline events as frames, raw or in the wrapper of combined streams.

    A symbol's trades come every TRADE_MS. With `dense` their ids count up by one,
    without it some are left out.

    The market's prices are whole cents, so two decimals parse to the same float.
    """
    values = _kline_values if dense else _sparse_values
    forming, closing = (_kline_form(key, x, combined) for x in ("false", "true"))
    return text_frames(
        (closing if state[_STEP] == STEPS else forming) % values(*state)
        for state in states
    )


def _kline_form(key: StreamKey, closed: str, combined: bool) -> bytes:
    symbol, timeframe = key[0].upper(), key[1]
    form = (
        f'{{"e":"kline","E":%d,"s":"{symbol}","k":{{"t":%d,"T":%d,"s":"{symbol}",'
        f'"i":"{timeframe}","f":%d,"L":%d,"o":"%.2f000000","c":"%.2f000000",'
        f'"h":"%.2f000000","l":"%.2f000000","v":"%.4f0000","n":%d,"x":{closed},'
        '"q":"%.2f000000","V":"%.4f0000","Q":"%.2f000000","B":"0"}}'
    )
    if combined:
        form = f'{{"stream":"{_stream_name(key)}","data":{form}}}'
    return form.encode()


def _kline_values(
    start: int,
    end: int,
    first: float,
    high: float,
    low: float,
    last: float,
    volume: float,
    money: float,
    step: int,
    event: int,
) -> tuple[int | float, ...]:
    # A bar without trades has trade ids of -1. Takers bought half of the volume.
    if step:
        first_id = start // TRADE_MS
        count = (end - start) * step // (STEPS * TRADE_MS)
        last_id = first_id + count - 1
    else:
        first_id = last_id = -1
        count = 0
    taken, paid = volume / 2, money / 2
    times, prices = (event, start, end - 1), (first, last, high, low)
    return (*times, first_id, last_id, *prices, volume, count, money, taken, paid)


def trade_number(time: int) -> int:
    """Return how many trades a symbol had before `time`, ms UTC."""
    return time // TRADE_MS


def _sparse_values(*state: Any) -> tuple[int | float, ...]:
    times, ids, others = (values := _kline_values(*state))[:3], values[3:5], values[5:]
    return (*times, *map(_sparse_id, ids), *others)


def _sparse_id(number: float) -> float:
    """Return an id that grows with the number, at times by one, at times by more."""
    if number < 0:  # no trade
        return number
    return number * 3 + (int(number) * _SPREAD >> 8) % 3


_PRICE_KEYS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}


def binance_bar_frame(
    key: StreamKey,
    bar: Bar,
    closed: bool,
    combined: bool,
    event_time: int | None = None,
) -> bytes:
    """Return the kline event of any bar; money NaN becomes 0, as it is required.

    The event time is by default the bar's end or, of a forming bar, its start. A closed
    bar has all of its trades, a forming bar the first one.
    """
    first_id = trade_number(bar.open_time)
    last_id = trade_number(bar.close_time) - 1 if closed else first_id
    symbol = key[0].upper()
    money = repr(0.0 if math.isnan(bar.money) else float(bar.money))
    kline: dict[str, object] = {"t": bar.open_time, "T": bar.close_time - 1}
    kline |= {"s": symbol, "i": key[1], "x": closed}
    kline |= {"f": first_id, "L": last_id, "n": last_id - first_id + 1}
    kline |= {k: repr(float(getattr(bar, name))) for name, k in _PRICE_KEYS.items()}
    kline |= {"q": money, "V": "0", "Q": "0", "B": "0"}
    event = event_time
    if event is None:
        event = bar.close_time if closed else bar.open_time
    message: dict[str, object] = {"e": "kline", "E": event, "s": symbol, "k": kline}
    if combined:
        message = {"stream": _stream_name(key), "data": message}
    return text_frame(msgspec.json.encode(message))
