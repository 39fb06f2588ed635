"""The venue over real connections, as a client and a test see it."""

import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from shmfeed.bar import Bar, close_time, floor
from shmfeed.errors import BadArgumentError
from shmfeed.simulator import STEPS, Venue, bar

TOKEN = "a test's token"
START = 1_700_000_000_000


@contextlib.contextmanager
def client(venue: Venue, path: str = "") -> Iterator[ClientConnection]:
    with connect(venue.url + path, compression=None, close_timeout=1) as connection:
        yield connection


def receive(connection: ClientConnection) -> dict:
    return json.loads(connection.recv(timeout=5))


def ask(connection: ClientConnection, number: str = "1", **request: object) -> dict:
    request = {"symbols": ["A"], "resolutions": ["1m"], **request}
    message = {"type": "CONNECT", "request_id": number, **request}
    connection.send(json.dumps(message))
    return receive(connection)


def assert_is_market(message: dict, seed: int = 7) -> None:
    stream = message["symbol"], message["timeframe"]
    values = tuple(float(message[name]) for name in Bar._fields[2:8])
    steps = [STEPS] if message["closed"] else range(STEPS)
    made = [bar(seed, *stream, message["open_time"], step)[2:8] for step in steps]
    assert values in made


# -- the house protocol


def test_connect_is_acknowledged_and_recorded():
    with Venue(speed=None) as venue, client(venue) as connection:
        reply = ask(connection, "17", csrf_token="x", market_type="y")
        assert reply == {
            "type": "CONNECTED",
            "request_id": "17",
            "symbols": ["A"],
            "resolutions": ["1m"],
        }
        venue.wait_subscribed(1)
        assert [asked["request_id"] for asked in venue.subscriptions] == ["17"]
        assert venue.connections == 1


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"symbols": ["A", "NOPE"]}, "NOPE"),
        ({"resolutions": ["1h"]}, "1h"),
        ({"resolutions": ["7m"]}, "7m"),
        ({"symbols": ["no symbol"]}, "no symbol"),
        ({"symbols": "A"}, "malformed CONNECT"),
        ({"symbols": None}, "malformed CONNECT"),
        ({"resolutions": [1]}, "malformed CONNECT"),
        ({"request_id": None}, "malformed CONNECT"),
    ],
)
def test_a_bad_connect_is_refused_in_words_and_changes_nothing(request_, words):
    options = {"symbols": "A,B", "resolutions": "1m", "speed": None}
    with Venue(**options) as venue, client(venue) as connection:
        assert ask(connection)["type"] == "CONNECTED"
        reply = ask(connection, "2", **request_)
        assert reply["type"] == "ERROR"
        assert words in reply["message"]
        venue.wait_asked(2)
        assert venue.record.accepted == 1
        assert venue.push_market("A", "1m", 0) == 1


@pytest.mark.parametrize(
    "text", ["{", "[]", "7", '{"type":"WHAT"}', "[" * 100_000, '"\\ud800"']
)
def test_other_messages_are_refused_and_the_connection_lives(text):
    with Venue(speed=None) as venue, client(venue) as connection:
        connection.send(text)
        assert receive(connection)["type"] == "ERROR"
        assert ask(connection)["type"] == "CONNECTED"
        venue.wait_received(2)
        assert venue.received[0] == text


def test_heartbeats_are_answered():
    with Venue(speed=None) as venue, client(venue) as connection:
        connection.send("ping")
        assert connection.recv(timeout=5) == "pong"
        connection.send('{"type":"PING"}')
        assert receive(connection) == {"type": "PONG"}
        connection.send('{"type":"HEARTBEAT"}')
        assert connection.ping().wait(5)


def test_a_wrong_token_is_refused_and_the_connection_closed():
    with Venue(speed=None, token=TOKEN) as venue:
        assert TOKEN not in repr(venue.options)
        with client(venue) as connection:
            assert "csrf_token" in ask(connection, csrf_token="wrong")["message"]
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=5)
        with client(venue) as connection:
            assert ask(connection, csrf_token=TOKEN)["type"] == "CONNECTED"


def test_history_then_live_without_a_hole():
    options = {"speed": 60, "history": 5, "update_interval": 0.05}
    closed: dict[str, list[int]] = {"A": [], "B": []}
    forming = 0
    with Venue(**options) as venue, client(venue) as connection:
        ask(connection, symbols=["A", "B"], resolutions=["1s"])
        while min(map(len, closed.values())) < 60:
            message = receive(connection)
            assert_is_market(message)
            times = closed[message["symbol"]]
            if message["closed"]:
                times.append(message["open_time"])
            else:
                forming += 1
                assert message["open_time"] == times[-1] + 1000
    assert forming > 0
    for times in closed.values():
        assert all(b - a == 1000 for a, b in itertools.pairwise(times))


