"""Frames: the bytes a client parses back to exactly what was computed."""

import json

import pytest

from shmfeed.bar import Bar
from shmfeed.simulator.frames import (
    binance_frames,
    fed_binance,
    fed_house,
    house_frames,
    market_row,
    payload_of,
    text_frame,
    text_frames,
)
from shmfeed.simulator.market import STEPS, bar

STREAM = ("BTCUSDT", "1h")
OPEN = 1_700_002_800_000
FED = Bar(OPEN, OPEN + 3_600_000, 1.1, 0.1 + 0.2, 1e-8, 1e15, 0.0)


def parsed(frame: bytes) -> dict:
    return json.loads(payload_of(frame))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 511, 512, 65_535, 65_536])
def test_headers_say_the_size(size):
    payload = b"x" * size
    frame = text_frame(payload)
    assert frame[0] == 0x81
    head = frame[: len(frame) - size]
    length = head[1] if head[1] < 126 else int.from_bytes(head[2:])
    assert length == size
    assert len(head) == 2 + {126: 2, 127: 8}.get(head[1], 0)
    assert payload_of(frame) == payload
    assert text_frames([payload]) == [frame]


@pytest.mark.parametrize("step", [0, 3, STEPS])
def test_house_bars_parse_to_the_market(step):
    row = market_row(7, STREAM, OPEN, step, OPEN)
    (frame,) = house_frames(STREAM, [row], flag=True)
    message = parsed(frame)
    made = bar(7, *STREAM, OPEN, step)
    assert (message["type"], message["symbol"], message["timeframe"]) == (
        "BAR",
        *STREAM,
    )
    values = [float(message[name]) for name in Bar._fields[2:8]]
    assert values == list(made[2:8])
    assert (message["open_time"], message["close_time"]) == made[:2]
    assert message["closed"] is (step == STEPS)


def test_house_bars_can_do_without_the_flag():
    row = market_row(7, STREAM, OPEN, STEPS, OPEN)
    (frame,) = house_frames(STREAM, [row], flag=False)
    assert "closed" not in parsed(frame)


@pytest.mark.parametrize("step", [0, 3, STEPS])
def test_klines_have_every_key_and_parse_to_the_market(step):
    row = market_row(7, STREAM, OPEN, step, OPEN + 5)
    (frame,) = binance_frames(STREAM, [row], wrapped=False)
    event = parsed(frame)
    kline = event["k"]
    made = bar(7, *STREAM, OPEN, step)
    assert list(event) == ["e", "E", "s", "k"]
    assert list(kline) == list("tTsifLochlvnxqVQB")
    assert (event["e"], event["E"], event["s"]) == ("kline", OPEN + 5, "BTCUSDT")
    assert (kline["t"], kline["T"], kline["i"]) == (OPEN, made.close_time - 1, "1h")
    assert [float(kline[key]) for key in "ohlcvq"] == list(made[2:8])
    assert kline["x"] is (step == STEPS)
    trades = kline["L"] - kline["f"] + 1 if step else 0
    assert kline["n"] == trades == step
    assert (kline["f"] == -1) is (step == 0)


def test_wrapped_klines_name_their_stream():
    row = market_row(7, STREAM, OPEN, STEPS, OPEN)
    (raw,) = binance_frames(STREAM, [row], wrapped=False)
    (wrapped,) = binance_frames(STREAM, [row], wrapped=True)
    message = parsed(wrapped)
    assert message == {"stream": "btcusdt@kline_1h", "data": parsed(raw)}


def test_fed_bars_keep_every_digit():
    message = parsed(fed_house(STREAM, FED, closed=None))
    assert [float(message[name]) for name in Bar._fields[2:7]] == list(FED[2:7])
    assert "money" not in message
    assert "closed" not in message
    assert parsed(fed_house(STREAM, FED, closed=False))["closed"] is False
    kline = parsed(fed_binance(STREAM, FED, closed=True, wrapped=True))["data"]["k"]
    assert [float(kline[key]) for key in "ohlcv"] == list(FED[2:7])
    assert kline["x"] is True
    assert kline["T"] == FED.close_time - 1
