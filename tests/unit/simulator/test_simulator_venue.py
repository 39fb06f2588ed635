"""The Venue class: what a test can do with it."""

import contextlib
import json
import socket
import threading

import pytest
from support.venue_client import HANDSHAKE, ask, client, receive
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from shmfeed.bar import Bar, close_time
from shmfeed.errors import BadArgumentError
from shmfeed.simulator import Venue


@pytest.mark.parametrize(
    ("protocol", "path"), [("wealthai", "/x"), ("binance", "/"), ("binance", "/other")]
)
def test_an_unknown_path_is_404(protocol, path):
    with Venue(protocol=protocol, speed=None) as venue:
        with pytest.raises(InvalidStatus) as caught, client(venue, path):
            pass
        assert caught.value.response.status_code == 404


def test_any_text_and_raw_bytes_reach_every_client():
    with Venue(speed=None) as venue, client(venue) as one, client(venue) as two:
        venue.wait_connections(2)
        assert venue.send("whatever") == 2
        assert one.recv(timeout=5) == two.recv(timeout=5) == "whatever"
        assert venue.send(b"\xff") == 2
        with pytest.raises(ConnectionClosed):  # not UTF-8, so this client closes
            one.recv(timeout=5)
        assert venue.send_bytes(b"\xff\xff") >= 1


def test_hand_made_bars_go_to_subscribers_or_to_all():
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


def test_connections_are_dropped_with_and_without_a_close_code():
    with Venue(speed=None) as venue:
        for code, received in ((None, None), (1012, 1012)):
            with client(venue) as connection:
                venue.wait_connections(1)
                assert venue.drop_connections(code) == 1
                with pytest.raises(ConnectionClosed) as caught:
                    connection.recv(timeout=5)
                assert (caught.value.rcvd and caught.value.rcvd.code) == received
            venue.wait_connections(0)
        assert venue.log.connections == 2


def test_a_muted_venue_sends_nothing_by_itself_but_answers_pings():
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
            venue.send("sent anyway")
            assert connection.recv(timeout=5) == "sent anyway"
            venue.mute(False)
            assert ask(connection, "2")["request_id"] == "2"


def test_a_venue_muted_with_pings_answers_no_ping():
    with Venue(speed=None) as venue, client(venue) as connection:
        venue.wait_connections(1)
        venue.mute(pings=True)
        pong = connection.ping()
        assert not pong.wait(0.2)
        venue.mute(False)
        assert pong.wait(5)


def test_refuse_aborts_or_answers_with_a_status():
    with Venue(speed=None) as venue:
        venue.refuse()
        with (
            pytest.raises((WebSocketException, OSError, EOFError)) as cut,
            client(venue),
        ):
            pass
        assert not isinstance(cut.value, InvalidStatus)
        venue.refuse(429)
        with pytest.raises(InvalidStatus) as status, client(venue):
            pass
        assert status.value.response.status_code == 429
        venue.refuse(False)
        with client(venue) as connection:
            assert ask(connection)["type"] == "CONNECTED"


def test_connections_are_limited():
    with Venue(speed=None, max_connections=1) as venue, client(venue):
        venue.wait_connections(1)
        with pytest.raises(InvalidStatus) as caught, client(venue):
            pass
        assert caught.value.response.status_code == 503


def test_a_wait_that_times_out_names_what_it_waited_for():
    with Venue(speed=None) as venue:
        with pytest.raises(TimeoutError, match="3 connections"):
            venue.wait_connections(3, timeout=0.01)
        with pytest.raises(TimeoutError, match="1 subscription;"):
            venue.wait_subscribed(timeout=0.01)


def test_stop_closes_the_port_and_leaves_no_thread():
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


def test_a_client_that_does_not_read_delays_no_other():
    request = (
        b'{"type":"CONNECT","request_id":"1","symbols":["A"],"resolutions":["1m"]}'
    )
    masked = bytes((0x81, 0x80 | len(request))) + bytes(4) + request
    with Venue(speed="max", bars=100_000) as venue:
        with socket.create_connection(("127.0.0.1", venue.port)) as silent:
            silent.sendall(HANDSHAKE)
            assert b" 101 " in silent.recv(4096)
            silent.sendall(masked)
            venue.wait_sent(5000)
            with client(venue) as other:
                assert ask(other, resolutions=[])["type"] == "CONNECTED"
            venue.stop()
            assert venue.log.frames < 100_000 * 8


def test_a_second_venue_can_take_the_port_of_a_stopped_one():
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
    ("options", "message"),
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
        ({"host": " "}, "host"),
        ({"host": "a..b"}, "host 'a..b' is not accepted; an address"),
        ({"replay": "x" * 5000}, "is not a file"),
        ({"faults": "x" * 5000}, "unknown name 'xxx"),
        ({"faults": "lost:" + "x" * 5000}, "'xxx"),
        ({"faults": "lost@" + "x" * 5000}, "'@xxx"),
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
def test_a_bad_option_is_refused_by_name(options, message):
    with pytest.raises(BadArgumentError, match=message) as caught:
        Venue(**options)
    assert len(str(caught.value)) < 1000
