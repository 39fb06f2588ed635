"""Bars as the two protocols put them on the wire, ready to be written.

A *frame* here is a whole WebSocket text frame as a server sends it: header and payload,
unmasked, uncompressed. Bars of the venue's own market have prices in whole cents, so
that two decimals on the wire parse to exactly the float that the market computed.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from shmfeed.bar import Bar
from shmfeed.simulator.market import STEPS, bar

Stream = tuple[str, str]  # symbol, timeframe
_TEXT = 0x81  # final fragment, text
_SHORT, _MEDIUM, _LONG = 125, 126, 127
_SHORT_LIMIT = 1 << 16


class Row(NamedTuple):
    """One state of one bar of the market; times ms, `step` of STEPS."""

    open_time: int
    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    money: float
    step: int
    event_time: int


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


def market_row(
    seed: int, stream: Stream, open_time: int, step: int, event_time: int
) -> Row:
    """The market's bar after `step` updates, as told at `event_time`."""
    made = bar(seed, *stream, open_time, step)
    return Row(*made[:8], step, event_time)


def house_frames(stream: Stream, rows: Iterable[Row], flag: bool) -> list[bytes]:
    """House BAR messages; `flag` False leaves `closed` out."""
    symbol, timeframe = stream
    head = f'{{"type":"BAR","symbol":"{symbol}","timeframe":"{timeframe}","open_time":'
    form = head.replace("%", "%%") + (
        '%d,"close_time":%d,"open":"%.2f","high":"%.2f","low":"%.2f",'
        '"close":"%.2f","volume":"%.4f","money":"%.2f"'
    )
    if not flag:
        form += "}"
        return [text_frame((form % row[:8]).encode()) for row in rows]
    ending, closing = form + ',"closed":false}', form + ',"closed":true}'
    return [
        text_frame(((closing if row[8] == STEPS else ending) % row[:8]).encode())
        for row in rows
    ]


def binance_frames(stream: Stream, rows: Iterable[Row], wrapped: bool) -> list[bytes]:
    """Kline events, raw or in the wrapper of combined streams."""
    symbol, timeframe = stream[0].upper(), stream[1]
    form = (
        f'{{"e":"kline","E":%d,"s":"{symbol}","k":{{"t":%d,"T":%d,"s":"{symbol}",'
        f'"i":"{timeframe}","f":%d,"L":%d,"o":"%.2f000000","c":"%.2f000000",'
        '"h":"%.2f000000","l":"%.2f000000","v":"%.4f0000","n":%d,"x":%s,'
        '"q":"%.2f000000","V":"%.8f","Q":"%.8f","B":"0"}}'
    )
    if wrapped:
        form = f'{{"stream":"{stream_name(stream)}","data":{form}}}'
    return [text_frame((form % _kline_values(row)).encode()) for row in rows]


def _kline_values(row: Row) -> tuple[object, ...]:
    start, end, first, high, low, last, volume, money, step, event = row
    trade = start // 100 if step else -1
    until = trade + step - 1 if step else -1
    closed = "true" if step == STEPS else "false"
    return (
        *(event, start, end - 1, trade, until, first, last, high, low, volume),
        *(step, closed, money, volume / 2, money / 2),
    )


def stream_name(stream: Stream) -> str:
    """The venue's name of a kline stream."""
    return f"{stream[0].lower()}@kline_{stream[1]}"


def fed_house(stream: Stream, fed: Bar, closed: bool | None) -> bytes:
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


def fed_binance(stream: Stream, fed: Bar, closed: bool, wrapped: bool) -> bytes:
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
