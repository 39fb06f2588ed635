"""Bars as the two protocols put them on the wire, ready to be written.

A *frame* here is a whole WebSocket text frame as a server sends it: header and payload,
unmasked, uncompressed. Bars of the venue's own market have prices in whole cents, so
that two decimals on the wire parse to exactly the float that the market computed.
"""

import math
from collections.abc import Iterable

import msgspec

from shmfeed.bar import Bar, StreamKey
from shmfeed.simulator.market import STEPS, bar

_TEXT = 0x81  # final fragment, text
_SHORT, _MEDIUM, _LONG = 125, 126, 127
_SHORT_LIMIT = 1 << 16
# A bar's frame is almost always of one of these sizes.
_HEADS = {
    size: bytes((_TEXT, _MEDIUM)) + size.to_bytes(2) for size in range(_SHORT + 1, 512)
}


# One state of one bar of the market: open and close time, open, high, low, close,
# volume, money, the step of STEPS, and the time of the event that tells it (ms). A
# plain tuple, for at full speed most of the time goes into making these.
Row = tuple[int, int, float, float, float, float, float, float, int, int]
_STEP = 8


def text_frame(payload: bytes) -> bytes:
    """The WebSocket frame of one text message."""
    size = len(payload)
    if size <= _SHORT:
        head = bytes((_TEXT, size))
    elif size < _SHORT_LIMIT:
        head = bytes((_TEXT, _MEDIUM)) + size.to_bytes(2)
    else:
        head = bytes((_TEXT, _LONG)) + size.to_bytes(8)
    return head + payload


def payload_of(frame: bytes) -> bytes:
    """The text message of such a frame."""
    return frame[{_MEDIUM: 4, _LONG: 10}.get(frame[1], 2) :]


def text_frames(payloads: Iterable[bytes]) -> list[bytes]:
    """The frames of many text messages."""
    heads = _HEADS
    return [
        heads[len(payload)] + payload if len(payload) in heads else text_frame(payload)
        for payload in payloads
    ]


def market_row(
    seed: int, stream: StreamKey, open_time: int, step: int, event_time: int
) -> Row:
    """The market's bar after `step` updates, as told at `event_time`."""
    made = bar(seed, *stream, open_time, step)
    prices = made.open, made.high, made.low, made.close
    times = made.open_time, made.close_time
    return (*times, *prices, made.volume, made.money, step, event_time)


def house_frames(stream: StreamKey, rows: Iterable[Row], flag: bool) -> list[bytes]:
    """House BAR messages; `flag` False leaves `closed` out."""
    symbol, timeframe = stream
    form = (
        f'{{"type":"BAR","symbol":"{symbol}","timeframe":"{timeframe}","open_time":'
        '%d,"close_time":%d,"open":"%.2f","high":"%.2f","low":"%.2f",'
        '"close":"%.2f","volume":"%.4f","money":"%.2f"'
    ).encode()
    if not flag:
        form += b"}"
        return text_frames(form % row[:_STEP] for row in rows)
    forming, closing = form + b',"closed":false}', form + b',"closed":true}'
    return text_frames(
        (closing if row[_STEP] == STEPS else forming) % row[:_STEP] for row in rows
    )


def binance_frames(
    stream: StreamKey, rows: Iterable[Row], wrapped: bool
) -> list[bytes]:
    """Kline events, raw or in the wrapper of combined streams."""
    forming, closing = (_kline_form(stream, x, wrapped) for x in ("false", "true"))
    return text_frames(
        (closing if row[_STEP] == STEPS else forming) % _kline_values(*row)
        for row in rows
    )


def _kline_form(stream: StreamKey, closed: str, wrapped: bool) -> bytes:
    symbol, timeframe = stream[0].upper(), stream[1]
    form = (
        f'{{"e":"kline","E":%d,"s":"{symbol}","k":{{"t":%d,"T":%d,"s":"{symbol}",'
        f'"i":"{timeframe}","f":%d,"L":%d,"o":"%.2f000000","c":"%.2f000000",'
        f'"h":"%.2f000000","l":"%.2f000000","v":"%.4f0000","n":%d,"x":{closed},'
        '"q":"%.2f000000","V":"%.4f0000","Q":"%.2f000000","B":"0"}}'
    )
    if wrapped:
        form = f'{{"stream":"{stream_name(stream)}","data":{form}}}'
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
    # A bar without trades has no trade's number: -1. Half of the volume was takers'.
    trade, final = (start // 100, start // 100 + step - 1) if step else (-1, -1)
    taken, paid = volume / 2, money / 2
    times, prices = (event, start, end - 1), (first, last, high, low)
    return (*times, trade, final, *prices, volume, step, money, taken, paid)


def stream_name(stream: StreamKey) -> str:
    """The venue's name of a kline stream."""
    return f"{stream[0].lower()}@kline_{stream[1]}"


def fed_house(stream: StreamKey, fed: Bar, closed: bool | None) -> bytes:
    """A BAR message of a bar that a test feeds; prices in their shortest exact form."""
    message: dict[str, object] = {
        "type": "BAR",
        "symbol": stream[0],
        "timeframe": stream[1],
        "open_time": fed.open_time,
        "close_time": fed.close_time,
        **{name: repr(float(getattr(fed, name))) for name in _PRICES},
    }
    if not math.isnan(fed.money):
        message["money"] = repr(float(fed.money))
    if closed is not None:
        message["closed"] = closed
    return text_frame(msgspec.json.encode(message))


def fed_binance(stream: StreamKey, fed: Bar, closed: bool, wrapped: bool) -> bytes:
    """A kline event of a bar that a test feeds; unknown money is half a guess: zero."""
    symbol = stream[0].upper()
    money = repr(0.0 if math.isnan(fed.money) else float(fed.money))
    kline: dict[str, object] = {"t": fed.open_time, "T": fed.close_time - 1}
    kline |= {"s": symbol, "i": stream[1], "f": 1, "L": 1, "n": 1, "x": closed}
    kline |= {key: repr(float(getattr(fed, name))) for name, key in _PRICES.items()}
    kline |= {"q": money, "V": "0", "Q": "0", "B": "0"}
    event = fed.close_time if closed else fed.open_time
    message: dict[str, object] = {"e": "kline", "E": event, "s": symbol, "k": kline}
    if wrapped:
        message = {"stream": stream_name(stream), "data": message}
    return text_frame(msgspec.json.encode(message))


_PRICES = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
