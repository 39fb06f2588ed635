"""Connections that clients hold, and clients that only take room."""

import json
import os
import socket
import threading
import time
from concurrent.futures import Future

import pytest
from support.forks import Fork
from support.waiting import until

from shmfeed.control import held, server
from shmfeed.control.client import ask, is_closed, open_claim
from shmfeed.control.messages import ControlError
from shmfeed.control.server import ControlServer
from shmfeed.errors import SegmentFullError, WebSocketSubscriptionError


class Feeder:
    """The main loop's side: what was asked, and which connections have ended."""

    def __init__(self):
        self.asked, self.ended, self.answers = [], [], []
        self.holds_back = False
        self.refusal = WebSocketSubscriptionError("no such symbol")

    def handle(self, request):
        return {"op": request.op}

    def held(self, request, connection):
        answer = Future()
        if request is None:
            self.ended.append(connection)
            return answer
        self.asked.append((connection, request))
        self.answers.append(answer)
        if request.symbols == ("NOSUCH",):
            answer.set_exception(self.refusal)
        elif not self.holds_back:
            answer.set_result({})
        return answer


@pytest.fixture
def feeder():
    return Feeder()


@pytest.fixture
def path(tmp_path, feeder):
    path = tmp_path / "f.sock"
    with ControlServer(path, feeder.handle, held=feeder.held):
        yield path


def connect(path):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path))
    return connection


def hold(path, **fields):
    return open_claim(path, "hold", 20, **fields)


def test_the_end_of_a_held_connection_is_seen(path, feeder):
    with hold(path, manager="m", name="bot", linger=3.0) as connection:
        number, request = feeder.asked[0]
        assert (request.manager, request.name, request.linger) == ("m", "bot", 3.0)
        assert request.pid == os.getpid()
        assert not is_closed(connection)
        assert feeder.ended == []
    until(lambda: feeder.ended == [number])


def test_the_end_of_a_killed_process_is_seen(path, feeder):
    def child():
        kept.append(hold(path, manager="m"))
        threading.Event().wait()

    kept = []
    with Fork(child) as forked:
        until(lambda: feeder.asked)
        assert feeder.asked[0][1].pid == forked.pid
        forked.kill()
    until(lambda: feeder.ended == [feeder.asked[0][0]])


def test_a_claim_that_is_refused_is_closed(path, feeder):
    with pytest.raises(WebSocketSubscriptionError, match="no such symbol"):
        open_claim(path, "lease", 20, symbols=["NOSUCH"], resolutions=["1m"])
    until(lambda: feeder.ended == [feeder.asked[0][0]])


def test_a_refusal_keeps_its_class(path, feeder):
    """An error that is an OSError too is the feeder's answer, not the socket's end."""
    feeder.refusal = SegmentFullError("no room")
    with pytest.raises(SegmentFullError, match="no room"):
        open_claim(path, "lease", 20, symbols=["NOSUCH"], resolutions=["1m"])


def test_a_client_that_goes_before_the_answer(path, feeder):
    feeder.holds_back = True
    with connect(path) as connection:
        connection.sendall(b'{"v":1,"id":1,"op":"lease","manager":"m"}\n')
        until(lambda: feeder.asked)
    until(lambda: feeder.ended == [feeder.asked[0][0]])
    feeder.answers[0].set_result({})
    assert ask(path, "status", 20)


def test_a_held_connection_that_sends_more_is_ended(path, feeder):
    with hold(path, manager="m") as connection:
        connection.sendall(b"x")
        assert _all_of(connection) == b""
    until(lambda: len(feeder.ended) == 1)


def test_many_connections_are_held_and_requests_are_served(path, feeder):
    connections = [hold(path, manager=f"m{number}") for number in range(200)]
    assert ask(path, "status", 20) == {"op": "status"}
    names = {thread.name for thread in threading.enumerate()}
    assert sum(name == "control-peer" for name in names) <= 1
    for connection in connections:
        connection.close()
    until(lambda: len(feeder.ended) == 200)
    assert sorted(feeder.ended) == sorted(number for number, _ in feeder.asked)


