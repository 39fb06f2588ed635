"""Binance's market streams as their server speaks them: klines, nothing else.

A stream that the venue does not know, or that is not a kline, is acknowledged and
stays silent, as with the real one.
"""

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from shmfeed.bar import TIMEFRAMES, Bar, StreamKey
from shmfeed.simulator.dialect import MAX_STREAMS, Answer
from shmfeed.simulator.frames import (
    Row,
    binance_frames,
    fed_binance,
    stream_name,
)
from shmfeed.simulator.options import VenueOptions

_PATH = re.compile(r"(?:/market)?/(stream|ws)(?:/(.+))?")
_NAME = re.compile(r"([a-z0-9_-]{1,48})@kline_(\w+)")
_METHODS = (
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "LIST_SUBSCRIPTIONS",
    "SET_PROPERTY",
    "GET_PROPERTY",
)
_UNKNOWN_PROPERTY, _BAD_VALUE, _BAD_REQUEST, _BAD_JSON = range(4)
_ID_SIZE = 36


class _RequestError(Exception):
    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class BinanceDialect:
    """Subscriptions by URL and by message; raw or wrapped klines."""

    max_rate = 5

    def __init__(self, options: VenueOptions) -> None:
        self._options = options
        self._wrapped = False
        self._names: dict[str, None] = {}  # in the order of subscription

    @property
    def form(self) -> str:
        return "wrapped" if self._wrapped else "raw"

    def opened(self, path: str) -> Answer | None:
        parts = urlsplit(path)
        match = _PATH.fullmatch(parts.path.rstrip("/"))
        if match is None:
            return None
        self._wrapped = match[1] == "stream"
        queried = parse_qs(parts.query).get("streams", [])
        names = "/".join([match[2] or "", *queried]).split("/")
        self._names = dict.fromkeys(name for name in names if name)
        if not self._names:
            return Answer()
        asked = {"method": "URL", "params": list(self._names), "path": path}
        return Answer((), self._streams(), asked)

    def received(self, text: str) -> Answer:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            return _failure(_BAD_JSON, f"Invalid JSON: {error}", None)
        try:
            request = _request(message)
            result = self._perform(request["method"], request.get("params"))
        except _RequestError as error:
            number = message.get("id") if isinstance(message, dict) else None
            return _failure(error.code, str(error), number)
        reply = json.dumps({"result": result, "id": request.get("id")})
        changed = request["method"] in {"SUBSCRIBE", "UNSUBSCRIBE"}
        return Answer((reply,), self._streams() if changed else None, request)

    def stream(self, symbol: str, timeframe: str) -> StreamKey:
        return symbol.upper(), timeframe

    def encode(self, stream: StreamKey, rows: Iterable[Row]) -> list[bytes]:
        return binance_frames(stream, rows, self._wrapped)

    def fed(self, stream: StreamKey, bar: Bar, closed: bool | None) -> bytes:
        return fed_binance(stream, bar, bool(closed), self._wrapped)

    def _perform(self, method: str, params: Any) -> object:
        if method == "LIST_SUBSCRIPTIONS":
            return list(self._names)
        if method.endswith("_PROPERTY"):
            return self._property(method, params)
        if not _is_names(params):
            raise _RequestError(_BAD_REQUEST, "Invalid request: params is not a list")
        if method == "UNSUBSCRIBE":
            self._names = {n: None for n in self._names if n not in params}
            return None
        names = self._names | dict.fromkeys(params)
        if len(names) > MAX_STREAMS:
            words = f"Invalid request: more than {MAX_STREAMS} streams"
            raise _RequestError(_BAD_REQUEST, words)
        self._names = names
        return None

    def _property(self, method: str, params: Any) -> object:
        given = params if isinstance(params, list) else []
        if given[:1] != ["combined"]:
            raise _RequestError(_UNKNOWN_PROPERTY, "Unknown property")
        if method == "GET_PROPERTY":
            return self._wrapped
        if len(given) != 2 or not isinstance(given[1], bool):
            words = "Invalid value type: expected Boolean"
            raise _RequestError(_BAD_VALUE, words)
        self._wrapped = given[1]
        return None

    def _streams(self) -> tuple[StreamKey, ...]:
        found = (self._parse(name) for name in self._names)
        return tuple(stream for stream in found if stream is not None)

    def _parse(self, name: str) -> StreamKey | None:
        match = _NAME.fullmatch(name)
        if match is None or match[2] not in TIMEFRAMES:
            return None
        stream = match[1].upper(), match[2]
        symbols = {symbol.upper() for symbol in self._options.symbols}
        known = (not symbols or stream[0] in symbols) and (
            not self._options.resolutions or stream[1] in self._options.resolutions
        )
        return stream if known and stream_name(stream) == name else None


def _is_names(params: Any) -> bool:
    return isinstance(params, list) and all(isinstance(name, str) for name in params)


def _request(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict) or "method" not in message:
        raise _RequestError(_BAD_REQUEST, "Invalid request: missing field `method`")
    if message["method"] not in _METHODS:
        known = ", ".join(_METHODS)
        words = f"Invalid request: unknown variant, expected one of {known}"
        raise _RequestError(_BAD_REQUEST, words)
    if not _is_id(message.get("id")):
        words = "Invalid request: request ID must be an integer, a string or null"
        raise _RequestError(_BAD_REQUEST, words)
    return message


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return value.isalnum() and len(value) <= _ID_SIZE
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _failure(code: int, words: str, number: object) -> Answer:
    return Answer((json.dumps({"code": code, "msg": words, "id": number}),))
