"""The house protocol as its server speaks it."""

import hmac
import json
from collections.abc import Iterable
from typing import Any

import msgspec

from shmfeed.bar import Bar, StreamKey, check_timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.simulator.dialect import MAX_STREAMS, Answer
from shmfeed.simulator.frames import Row, fed_house, house_frames
from shmfeed.simulator.options import VenueOptions
from shmfeed.validation import check_symbol

PATH = "/market_data"
_REFUSED = 1008  # WebSocket close code: policy violation


class _Connect(msgspec.Struct):
    request_id: str | int
    symbols: list[str]
    resolutions: list[str]
    csrf_token: str = ""
    market_type: str = ""


class HouseDialect:
    """CONNECT, CONNECTED, ERROR, BAR, and heartbeats in text."""

    max_rate = 1000
    form = "house"

    def __init__(self, options: VenueOptions) -> None:
        self._options = options

    def opened(self, path: str) -> Answer | None:
        return Answer() if path.partition("?")[0] == PATH else None

    def received(self, text: str) -> Answer:
        if text == "ping":
            return Answer(("pong",))
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return _refusal(None, "not JSON")
        if not isinstance(message, dict):
            return _refusal(None, "a message is a JSON object")
        return self._message(message)

    def stream(self, symbol: str, timeframe: str) -> StreamKey:
        return symbol, timeframe

    def encode(self, stream: StreamKey, rows: Iterable[Row]) -> list[bytes]:
        return house_frames(stream, rows, self._options.closed_flag)

    def fed(self, stream: StreamKey, bar: Bar, closed: bool | None) -> bytes:
        return fed_house(stream, bar, closed)

    def _message(self, message: dict[str, Any]) -> Answer:
        kind = message.get("type")
        if kind == "CONNECT":
            return self._connect(message)
        if kind == "PING":
            return Answer(('{"type":"PONG"}',))
        if kind in {"PONG", "HEARTBEAT"}:
            return Answer()
        return _refusal(message, f"unknown type {kind!r}")

    def _connect(self, message: dict[str, Any]) -> Answer:
        try:
            request = msgspec.convert(message, _Connect)
            streams = self._streams(request)
        except msgspec.ValidationError as error:
            return _refusal(message, f"malformed CONNECT: {error}")
        except BadArgumentError as error:
            return _refusal(message, str(error))
        token = self._options.token
        if token is not None and not _same(token, request.csrf_token):
            refusal = _refusal(message, "csrf_token is not accepted")
            return refusal._replace(close=_REFUSED)
        reply = {
            "type": "CONNECTED",
            "request_id": request.request_id,
            "symbols": request.symbols,
            "resolutions": request.resolutions,
        }
        return Answer((json.dumps(reply),), streams, message)

    def _streams(self, request: _Connect) -> tuple[StreamKey, ...]:
        symbols = list(dict.fromkeys(map(check_symbol, request.symbols)))
        frames = list(dict.fromkeys(map(check_timeframe, request.resolutions)))
        _check_known("symbols", symbols, self._options.symbols)
        _check_known("resolutions", frames, self._options.resolutions)
        streams = tuple((symbol, frame) for symbol in symbols for frame in frames)
        if len(streams) > MAX_STREAMS:
            raise BadArgumentError(
                f"{len(streams)} streams; at most {MAX_STREAMS} a connection"
            )
        return streams


def _same(token: str, given: str) -> bool:
    return hmac.compare_digest(token.encode(), given.encode())


def _check_known(what: str, asked: list[str], known: tuple[str, ...]) -> None:
    strange = [name for name in asked if known and name not in known]
    if strange:
        raise BadArgumentError(
            f"unknown {what}: {', '.join(strange)}; known: {', '.join(known)}"
        )


def _refusal(message: dict[str, Any] | None, words: str) -> Answer:
    reply: dict[str, object] = {"type": "ERROR", "message": words}
    if message is None:
        return Answer((json.dumps(reply),))
    if isinstance(message.get("request_id"), str | int):
        reply["request_id"] = message["request_id"]
    asked = message if message.get("type") == "CONNECT" else None
    return Answer((json.dumps(reply),), asked=asked)
