"""Reports of other systems' users about venues, played through a feeder.

Each test has a small server that does what a public report tells of a venue. The feed
must have every bar that the server sent, or say what is wrong.
"""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager

import pytest
from support.feeding import feeder, managing
from support.loopback import acknowledge, venue
from support.waiting import until
from websockets.sync.server import ServerConnection

import shmfeed
from shmfeed.errors import WebSocketSubscriptionError

NOW = 0  # ms UTC, the start of each test
MINUTE = 60_000
DAY = 1440 * MINUTE
MICROSECOND = "timeUnit=MICROSECOND"
SPOT = {"protocol": "binance", "market_type": "spot"}


@pytest.fixture(autouse=True)
def present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "NOW", time.time_ns() // 1_000_000)


def minute(number: int) -> int:
    """Return the start of a minute: -1 is the last one that is over."""
    return (NOW // MINUTE + number) * MINUTE


def house_bar(opened: int, **more: object) -> str:
    """Return a closed one-minute bar of the wealthai protocol."""
    bar = {"type": "BAR", "symbol": "BTCUSDT", "timeframe": "1m", "open_time": opened}
    prices = {"open": "1", "high": "2", "low": "0.5", "close": "1.5", "volume": "10"}
    return json.dumps({**bar, **prices, "closed": True, **more})


def kline(symbol: str, timeframe: str, opened: int, length: int, **more: object) -> str:
    """Return a closed bar as Binance wraps it; the event is a little after its end."""
    values = {
        "o": "1",
        "c": "1.5",
        "h": "2",
        "l": "0.5",
        "v": "10",
        "q": "12",
        "x": True,
    }
    place = {"t": opened, "T": opened + length - 1, "s": symbol, "i": timeframe}
    inner = {**place, "f": 1, "L": 9, **values, **more}
    data = {"e": "kline", "E": opened + length + 4, "s": symbol, "k": inner}
    return json.dumps({"stream": f"{symbol.lower()}@kline_{timeframe}", "data": data})


class Script:
    """A server that greets a client, sends it messages, and notes what it says.

    Attributes:
        messages: The messages that each connection is sent once it is subscribed.
        paths: The path of each connection's handshake.
        heard: The messages of clients, subscriptions too.
    """

    def __init__(self, messages: Iterable[str | bytes] = (), binance: bool = False):
        self.messages = list(messages)
        self.binance = binance
        self.paths: list[str] = []
        self.heard: list[str] = []

    def __call__(self, connection: ServerConnection) -> None:
        self.paths.append(connection.request.path)
        if self.binance:
            self._answer(connection, 0.05)
        else:
            self.heard.append(json.dumps(acknowledge(connection)))
        for message in self.messages:
            connection.send(message)
        self._answer(connection, None)

    def _answer(self, connection: ServerConnection, timeout: float | None) -> None:
        """Answer a client's requests until it says nothing for `timeout` s."""
        try:
            while True:
                said = connection.recv(timeout)
                self.heard.append(said)
                if self.binance and said.startswith("{"):
                    reply = {"result": None, "id": json.loads(said)["id"]}
                    connection.send(json.dumps(reply))
        except TimeoutError:
            return


@contextmanager
def played(feed_name: str, script: Callable[[ServerConnection], None], path="", **more):
    """Yield the feed of a feeder that is connected to a server of this script."""
    with venue(script) as url:
        endpoint = url.removesuffix("/market_data") + path
        with feeder(feed_name, endpoint, **more), shmfeed.attach(feed_name) as feed:
            until(lambda: feed.status()["state"] == "connected")
            yield feed


def rows(feed: shmfeed.Feed, symbol: str = "BTCUSDT", timeframe: str = "1m"):
    ring = feed.ring(symbol, timeframe)
    return list(ring.snapshot(50).open_time) if ring.count else []


def has_rows(feed: shmfeed.Feed, opened: list[int], *key: str) -> None:
    until(lambda: rows(feed, *key) == opened, what=f"{opened}, not {rows(feed, *key)}")


class TestOptionalFields:
    """ccxt#28087: a venue's empty turnover made a client drop every candle."""

    ODD = (
        {"turnover": ""},
        {"money": None, "quote_volume": {}},
        {"close_time": None},
        {"final": "yes"},
        {"ts": "soon", "seq": None},
        {"x": [], "close_time": ""},
    )

    def test_no_unreadable_extra_costs_a_bar(self, feed_name):
        opened = [minute(number) for number in range(-6, 0)]
        sent = [house_bar(at, **odd) for at, odd in zip(opened, self.ODD, strict=True)]
        with played(feed_name, Script(sent)) as feed:
            has_rows(feed, opened)
            assert feed.status()["malformed"] == 0

    def test_nor_on_binance(self, feed_name):
        opened = [minute(number) for number in range(-4, 0)]
        odd = ({"q": None}, {"T": None}, {"f": "", "L": []}, {"q": ""})
        sent = [
            kline("BTCUSDT", "1m", at, MINUTE, **more)
            for at, more in zip(opened, odd, strict=True)
        ]
        sent[-1] = sent[-1].replace('"E": ', '"E": null, "z": ')
        with played(feed_name, Script(sent, binance=True), **SPOT) as feed:
            has_rows(feed, opened)
            assert feed.status()["malformed"] == 0

    def test_control_an_unreadable_price_does(self, feed_name):
        sent = [house_bar(minute(-2), close=""), house_bar(minute(-1))]
        with played(feed_name, Script(sent)) as feed:
            has_rows(feed, [minute(-1)])
            assert feed.status()["malformed"] == 1


def health_of(feed: shmfeed.Feed, symbol: str) -> tuple[str, str]:
    """Return a stream's health, and why."""
    streams = feed.status()["streams"]
    (one,) = (stream for stream in streams if stream["symbol"] == symbol)
    return one["health"], one["why"]


PINGS = {
    "ping": "pong",
    "PING": "PONG",
    " ping": "pong",
    "ping\n": "pong",
    '"ping"': '"pong"',
    '{"type":"ping"}': '{"type":"pong"}',
    '{"op":"ping"}': '{"op":"pong"}',
    '{"ping":123}': '{"pong":123}',
}


class TestHeartbeats:
    """barter-rs#285: a server's text pings were unknown messages, and it hung up."""

    def test_each_spelling_is_answered(self, feed_name):
        script = Script([*PINGS, b"ping", house_bar(minute(-1))])
        with played(feed_name, script) as feed:
            has_rows(feed, [minute(-1)])
            until(lambda: script.heard[1:] == [*PINGS.values(), "pong"])
            status = feed.status()
            assert (status["malformed"], status["reconnects"]) == (0, 0)


class TestEndpoints:
    """Documented addresses name streams; python-binance#1519 is about microseconds."""

    @pytest.mark.parametrize(
        "path", ["/ws/btcusdt@kline_1m", "/stream?streams=a@trade"]
    )
    def test_names_of_streams_are_no_part_of_the_address(self, feed_name, path):
        script = Script([kline("BTCUSDT", "1m", minute(-1), MINUTE)], binance=True)
        with played(feed_name, script, path, **SPOT) as feed:
            has_rows(feed, [minute(-1)])
        (asked,) = script.paths
        assert asked in ("/ws", "/stream?streams=btcusdt@kline_1m")

    def test_microseconds_are_understood(self, feed_name):
        opened = [minute(-2), minute(-1)]
        sent = []
        for at in opened:
            message = json.loads(kline("BTCUSDT", "1m", at, MINUTE))
            message["data"]["E"] *= 1000
            for key in "tT":
                message["data"]["k"][key] *= 1000
            sent.append(json.dumps(message))
        script = Script(sent, binance=True)
        with played(feed_name, script, f"?{MICROSECOND}", **SPOT) as feed:
            has_rows(feed, opened)
            assert feed.status()["malformed"] == 0
        assert script.paths == [f"/stream?{MICROSECOND}&streams=btcusdt@kline_1m"]


class TestSymbols:
    """binance-connector-java#24: lower case subscribed, upper case served, no data."""

    def test_a_symbol_in_another_case_is_the_same(self, feed_name):
        script = Script([house_bar(minute(-1), symbol="BTCUSDT")])
        with played(feed_name, script, symbols=["btcusdt"]) as feed:
            has_rows(feed, [minute(-1)], "btcusdt")
            assert feed.status()["unsubscribed"] == 0


class TestDropped:
    """Data that come and are all dropped looked like a quiet market."""

    def test_a_stream_whose_bars_are_all_dropped_says_so(self, feed_name):
        sent = [house_bar(minute(number) + 1) for number in range(-5, -1)]
        with played(feed_name, Script(sent)) as feed:
            until(lambda: health_of(feed, "BTCUSDT")[0] == "stale")
            (stream,) = feed.status()["streams"]
            assert (stream["messages"], stream["dropped"]) == (4, 4)
            assert stream["why"]

    def test_control_one_that_is_taken_is_enough(self, feed_name):
        sent = [house_bar(minute(-3) + 1), house_bar(minute(-1))]
        with played(feed_name, Script(sent)) as feed:
            has_rows(feed, [minute(-1)])
            until(lambda: feed.status()["streams"][0]["messages"] == 2)
            assert health_of(feed, "BTCUSDT")[0] in ("live", "quiet")


class TestErrors:
    """OKX.Api#34, ccxt#19041: an error after the acknowledgement was lost."""

    def test_a_late_error_is_the_last_error(self, feed_name):
        late = {"type": "ERROR", "reason": "BTCUSDT is delisted", "code": 60018}
        script = Script([house_bar(minute(-1)), json.dumps(late)])
        with played(feed_name, script) as feed:
            has_rows(feed, [minute(-1)])
            words = "BTCUSDT is delisted (code 60018)"
            until(lambda: words in (feed.status()["last_error"] or ""))
            assert feed.status()["reconnects"] == 0

    @pytest.mark.parametrize(
        "words", [{"message": "unknown symbol nope"}, {"code": 7, "symbols": ["NOPE"]}]
    )
    def test_one_refused_symbol_costs_no_other(self, feed_name, words):
        def serve(connection: ServerConnection) -> None:
            for text in connection:
                asked = json.loads(text)
                reply = {"type": "CONNECTED", "request_id": asked["request_id"]}
                if "NOPE" in asked["symbols"]:
                    reply |= {"type": "ERROR", **words}
                connection.send(json.dumps(reply))
                connection.send(house_bar(minute(-1)))

        wanted = {"symbols": ["BTCUSDT", "NOPE"]}
        with played(feed_name, serve, **wanted) as feed:
            has_rows(feed, [minute(-1)])
            until(lambda: health_of(feed, "NOPE")[0] == "stale")
            assert "left out" in health_of(feed, "NOPE")[1]
            assert health_of(feed, "BTCUSDT")[0] in ("live", "quiet")

    def test_a_refusal_keeps_its_words_under_any_key(self, feed_name):
        def refuse(connection: ServerConnection) -> None:
            connection.recv()
            connection.send('{"type":"ERROR","reason":"no such market","code":7}')
            for _ in connection:
                pass

        with (
            venue(refuse) as url,
            managing(feed_name, url, max_reconnect_attempts=1) as manager,
            pytest.raises(WebSocketSubscriptionError, match=r"market \(code 7\)"),
        ):
            manager.start(timeout=20)


class TestTimes:
    """binance-exchange/node-binance-api#155, twelvedata-python#79."""

    @pytest.mark.parametrize("phase", [1, 2])
    def test_three_days_begin_where_the_venue_says(self, feed_name, phase):
        first = (NOW // DAY // 3 - 4) * 3 * DAY + phase * DAY
        opened = [first + number * 3 * DAY for number in range(3)]
        sent = [kline("BTCUSDT", "3d", at, 3 * DAY) for at in opened]
        script = Script(sent, binance=True)
        with played(feed_name, script, resolutions=["3d"], **SPOT) as feed:
            has_rows(feed, opened, "BTCUSDT", "3d")
            status = feed.status()
            assert (status["malformed"], status["gaps"]) == (0, 0)

    @pytest.mark.parametrize("ahead", [10 * MINUTE, 365 * DAY, 40 * 365 * DAY])
    def test_a_bar_from_the_future_costs_no_other(self, feed_name, ahead):
        opened = [minute(-3), minute(-2), minute(-1)]
        sent = [kline("BTCUSDT", "1m", at, MINUTE) for at in opened]
        future = json.loads(kline("BTCUSDT", "1m", minute(-2) + ahead, MINUTE))
        future["data"]["E"] = minute(-2) + MINUTE
        sent.insert(2, json.dumps(future))
        script = Script(sent, binance=True)
        with played(feed_name, script, **SPOT) as feed:
            has_rows(feed, opened)
            until(lambda: feed.status()["malformed"] == 1)

    @pytest.mark.parametrize("ahead", [10, 40 * 525_600])
    def test_the_date_of_the_handshake_is_a_clock_too(self, feed_name, ahead):
        opened = [minute(-3), minute(-2), minute(-1)]
        sent = [house_bar(at) for at in opened]
        sent.insert(2, house_bar(minute(ahead)))
        with played(feed_name, Script(sent)) as feed:
            has_rows(feed, opened)
            until(lambda: feed.status()["malformed"] == 1)

    @pytest.mark.parametrize("days", [1, 40 * 365])
    def test_rows_of_the_future_are_cut_off_by_the_next_feeder(self, feed_name, days):
        prices = (1.0, 2.0, 0.5, 1.5, 10.0)
        with shmfeed.create(feed_name, history=100) as writer:
            ring = writer.add_stream("BTCUSDT", "1m")
            for at in (minute(-4), minute(-3), minute(days * 1440)):
                ring.append(at, *prices)
        sent = [kline("BTCUSDT", "1m", minute(n), MINUTE) for n in (-2, -1)]
        script = Script(sent, binance=True)
        with played(feed_name, script, **SPOT) as feed:
            has_rows(feed, [minute(number) for number in range(-4, 0)])


class TestSequence:
    """cryptofeed#20, Bittrex#33: messages were lost, or came late, unseen."""

    def numbered(self, *numbers: int) -> list[str]:
        """Return updates of bars, one a number; each fourth one closes its bar."""
        return [
            house_bar(
                minute(number // 4 - 4),
                seq=number,
                close=str(1 + number / 100),
                closed=number % 4 == 3,
            )
            for number in numbers
        ]

    def test_lost_messages_are_counted(self, feed_name):
        script = Script(self.numbered(0, 1, 2, 3, 4, 7, 8, 11, 12, 13))
        with played(feed_name, script, sequence="connection") as feed:
            has_rows(feed, [minute(number) for number in (-4, -3, -2)])
            until(lambda: feed.status()["missed"] == 4)

    def test_an_older_update_that_comes_late_changes_nothing(self, feed_name):
        script = Script(self.numbered(0, 2, 1, 3, 4, 6, 5, 6, 7))
        with played(feed_name, script, sequence="connection") as feed:
            has_rows(feed, [minute(-4), minute(-3)])
            until(lambda: feed.status()["duplicates"] == 3)
            assert list(feed.ring("BTCUSDT", "1m").snapshot(2)["close"]) == [1.03, 1.07]

    def test_control_without_numbers_nothing_is_missed(self, feed_name):
        script = Script(self.numbered(0, 1, 3, 4, 7))
        with played(feed_name, script, sequence="off") as feed:
            has_rows(feed, [minute(-4), minute(-3)])
            status = feed.status()
            assert (status["missed"], status["duplicates"]) == (0, 0)
