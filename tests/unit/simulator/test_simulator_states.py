"""What goes wrong with connections, answers and clocks, seen by a plain client."""

import contextlib
import json
import socket
import time

import pytest
from support.venue_client import ask, client, receive
from support.waiting import until
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from shmfeed.simulator import Venue

BOTH = pytest.mark.parametrize("protocol", ["wealthai", "binance"])
PATHS = {"wealthai": "", "binance": "/stream"}
CONNECT = '{"type":"CONNECT","request_id":"%d","symbols":["A"],"resolutions":["1m"]}'
SUBSCRIBE = '{"method":"SUBSCRIBE","params":["a@kline_1m"],"id":%d}'
REQUESTS = {"wealthai": CONNECT, "binance": SUBSCRIBE}
OPEN = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "open_time": 0}


def nothing(connection, seconds=0.2):
    with pytest.raises(TimeoutError):
        connection.recv(timeout=seconds)
    return True


def pongs(connection, seconds=0.2):
    return connection.ping().wait(seconds)


# States


def test_mute_says_nothing_and_answers_no_ping_but_reads():
    with Venue(speed=None, faults="mute") as venue, client(venue) as connection:
        connection.send(CONNECT % 1)
        venue.wait_subscribed()
        assert nothing(connection)
        assert not pongs(connection)
        venue.push_bar("A", "1m", **OPEN)  # a test's own words go out
        assert receive(connection)["open"] == "1.0"
        venue.set_faults("")
        assert pongs(connection, 5)
        assert ask(connection, "2")["request_id"] == "2"


def test_mute_with_pongs():
    with Venue(speed=None, faults="mute-pongs") as venue, client(venue) as connection:
        connection.send(CONNECT % 1)
        venue.wait_subscribed()
        assert pongs(connection, 5)
        assert nothing(connection)
        venue.set_faults("")
        assert ask(connection, "2")["request_id"] == "2"


def test_half_open_neither_reads_nor_writes_and_stays_up():
    with Venue(speed=None) as venue, client(venue) as connection:
        ask(connection)
        venue.half_open()
        assert not pongs(connection)
        connection.send(CONNECT % 2)
        venue.push_bar("A", "1m", **OPEN)
        assert nothing(connection)
        assert venue.record.requests == 1
        venue.half_open(False)
        venue.wait_subscribed(2)
        assert receive(connection)["request_id"] == "2"


def test_half_open_sends_no_end_to_a_client_that_says_goodbye():
    with Venue(speed=None) as venue:
        with client(venue) as connection:
            venue.wait_connections(1)
            venue.half_open()
            raw = connection.socket
            connection.send(CONNECT % 1)
            raw.shutdown(socket.SHUT_WR)
            raw.settimeout(0.3)
            assert nothing(connection, 0.3)
            assert venue.connections == 1
            venue.half_open(False)
        venue.wait_connections(0)


def test_states_begin_and_end_by_themselves():
    with Venue(speed=None, faults="mute@0.3+0.4") as venue, client(venue) as connection:
        began = time.monotonic()
        assert pongs(connection, 5)
        until(lambda: not pongs(connection, 0.05), 5)
        assert time.monotonic() - began > 0.2
        until(lambda: pongs(connection, 0.05), 5)
        assert time.monotonic() - began > 0.6


def test_a_trickle_is_slow_and_whole():
    with Venue(speed=None, faults="trickle:400B/s") as venue:
        with client(venue) as connection:
            ask(connection)
            began = time.monotonic()
            venue.push_bar("A", "1m", **OPEN)
            assert receive(connection)["open"] == "1.0"
            assert time.monotonic() - began > 0.25  # some 150 bytes
            venue.push_bar("A", "1m", **OPEN)
            venue.set_faults("")
            assert receive(connection)["open"] == "1.0"


def test_a_trickle_dries_up_when_the_cable_is_pulled():
    with Venue(speed=None, faults="trickle:100B/s") as venue:
        with client(venue) as connection:
            venue.wait_connections(1)
            venue.send("x" * 30)
            venue.wait_sent(1)  # to the trickle, which takes 0.3 s for it
            venue.half_open()
            assert nothing(connection, 0.6)


@BOTH
def test_a_cut_at_a_time_needs_no_frame(protocol):
    with Venue(protocol=protocol, speed=None, faults="cut@0.2") as venue:
        for _ in range(2):  # of each connection
            with client(venue, PATHS[protocol]) as connection:
                with pytest.raises(ConnectionClosed) as caught:
                    connection.recv(timeout=5)
                assert caught.value.rcvd is None
        assert venue.record.total == 2


# Answers to a subscription


@BOTH
def test_an_acknowledgement_that_is_late_or_never_comes(protocol):
    with Venue(protocol=protocol, speed=None, faults="ack-late:300ms") as venue:
        with client(venue, PATHS[protocol]) as connection:
            began = time.monotonic()
            connection.send(REQUESTS[protocol] % 1)
            venue.wait_subscribed()
            venue.push_market("A", "1m", 0)
            bar = receive(connection)  # bars do not wait for it
            assert bar.get("type", "BAR") == "BAR"
            reply = receive(connection)
            assert "1" in map(str, reply.values())
            assert time.monotonic() - began > 0.25
            venue.set_faults("ack-never")
            connection.send(REQUESTS[protocol] % 2)
            venue.wait_subscribed(2)
            assert nothing(connection)


