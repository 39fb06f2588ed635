"""A feed's life with real processes: a manager, its feeder, four strategies."""

import json
import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import until

import shmfeed
from shmfeed import WebSocketConnectionError
from shmfeed.manager import WebSocketManager
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue, verify

SEED = 11
SYMBOLS = ["BTCUSDT", "ETHUSDT"]
RESOLUTIONS = ["1s", "1m"]
HISTORY = 1300

# A strategy that reads in a loop, compares every value with the venue's market, and
# prints a line whenever the newest bar changes. It ends when its input does.
STRATEGY = """
import json, sys, threading
import numpy as np
import wealthdata
from shmfeed.simulator import expected
feed, seed, symbols = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
end = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
wealthdata.use(feed=feed)
seen, rows, wrong = {}, 0, 0
while not end.wait(0.002):
    for symbol in symbols:
        frame = wealthdata.get_price(
            symbol, count=300, frequency="1s", on_stale="ignore"
        )
        values = frame.to_numpy().T.copy()
        opens = frame.index.as_unit("ms").asi8 - 1000
        if not frame.attrs["shmfeed"].valid:
            continue
        wrong += int((values != expected(seed, symbol, "1s", opens)).any(axis=0).sum())
        rows += len(frame)
        if len(opens) and seen.get(symbol) != int(opens[-1]):
            seen[symbol] = int(opens[-1])
            print(json.dumps({"symbol": symbol, "open_time": seen[symbol]}), flush=True)
print(json.dumps({"rows": rows, "wrong": wrong}), flush=True)
"""


@contextmanager
def running(feed_name, **options):
    manager = WebSocketManager(feed_name)
    with Venue(
        protocol="wealthai", speed=1, seed=SEED, history=HISTORY, **options
    ) as venue:
        manager.configure(
            symbols=SYMBOLS,
            resolutions=RESOLUTIONS,
            endpoint=venue.url,
            reconnect_delay_base=0.05,
        )
        try:
            manager.start(timeout=20)
            yield venue, manager
        finally:
            manager.stop()


def newest(strategy, symbol, after):
    """Return the open time of the strategy's next bar of `symbol` after `after`."""
    for line in strategy.stdout:
        report = json.loads(line)
        if report.get("symbol") == symbol and report["open_time"] > after:
            return report["open_time"]
    raise AssertionError(strategy.stderr.read())


@pytest.mark.timeout(120)
def test_strategies_read_on_through_a_reconnect_and_a_killed_feeder(feed_name, child):
    states = []
    with running(feed_name) as (venue, manager):
        manager.on_state_change(lambda old, new: states.append((old, new)))
        with shmfeed.attach(feed_name) as feed:
            ring = feed.ring("BTCUSDT", "1m")
            until(lambda: ring.count >= HISTORY, what="the history in the ring")
            rows = ring.snapshot(ring.history)
            assert (len(rows), ring.capacity) == (1000, 1250)
            assert verify(SEED, "BTCUSDT", "1m", rows) == 0
            strategies = [
                child(STRATEGY, feed_name, SEED, ",".join(SYMBOLS)) for _ in range(4)
            ]
            bar = max(newest(one, "BTCUSDT", 0) for one in strategies)

            assert venue.drop_connections() == 1
            until(lambda: manager.get_status()["reconnects"] == 1)
            until(manager.is_connected)
            bar = max(newest(one, "BTCUSDT", bar) for one in strategies)

            manager.update_subscription(symbols=[*SYMBOLS, "SOLUSDT"])
            assert ("SOLUSDT", "1s") in feed.streams()
            assert feed.ring("SOLUSDT", "1s").wait(HISTORY, timeout=10)

            first = manager.get_status()["pid"]
            os.kill(first, signal.SIGKILL)
            until(lambda: manager.get_status()["pid"] not in (None, first))
            until(manager.is_connected)
            assert ("SOLUSDT", "1s") in feed.streams()
            bar = max(newest(one, "BTCUSDT", bar) for one in strategies)
            assert ring.count >= HISTORY
            assert feed.status()["pid"] == manager.get_status()["pid"]
            _check_no_bar_lost_or_doubled(feed)

        for one in strategies:
            out, err = one.communicate(timeout=20)
            assert err == ""
            summary = json.loads(out.splitlines()[-1])
            assert summary["wrong"] == 0
            assert summary["rows"] > 0
        manager.stop()
        assert not place(feed_name).segment.exists()
        assert not place(feed_name).socket.exists()
        manager.stop()  # idempotent
    assert ("connected", "reconnecting") in states
    assert states[-1] == ("connected", "disconnected")
    assert not manager.is_connected()


