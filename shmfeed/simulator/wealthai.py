"""The server's half of the wealthai protocol."""

import hmac
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from shmfeed.bar import Bar, StreamKey, check_timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.simulator.dialect import (
    POLICY_VIOLATION,
    Outcome,
    RefusedSymbols,
    check_stream_count,
    refuse_none,
)
from shmfeed.simulator.frames import text_frame, text_frames, with_number
from shmfeed.simulator.market import STEPS, BarState
from shmfeed.simulator.options import VenueOptions
from shmfeed.validation import check_symbol

PATH = "/market_data"
_STEP, _EVENT_TIME = 8, 9  # of a BarState


class _Connect(msgspec.Struct):
    request_id: str | int
    symbols: list[str]
    resolutions: list[str]
    csrf_token: str = ""
    market_type: str = ""


class WealthaiDialect:
    """CONNECT, CONNECTED, ERROR and BAR messages, and heartbeats in text."""

    max_rate = 1000

    def __init__(
        self, options: VenueOptions, refused: RefusedSymbols = refuse_none
    ) -> None:
        self._options = options
        self._refused = refused
        self._numbers: dict[StreamKey | None, Iterator[int]] = {}

    @property
    def numbers_messages(self) -> bool:
        return self._options.sequence != "none"

    @property
    def encoding(self) -> str:
        # Each connection has numbers of its own, so it shares its frames with none.
        return f"wealthai {id(self)}" if self.numbers_messages else "wealthai"

    def connect(self, path: str) -> Outcome | None:
        return Outcome() if path.partition("?")[0] == PATH else None

    def receive(self, text: str) -> Outcome:
        if text == "ping":
            return Outcome(("pong",))
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return _refusal(None, "not JSON")
        if not isinstance(message, dict):
            return _refusal(None, "a message is a JSON object")
        return self._receive_message(message)

    def stream_key(self, symbol: str, timeframe: str) -> StreamKey:
        return symbol, check_timeframe(timeframe)

    def encode(self, key: StreamKey, states: Iterable[BarState]) -> list[bytes]:
        options = self._options
        frames = wealthai_frames(
            key, states, options.closed_flag, timestamps=options.timestamps
        )
        return self._numbered(key, frames)

    def encode_copy(self, key: StreamKey, state: BarState) -> bytes:
        (frame,) = wealthai_frames(
            key,
            [state],
            self._options.closed_flag,
            timestamps=self._options.timestamps,
        )
        return frame

    def going_away(self) -> str | None:
        return None

    def error(self, text: str) -> str:
        return json.dumps({"type": "ERROR", "message": text})

    def encode_bar(
        self, key: StreamKey, bar: Bar, closed: bool | None, event_time: int | None
    ) -> bytes:
        frame = wealthai_bar_frame(key, bar, closed, event_time)
        return self._numbered(key, [frame])[0]

    def _numbered(self, key: StreamKey, frames: list[bytes]) -> list[bytes]:
        if not self.numbers_messages:
            return frames
        counted = key if self._options.sequence == "stream" else None
        numbers = self._numbers.setdefault(counted, itertools.count(1))
        return [
            with_number(frame, number)
            for frame, number in zip(frames, numbers, strict=False)
        ]

    def _receive_message(self, message: dict[str, Any]) -> Outcome:
        kind = message.get("type")
        if kind == "CONNECT":
            return self._subscribe(message)
        if kind == "PING":
            return Outcome(('{"type":"PONG"}',))
        if kind in {"PONG", "HEARTBEAT"}:
            return Outcome()
        return _refusal(message, f"unknown type {kind!r}")

    def _subscribe(self, message: dict[str, Any]) -> Outcome:
        try:
            request = msgspec.convert(message, _Connect)
            keys = self._requested_keys(request)
        except msgspec.ValidationError as error:
            return _refusal(message, f"malformed CONNECT: {error}")
        except BadArgumentError as error:
            return _refusal(message, str(error))
        try:
            check_stream_count(len(keys), self._options.max_streams)
        except BadArgumentError as error:
            return self._refuse_excess(message, str(error))
        token = self._options.token
        if token is not None and not _is_token(token, request.csrf_token):
            refusal = _refusal(message, "csrf_token is not accepted")
            return refusal._replace(close_code=POLICY_VIOLATION)
        reply = {
            "type": "CONNECTED",
            "request_id": request.request_id,
            "symbols": request.symbols,
            "resolutions": request.resolutions,
        }
        return Outcome((json.dumps(reply),), keys, message)

    def _requested_keys(self, request: _Connect) -> tuple[StreamKey, ...]:
        symbols = list(dict.fromkeys(map(check_symbol, request.symbols)))
        timeframes = list(dict.fromkeys(map(check_timeframe, request.resolutions)))
        _check_known("symbols", symbols, self._options.symbols)
        _check_known("resolutions", timeframes, self._options.resolutions)
        refused = self._refused(symbols)
        if refused:
            raise BadArgumentError(f"symbols not available: {', '.join(refused)}")
        return tuple((symbol, name) for symbol in symbols for name in timeframes)

    def _refuse_excess(self, message: dict[str, Any], text: str) -> Outcome:
        if self._options.excess == "refuse":
            return _refusal(message, text)
        return Outcome((), request=message, close_code=POLICY_VIOLATION, reason=text)


