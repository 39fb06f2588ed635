"""The wealthai protocol of the local venue, over real connections."""

import itertools
import json

import pytest
from support.venue_client import ask, client, receive
from websockets.exceptions import ConnectionClosed

from shmfeed.bar import Bar, floor
from shmfeed.codecs import get_codec
from shmfeed.simulator import STEPS, Venue, bar

TOKEN = "a test's token"
START = 1_700_000_000_000


def assert_is_market(message: dict, seed: int = 7) -> None:
    stream = message["symbol"], message["timeframe"]
    values = tuple(float(message[name]) for name in Bar._fields[2:8])
    steps = [STEPS] if message["closed"] else range(STEPS)
    made = [bar(seed, *stream, message["open_time"], step)[2:8] for step in steps]
    assert values in made


def test_a_connect_is_acknowledged_and_logged():
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
    ("request_", "message"),
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
def test_a_bad_connect_is_refused_with_its_reason_and_changes_nothing(
    request_, message
):
    options = {"symbols": "A,B", "resolutions": "1m", "speed": None}
    with Venue(**options) as venue, client(venue) as connection:
        assert ask(connection)["type"] == "CONNECTED"
        reply = ask(connection, "2", **request_)
        assert reply["type"] == "ERROR"
        assert message in reply["message"]
        venue.wait_asked(2)
        assert venue.log.accepted == 1
        assert venue.push_market("A", "1m", 0) == 1


@pytest.mark.parametrize(
    "text", ["{", "[]", "7", '{"type":"WHAT"}', "[" * 100_000, '"\\ud800"']
)
def test_other_messages_are_refused_and_the_connection_stays(text):
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


def test_live_bars_follow_the_history_without_a_gap():
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


def test_at_speed_one_bars_close_with_the_wall_clock_and_can_omit_the_flag():
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


def test_a_second_connect_replaces_and_sends_history_of_new_streams_only():
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
            assert connection.ping().wait(5)  # connected and silent
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


def test_the_codec_reads_what_the_venue_sends():
    codec = get_codec("wealthai")
    streams = [("A", "1m"), ("B/C", "1M")]
    with Venue(speed=None, history=2) as venue:
        (url,) = codec.endpoints([venue.url], [])
        assert codec.url(url, streams) == venue.url
        with client(venue) as connection:
            (request,) = codec.subscribe(streams)
            connection.send(request.frame)
            events = [
                event
                for _ in range(9)
                for event in codec.decode(connection.recv(timeout=5).encode())
            ]
    assert events[0].request_id == request.id
    for event in events[1:]:
        made = bar(7, event.symbol, event.timeframe, event.open_time)
        values = tuple(getattr(event, name) for name in Bar._fields[:8])
        assert values == made[:8]
        assert event.closed is True
