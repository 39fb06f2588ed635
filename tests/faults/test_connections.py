"""A feed over several connections, of which some end, through a real feeder."""

import contextlib
import itertools
import json
import random
import threading
import time

import pytest
from support.feeding import feeder
from support.house_server import HouseServer
from support.loopback import venue
from support.waiting import until
from websockets.exceptions import ConnectionClosed

import shmfeed
from shmfeed.feeder import mute
from shmfeed.simulator import Venue

MINUTE = 60_000
UNCONFIRMED = 8
NOW = 0  # ms UTC, the start of each test


@pytest.fixture(autouse=True)
def present(monkeypatch):
    monkeypatch.setitem(globals(), "NOW", time.time_ns() // 1_000_000)


def bar(number, symbol="BTCUSDT", timeframe="1m", length=MINUTE, **more):
    """Return a closed bar of the wealthai protocol; its close tells its number."""
    opened = (NOW // length - 100 + number) * length
    values = {"open": 1.0, "high": 2000.0, "low": 0.5, "volume": 10.0}
    place = {"symbol": symbol, "timeframe": timeframe, "open_time": opened}
    values["close"] = 1.0 + number
    return json.dumps({"type": "BAR", **place, **values, "closed": True, **more})


def closes(feed, symbol="BTCUSDT", timeframe="1m", count=50):
    return feed.ring(symbol, timeframe).snapshot(count)["close"].tolist()


# Make before break


class ShuttingDown:
    """Binance, whose first connection ends in the middle of a bar's last second.

    `serverShutdown` comes 60 ms before the bar's end, the old connection is good for
    two seconds more, and a handshake takes 300 ms.
    """

    def __init__(self, *, good_for):
        self.good_for = good_for
        self.dials = []
        self.opened = NOW // MINUTE * MINUTE

    def slow(self, connection, request):
        self.dials.append(time.monotonic())
        if len(self.dials) > 1:
            time.sleep(0.3)

    def __call__(self, ws):
        if len(self.dials) > 1:
            time.sleep(0.1)
            ws.send(self.kline(self.opened + MINUTE, 102.0, closed=False))
            for _ in ws:
                pass
            return
        ws.send(self.kline(self.opened, 100.941, closed=False))
        ws.send(json.dumps({"stream": "!x", "data": {"e": "serverShutdown", "E": NOW}}))
        time.sleep(0.06)
        if self.good_for:
            ws.send(self.kline(self.opened, 101.0, closed=True))
        time.sleep(self.good_for)

    def kline(self, opened, close, *, closed):
        values = {"o": "1", "c": str(close), "h": "200", "l": "0.5", "v": "10"}
        place = {"t": opened, "T": opened + MINUTE - 1, "s": "BTCUSDT", "i": "1m"}
        inner = {**place, "f": 1, "L": 9, "q": "12", "x": closed, **values}
        event = {"e": "kline", "E": NOW + 1, "s": "BTCUSDT", "k": inner}
        return json.dumps({"stream": "btcusdt@kline_1m", "data": event})


@pytest.mark.parametrize(("good_for", "close"), [(2.0, 101.0), (0.0, 100.941)])
def test_a_bar_that_ends_between_two_connections_has_its_last_values(
    feed_name, good_for, close
):
    # The second case is the control: the old connection ends before the new one is
    # open, so the close is lost and the bar is not known to be final.
    server = ShuttingDown(good_for=good_for)
    spot = {"protocol": "binance", "market_type": "spot"}
    with venue(server, process_request=server.slow) as url:
        base = url.removesuffix("/market_data")
        with feeder(feed_name, base, **spot), shmfeed.attach(feed_name) as feed:
            ring = feed.ring("BTCUSDT", "1m")
            assert ring.wait(0, timeout=5)
            assert closes(feed) == [close]
            until(lambda: len(server.dials) == 2)
            until(lambda: ring.forming() is not None)
            is_unconfirmed = bool(int(ring.snapshot(1)["flags"][0]) & UNCONFIRMED)
            assert is_unconfirmed is (not good_for)
            assert feed.status()["gaps"] == 0


# Several connections


def test_two_thousand_streams_go_over_ten_connections(feed_name):
    symbols = [f"SYM{number}" for number in range(400)]
    resolutions = ["1m", "5m", "1h", "4h", "1d"]
    carried = {"symbols": symbols, "resolutions": resolutions, "history": 4}
    carried["max_streams_per_connection"] = 200
    with Venue(speed=None, max_streams=200, excess="close") as local:
        with feeder(feed_name, local, **carried), shmfeed.attach(feed_name) as feed:
            until(lambda: feed.status()["state"] == "connected", 20)
            assert local.connections == 10
            assert len(feed.streams()) == 2000
            opened = NOW // MINUTE * MINUTE - MINUTE
            for symbol in symbols:
                values = (1.0, 2.0, 0.5, 1.5)
                local.push_bar(symbol, "1m", opened, *values, closed=True)
            last = feed.ring(symbols[-1], "1m")
            assert last.wait(0, timeout=10)
            until(lambda: all(feed.ring(s, "1m").count for s in symbols))
            assert feed.status()["unsubscribed"] == 0


def test_control_one_connection_for_all_is_hung_up_on(feed_name):
    symbols = [f"SYM{number}" for number in range(400)]
    with Venue(speed=None, max_streams=200, excess="close") as local:
        given = {"symbols": symbols, "max_reconnect_attempts": 1, "history": 4}
        with feeder(feed_name, local, **given):
            with shmfeed.attach(feed_name) as feed:
                until(lambda: feed.status()["state"] == "error")


def test_one_lost_connection_leaves_the_others_alone(feed_name):
    server = HouseServer()
    symbols = [f"SYM{number}" for number in range(6)]
    slow = {"reconnect_delay_base": 30.0, "reconnect_delay_max": 60.0}
    with venue(server) as url:
        given = {"symbols": symbols, "max_streams_per_connection": 2}
        with feeder(feed_name, url, **given, **slow), shmfeed.attach(feed_name) as feed:
            until(lambda: feed.status()["state"] == "connected")
            for connection in list(server.connections):
                for symbol in server.symbols[connection]:
                    connection.send(bar(0, symbol))
            until(lambda: all(feed.ring(s, "1m").count for s in symbols))
            lost = server.connections[0]
            server.answers = False
            lost.close()
            until(lambda: feed.status()["state"] == "reconnecting")
            for connection in server.connections[1:]:
                for symbol in server.symbols[connection]:
                    connection.send(bar(1, symbol))
            away = set(server.symbols[lost])
            others = [s for s in symbols if s not in away]
            until(lambda: all(feed.ring(s, "1m").count == 2 for s in others))
            states = {s: feed.ring(s, "1m").status().health for s in symbols}
            assert {s for s in symbols if states[s] == "recovering"} == away


# Two lines


@pytest.mark.parametrize("seed", range(3))
def test_either_of_two_lines_may_die_at_any_instant(feed_name, seed):
    rng = random.Random(seed)
    servers = [HouseServer(), HouseServer()]
    with venue(servers[0]) as first, venue(servers[1]) as second:
        with feeder(feed_name, [first, second], lines=2):
            with shmfeed.attach(feed_name) as feed:
                until(lambda: all(server.connections for server in servers))
                for number in range(40):
                    _send_on_both(servers, number, rng)
                ring = feed.ring("BTCUSDT", "1m")
                until(lambda: ring.count == 40)
                assert closes(feed) == [1.0 + number for number in range(40)]
                status = feed.status()
                assert (status["gaps"], status["state"]) == (0, "connected")


def _send_on_both(servers, number, rng):
    """Send a bar on both lines; one of them may die before, between or after."""
    dies = rng.choice([None, None, 0, 1])
    when = rng.choice(["before", "after"])
    count = 0 if dies is None else len(servers[dies].connections)
    for line, server in enumerate(servers):
        connection = server.connections[-1]
        if line == dies and when == "before":
            connection.close()
        else:
            connection.send(bar(number))
        if line == dies and when == "after":
            connection.close()
    if dies is not None:  # the other line may die once this one is back
        until(lambda: len(servers[dies].connections) > count)


# A mute stream


@pytest.fixture
def quick_mute(monkeypatch):
    monkeypatch.setattr(mute, "LEAST_SECONDS", 0.5)
    monkeypatch.setattr(mute, "TIMEFRAMES_SILENT", 0)
    monkeypatch.setattr(mute, "CHECK_SECONDS", 0.05)


@contextlib.contextmanager
def speaking(server, *symbols):
    """Send a bar of these symbols on every connection, ten times a second."""
    stop = threading.Event()

    def speak():
        number = 0
        while not stop.wait(0.1):
            number += 1
            for connection, symbol in itertools.product(server.connections, symbols):
                with contextlib.suppress(ConnectionClosed):
                    connection.send(bar(number, symbol))

    speaker = threading.Thread(target=speak)
    speaker.start()
    try:
        yield
    finally:
        stop.set()
        speaker.join()


def test_a_mute_stream_is_asked_for_again_then_moved(feed_name, quick_mute):
    server = HouseServer()
    with venue(server) as url, feeder(feed_name, url, symbols=["AAA", "BBB"]):
        with shmfeed.attach(feed_name) as feed, speaking(server, "AAA"):
            until(lambda: len(server.requests) == 2)
            assert len(server.connections) == 1
            until(lambda: len(server.connections) == 2)
            assert server.requests == [["AAA", "BBB"]] * 3
            until(lambda: feed.ring("AAA", "1m").count > 20)
            status = feed.status()
            assert (status["state"], status["gaps"]) == ("connected", 0)


def test_control_streams_that_all_speak_are_left_alone(feed_name, quick_mute):
    server = HouseServer()
    with venue(server) as url, feeder(feed_name, url, symbols=["AAA", "BBB"]):
        with shmfeed.attach(feed_name) as feed, speaking(server, "AAA", "BBB"):
            until(lambda: feed.ring("AAA", "1m").count > 15)
            assert len(server.requests) == 1
