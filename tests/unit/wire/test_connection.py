"""One connection, against well-behaved and hostile servers on loopback."""

import contextlib
import os
import socket
import threading
import time
import tracemalloc

import pytest
import websocket
from support import loopback
from support.connecting import connected, fail_to_open, hold, lose, receive
from support.loopback import CLOSE, PING, PONG, frame, header, raw, upgrade, venue

from shmfeed.errors import BadArgumentError, WebSocketConnectionError
from shmfeed.wire import connection as module
from shmfeed.wire.connect import ConnectPolicy
from shmfeed.wire.connection import (
    ClosedError,
    Connection,
    ConnectionLostError,
    OversizedError,
)


@contextlib.contextmanager
def pipe():
    reading, writing = os.pipe2(os.O_NONBLOCK)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


# Messages


def test_messages_of_both_kinds_come_in_order_and_are_sent():
    def handler(ws):
        for message in ("one", b"two", "three" * 30_000):
            ws.send(message)
        ws.send(ws.recv().upper())
        ws.recv()

    with venue(handler) as url, connected(url) as connection:
        assert receive(connection, 3) == [b"one", b"two", b"three" * 30_000]
        connection.send("händler")
        assert receive(connection, 1) == ["HÄNDLER".encode()]


def test_frames_behind_the_handshake_are_not_lost():
    def handler(connection):
        upgrade(connection, frame(b"at once") + frame(b"half")[:3])
        connection.sendall(frame(b"half")[3:])
        hold(connection)

    with raw(handler) as url, connected(url) as connection:
        assert receive(connection, 2) == [b"at once", b"half"]


def test_a_ping_is_answered_with_its_payload_and_counts_as_life_not_as_data():
    answers = []

    def handler(connection):
        upgrade(connection)
        connection.recv(1)  # the test is ready
        connection.sendall(frame(b"payload", PING))
        connection.recv(5)
        answers.append(loopback.read_frame(connection))
        connection.sendall(frame(b"", PONG))
        hold(connection)

    ticks = iter(range(1000))
    with raw(handler) as url, connected(url, clock=lambda: next(ticks)) as connection:
        since = connection.last_data_at
        connection.ping()
        assert loopback.within(3, lambda: receive(connection, 1, 0.05) or answers)
        assert answers == [(PONG, b"payload")]
        assert connection.last_frame_at > since
        assert connection.last_data_at == since


def test_a_limit_leaves_the_rest_readable_and_wake_ups_come_between():
    def handler(connection):
        upgrade(connection, b"".join(frame(b"%d" % n) for n in range(10)))
        hold(connection)

    with (
        raw(handler) as url,
        pipe() as (reading, writing),
        connected(url, wake_fd=reading) as connection,
    ):
        connection.wait(1)
        assert connection.receive(4) == [b"0", b"1", b"2", b"3"]
        os.write(writing, b"!")
        assert connection.wait(5) == "woken"
        assert connection.wait(5) == "readable"
        assert len(connection.receive()) == 6
        assert connection.wait(0) == "idle"
        assert connection.receive() == []


def test_a_half_frame_survives_waiting():
    halves = threading.Semaphore(0)
    whole = frame(b"x" * 300)

    def handler(connection):
        upgrade(connection)
        for piece in (whole[:1], whole[1:3], whole[3:100], whole[100:]):
            halves.acquire(timeout=5)
            connection.sendall(piece)
        hold(connection)

    with raw(handler) as url, connected(url) as connection:
        for _ in range(3):
            halves.release()
            assert connection.wait(2) == "readable"
            assert connection.receive() == []
            assert connection.wait(0.01) == "idle"
        halves.release()
        assert receive(connection, 1) == [b"x" * 300]


# The end


def test_messages_come_before_the_close_that_follows_them():
    def handler(ws):
        ws.send("last words")
        ws.close(1012, "service restart")

    with venue(handler) as url, connected(url) as connection:
        time.sleep(0.05)  # so that both lie there together
        assert receive(connection, 1) == [b"last words"]
        ended = lose(connection)
        assert isinstance(ended, ClosedError)
        assert (ended.code, ended.reason) == (1012, "service restart")
        assert connection.wait(5) == "readable"  # it stays so
        assert lose(connection) is ended


def test_an_end_without_a_close_frame_is_reported():
    with raw(upgrade) as url, connected(url) as connection:
        assert (
            str(lose(connection))
            == "the server closed the connection without a close frame"
        )


def test_a_reset_connection_is_reported():
    def handler(connection):
        upgrade(connection)
        hard = b"\1\0\0\0\0\0\0\0"  # linger for 0 s
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hard)

    with raw(handler) as url, connected(url) as connection:
        assert str(lose(connection)) == "connection reset by peer"


def test_sending_on_a_dead_connection_raises_our_error_only():
    def refuses():
        try:
            connection.send("x")
        except WebSocketConnectionError:
            return True
        return False

    with raw(upgrade) as url, connected(url) as connection:
        assert loopback.within(3, refuses)