def _check_no_bar_lost_or_doubled(feed):
    for symbol, timeframe in feed.streams():
        rows = feed.ring(symbol, timeframe).snapshot(1000)
        assert verify(SEED, symbol, timeframe, rows) == 0
        steps = set((rows.open_time[1:] - rows.open_time[:-1]).tolist())
        assert len(steps) <= 1, (symbol, timeframe, steps)


def test_a_bar_that_ended_while_no_feeder_ran_has_the_venue_s_values(feed_name):
    """A second feeder does not close the forming bar that the first one left."""
    with running(feed_name) as (_, manager), shmfeed.attach(feed_name) as feed:
        ring = feed.ring("BTCUSDT", "1s")
        until(lambda: ring.count >= HISTORY)
        for _ in range(2):
            while (bar := ring.forming()) is None:  # a bar has just closed
                until(lambda: ring.forming() is not None)
            half = bar.close_time
            manager.stop(keep=True)
            # The bar's end and close_grace pass long before the next feeder starts.
            until(lambda end=half: time.time() * 1000 > end + 2500)
            manager.start(timeout=20)
            until(lambda end=half: ring.view(1).close_time[-1] > end)
        rows = ring.snapshot(1000)
        assert verify(SEED, "BTCUSDT", "1s", rows) == 0
        assert set((rows.open_time[1:] - rows.open_time[:-1]).tolist()) == {1000}
        assert manager.get_status()["revisions"] == 0


def test_a_feeder_outlives_its_manager_and_the_next_adopts_it(feed_name, child):
    code = """
import sys
from shmfeed.manager import WebSocketManager
manager = WebSocketManager(sys.argv[1])
manager.configure(symbols=["BTCUSDT"], resolutions=["1s"], endpoint=sys.argv[2])
manager.start(timeout=20)
print(manager.get_status()["pid"])
"""
    with Venue(protocol="wealthai", history=5) as venue:
        first = child(code, feed_name, venue.url)
        out, err = first.communicate(timeout=30)
        assert (first.returncode, err) == (0, "")
        pid = int(out)
        manager = WebSocketManager(feed_name)
        manager.configure(symbols=["ETHUSDT"], resolutions=["1s"], endpoint=venue.url)
        try:
            manager.start(timeout=20)
            assert manager.get_status()["pid"] == pid
            with shmfeed.attach(feed_name) as feed:
                assert set(feed.streams()) == {("BTCUSDT", "1s"), ("ETHUSDT", "1s")}
        finally:
            manager.stop()
        until(lambda: not Path(f"/proc/{pid}").exists())


def test_two_managers_share_a_feeder_until_the_last_stops(feed_name):
    with Venue(protocol="wealthai", history=5) as venue:
        one, two = WebSocketManager(feed_name), WebSocketManager(feed_name)
        for manager, symbol in ((one, "BTCUSDT"), (two, "ETHUSDT")):
            manager.configure(symbols=[symbol], resolutions=["1s"], endpoint=venue.url)
        try:
            one.start(timeout=20)
            two.start(timeout=20)
            assert one.get_status()["pid"] == two.get_status()["pid"]
            one.stop()
            assert two.is_connected()
            with shmfeed.attach(feed_name) as feed:
                until(lambda: feed.streams() == [("ETHUSDT", "1s")])
        finally:
            one.stop()
            two.stop()
    assert not place(feed_name).segment.exists()


def test_a_killed_feeder_is_replaced_and_a_refusing_venue_is_reported(feed_name):
    with running(feed_name) as (venue, manager):
        with shmfeed.attach(feed_name) as feed:
            ring = feed.ring("BTCUSDT", "1m")
            until(lambda: ring.count >= HISTORY, what="the history in the ring")
            venue.refuse()
            os.kill(manager.get_status()["pid"], signal.SIGKILL)
            until(lambda: manager.get_status()["state"] == "error", what="giving up")
            status = manager.get_status()
            assert "could not connect" in status["last_error"]
            # The feeder stays, its data is readable, and start() tries again.
            assert len(ring.view(1000)) == 1000
        with pytest.raises(WebSocketConnectionError):
            manager.start(timeout=10)
        venue.refuse(False)
        manager.start(timeout=10)
        assert manager.is_connected()
