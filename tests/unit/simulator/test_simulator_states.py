"""Faults of connections, replies and clocks, as a plain client sees them."""

import contextlib
import json
import socket
import time

import pytest
from support.venue_client import HANDSHAKE, ask, client, receive
from support.waiting import until
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from shmfeed.simulator import Venue

BOTH = pytest.mark.parametrize("protocol", ["wealthai", "binance"])
PATHS = {"wealthai": "", "binance": "/stream"}
CONNECT = '{"type":"CONNECT","request_id":"%d","symbols":["A"],"resolutions":["1m"]}'
SUBSCRIBE = '{"method":"SUBSCRIBE","params":["a@kline_1m"],"id":%d}'
REQUESTS = {"wealthai": CONNECT, "binance": SUBSCRIBE}
OPEN = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "open_time": 0}


def receives_nothing(connection, seconds=0.2):
    with pytest.raises(TimeoutError):
        connection.recv(timeout=seconds)
    return True


def pongs(connection, seconds=0.2):
    return connection.ping().wait(seconds)


# States


def test_mute_sends_nothing_and_answers_no_ping_but_reads():
    with Venue(speed=None, faults="mute") as venue, client(venue) as connection:
        connection.send(CONNECT % 1)
        venue.wait_subscribed()
        assert receives_nothing(connection)
        assert not pongs(connection)
        venue.push_bar("A", "1m", **OPEN)  # a test's own frames are sent
        assert receive(connection)["open"] == "1.0"
        venue.set_faults("")
        assert pongs(connection, 5)
        assert ask(connection, "2")["request_id"] == "2"


def test_mute_pongs_sends_nothing_but_pongs():
    with Venue(speed=None, faults="mute-pongs") as venue, client(venue) as connection:
        connection.send(CONNECT % 1)
        venue.wait_subscribed()
        assert pongs(connection, 5)
        assert receives_nothing(connection)
        venue.set_faults("")
        assert ask(connection, "2")["request_id"] == "2"


def test_half_open_neither_reads_nor_writes_and_stays_up():
    with Venue(speed=None) as venue, client(venue) as connection:
        ask(connection)
        venue.half_open()
        assert not pongs(connection)
        connection.send(CONNECT % 2)
        venue.push_bar("A", "1m", **OPEN)
        assert receives_nothing(connection)
        assert venue.log.requests == 1
        venue.half_open(False)
        venue.wait_subscribed(2)
        assert receive(connection)["request_id"] == "2"


def test_half_open_does_not_answer_a_fin():
    with Venue(speed=None) as venue:
        with client(venue) as connection:
            venue.wait_connections(1)
            venue.half_open()
            raw = connection.socket
            connection.send(CONNECT % 1)
            raw.shutdown(socket.SHUT_WR)
            raw.settimeout(0.3)
            assert receives_nothing(connection, 0.3)
            assert venue.connections == 1
            venue.half_open(False)
        venue.wait_connections(0)


def test_states_begin_and_end_at_their_times():
    with Venue(speed=None, faults="mute@0.3+0.4") as venue, client(venue) as connection:
        began = time.monotonic()
        assert pongs(connection, 5)
        until(lambda: not pongs(connection, 0.05), 5)
        assert time.monotonic() - began > 0.2
        until(lambda: pongs(connection, 0.05), 5)
        assert time.monotonic() - began > 0.6


def test_trickle_is_slow_and_loses_nothing():
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


def test_half_open_stops_a_trickle():
    with Venue(speed=None, faults="trickle:100B/s") as venue:
        with client(venue) as connection:
            venue.wait_connections(1)
            venue.send("x" * 30)
            venue.wait_sent(1)  # the trickle takes 0.3 s for it
            venue.half_open()
            assert receives_nothing(connection, 0.6)


@BOTH
def test_a_cut_at_a_time_needs_no_frame(protocol):
    with Venue(protocol=protocol, speed=None, faults="cut@0.2") as venue:
        for _ in range(2):  # of each connection
            with client(venue, PATHS[protocol]) as connection:
                with pytest.raises(ConnectionClosed) as caught:
                    connection.recv(timeout=5)
                assert caught.value.rcvd is None
        assert venue.log.connections == 2


# Replies to a subscription


@BOTH
def test_an_acknowledgement_is_late_or_missing(protocol):
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
            assert receives_nothing(connection)