def test_close_sends_a_close_frame_and_can_be_repeated():
    codes = []

    def handler(ws):
        with contextlib.suppress(Exception):
            ws.recv()
        codes.append(ws.close_code)

    with venue(handler) as url, connected(url) as connection:
        started = time.monotonic()
        connection.close(timeout=5, code=1001)
        connection.close()
        assert time.monotonic() - started < 1
        with pytest.raises(ConnectionLostError, match="the connection is not open"):
            connection.wait(1)
    assert codes == [1001]


def test_close_waits_for_a_mute_server_no_longer_than_its_timeout():
    def handler(connection):
        upgrade(connection)
        hold(connection)

    with raw(handler) as url, connected(url) as connection:
        started = time.monotonic()
        connection.close(timeout=0.1)
        assert 0.1 <= time.monotonic() - started < 0.5


# Limits


def test_a_terabyte_frame_is_refused_unread_and_closed_with_1009():
    codes = []

    def handler(connection):
        upgrade(connection, header(1 << 40))
        codes.append(loopback.read_frame(connection))
        hold(connection)

    with raw(handler) as url, connected(url) as connection:
        ended = lose(connection)
        assert isinstance(ended, OversizedError)
        assert str(1 << 40) in str(ended)
        assert loopback.within(2, lambda: codes == [(CLOSE, b"\x03\xf1")])


def test_a_protocol_error_is_closed_with_1002():
    codes = []

    def handler(connection):
        upgrade(connection, b"\xf1\x00")
        codes.append(loopback.read_frame(connection))

    with raw(handler) as url, connected(url) as connection:
        assert "protocol error" in str(lose(connection))
        assert loopback.within(2, lambda: codes == [(CLOSE, b"\x03\xea")])


# The handshake


def test_a_protocol_error_is_closed_once_the_messages_before_it_are_taken():
    codes = []

    def handler(connection):
        upgrade(connection, frame(b"before") + b"\x83\x00")
        codes.append(loopback.read_frame(connection))
        codes.append(loopback.read_frame(connection))

    with raw(handler) as url, connected(url) as connection:
        assert receive(connection, 1) == [b"before"]
        assert connection.has_pending()
        connection._open_frames().send("an answer to it")
        assert "opcode 3" in str(lose(connection))
        assert loopback.within(3, lambda: len(codes) == 2)
    assert codes == [(1, b"an answer to it"), (CLOSE, b"\x03\xea")]


def test_a_refused_port_is_a_failure():
    port = loopback.refused_port()
    assert fail_to_open(f"ws://127.0.0.1:{port}/x") == "connection refused"


def test_a_handshake_that_is_never_answered_times_out():
    with raw(hold) as url:
        started = time.monotonic()
        reason = fail_to_open(url, timeout=0.3)
        assert 0.3 <= time.monotonic() - started < 0.8
        assert reason == "the handshake timed out after 0.3 s"


def test_control_before_its_deadline_a_handshake_is_waited_for():
    # Control of the test above.
    with raw(hold) as url:
        connection = Connection(url, max_frame_bytes=1 << 20)
        started = time.monotonic()
        for _ in connection.opening(60, tick=0.05):
            if time.monotonic() - started > 0.8:
                break
        else:
            pytest.fail("the connection opened by itself")
        connection.close()


@pytest.mark.parametrize("pace", [0.0, 0.02])
def test_an_endless_header_costs_neither_memory_nor_time(pace):
    def handler(connection):
        loopback.read_head(connection)
        connection.sendall(b"HTTP/1.1 101 Switching\r\nX-Endless: ")
        while True:
            connection.sendall(b"x" if pace else b"x" * 65536)
            time.sleep(pace)

    with raw(handler) as url:
        tracemalloc.start()
        started = time.monotonic()
        reason = fail_to_open(url, timeout=0.3)
        took = time.monotonic() - started
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert took < 0.8
    assert peak < 1 << 20
    assert reason == (
        "the handshake timed out after 0.3 s"
        if pace
        else "the answer to the handshake is longer than 16384 bytes"
    )


def test_control_websocket_client_reads_an_endless_header_for_ever():
    # Control of the test above: its timeout is one for each byte.
    def handler(connection):
        loopback.read_head(connection)
        connection.sendall(b"HTTP/1.1 101 Switching\r\nX-Endless: ")
        for _ in range(40):
            connection.sendall(b"x")
            time.sleep(0.02)

    with raw(handler) as url:
        started = time.monotonic()
        with pytest.raises(websocket.WebSocketException):
            websocket.WebSocket().connect(url, timeout=0.3, http_no_proxy=["*"])
        assert time.monotonic() - started > 0.75


