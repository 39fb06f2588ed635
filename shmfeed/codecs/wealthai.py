"""The wealthai protocol: CONNECT, CONNECTED or ERROR, then bars, as JSON in text."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import copy
from itertools import count
from math import nan
from typing import Self, TypeVar
from urllib.parse import SplitResult

import msgspec

from shmfeed.bar import StreamKey, check_timeframe
from shmfeed.codecs.decoding import (
    ABSENT,
    FIRST_EVENT,
    FLAG,
    NO_BAR,
    REAL,
    SEQUENCE,
    UNREADABLE,
    EventTime,
    SequenceNumber,
    Time,
    check_stream,
    first_readable,
    is_text,
    malformed,
    message_of,
    optional_time,
    request_id_of,
    string_in,
    value_in,
)
from shmfeed.codecs.endpoints import expand
from shmfeed.codecs.heartbeats import heartbeat_in, heartbeat_of_kind
from shmfeed.codecs.interface import (
    Acknowledged,
    BarEvent,
    Event,
    Ignored,
    Refused,
    Request,
)
from shmfeed.codecs.refusals import redact_message
from shmfeed.errors import BadArgumentError
from shmfeed.layout import MAX_STREAMS
from shmfeed.validation import check_symbol

_HOSTS = ("wss://ws.wealthai.cc",)
_PORTS = (18000, 18001, 18002)
_PATH = "/market_data"
_BARS = frozenset({"BAR", "KLINE"})
# The keys of an ERROR's words, in the order in which they are looked for.
_WORDS = ("message", "msg", "reason", "error", "description", "detail", "text")
T = TypeVar("T")


class _Connect(msgspec.Struct):
    # In the order of the keys on the wire.
    type: str
    request_id: str
    symbols: list[str]
    resolutions: list[str]
    csrf_token: str
    market_type: str


class _Bar(msgspec.Struct, gc=False, kw_only=True):
    # In the order of the wire, which decodes fastest.
    type: str
    symbol: str
    timeframe: str | None = None
    resolution: str | None = None
    open_time: Time
    close_time: Time = 0
    open: float
    high: float
    low: float
    close: float
    volume: float
    money: float | None = None
    quote_volume: float | None = None
    turnover: float | None = None
    closed: bool | None = None
    is_closed: bool | None = None
    final: bool | None = None
    x: bool | None = None
    ts: EventTime = 0
    seq: SequenceNumber = -1
    sequence: SequenceNumber = -1


class _LenientBar(msgspec.Struct, gc=False, kw_only=True):
    # Raw, so that the bar can be read whatever its optional fields hold.
    symbol: str
    timeframe: msgspec.Raw = ABSENT
    resolution: msgspec.Raw = ABSENT
    open_time: Time
    close_time: msgspec.Raw = ABSENT
    open: float
    high: float
    low: float
    close: float
    volume: float
    money: msgspec.Raw = ABSENT
    quote_volume: msgspec.Raw = ABSENT
    turnover: msgspec.Raw = ABSENT
    closed: msgspec.Raw = ABSENT
    is_closed: msgspec.Raw = ABSENT
    final: msgspec.Raw = ABSENT
    x: msgspec.Raw = ABSENT
    ts: msgspec.Raw = ABSENT
    seq: msgspec.Raw = ABSENT
    sequence: msgspec.Raw = ABSENT


class _Envelope(msgspec.Struct, gc=False):
    # Raw, so that a message of an unknown type can be read whatever its fields hold.
    type: msgspec.Raw = ABSENT
    request_id: msgspec.Raw = ABSENT


class _Error(msgspec.Struct, gc=False):
    message: msgspec.Raw = ABSENT
    msg: msgspec.Raw = ABSENT
    reason: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    description: msgspec.Raw = ABSENT
    detail: msgspec.Raw = ABSENT
    text: msgspec.Raw = ABSENT
    code: msgspec.Raw = ABSENT
    symbol: msgspec.Raw = ABSENT
    symbols: msgspec.Raw = ABSENT


_decode_bar = msgspec.json.Decoder(_Bar, strict=False).decode
_decode_leniently = msgspec.json.Decoder(_LenientBar, strict=False).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_error = msgspec.json.Decoder(_Error).decode


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
        self._tokens = [csrf_token]  # the present and the former one, for all codecs
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
            return expand(given, ports, _complete)
        return expand(_HOSTS, ports or _PORTS, _complete)

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
            why: Exception | str = NO_BAR
        except UNREADABLE as error:
            why = error
        return self._decode_other(data, why)

    def _decode_other(self, data: bytes, why: Exception | str) -> tuple[Event, ...]:
        try:
            envelope = _decode_envelope(data)
            kind = string_in(envelope.type)
            if kind in _BARS:
                return (_lenient_bar_event(data),)
            if kind:
                return (self._answer(kind, envelope, data),)
        except UNREADABLE as error:
            why = error
        heartbeat = heartbeat_in(data)
        return (heartbeat,) if heartbeat else malformed(why)

    def _answer(self, kind: str, envelope: _Envelope, data: bytes) -> Event:
        if kind == "CONNECTED":
            return Acknowledged(request_id_of(envelope.request_id))
        if kind == "ERROR":
            return self._refusal(request_id_of(envelope.request_id), data)
        return heartbeat_of_kind("type", kind) or Ignored()

    def _refusal(self, request_id: str | None, data: bytes) -> Refused:
        error = _decode_error(data)
        words = next(filter(None, (message_of(getattr(error, k)) for k in _WORDS)), "")
        code = message_of(error.code)
        if words and code:
            words = f"{words} (code {code})"
        named = [*_symbols(value_in(error.symbol)), *_symbols(value_in(error.symbols))]
        symbols = [symbol for symbol in named if symbol not in self._tokens]
        return Refused(
            request_id,
            redact_message(words or _all_words(data), self._tokens),
            " ".join(symbols),
        )


def _complete(endpoint: SplitResult) -> SplitResult:
    return endpoint if endpoint.path.strip("/") else endpoint._replace(path=_PATH)


def _bar_event(bar: _Bar) -> BarEvent:
    symbol, timeframe = check_stream(bar.symbol, bar.timeframe or bar.resolution)
    money, closed = bar.money, bar.closed
    if money is None:
        money = _first(nan, bar.quote_volume, bar.turnover)
    if closed is None:
        closed = _first(bar.x, bar.is_closed, bar.final)
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
        money,
        closed,
        bar.ts,
        bar.seq if bar.seq >= 0 else bar.sequence,
    )


def _lenient_bar_event(data: bytes) -> BarEvent:
    bar = _decode_leniently(data)
    symbol, timeframe = _stream(bar)
    money = bar.money, bar.quote_volume, bar.turnover
    closed = bar.closed, bar.is_closed, bar.final, bar.x
    return BarEvent(
        symbol,
        timeframe,
        bar.open_time,
        optional_time(bar.close_time),
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        first_readable(money, REAL, nan),
        first_readable(closed, FLAG, None),
        optional_time(bar.ts, FIRST_EVENT),
        first_readable((bar.seq, bar.sequence), SEQUENCE, -1),
    )


def _stream(bar: _LenientBar) -> StreamKey:
    """Return the stream by the first spelling of its timeframe that is accepted."""
    first, second = string_in(bar.timeframe), string_in(bar.resolution)
    try:
        return check_stream(bar.symbol, first or second)
    except BadArgumentError:
        return check_stream(bar.symbol, second)


def _first(absent: T, *values: T | None) -> T:
    for value in values:
        if value is not None:
            return value
    return absent


def _all_words(data: bytes) -> str:
    """Return an ERROR's other fields as JSON; "ERROR" if it has none."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, object])
    except UNREADABLE:  # a number out of range
        return "ERROR"
    said = {
        key: value
        for key, value in fields.items()
        if key not in ("type", "request_id") and value not in (None, "")
    }
    return msgspec.json.encode(said).decode() if said else "ERROR"


def _symbols(value: object) -> Iterator[str]:
    """Yield the symbols in the value of a field, one or a list."""
    for one in value[:MAX_STREAMS] if isinstance(value, list) else [value]:
        with suppress(BadArgumentError):
            yield check_symbol(one)