def test_at_speed_one_bars_close_with_the_wall_clock_and_can_do_without_flag():
    options = {"history": 2, "closed_flag": False, "update_interval": 0.1}
    with Venue(**options) as venue, client(venue) as connection:
        ask(connection, resolutions=["1s"])
        times = []
        while len(set(times)) < 5:
            message = receive(connection)
            assert "closed" not in message
            times.append(message["open_time"])
            now = venue._server.producer.now()  # type: ignore[union-attr]
            assert message["open_time"] == times[0] or now >= message["open_time"]
    assert times == sorted(times)
    assert sorted(set(times)) == list(range(times[0], times[0] + 5000, 1000))


def test_a_further_connect_replaces_and_gives_history_to_new_streams_only():
    with Venue(speed=None, history=3) as venue, client(venue) as connection:
        ask(connection, symbols=["A", "B"])
        first = [receive(connection)["symbol"] for _ in range(6)]
        assert first == ["A"] * 3 + ["B"] * 3
        assert ask(connection, "2", symbols=["B", "C"])["request_id"] == "2"
        messages = [receive(connection) for _ in range(3)]
        assert [message["symbol"] for message in messages] == ["C"] * 3
        opened = messages[-1]["open_time"]
        assert opened == floor(messages[-1]["close_time"], "1m") - 60_000
        assert venue.push_market("A", "1m", opened) == 0
        assert venue.push_market("B", "1m", opened) == 1
        assert receive(connection)["symbol"] == "B"


def test_full_speed_is_deterministic_and_then_silent():
    def run() -> list[str]:
        options = {"speed": "max", "bars": 20, "history": 4, "start": START}
        with Venue(**options) as venue, client(venue) as connection:
            ask(connection, symbols=["A", "B"], resolutions=["1m", "1M"])
            frames = 4 * (4 + 20 * STEPS)
            got = [connection.recv(timeout=5) for _ in range(frames)]
            assert connection.ping().wait(5)  # silent, not gone
            with pytest.raises(TimeoutError):
                connection.recv(timeout=0)
            return got

    got = run()
    assert got == run()
    messages = [json.loads(text) for text in got]
    for message in messages:
        assert_is_market(message)
    for stream in itertools.product("AB", ["1m", "1M"]):
        closed = [
            message
            for message in messages
            if (message["symbol"], message["timeframe"]) == stream
            if message["closed"]
        ]
        assert len(closed) == 24
        for before, after in itertools.pairwise(closed):
            assert before["close_time"] == after["open_time"]
        assert closed[-1]["close_time"] == floor(START, stream[1])


def test_full_speed_goes_to_a_slow_reader_in_pieces():
    with Venue(speed="max", bars=2000) as venue, client(venue) as connection:
        ask(connection, symbols=[f"S{n}" for n in range(16)])
        with client(venue) as other:  # the loop is not held up
            assert ask(other, resolutions=[])["type"] == "CONNECTED"
        for _ in range(1000):
            connection.recv(timeout=5)
        assert venue.record.frames < 16 * 2000 * STEPS


# -- Binance


def test_klines_by_url_wrapped_and_raw():
    with Venue(protocol="binance", speed=None) as venue:
        wrapped, raw = "/stream?streams=btcusdt@kline_1m", "/ws/btcusdt@kline_1m"
        with client(venue, wrapped) as one, client(venue, raw) as two:
            venue.wait_subscribed(2)
            asked = sorted(request["path"] for request in venue.subscriptions)
            assert asked == [wrapped, raw]
            assert venue.push_market("BTCUSDT", "1m", 60_000) == 2
            first, second = receive(one), receive(two)
        assert first["stream"] == "btcusdt@kline_1m"
        assert first["data"] == second
        assert second["k"]["t"] == 60_000
        assert float(second["k"]["c"]) == bar(7, "BTCUSDT", "1m", 60_000).close