def _is_token(token: str, given: str) -> bool:
    return hmac.compare_digest(token.encode(), given.encode())


def _check_known(what: str, requested: Sequence[str], known: tuple[str, ...]) -> None:
    unknown = [name for name in requested if known and name not in known]
    if unknown:
        raise BadArgumentError(
            f"unknown {what}: {', '.join(unknown)}; known: {', '.join(known)}"
        )


def _refusal(message: dict[str, Any] | None, text: str) -> Outcome:
    reply: dict[str, object] = {"type": "ERROR", "message": text}
    if message is None:
        return Outcome((json.dumps(reply),))
    if isinstance(message.get("request_id"), str | int):
        reply["request_id"] = message["request_id"]
    request = message if message.get("type") == "CONNECT" else None
    return Outcome((json.dumps(reply),), request=request)


def wealthai_frames(
    key: StreamKey,
    states: Iterable[BarState],
    closed_flag: bool,
    timestamps: bool = False,
) -> list[bytes]:
    """Return BAR messages as frames.

    Without `closed_flag` they omit `closed`, with `timestamps` they end with `ts`. The
    market's prices are whole cents, so two decimals parse to the same float.
    """
    symbol, timeframe = key
    form = (
        f'{{"type":"BAR","symbol":"{symbol}","timeframe":"{timeframe}","open_time":'
        '%d,"close_time":%d,"open":"%.2f","high":"%.2f","low":"%.2f",'
        '"close":"%.2f","volume":"%.4f","money":"%.2f"'
    ).encode()
    if not closed_flag:
        form += b"}"
        if timestamps:
            return _with_timestamps(form, form, states)
        return text_frames(form % state[:_STEP] for state in states)
    forming, closing = form + b',"closed":false}', form + b',"closed":true}'
    if timestamps:
        return _with_timestamps(forming, closing, states)
    return text_frames(
        (closing if state[_STEP] == STEPS else forming) % state[:_STEP]
        for state in states
    )


def _with_timestamps(
    forming: bytes, closing: bytes, states: Iterable[BarState]
) -> list[bytes]:
    forming, closing = (x[:-1] + b',"ts":%d}' for x in (forming, closing))
    return text_frames(
        (closing if state[_STEP] == STEPS else forming)
        % (*state[:_STEP], state[_EVENT_TIME])
        for state in states
    )


def wealthai_bar_frame(
    key: StreamKey, bar: Bar, closed: bool | None, event_time: int | None = None
) -> bytes:
    """Return the BAR message of any bar; prices in their shortest exact form.

    Where `closed` or `event_time` is None, the message omits `closed` or `ts`.
    """
    names = ("open", "high", "low", "close", "volume")
    message: dict[str, object] = {
        "type": "BAR",
        "symbol": key[0],
        "timeframe": key[1],
        "open_time": bar.open_time,
        "close_time": bar.close_time,
        **{name: repr(float(getattr(bar, name))) for name in names},
    }
    if not math.isnan(bar.money):
        message["money"] = repr(float(bar.money))
    if closed is not None:
        message["closed"] = closed
    if event_time is not None:
        message["ts"] = event_time
    return text_frame(msgspec.json.encode(message))
