"""Frames: a client parses their bytes back to exactly the computed values."""

import json

import pytest

from shmfeed.bar import Bar
from shmfeed.simulator.binance import binance_bar_frame, binance_frames
from shmfeed.simulator.frames import payload_of, text_frame, text_frames
from shmfeed.simulator.market import STEPS, bar, bar_state
from shmfeed.simulator.schedule import TRADE_MS
from shmfeed.simulator.wealthai import wealthai_bar_frame, wealthai_frames

KEY = ("BTCUSDT", "1h")
OPEN = 1_700_002_800_000
BAR = Bar(OPEN, OPEN + 3_600_000, 1.1, 0.1 + 0.2, 1e-8, 1e15, 0.0)


def parsed(frame: bytes) -> dict:
    return json.loads(payload_of(frame))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 511, 512, 65_535, 65_536])
def test_headers_have_the_size(size):
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
def test_wealthai_bars_parse_to_the_market(step):
    state = bar_state(7, KEY, OPEN, step, OPEN)
    (frame,) = wealthai_frames(KEY, [state], closed_flag=True)
    message = parsed(frame)
    made = bar(7, *KEY, OPEN, step)
    assert (message["type"], message["symbol"], message["timeframe"]) == (
        "BAR",
        *KEY,
    )
    values = [float(message[name]) for name in Bar._fields[2:8]]
    assert values == list(made[2:8])
    assert (message["open_time"], message["close_time"]) == made[:2]
    assert message["closed"] is (step == STEPS)


def test_wealthai_bars_can_omit_the_closed_flag():
    state = bar_state(7, KEY, OPEN, STEPS, OPEN)
    (frame,) = wealthai_frames(KEY, [state], closed_flag=False)
    assert "closed" not in parsed(frame)


@pytest.mark.parametrize("step", [0, 3, STEPS])
def test_klines_have_every_key_and_parse_to_the_market(step):
    state = bar_state(7, KEY, OPEN, step, OPEN + 5)
    (frame,) = binance_frames(KEY, [state], combined=False)
    event = parsed(frame)
    kline = event["k"]
    made = bar(7, *KEY, OPEN, step)
    assert list(event) == ["e", "E", "s", "k"]
    assert list(kline) == list("tTsifLochlvnxqVQB")
    assert (event["e"], event["E"], event["s"]) == ("kline", OPEN + 5, "BTCUSDT")
    assert (kline["t"], kline["T"], kline["i"]) == (OPEN, made.close_time - 1, "1h")
    assert [float(kline[key]) for key in "ohlcvq"] == list(made[2:8])
    assert kline["x"] is (step == STEPS)
    trades = kline["L"] - kline["f"] + 1 if step else 0
    assert kline["n"] == trades == 3_600_000 // STEPS * step // TRADE_MS
    assert (kline["f"] == -1) is (step == 0)


def test_combined_klines_name_their_stream():
    state = bar_state(7, KEY, OPEN, STEPS, OPEN)
    (raw,) = binance_frames(KEY, [state], combined=False)
    (combined,) = binance_frames(KEY, [state], combined=True)
    message = parsed(combined)
    assert message == {"stream": "btcusdt@kline_1h", "data": parsed(raw)}


def test_hand_made_bars_keep_every_digit():
    message = parsed(wealthai_bar_frame(KEY, BAR, closed=None))
    assert [float(message[name]) for name in Bar._fields[2:7]] == list(BAR[2:7])
    assert "money" not in message
    assert "closed" not in message
    assert parsed(wealthai_bar_frame(KEY, BAR, closed=False))["closed"] is False
    kline = parsed(binance_bar_frame(KEY, BAR, closed=True, combined=True))["data"]["k"]
    assert [float(kline[key]) for key in "ohlcv"] == list(BAR[2:7])
    assert kline["x"] is True
    assert kline["T"] == BAR.close_time - 1
