"""Binance's market streams of the local venue, over real connections."""

import itertools
import json

import pytest
from support.venue_client import client, receive
from websockets.exceptions import ConnectionClosed

from shmfeed.bar import Bar
from shmfeed.codecs import get_codec
from shmfeed.simulator import Venue, bar


def test_klines_come_by_url_combined_and_raw():
    with Venue(protocol="binance", speed=None) as venue:
        combined, raw = "/stream?streams=btcusdt@kline_1m", "/ws/btcusdt@kline_1m"
        with client(venue, combined) as one, client(venue, raw) as two:
            venue.wait_subscribed(2)
            asked = sorted(request["path"] for request in venue.subscriptions)
            assert asked == [combined, raw]
            assert venue.push_market("BTCUSDT", "1m", 60_000) == 2
            first, second = receive(one), receive(two)
        assert first["stream"] == "btcusdt@kline_1m"
        assert first["data"] == second
        assert second["k"]["t"] == 60_000
        assert float(second["k"]["c"]) == bar(7, "BTCUSDT", "1m", 60_000).close


def test_messages_change_the_subscription():
    with (
        Venue(protocol="binance", speed=None) as venue,
        client(venue, "/stream") as connection,
    ):

        def ask(**message: object) -> dict:
            connection.send(json.dumps(message))
            return receive(connection)

        names = ["a@kline_1m", "b@kline_1h"]
        assert ask(method="SUBSCRIBE", params=names, id=1) == {
            "result": None,
            "id": 1,
        }
        listed = ask(method="LIST_SUBSCRIPTIONS", id="x3")
        assert listed == {"result": names, "id": "x3"}
        assert ask(method="UNSUBSCRIBE", params=names[:1], id=None)["result"] is None
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
def test_errors_have_binances_codes(text, code):
    with Venue(protocol="binance", speed=None) as venue, client(venue, "/ws") as it:
        it.send(text)
        assert receive(it)["code"] == code


def test_a_property_switches_combined_streams():
    path = "/ws/a@kline_1m"
    with Venue(protocol="binance", speed=None) as venue, client(venue, path) as it:
        it.send('{"method":"SET_PROPERTY","params":["combined",true]}')
        assert receive(it)["result"] is None
        venue.push_market("A", "1m", 0)
        assert receive(it)["stream"] == "a@kline_1m"


def test_an_unknown_stream_is_acknowledged_and_silent():
    names = ["nope@kline_1m", "a@trade", "a@kline_7m", "A@kline_1m", "a@kline_1m"]
    options = {"protocol": "binance", "symbols": ["A"], "history": 2}
    with Venue(**options) as venue, client(venue, "/stream") as connection:
        connection.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
        assert receive(connection) == {"result": None, "id": 1}
        streams = {receive(connection)["stream"] for _ in range(4)}
        assert streams == {"a@kline_1m"}


def test_live_klines_close():
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


def test_too_many_messages_a_second_close_the_connection():
    with Venue(protocol="binance", speed=None) as venue, client(venue, "/ws") as it:
        for number in range(6):
            it.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        for _ in range(5):
            assert receive(it)["result"] == []
        with pytest.raises(ConnectionClosed) as caught:
            it.recv(timeout=5)
        assert caught.value.rcvd.code == 1008


def test_the_codec_reads_what_the_venue_sends():
    codec = get_codec("binance", "spot")
    streams = [("A", "1m"), ("BTCUSDT", "1M")]
    with Venue(protocol="binance", speed=None, history=2) as venue:
        (endpoint,) = codec.endpoints([venue.url], [])
        path = codec.url(endpoint, streams).removeprefix(venue.url)
        with client(venue, path) as connection:
            events = [
                event
                for _ in range(4)
                for event in codec.decode(connection.recv(timeout=5).encode())
            ]
    assert {(event.symbol, event.timeframe) for event in events} == set(streams)
    for event in events:
        made = bar(7, event.symbol, event.timeframe, event.open_time)
        values = tuple(getattr(event, name) for name in Bar._fields[2:8])
        assert values == made[2:8]
        assert event.closed is True
