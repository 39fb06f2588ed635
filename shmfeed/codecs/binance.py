"""Binance's kline streams: spot, USD-M and COIN-M futures, and the spot testnet.

The URL of a combined stream names up to 200 streams and so subscribes them. More
streams, and changes, go by SUBSCRIBE and UNSUBSCRIBE in batches. Messages come wrapped,
`{"stream":...,"data":...}`, or raw, depending on the endpoint.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import count
from math import nan
from typing import NamedTuple, Self
from urllib.parse import SplitResult, urlsplit

import msgspec

from shmfeed.bar import StreamKey, check_timeframe
from shmfeed.codecs.decoding import (
    ABSENT,
    FIRST_EVENT,
    NO_BAR,
    REAL,
    TRADE_ID,
    UNREADABLE,
    EventTime,
    Stamp,
    Time,
    TradeId,
    check_stream,
    is_text,
    malformed,
    message_of,
    milliseconds,
    optional,
    optional_time,
    request_id_of,
    string_in,
)
from shmfeed.codecs.endpoints import expand
from shmfeed.codecs.heartbeats import heartbeat_in
from shmfeed.codecs.interface import (
    Acknowledged,
    BarEvent,
    Event,
    GoingAway,
    Ignored,
    Refused,
    Request,
)
from shmfeed.codecs.refusals import redact_message
from shmfeed.errors import BadArgumentError
from shmfeed.validation import check_symbol


class _Market(NamedTuple):
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    max_streams: int
    push_interval: float  # s
    has_seconds: bool  # bars of one second
    has_quote_money: bool  # `q` is quote turnover; COIN-M's is in the base asset
    numbers_trades: bool


_MARKETS = {
    "spot": _Market(
        hosts=("wss://stream.binance.com",),
        ports=(9443, 443),
        max_streams=1024,
        push_interval=2.0,
        has_seconds=True,
        has_quote_money=True,
        numbers_trades=True,
    ),
    "usdm": _Market(
        hosts=("wss://fstream.binance.com/market",),
        ports=(),
        max_streams=200,
        push_interval=0.25,
        has_seconds=False,
        has_quote_money=True,
        numbers_trades=False,
    ),
    "coinm": _Market(
        hosts=("wss://dstream.binance.com",),
        ports=(),
        max_streams=200,
        push_interval=0.25,
        has_seconds=False,
        has_quote_money=False,
        numbers_trades=False,
    ),
}
_MARKETS["testnet"] = _MARKETS["spot"]._replace(
    hosts=("wss://stream.testnet.binance.vision",), ports=()
)
_PREFIX = "binance-"
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9_]{0,47}")
# The path of an endpoint that ends with its kind, and maybe with names of streams.
_RAW_STREAMS = re.compile(r"(.*?)(/ws|/stream)(?:/+[^/]*(?:@|!|%40|%21)[^/]*)*")
_URL_STREAMS = 200
_URL_LENGTH = 4000
_FRAME_PARAMS = 100
_FRAME_BYTES = 4096
_FRAME_REST = 64  # the most bytes of a request without its params
_KNOWN_EVENTS = frozenset({"", "kline", "serverShutdown"})


class _Kline(msgspec.Struct, gc=False, kw_only=True):
    # In the order of the wire, which decodes fastest.
    open_time: Time = msgspec.field(name="t")
    close_time: Time = msgspec.field(name="T")
    symbol: str = msgspec.field(name="s")
    interval: str = msgspec.field(name="i")
    first_id: TradeId = msgspec.field(name="f", default=-1)
    last_id: TradeId = msgspec.field(name="L", default=-1)
    open: float = msgspec.field(name="o")
    close: float = msgspec.field(name="c")
    high: float = msgspec.field(name="h")
    low: float = msgspec.field(name="l")
    volume: float = msgspec.field(name="v")
    closed: bool = msgspec.field(name="x")
    money: float = msgspec.field(name="q", default=nan)


class _Payload(msgspec.Struct, gc=False):
    event: str = msgspec.field(name="e", default="")
    time: EventTime = msgspec.field(name="E", default=0)
    kline: _Kline | None = msgspec.field(name="k", default=None)


class _Frame(_Payload, gc=False):
    data: _Payload | None = None


class _LenientKline(msgspec.Struct, gc=False, kw_only=True):
    # Raw, so that the bar can be read whatever its optional fields hold.
    open_time: Stamp = msgspec.field(name="t")
    close_time: msgspec.Raw = msgspec.field(name="T", default=ABSENT)
    symbol: str = msgspec.field(name="s")
    interval: str = msgspec.field(name="i")
    first_id: msgspec.Raw = msgspec.field(name="f", default=ABSENT)
    last_id: msgspec.Raw = msgspec.field(name="L", default=ABSENT)
    open: float = msgspec.field(name="o")
    close: float = msgspec.field(name="c")
    high: float = msgspec.field(name="h")
    low: float = msgspec.field(name="l")
    volume: float = msgspec.field(name="v")
    closed: bool = msgspec.field(name="x")
    money: msgspec.Raw = msgspec.field(name="q", default=ABSENT)


class _LenientPayload(msgspec.Struct, gc=False):
    time: msgspec.Raw = msgspec.field(name="E", default=ABSENT)
    kline: _LenientKline | None = msgspec.field(name="k", default=None)


class _LenientFrame(_LenientPayload, gc=False):
    data: _LenientPayload | None = None


class _Envelope(msgspec.Struct, gc=False):
    # Raw, so that a message of another kind can be read whatever its fields hold.
    stream: msgspec.Raw = ABSENT
    data: msgspec.Raw = ABSENT
    event: msgspec.Raw = msgspec.field(name="e", default=ABSENT)
    id: msgspec.Raw = ABSENT
    result: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    code: msgspec.Raw = ABSENT
    msg: msgspec.Raw = ABSENT


class _Call(msgspec.Struct):
    method: str
    params: list[str]
    id: int


_decode_frame = msgspec.json.Decoder(_Frame, strict=False).decode
_decode_leniently = msgspec.json.Decoder(_LenientFrame, strict=False).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


class BinanceCodec:
    """Binance's kline streams, reusable for successive connections."""

    name = "binance"
    csrf_token = ""  # market data need none
    flags_closed = True
    answers_pings = True
    control_interval = 0.25  # spot allows 5 messages a second, pings included
    # Binance ends a connection after 24 hours.
    max_connection_age: float | None = 23 * 3600 + 50 * 60.0

    def __init__(self, market_type: str) -> None:
        name = market_type.removeprefix(_PREFIX)
        market = _MARKETS.get(name)
        if market is None:
            accepted = " ".join([*_MARKETS, *(_PREFIX + name for name in _MARKETS)])
            raise BadArgumentError(
                f"market_type {market_type!r} is not accepted; one of: {accepted}"
            )
        self.market_type = name
        self._market = market
        self.max_streams = market.max_streams
        self.push_interval = market.push_interval
        self.numbers_trades = market.numbers_trades
        self._has_quote_money = market.has_quote_money
        self._ids = count(1)
        self._in_url: tuple[StreamKey, ...] = ()

    def fresh(self) -> Self:
        other = copy(self)
        other._ids, other._in_url = count(1), ()
        return other

    def stream_key(self, symbol: str, timeframe: str) -> StreamKey:
        # Checked before upper(), which turns some other letters into ASCII.
        name, unit = check_symbol(symbol).upper(), check_timeframe(timeframe)
        if not _SYMBOL.fullmatch(name):
            raise BadArgumentError(
                f"symbol {symbol!r} is not accepted by Binance; one matches"
                f" {_SYMBOL.pattern}, such as BTCUSDT"
            )
        if unit == "1s" and not self._market.has_seconds:
            raise BadArgumentError(
                "timeframe '1s' is accepted on spot markets only; use 1m or longer"
            )
        return name, unit

    def endpoints(self, given: Sequence[str], ports: Sequence[int]) -> list[str]:
        if not given:
            ports = ports or self._market.ports
        return expand(given or self._market.hosts, ports, self._complete)

    def _complete(self, endpoint: SplitResult) -> SplitResult:
        """Return an endpoint without the streams that it names, and with its path."""
        path, kind = endpoint.path.rstrip("/"), "/stream"
        if found := _RAW_STREAMS.fullmatch(path):
            path, kind = found[1], found[2]
        own = urlsplit(self._market.hosts[0])
        # The venue's former address still answers, but sends no klines.
        if not path and endpoint.hostname == own.hostname:
            path = own.path
        query = "&".join(
            pair
            for pair in endpoint.query.split("&")
            if not pair.startswith("streams=")
        )
        return endpoint._replace(path=path + kind, query=query)

    def url(self, endpoint: str, streams: Sequence[StreamKey]) -> str:
        self._ids, self._in_url = count(1), ()
        parts = urlsplit(endpoint)
        names = "/".join(dict.fromkeys(map(_wire_name, streams)))
        url = f"{endpoint}{'&' if parts.query else '?'}streams={names}"
        fits = 0 < len(streams) <= _URL_STREAMS and len(url) <= _URL_LENGTH
        if not fits or not parts.path.rstrip("/").endswith("/stream"):
            return endpoint
        self._in_url = tuple(streams)
        return url

    def subscribe(self, streams: Sequence[StreamKey]) -> list[Request]:
        return self.change(self._in_url, streams)

    def change(
        self, old: Sequence[StreamKey], new: Sequence[StreamKey]
    ) -> list[Request]:
        before, after = dict.fromkeys(old), dict.fromkeys(new)
        added = ("SUBSCRIBE", [stream for stream in after if stream not in before])
        dropped = ("UNSUBSCRIBE", [stream for stream in before if stream not in after])
        # Subscribe first, so that a refusal costs none of the old streams, unless old
        # and new together exceed the venue's limit.
        has_capacity = len(before) + len(added[1]) <= self.max_streams
        steps = (added, dropped) if has_capacity else (dropped, added)
        return [
            self._request(method, names)
            for method, streams in steps
            for names in _batches(map(_wire_name, streams))
        ]

    def ask_again(
        self,
        streams: Sequence[StreamKey],
        subscribed: Sequence[StreamKey],
    ) -> list[Request]:
        asked = set(streams)
        kept = [stream for stream in subscribed if stream not in asked]
        return [*self.change(subscribed, kept), *self.change(kept, subscribed)]

    def _request(self, method: str, names: list[str]) -> Request:
        number = next(self._ids)
        frame = msgspec.json.encode(_Call(method, names, number)).decode()
        return Request(str(number), frame)

    def decode(self, data: bytes) -> tuple[Event, ...]:
        if not (data.isascii() or is_text(data)):
            return malformed("not UTF-8")
        try:
            frame = _decode_frame(data)
            payload = frame.data or frame
            if payload.event == "kline" and payload.kline is not None:
                return (self._bar_event(payload.kline, payload.time),)
            if payload.event not in _KNOWN_EVENTS:
                return (Ignored(),)
        except UNREADABLE:
            pass
        return self._decode_other(data)

    def _bar_event(self, kline: _Kline, event_time: int) -> BarEvent:
        symbol, timeframe = check_stream(kline.symbol, kline.interval)
        return BarEvent(
            symbol,
            timeframe,
            kline.open_time,
            kline.close_time,
            kline.open,
            kline.high,
            kline.low,
            kline.close,
            kline.volume,
            kline.money if self._has_quote_money else nan,
            kline.closed,
            event_time,
            -1,
            kline.first_id,
            kline.last_id,
            kline.volume == 0.0 and kline.last_id < 0,
        )

    def _decode_other(self, data: bytes) -> tuple[Event, ...]:
        try:
            outer = _decode_envelope(data)
            inner = _within(outer.data) or outer
            event, stream = string_in(inner.event), string_in(outer.stream)
            if event == "kline" or (not event and "@kline_" in stream):
                return self._decode_leniently(data)
            error = _within(outer.error) or outer
        except UNREADABLE as failure:
            heartbeat = heartbeat_in(data)
            return (heartbeat,) if heartbeat else malformed(failure)
        if event == "serverShutdown":
            return (GoingAway(),)
        if event or stream:
            return (Ignored(),)
        return (_answer(outer, error) or heartbeat_in(data) or Ignored(),)

    def _decode_leniently(self, data: bytes) -> tuple[Event, ...]:
        """Return a bar whose optional fields, and the unit of its times, may be odd."""
        frame = _decode_leniently(data)
        payload = frame.data or frame
        kline = payload.kline
        if kline is None:
            return malformed(NO_BAR)
        strict = _Kline(
            open_time=msgspec.convert(milliseconds(kline.open_time), Time),
            close_time=optional_time(kline.close_time),
            symbol=kline.symbol,
            interval=kline.interval,
            first_id=optional(kline.first_id, TRADE_ID, -1),
            last_id=optional(kline.last_id, TRADE_ID, -1),
            open=kline.open,
            close=kline.close,
            high=kline.high,
            low=kline.low,
            volume=kline.volume,
            closed=kline.closed,
            money=optional(kline.money, REAL, nan),
        )
        return (self._bar_event(strict, optional_time(payload.time, FIRST_EVENT)),)


def _wire_name(stream: StreamKey) -> str:
    symbol, timeframe = stream
    return f"{symbol.lower()}@kline_{timeframe}"


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = _FRAME_REST
    for name in names:
        length = len(name) + 3  # its quotes and comma
        if batch and (len(batch) == _FRAME_PARAMS or size + length > _FRAME_BYTES):
            yield batch
            batch, size = [], _FRAME_REST
        batch.append(name)
        size += length
    if batch:
        yield batch


def _within(raw: msgspec.Raw) -> _Envelope | None:
    return _decode_envelope(raw) if bytes(raw)[:1] == b"{" else None


def _answer(outer: _Envelope, error: _Envelope) -> Event | None:
    request_id = request_id_of(outer.id)
    code = message_of(error.code)
    message = message_of(error.msg) or message_of(outer.error)
    # A null in `error` counts as absent, and so does a code beside a result.
    is_error = bytes(outer.error) not in {b"", b"null"} or (code and not outer.result)
    if message or is_error:
        message = message or "refused"
        return Refused(
            request_id, redact_message(f"{message} (code {code})" if code else message)
        )
    return Acknowledged(request_id) if outer.result else None