def test_a_process_may_not_hold_all(path, feeder, monkeypatch):
    monkeypatch.setattr(held, "MAX_OF_A_PROCESS", 3)
    kept = [hold(path) for _ in range(3)]
    with pytest.raises(ControlError, match="too many connections"):
        hold(path)
    assert ask(path, "status", 20)
    kept.pop().close()
    until(lambda: len(feeder.ended) == 1)
    kept.append(hold(path))
    for connection in kept:
        connection.close()


def test_the_server_ends_held_connections(tmp_path, feeder):
    path = tmp_path / "f.sock"
    with ControlServer(path, feeder.handle, held=feeder.held):
        connection = hold(path)
    assert connection.recv(1) == b""
    assert len(feeder.ended) == 1
    connection.close()


def test_numbers_are_not_used_again_by_another_server(tmp_path, feeder):
    for name in "one", "two":
        with ControlServer(tmp_path / name, feeder.handle, held=feeder.held):
            hold(tmp_path / name).close()
            until(lambda: len(feeder.ended) == len(feeder.asked))
    assert len(set(feeder.ended)) == 2


def test_garbage_ends_the_connection(path):
    with connect(path) as connection:
        connection.sendall(b"\x00\xff" * 100 + b"\n" + b"more\n" * 100)
        answer, _, rest = _all_of(connection).partition(b"\n")
        assert json.loads(answer)["error"] == "BadArgumentError"
        assert rest == b""


def test_a_hundred_megabytes_are_not_kept(path):
    piece, sent = b"x" * (1 << 20), 0
    with connect(path) as connection:
        connection.settimeout(20)
        try:
            for _ in range(100):
                connection.sendall(piece)
                sent += 1
        except ConnectionError:
            pass
        assert sent < 100
    assert ask(path, "status", 20)


def test_half_a_line_ends_with_the_idle_limit(tmp_path, feeder):
    path = tmp_path / "f.sock"
    with ControlServer(path, feeder.handle, idle=0.2), connect(path) as connection:
        connection.sendall(b'{"v":1,')
        connection.settimeout(20)
        assert connection.recv(1) == b""


def test_a_thousand_connections_of_one_client(path, feeder):
    """They hold no other client up, and the server keeps few of them."""
    with hold(path, manager="m") as claim:
        stop = threading.Event()
        flood = threading.Thread(target=_flood, args=[path, stop])
        flood.start()
        try:
            with Fork(lambda: _ask_often(path)) as forked:
                assert forked.wait() == 0
        finally:
            stop.set()
            flood.join()
        assert not is_closed(claim)


def test_control_without_the_rule_they_do(path, monkeypatch):
    monkeypatch.setattr(server, "_MAX_IDLE_OF_A_PROCESS", 10_000)
    monkeypatch.setattr(server, "_SHORT_IDLE_SECONDS", 10_000.0)
    kept = [connect(path) for _ in range(server.MAX_CONNECTIONS)]
    begun = time.monotonic()
    assert ask(path, "status", 20)
    assert time.monotonic() - begun > server._FREE_WAIT_SECONDS / 2
    for connection in kept:
        connection.close()


def _all_of(connection):
    connection.settimeout(20)
    found = b""
    try:
        while piece := connection.recv(4096):
            found += piece
    except ConnectionResetError:  # what it had sent was not read
        pass
    return found


def _flood(path, stop):
    kept = []
    while not stop.is_set():
        for _ in range(1000):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                connection.connect(str(path))
                kept.append(connection)
            except OSError:
                connection.close()
                stop.wait(0.01)  # its backlog is full
            if stop.is_set():
                break
        while kept:
            kept.pop().close()


def _ask_often(path):
    for _ in range(20):
        assert ask(path, "status", 60)