def test_a_delayed_reply_comes_after_the_fault_has_ended():
    with Venue(speed=None, faults="ack-late:300ms") as venue:
        with client(venue) as connection:
            connection.send(CONNECT % 1)
            venue.wait_subscribed()
            venue.set_faults("")
            assert receive(connection)["request_id"] == "1"


@BOTH
def test_an_acknowledgement_names_another_request(protocol):
    with Venue(protocol=protocol, speed=None, faults="ack-wrong") as venue:
        with client(venue, PATHS[protocol]) as connection:
            connection.send(REQUESTS[protocol] % 1)
            reply = receive(connection)
            number = reply["request_id" if protocol == "wealthai" else "id"]
            assert str(number) not in {"1", "None"}
            assert isinstance(number, str if protocol == "wealthai" else int)


# New connections


def test_refuse_starts_at_once_and_ends():
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
def test_refuse_takes_any_status_even_one_without_a_name(status):
    with Venue(speed=None, faults=f"refuse:{status}") as venue:
        with pytest.raises(InvalidStatus) as caught, client(venue):
            pass
        assert caught.value.response.status_code == status


def test_a_share_of_connections_is_refused_and_follows_from_the_seed():
    def refused(seed):
        with Venue(speed=None, seed=seed, faults="refuse:503:0.5") as venue:
            admitted = []
            for _ in range(12):
                with contextlib.suppress(InvalidStatus), client(venue):
                    admitted.append(len(admitted))
                    continue
                admitted.append(None)
            return admitted

    first = refused(1)
    assert first == refused(1)
    assert first.count(None) not in {0, 12}
    assert first != refused(2)


def test_a_handshake_stays_unanswered():
    with Venue(speed=None, faults="unanswered") as venue:
        with socket.create_connection(("127.0.0.1", venue.port)) as one:
            one.sendall(HANDSHAKE)
            one.settimeout(0.3)
            with pytest.raises(TimeoutError):
                one.recv(1)
            venue.stop()  # does not wait for the client
            one.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""


# The clock


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_skew_shifts_bars_and_events(seconds):
    options = {"protocol": "binance", "update_interval": 0.05}
    with Venue(**options, faults=f"skew:{seconds}s") as venue:
        with client(venue, "/ws/a@kline_1m") as connection:
            message = receive(connection)
    now = time.time() + seconds
    assert abs(message["E"] / 1000 - now) < 20
    assert -20 < now - message["k"]["t"] / 1000 < 80


def test_skew_events_shifts_events_alone():
    options = {"protocol": "binance", "update_interval": 0.05}
    with Venue(**options, faults="skew-events:+60m") as venue:
        with client(venue, "/ws/a@kline_1m") as connection:
            message = receive(connection)
    assert abs(message["E"] / 1000 - time.time() - 3600) < 20
    assert abs(message["k"]["t"] / 1000 - time.time()) < 80


def test_a_clock_that_steps_back_sends_possible_bars():
    options = {"protocol": "binance", "update_interval": 0.01, "speed": 60}
    with Venue(**options, faults="skew:-1m@0.3") as venue:
        with client(venue, "/ws/a@kline_1m") as connection:
            began, received = time.monotonic(), []
            while time.monotonic() - began < 0.8:
                received.append(receive(connection))
    events = [message["E"] for message in received]
    assert events != sorted(events)
    assert min(message["k"]["n"] for message in received) >= 0


# Faults of single frames apply to a recording too


@pytest.mark.parametrize("speed", ["max", 1])
def test_faults_apply_to_frames_of_a_recording(tmp_path, speed):
    recording = tmp_path / "recording"
    recording.write_text("ws://x\n0: one\n0: two\n")
    with Venue(replay=recording, speed=speed, faults="duplicate,fragments") as venue:
        with client(venue) as connection:
            ask(connection)
            got = [connection.recv(timeout=5) for _ in range(4)]
    assert got == ["one", "one", "two", "two"]


def test_faults_apply_to_market_bars_and_not_to_hand_made_messages():
    with Venue(speed=None, faults="duplicate") as venue, client(venue) as connection:
        ask(connection)
        assert venue.push_market("A", "1m", 60_000) == 1
        assert receive(connection) == receive(connection)
        venue.push_bar("A", "1m", **OPEN)
        venue.send(json.dumps({"type": "NEWS"}))
        assert receive(connection)["open_time"] == 0
        assert receive(connection)["type"] == "NEWS"
