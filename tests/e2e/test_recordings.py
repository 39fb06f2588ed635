"""Recorded Binance traffic, from the venue's socket to get_price, frame by frame."""

import json

import pytest
from support.recordings import frames, klines, recording
from support.waiting import until

import shmfeed
from shmfeed.bar import CLOSED_BY_VENUE
from shmfeed.manager import WebSocketManager
from shmfeed.simulator import Venue

RECORDINGS = [("binance-spot.frames", "spot"), ("binance-usdm.frames", "usdm")]
PRICES = ("open", "high", "low", "close", "volume", "money")


def wire_values(kline):
    """Return the six floats of a kline, parsed by Python."""
    return [float(kline[key]) for key in "ohlcvq"]


def expected_rows(kline_list):
    """Return by symbol the closed rows {open_time: values}, and the forming row."""
    closed, forming = {}, {}
    for kline in kline_list:
        rows = closed.setdefault(kline["s"], {})
        if kline["x"]:
            rows[kline["t"]] = wire_values(kline)
        else:
            forming[kline["s"]] = (kline["t"], wire_values(kline))
    for symbol, (open_time, _) in list(forming.items()):
        if open_time in closed[symbol]:
            del forming[symbol]
    return closed, forming


@pytest.mark.parametrize(("name", "market"), RECORDINGS)
def test_every_recorded_frame_is_accounted_for(name, market, feed_name, child):
    path = recording(name)
    recorded = klines(path)
    closed, forming = expected_rows(recorded)
    symbols = sorted(closed)
    total = len(frames(path))
    manager = WebSocketManager(feed_name)
    with Venue(protocol="binance", replay=str(path), speed="max") as venue:
        try:
            manager.configure(
                symbols=symbols,
                resolutions=["1m"],
                endpoint=venue.url,
                protocol="binance",
                market_type=market,
                # The recording is old: a short grace closes bars without delay.
                close_grace=0.2,
            )
            manager.start(timeout=20)
            until(lambda: manager.get_status()["messages"] >= total)
            until(lambda: not _recovering(manager))
            status = manager.get_status()
            _check_counts(status, total, recorded)
            with shmfeed.attach(feed_name) as feed:
                for symbol in symbols:
                    _check_stream(feed, symbol, closed[symbol], forming.get(symbol))
            _check_get_price(child, feed_name, closed, forming)
        finally:
            manager.stop()


def _recovering(manager):
    return any(
        stream["health"] == "recovering" for stream in manager.get_status()["streams"]
    )


def _check_counts(status, total, recorded):
    assert status["messages"] == total
    assert status["ignored"] == total - len(recorded)
    for counter in ("malformed", "late", "unsubscribed", "revisions", "duplicates"):
        assert status[counter] == 0, counter
    assert status["reconnects"] == 0


def _check_stream(feed, symbol, closed, forming):
    ring = feed.ring(symbol, "1m")
    rows = ring.snapshot(ring.history)
    by_venue = {
        int(open_time): row
        for open_time, row, flags in zip(
            rows.open_time, rows.floats.T, rows["flags"], strict=True
        )
        if flags & CLOSED_BY_VENUE
    }
    assert by_venue.keys() == closed.keys()
    for open_time, values in closed.items():
        assert by_venue[open_time].tolist() == values
    found = ring.forming()
    if forming is None:
        assert found is None
    else:
        open_time, values = forming
        assert found is not None
        assert found.open_time == open_time
        assert list(found[2:8]) == values


STRATEGY = """
import json, sys
import wealthdata
wealthdata.use(feed=sys.argv[1])
found = {}
for symbol in sys.argv[2].split(","):
    frame = wealthdata.get_price(
        symbol, count=20, frequency="1m", fields=sys.argv[3].split(","),
        include_now=True, on_stale="ignore",
    )
    ends = frame.index.as_unit("ms").asi8
    rows = dict(zip(map(int, ends), frame.to_numpy().tolist(), strict=True))
    found[symbol] = {"rows": rows, "forming": frame.attrs["shmfeed"].forming}
print(json.dumps(found))
"""


def _check_get_price(child, feed_name, closed, forming):
    """Read the same bars in a strategy process."""
    strategy = child(STRATEGY, feed_name, ",".join(closed), ",".join(PRICES))
    out, err = strategy.communicate(timeout=30)
    assert (strategy.returncode, err) == (0, "")
    found = json.loads(out)
    for symbol, rows in closed.items():
        wanted = dict(rows)
        if symbol in forming:
            wanted[forming[symbol][0]] = forming[symbol][1]
        for open_time, values in wanted.items():
            assert found[symbol]["rows"][str(open_time + 60_000)] == values
        assert found[symbol]["forming"] == (symbol in forming)