def test_subscribing_by_message():
    with (
        Venue(protocol="binance", speed=None) as venue,
        client(venue, "/stream") as connection,
    ):

        def say(**message: object) -> dict:
            connection.send(json.dumps(message))
            return receive(connection)

        names = ["a@kline_1m", "b@kline_1h"]
        assert say(method="SUBSCRIBE", params=names, id=1) == {"result": None, "id": 1}
        listed = say(method="LIST_SUBSCRIPTIONS", id="x3")
        assert listed == {"result": names, "id": "x3"}
        assert say(method="UNSUBSCRIBE", params=names[:1], id=None)["result"] is None
        assert venue.push_market("A", "1m", 0) == 0
        assert venue.push_bar("B", "1h", 0, 1, 2, 0.5, 1.5, closed=True) == 1
        kline = receive(connection)["data"]["k"]
        assert (kline["s"], kline["x"], float(kline["h"])) == ("B", True, 2.0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", 3),
        ("[]", 2),
        ('{"id":1}', 2),
        ('{"method":"WHAT","id":1}', 2),
        ('{"method":"SUBSCRIBE","id":1}', 2),
        ('{"method":"SUBSCRIBE","params":"a@kline_1m","id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[],"id":1.5}', 2),
        ('{"method":"SET_PROPERTY","params":["x",true],"id":1}', 0),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1),
    ],
)
def test_errors_have_the_venues_codes(text, code):
    with Venue(protocol="binance", speed=None) as venue, client(venue, "/ws") as it:
        it.send(text)
        assert receive(it)["code"] == code


def test_combined_can_be_switched():
    path = "/ws/a@kline_1m"
    with Venue(protocol="binance", speed=None) as venue, client(venue, path) as it:
        it.send('{"method":"SET_PROPERTY","params":["combined",true]}')
        assert receive(it)["result"] is None
        venue.push_market("A", "1m", 0)
        assert receive(it)["stream"] == "a@kline_1m"


def test_unknown_streams_are_acknowledged_and_silent():
    names = ["nope@kline_1m", "a@trade", "a@kline_7m", "A@kline_1m", "a@kline_1m"]
    options = {"protocol": "binance", "symbols": ["A"], "history": 2}
    with Venue(**options) as venue, client(venue, "/stream") as connection:
        connection.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
        assert receive(connection) == {"result": None, "id": 1}
        streams = {receive(connection)["stream"] for _ in range(4)}
        assert streams == {"a@kline_1m"}


def test_klines_come_live_and_close():
    options = {"protocol": "binance", "speed": 60, "update_interval": 0.05}
    path = "/stream?streams=a@kline_1s"
    closed: list[int] = []
    with Venue(**options) as venue, client(venue, path) as connection:
        while len(closed) < 30:
            event = receive(connection)["data"]
            if event["k"]["x"]:
                closed.append(event["k"]["t"])
                assert event["E"] == event["k"]["T"] + 1
    assert all(b - a == 1000 for a, b in itertools.pairwise(closed))


def test_too_many_messages_a_second_end_the_connection():
    with Venue(protocol="binance", speed=None) as venue, client(venue, "/ws") as it:
        for number in range(6):
            it.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        for _ in range(5):
            assert receive(it)["result"] == []
        with pytest.raises(ConnectionClosed) as caught:
            it.recv(timeout=5)
        assert caught.value.rcvd.code == 1008


@pytest.mark.parametrize(
    ("protocol", "path"), [("wealthai", "/x"), ("binance", "/"), ("binance", "/other")]
)
def test_no_such_path(protocol, path):
    with Venue(protocol=protocol, speed=None) as venue:
        with pytest.raises(InvalidStatus) as caught, client(venue, path):
            pass
        assert caught.value.response.status_code == 404


# -- what a test can do with it


def test_raw_text_and_bytes_reach_every_client():
    with Venue(speed=None) as venue, client(venue) as one, client(venue) as two:
        venue.wait_connections(2)
        assert venue.send("whatever") == 2
        assert one.recv(timeout=5) == two.recv(timeout=5) == "whatever"
        assert venue.send(b"\xff") == 2
        with pytest.raises(ConnectionClosed):  # not UTF-8: this client gives up
            one.recv(timeout=5)
        assert venue.send_bytes(b"\xff\xff") >= 1


def test_hand_fed_bars_go_to_subscribers_or_to_all():
    with Venue(speed=None) as venue, client(venue) as one, client(venue) as two:
        ask(one)
        ask(two, symbols=["B"])
        venue.wait_subscribed(2)
        values = (0.1 + 0.2, 1.0, 0.25, 0.5, 12.5)
        assert venue.push_bar("A", "1M", 0, *values) == 0
        assert venue.push_bar("A", "1m", 0, *values, closed=True) == 1
        message = receive(one)
        assert message["closed"] is True
        assert message["close_time"] == close_time(0, "1m")
        got = tuple(float(message[name]) for name in Bar._fields[2:7])
        assert got == values
        assert venue.push_bar("A", "1m", 0, *values, money=2.0, every=True) == 2
        assert receive(one) == receive(two)