EMPTY = "Content-Length: 0\r\n"
GOOD = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (
            "HTTP/1.1 503 Service Unavailable\r\n" + EMPTY,
            "the server answered 503 Service",
        ),
        ("HTTP/1.1 403\r\nX: y\r\n" + EMPTY, "the server answered 403"),
        ("HTTP/1.1 200 OK\r\n" + EMPTY, "the server answered 200 OK"),
        ("SSH-2.0-OpenSSH_9.6\r\n", "the answer is not HTTP"),
        ("HTTP/1.1 101 x\r\n", "does not upgrade to websocket"),
        (GOOD, "does not upgrade the connection"),
        (GOOD + "Connection: close, Upgrade\r\n", "wrong Sec-WebSocket-Accept"),
        (GOOD + "no colon\r\n", "header line without a colon"),
    ],
)
def test_an_answer_that_does_not_accept_is_a_failure(reply, reason):
    def handler(connection):
        loopback.read_head(connection)
        connection.sendall(reply.encode() + b"\r\n")
        hold(connection)

    with raw(handler) as url:
        assert reason in fail_to_open(url)


def test_an_extension_that_was_not_offered_is_refused():
    def handler(connection):
        reply = loopback.answer(loopback.read_head(connection))
        connection.sendall(reply[:-2] + b"Sec-WebSocket-Extensions: deflate\r\n\r\n")
        hold(connection)

    with raw(handler) as url:
        assert "sec-websocket-extensions" in fail_to_open(url)


def test_a_server_that_closes_instead_of_answering_is_reported():
    with raw(loopback.read_head) as url:
        assert (
            fail_to_open(url) == "the server closed the connection during the handshake"
        )


def test_the_request_names_this_project_and_no_origin():
    requests = []

    def handler(connection):
        requests.append(loopback.read_head(connection).decode())
        connection.sendall(loopback.answer(requests[0].encode()))
        hold(connection)

    with raw(handler) as url, connected(url + "?streams=a@kline_1m/b") as connection:
        assert connection.label == url + "?..."
    lines = requests[0].split("\r\n")
    assert lines[0] == "GET /market_data?streams=a@kline_1m/b HTTP/1.1"
    assert lines[1] == f"Host: {url.split('/')[2]}"
    assert any(line.startswith("User-Agent: shmfeed/") for line in lines)
    assert "origin" not in requests[0].lower()


def test_opening_yields_while_it_waits_and_at_once_when_woken():
    with raw(hold) as url, pipe() as (reading, writing):
        connection = Connection(url, max_frame_bytes=1 << 20, wake_fd=reading)
        steps = connection.opening(30, tick=10)
        timer = threading.Timer(0.3, os.write, (writing, b"!"))
        timer.start()
        started = time.monotonic()
        while time.monotonic() - started < 0.2:
            next(steps)
        assert time.monotonic() - started < 2
        timer.join()
        steps.close()
        connection.close()


# Addresses


def test_the_next_address_is_tried_where_one_refuses(monkeypatch):
    def handler(ws):
        ws.recv()

    with venue(handler) as url:
        port = int(url.split(":")[2].split("/")[0])
        dead = ("127.0.0.1", loopback.refused_port())
        both = [
            (socket.AF_INET, 1, 6, "", dead),
            (socket.AF_INET, 1, 6, "", ("127.0.0.1", port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        with connected(url.replace("127.0.0.1", "localhost")):
            pass


def test_a_host_without_an_address_is_a_failure(monkeypatch):
    def nothing(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    reason = fail_to_open("wss://venue.invalid/x")
    assert reason == "no address found for venue.invalid"


@pytest.mark.parametrize(
    "url",
    [
        "ws://192.0.2.1/x",
        "ws://venue.example/x",
        "http://127.0.0.1/x",
        "wss://user:hunter2@venue.example/x",
        "wss:///x",
        "wss://venue.example:0/x",
        "wss://venue.example/x#y",
        "wss://venue.example/x?a=b c",
        "wss://venue.example/x?a\r\nX-Evil: 1",
        "wss://venue.example:99999/x",
        "",
    ],
)
def test_a_forbidden_url_never_touches_the_network(monkeypatch, url):
    def touched(*_, **__):
        pytest.fail("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", touched)
    monkeypatch.setattr(socket, "socket", touched)
    with pytest.raises(BadArgumentError) as caught:
        Connection(url, max_frame_bytes=1 << 20)
    assert "hunter2" not in str(caught.value)


def test_ws_beyond_loopback_may_be_allowed():
    Connection(
        "ws://192.0.2.1/x", max_frame_bytes=1, policy=ConnectPolicy(allow_insecure=True)
    )


# The package


def test_another_package_named_websocket_is_named_in_the_error(child, tmp_path):
    (tmp_path / "websocket.py").write_text("")
    process = child(
        "import sys; sys.path.insert(0, sys.argv[1]); import shmfeed.wire.connection",
        tmp_path,
    )
    _, errors = process.communicate(timeout=20)
    assert process.returncode
    assert "ImportError: the module 'websocket' at" in errors
    assert "install websocket-client" in errors


def test_polling_without_descriptors_only_waits():
    assert module.poll(None, 0, None, 0.001) == (False, False)
