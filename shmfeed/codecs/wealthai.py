"""The wealthai protocol: CONNECT, CONNECTED or ERROR, then bars, as JSON in text."""

from collections.abc import Sequence
from copy import copy
from itertools import count
from math import nan
from typing import Self

import msgspec

from shmfeed.bar import StreamKey, check_timeframe
from shmfeed.codecs.decoding import (
    ABSENT,
    NO_BAR,
    UNREADABLE,
    Time,
    check_stream,
    is_text,
    malformed,
    message_of,
    redact_message,
    request_id_of,
    string_in,
)
from shmfeed.codecs.endpoints import expand
from shmfeed.codecs.interface import (
    Acknowledged,
    BarEvent,
    Event,
    Heartbeat,
    Ignored,
    Refused,
    Request,
)
from shmfeed.layout import MAX_STREAMS
from shmfeed.validation import check_symbol

_HOSTS = ("wss://ws.wealthai.cc",)
_PORTS = (18000, 18001, 18002)
_PATH = "/market_data"
_BARS = frozenset({"BAR", "KLINE"})
_TEXTS = {b"ping": Heartbeat("pong"), b"pong": Heartbeat()}
_HEARTBEATS = {
    "PING": Heartbeat('{"type":"PONG"}'),
    "PONG": Heartbeat(),
    "HEARTBEAT": Heartbeat(),
}


class _Connect(msgspec.Struct):
    # In the order of the keys on the wire.
    type: str
    request_id: str
    symbols: list[str]
    resolutions: list[str]
    csrf_token: str
    market_type: str


class _Bar(msgspec.Struct, gc=False):
    type: str
    symbol: str
    open_time: Time
    open: float
    high: float
    low: float
    close: float
    volume: float
    timeframe: str | None = None
    resolution: str | None = None
    close_time: Time = 0
    money: float | None = None
    quote_volume: float | None = None
    turnover: float | None = None
    closed: bool | None = None
    is_closed: bool | None = None
    final: bool | None = None
    x: bool | None = None


class _Envelope(msgspec.Struct, gc=False):
    # Raw, so that a message of an unknown type can be read whatever its fields hold.
    type: msgspec.Raw = ABSENT
    request_id: msgspec.Raw = ABSENT
    message: msgspec.Raw = ABSENT


_decode_bar = msgspec.json.Decoder(_Bar, strict=False).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


class WealthaiCodec:
    """The wealthai protocol, reusable for successive connections."""

    name = "wealthai"
    flags_closed = False  # a message may carry the flag, but need not
    answers_pings = True
    max_streams = MAX_STREAMS  # a feed's: the protocol has no limit
    control_interval = 0.0
    max_connection_age: float | None = None
    push_interval = 1.0
    numbers_trades = False

    def __init__(self, market_type: str, csrf_token: str) -> None:
        self.market_type = market_type
        self._tokens = [
            csrf_token
        ]  # the present one and the one before; never replaced
        self._ids = count(1)

    @property
    def csrf_token(self) -> str:
        return self._tokens[0]

    @csrf_token.setter
    def csrf_token(self, token: str) -> None:
        if token != self._tokens[0]:
            self._tokens[:] = token, self._tokens[0]

    def fresh(self) -> Self:
        other = copy(self)
        other._ids = count(1)
        return other

    def stream_key(self, symbol: str, timeframe: str) -> StreamKey:
        return check_symbol(symbol), check_timeframe(timeframe)

    def endpoints(self, given: Sequence[str], ports: Sequence[int]) -> list[str]:
        if given:
            return expand(given, ports, _path)
        return expand(_HOSTS, ports or _PORTS, _path)

    def url(self, endpoint: str, streams: Sequence[StreamKey]) -> str:  # noqa: ARG002 - CONNECT names them
        self._ids = count(1)
        return endpoint

    def subscribe(self, streams: Sequence[StreamKey]) -> list[Request]:
        request_id = str(next(self._ids))
        connect = _Connect(
            type="CONNECT",
            request_id=request_id,
            symbols=list(dict.fromkeys(symbol for symbol, _ in streams)),
            resolutions=list(dict.fromkeys(timeframe for _, timeframe in streams)),
            csrf_token=self.csrf_token,
            market_type=self.market_type,
        )
        return [Request(request_id, msgspec.json.encode(connect).decode())]

    def change(
        self, old: Sequence[StreamKey], new: Sequence[StreamKey]
    ) -> list[Request]:
        return [] if set(old) == set(new) else self.subscribe(new)

    def ask_again(
        self,
        streams: Sequence[StreamKey],
        subscribed: Sequence[StreamKey],
    ) -> list[Request]:
        # A CONNECT replaces the list, so it names all streams.
        return self.subscribe(subscribed) if streams else []

    def decode(self, data: bytes) -> tuple[Event, ...]:
        if not (data.isascii() or is_text(data)):
            return malformed("not UTF-8")
        try:
            bar = _decode_bar(data)
            if bar.type in _BARS:
                return (_bar_event(bar),)
        except UNREADABLE as error:
            return self._decode_other(data, error)
        return self._decode_other(data, NO_BAR)

    def _decode_other(self, data: bytes, why: Exception | str) -> tuple[Event, ...]:
        text = _TEXTS.get(bytes(data))
        if text is not None:
            return (text,)
        try:
            envelope = _decode_envelope(data)
        except UNREADABLE as error:
            return malformed(error)
        kind = string_in(envelope.type)
        if not kind or kind in _BARS:
            return malformed(why)
        return (self._answer(kind, envelope),)

    def _answer(self, kind: str, envelope: _Envelope) -> Event:
        if kind in _HEARTBEATS:
            return _HEARTBEATS[kind]
        if kind == "CONNECTED":
            return Acknowledged(request_id_of(envelope.request_id))
        if kind == "ERROR":
            message = redact_message(message_of(envelope.message) or kind, self._tokens)
            return Refused(request_id_of(envelope.request_id), message)
        return Ignored()


def _path(path: str) -> str:
    return path if path.strip("/") else _PATH


def _bar_event(bar: _Bar) -> BarEvent:
    symbol, timeframe = check_stream(bar.symbol, bar.timeframe or bar.resolution)
    return BarEvent(
        symbol,
        timeframe,
        bar.open_time,
        bar.close_time,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        _money(bar),
        _closed(bar),
    )


def _money(bar: _Bar) -> float:
    for money in (bar.money, bar.quote_volume, bar.turnover):
        if money is not None:
            return money
    return nan


def _closed(bar: _Bar) -> bool | None:
    for flag in (bar.closed, bar.is_closed, bar.final):
        if flag is not None:
            return flag
    return bar.x