def test_what_is_late_already_comes_also_when_the_fault_is_over():
    with Venue(speed=None, faults="ack-late:300ms") as venue:
        with client(venue) as connection:
            connection.send(CONNECT % 1)
            venue.wait_subscribed()
            venue.set_faults("")
            assert receive(connection)["request_id"] == "1"


@BOTH
def test_an_acknowledgement_of_another_request(protocol):
    with Venue(protocol=protocol, speed=None, faults="ack-wrong") as venue:
        with client(venue, PATHS[protocol]) as connection:
            connection.send(REQUESTS[protocol] % 1)
            reply = receive(connection)
            number = reply["request_id" if protocol == "wealthai" else "id"]
            assert str(number) not in {"1", "None"}
            assert isinstance(number, str if protocol == "wealthai" else int)


# New connections


def test_refusing_from_the_beginning_and_for_a_while():
    with Venue(speed=None, faults="refuse:429@0+0.5") as venue:
        began = time.monotonic()
        with pytest.raises(InvalidStatus) as caught, client(venue):
            pass
        assert caught.value.response.status_code == 429

        def admitted():
            with contextlib.suppress(InvalidStatus), client(venue):
                return True
            return False

        until(admitted, 5)
        assert time.monotonic() - began > 0.3
        venue.set_faults("refuse")
        with (
            pytest.raises((WebSocketException, OSError, EOFError)) as cut,
            client(venue),
        ):
            pass
        assert not isinstance(cut.value, InvalidStatus)


@pytest.mark.parametrize("status", [400, 418, 520, 599])
def test_any_status_may_refuse_also_one_without_a_name(status):
    with Venue(speed=None, faults=f"refuse:{status}") as venue:
        with pytest.raises(InvalidStatus) as caught, client(venue):
            pass
        assert caught.value.response.status_code == status


def test_a_share_of_connections_is_refused_the_same_for_the_same_seed():
    def refused(seed):
        with Venue(speed=None, seed=seed, faults="refuse:503:0.5") as venue:
            told = []
            for _ in range(12):
                with contextlib.suppress(InvalidStatus), client(venue):
                    told.append(len(told))
                    continue
                told.append(None)
            return told

    first = refused(1)
    assert first == refused(1)
    assert first.count(None) not in {0, 12}
    assert first != refused(2)


def test_an_unanswered_handshake():
    with Venue(speed=None, faults="unanswered") as venue:
        with socket.create_connection(("127.0.0.1", venue.port)) as one:
            one.sendall(HANDSHAKE)
            one.settimeout(0.3)
            with pytest.raises(TimeoutError):
                one.recv(1)
            venue.stop()  # waits for nobody
            one.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""


HANDSHAKE = (
    b"GET /market_data HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


# The clock


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_skewed_clock_shifts_bars_and_events(seconds):
    options = {"protocol": "binance", "update_interval": 0.05}
    with Venue(**options, faults=f"skew:{seconds}s") as venue:
        with client(venue, "/ws/a@kline_1m") as connection:
            message = receive(connection)
    now = time.time() + seconds
    assert abs(message["E"] / 1000 - now) < 20
    assert -20 < now - message["k"]["t"] / 1000 < 80


def test_skewed_events_alone():
    options = {"protocol": "binance", "update_interval": 0.05}
    with Venue(**options, faults="skew-events:+60m") as venue:
        with client(venue, "/ws/a@kline_1m") as connection:
            message = receive(connection)
    assert abs(message["E"] / 1000 - time.time() - 3600) < 20
    assert abs(message["k"]["t"] / 1000 - time.time()) < 80


def test_a_clock_that_steps_back_says_nothing_impossible():
    options = {"protocol": "binance", "update_interval": 0.01, "speed": 60}
    with Venue(**options, faults="skew:-1m@0.3") as venue:
        with client(venue, "/ws/a@kline_1m") as connection:
            began, told = time.monotonic(), []
            while time.monotonic() - began < 0.8:
                told.append(receive(connection))
    events = [message["E"] for message in told]
    assert events != sorted(events)
    assert min(message["k"]["n"] for message in told) >= 0


# A recording has no bars that could be changed, but frames like any other


@pytest.mark.parametrize("speed", ["max", 1])
def test_frames_of_a_recording_meet_faults_too(tmp_path, speed):
    recording = tmp_path / "recording"
    recording.write_text("ws://x\n0: one\n0: two\n")
    with Venue(replay=recording, speed=speed, faults="duplicate,fragments") as venue:
        with client(venue) as connection:
            ask(connection)
            got = [connection.recv(timeout=5) for _ in range(4)]
    assert got == ["one", "one", "two", "two"]


def test_hand_fed_market_bars_meet_faults_and_own_words_do_not():
    with Venue(speed=None, faults="duplicate") as venue, client(venue) as connection:
        ask(connection)
        assert venue.push_market("A", "1m", 60_000) == 1
        assert receive(connection) == receive(connection)
        venue.push_bar("A", "1m", **OPEN)
        venue.send(json.dumps({"type": "NEWS"}))
        assert receive(connection)["open_time"] == 0
        assert receive(connection)["type"] == "NEWS"