def test_dropping_connections_with_and_without_a_word():
    with Venue(speed=None) as venue:
        for code, word in ((None, None), (1012, 1012)):
            with client(venue) as connection:
                venue.wait_connections(1)
                assert venue.drop_connections(code) == 1
                with pytest.raises(ConnectionClosed) as caught:
                    connection.recv(timeout=5)
                assert (caught.value.rcvd and caught.value.rcvd.code) == word
            venue.wait_connections(0)
        assert venue.record.total == 2


def test_muted_it_says_nothing_by_itself_but_answers_pings():
    with Venue(speed=None, history=2) as venue:
        venue.mute()
        with client(venue) as connection:
            connection.send(
                json.dumps(
                    {
                        "type": "CONNECT",
                        "request_id": "1",
                        "symbols": ["A"],
                        "resolutions": ["1m"],
                    }
                )
            )
            venue.wait_subscribed()
            assert connection.ping().wait(5)
            venue.send("said anyway")
            assert connection.recv(timeout=5) == "said anyway"
            venue.mute(False)
            assert ask(connection, "2")["request_id"] == "2"


def test_muted_with_pings_it_is_as_if_gone():
    with Venue(speed=None) as venue, client(venue) as connection:
        venue.wait_connections(1)
        venue.mute(pings=True)
        pong = connection.ping()
        assert not pong.wait(0.2)
        venue.mute(False)
        assert pong.wait(5)


def test_refusing_cuts_or_answers_with_a_status():
    with Venue(speed=None) as venue:
        venue.refuse()
        with pytest.raises((OSError, EOFError, Exception)) as caught, client(venue):
            pass
        assert not isinstance(caught.value, InvalidStatus)
        venue.refuse(429)
        with pytest.raises(InvalidStatus) as status, client(venue):
            pass
        assert status.value.response.status_code == 429
        venue.refuse(False)
        with client(venue) as connection:
            assert ask(connection)["type"] == "CONNECTED"


def test_connections_are_capped():
    with Venue(speed=None, max_connections=1) as venue, client(venue):
        venue.wait_connections(1)
        with pytest.raises(InvalidStatus) as caught, client(venue):
            pass
        assert caught.value.response.status_code == 503


def test_waiting_ends_at_the_deadline_and_says_for_what():
    with Venue(speed=None) as venue:
        with pytest.raises(TimeoutError, match="3 connections"):
            venue.wait_connections(3, timeout=0.01)
        with pytest.raises(TimeoutError, match="1 subscriptions"):
            venue.wait_subscribed(timeout=0.01)


def test_stopping_closes_the_port_and_leaves_no_thread():
    venue = Venue(speed=60).start()
    with client(venue) as connection:
        ask(connection, resolutions=["1s"])
        venue.stop()
        venue.stop()
        with contextlib.suppress(ConnectionClosed):
            while connection.recv(timeout=5):
                pass
    assert not [thread for thread in threading.enumerate() if thread.name == "venue"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", venue.port))
    with pytest.raises(RuntimeError):
        venue.send("x")


def test_a_stopped_venue_can_be_followed_by_one_on_its_port():
    with Venue(speed=None) as first, client(first) as connection:
        first.stop()
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=5)
        with Venue(speed=None, port=first.port) as second, client(second) as again:
            assert second.url == first.url
            assert ask(again)["type"] == "CONNECTED"


def test_a_taken_port_is_an_error_at_start():
    with Venue(speed=None) as first, pytest.raises(OSError, match="in use"):
        Venue(speed=None, port=first.port).start()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"closed_flag": False, "speed": 2}, "speed 1"),
        ({"closed_flag": False, "speed": "max"}, "speed 1"),
        ({"closed_flag": False, "protocol": "binance"}, "wealthai"),
        ({"speed": 0.5}, "speed 0.5"),
        ({"speed": "fast"}, "'fast'"),
        ({"speed": float("nan")}, "nan"),
        ({"protocol": "okx"}, "okx"),
        ({"port": 70_000}, "70000"),
        ({"port": "x"}, "port"),
        ({"symbols": "A,no symbol"}, "no symbol"),
        ({"resolutions": ["7m"]}, "7m"),
        ({"history": -1}, "-1"),
        ({"update_interval": 0}, "update_interval"),
        ({"faults": "wrong:0.1"}, "wrong"),
        ({"faults": "lost:2"}, "lost:2"),
        ({"replay": "/no/such/file"}, "/no/such/file"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_options_are_refused_by_name(options, words):
    with pytest.raises(BadArgumentError, match=words):
        Venue(**options)
