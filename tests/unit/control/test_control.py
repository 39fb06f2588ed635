"""Both ends of the control socket, over real sockets, and every misuse of it."""

import contextlib
import json
import logging
import os
import socket
import stat
import threading
import time
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from shmfeed.control import client as control_client
from shmfeed.control import messages
from shmfeed.control import server as control_server
from shmfeed.control.client import ask
from shmfeed.control.messages import ControlError
from shmfeed.control.server import ControlServer
from shmfeed.errors import (
    BadArgumentError,
    FeedBusyError,
    FeedNotFoundError,
    SegmentFullError,
    ShmfeedError,
    StreamNotFoundError,
    WebSocketConnectionError,
    WebSocketSubscriptionError,
)


class Handler:
    """Answer each request with its fields; `subscribe` waits while `gate` is closed."""

    def __init__(self):
        self.requests = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.error: Exception | None = None

    def __call__(self, request):
        self.requests.append(request)
        if request.op == "subscribe":
            self.entered.release()
            assert self.gate.wait(20)
        if self.error:
            raise self.error
        return {"manager": request.manager, "symbols": request.symbols}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "f.sock"


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def server(path, handler):
    descriptors, threads = open_descriptors(), threading.active_count()
    with ControlServer(path, handler, idle=20) as server:
        yield server
        handler.gate.set()
    assert not path.exists()
    assert open_descriptors() == descriptors
    assert threading.active_count() == threads


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def peer(path):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        yield connection


def receive(connection) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        piece = connection.recv(1 << 16)
        if not piece:
            break
        data += piece
    return data


def exchange(connection, line: bytes) -> dict:
    connection.sendall(line + b"\n")
    return json.loads(receive(connection))


def request(**fields) -> bytes:
    return json.dumps({"v": 1, "id": 7, "op": "status"} | fields).encode()


def serve_once(path, respond):
    """Serve one connection with what `respond` sends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def run():
        with listener:
            connection, _ = listener.accept()
            with connection:
                respond(connection)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


class TestRoundTrip:
    def test_request_fields_arrive_and_answer_fields_return(
        self, path, server, handler
    ):
        answer = ask(path, "subscribe", 5, manager="m", pid=3, symbols=["A", "B"])
        assert answer == {"manager": "m", "symbols": ["A", "B"]}
        (got,) = handler.requests
        assert (got.op, got.pid, got.symbols, got.resolutions) == (
            "subscribe",
            os.getpid(),  # as the kernel knows it
            ("A", "B"),
            None,
        )

    def test_the_json_lines_on_the_wire(self, path, server):
        with peer(path) as connection:
            assert exchange(connection, request(manager="m")) == {
                "manager": "m",
                "symbols": None,
                "v": 1,
                "id": 7,
                "ok": True,
            }
            assert exchange(connection, request(id=8))["id"] == 8

    def test_several_requests_in_one_packet_are_answered(self, path, server):
        with peer(path) as connection:
            connection.sendall(request(id=1) + b"\n" + request(id=2) + b"\r\n")
            with connection.makefile("rb") as file:
                assert [json.loads(file.readline())["id"] for _ in range(2)] == [1, 2]

    def test_concurrent_clients_are_answered(self, path, server):
        results: dict[int, object] = {}

        def run(number):
            results[number] = [
                ask(path, "status", 10, manager=f"{number}-{i}")["manager"]
                for i in range(20)
            ]

        threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {n: [f"{n}-{i}" for i in range(20)] for n in range(8)}

    def test_a_busy_handler_blocks_no_other_client(self, path, server, handler):
        handler.gate.clear()
        answers = []
        busy = threading.Thread(
            target=lambda: answers.append(ask(path, "subscribe", 9))
        )
        busy.start()
        assert handler.entered.acquire(timeout=5)
        assert ask(path, "status", 5, manager="m")["manager"] == "m"
        assert not answers
        handler.gate.set()
        busy.join()
        assert len(answers) == 1

    def test_a_large_answer_arrives_whole(self, path):
        rows = [{"symbol": f"S{i}", "count": i} for i in range(60_000)]
        with ControlServer(path, lambda _: {"streams": rows}):
            assert ask(path, "status", 20)["streams"] == rows

    def test_the_caller_may_define_the_operations(self, path, handler):
        with ControlServer(path, handler, ops=("ping",)):
            assert ask(path, "ping", 5)
            with pytest.raises(BadArgumentError, match="one of: ping"):
                ask(path, "status", 5)


class TestErrors:
    @pytest.mark.parametrize(
        "error",
        [
            WebSocketSubscriptionError("the venue's words"),
            WebSocketConnectionError("wss://h after 3 attempts"),
            StreamNotFoundError("no A 1m; there is B 1m"),
            SegmentFullError("no room"),
            BadArgumentError("symbols: x"),
            ControlError("x"),
        ],
    )
    def test_an_error_is_raised_again_as_the_same_class(
        self, path, server, handler, error
    ):
        handler.error = error
        with pytest.raises(ShmfeedError) as caught:
            ask(path, "status", 5)
        assert type(caught.value) is type(error)
        assert str(caught.value) == str(error)

    def test_feed_busy_error_keeps_its_pid(self, path, server, handler):
        handler.error = FeedBusyError("held by 5", 5)
        with pytest.raises(FeedBusyError) as caught:
            ask(path, "status", 5)
        assert caught.value.pid == 5

    def test_a_private_class_is_sent_as_its_public_parent(self, path, server, handler):
        class PrivateError(BadArgumentError):
            pass

        handler.error = PrivateError("a \udc80 path")
        with pytest.raises(BadArgumentError, match=r"a . path"):
            ask(path, "status", 5)

    @pytest.mark.parametrize("wrong", [ValueError("canary"), {"x": object()}, {1j: 2}])
    def test_an_unexpected_exception_of_the_handler_is_answered(
        self, path, caplog, wrong
    ):
        def handle(_):
            if isinstance(wrong, dict):
                return wrong
            raise wrong

        with ControlServer(path, handle), caplog.at_level(logging.ERROR):
            with pytest.raises(ControlError, match="read the feeder's log") as caught:
                ask(path, "status", 5)
            assert "canary" not in str(caught.value)
        assert "request failed" in caplog.text

    def test_an_unknown_error_name_is_not_looked_up_elsewhere(self, path):
        answer = {
            "v": 1,
            "id": None,
            "ok": False,
            "error": "SystemExit",
            "message": "m",
        }
        thread = serve_once(
            path, lambda c: (receive(c), c.sendall(msgspec.json.encode(answer) + b"\n"))
        )
        with pytest.raises(ControlError, match="SystemExit: m"):
            ask(path, "status", 5)
        thread.join()


class TestBadRequests:
    @pytest.mark.parametrize(
        ("line", "answered", "words"),
        [
            (b"", None, "cannot decode this request"),
            (b"{", None, "cannot decode this request"),
            (b"\xff\xfe", None, "cannot decode this request"),
            (b"[]", None, "cannot decode this request"),
            (b"[" * 50_000, None, "cannot decode this request"),
            (b'{"v":1,"id":7,"op":"\xff"}', None, "cannot decode this request"),
            (b'{"id":7,"op":"status"}', 7, "speaks version 1"),
            (
                request(v=2, new="x"),
                7,
                "version 2 is not supported; this feeder speaks version 1",
            ),
            (request(op="reboot"), 7, "status subscribe release start stop"),
            (request(op=None), 7, "one of: status"),
            (request(colour="red"), 7, "its keys are: v id op manager pid symbols"),
            (request(symbols="A"), 7, "Expected `array | null`, got `str`"),
            (request(symbols=[[[1]]]), 7, "$.symbols"),
            (request(pid=-1), 7, "$.pid"),
            (request(manager="m" * 129), 7, "$.manager"),
            (request(id=-1), -1, "$.id"),
            (request(id="x"), None, "$.id"),
            (request(id=None), None, "$.id"),
            (b'{"v":1,"op":"status","id":1e400}', None, "cannot decode this request"),
        ],
    )
    def test_a_bad_request_is_answered_and_garbage_ends_the_connection(
        self, path, server, handler, line, answered, words
    ):
        with peer(path) as connection:
            answer = exchange(connection, line)
            assert (answer["ok"], answer["v"], answer["id"]) == (False, 1, answered)
            assert answer["error"] == "BadArgumentError"
            assert words in answer["message"]
            assert not handler.requests
            if answered is None:
                assert connection.recv(1) == b""
            else:
                assert exchange(connection, request())["ok"] is True

    def test_a_line_over_the_limit_closes_the_connection(self, path, server):
        with peer(path) as connection:
            with contextlib.suppress(ConnectionError):  # it may not take all of it
                connection.sendall(b"x" * ((1 << 20) + (1 << 18)))
            answer = json.loads(receive(connection))
            assert "longer than 1048576" in answer["message"]
            assert answer["id"] is None
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""
        assert ask(path, "status", 5)

    def test_a_line_of_exactly_the_limit_is_served(self, path, server):
        line = request(manager="m")
        with peer(path) as connection:
            padded = line + b" " * ((1 << 20) - len(line))
            assert exchange(connection, padded)["ok"] is True

    def test_the_client_refuses_to_send_an_invalid_request(self, path, server):
        with pytest.raises(BadArgumentError, match="longer"):
            ask(path, "subscribe", 5, symbols=["x" * (1 << 20)])
        for value in (object(), "\ud800"):
            with pytest.raises(BadArgumentError, match="cannot be sent"):
                ask(path, "status", 5, manager=value)

    @settings(
        deadline=None,
        max_examples=60,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(st.binary(max_size=300))
    def test_arbitrary_bytes_are_answered(self, path, server, data):
        with peer(path) as connection:
            connection.sendall(data.replace(b"\n", b" ") + b"\n")
            assert json.loads(receive(connection))["ok"] is False
        assert ask(path, "status", 5)


class TestSlowPeers:
    def test_a_trickled_request_is_served(self, path, server):
        with peer(path) as connection:
            for byte in request(manager="slow") + b"\n":
                connection.send(bytes([byte]))
            assert json.loads(receive(connection))["manager"] == "slow"

    def test_silent_and_trickling_peers_get_the_same_deadline(self, path, handler):
        with ControlServer(path, handler, idle=0.3), peer(path) as silent:
            with peer(path) as trickling:
                start = time.monotonic()
                with contextlib.suppress(ConnectionError):
                    while time.monotonic() - start < 5:
                        trickling.send(b" ")
                        time.sleep(0.02)
                assert 0.2 < time.monotonic() - start < 3
            assert silent.recv(1) == b""

    def test_a_peer_that_reads_no_answer_is_disconnected(self, path):
        with (
            ControlServer(path, lambda _: {"x": "x" * (1 << 23)}, idle=0.3),
            peer(path) as deaf,
        ):
            deaf.sendall(request() + b"\n")
            deaf.recv(1)
            time.sleep(0.5)
            with contextlib.suppress(ConnectionError):
                while deaf.recv(1 << 20):
                    pass

    def test_busy_connections_at_the_limit_refuse_the_next_client(
        self, path, server, handler, monkeypatch
    ):
        monkeypatch.setattr(control_server, "_FREE_WAIT_SECONDS", 0.1)
        handler.gate.clear()
        with contextlib.ExitStack() as stack:
            for _ in range(control_server.MAX_CONNECTIONS):
                connection = stack.enter_context(peer(path))
                connection.sendall(request(op="subscribe") + b"\n")
                assert handler.entered.acquire(timeout=10)
            with pytest.raises(ControlError, match="serves 32 connections"):
                ask(path, "status", 5)
            handler.gate.set()
        deadline = time.monotonic() + 5
        while True:  # the server sees them go in its own time
            with contextlib.suppress(ControlError):
                ask(path, "status", 5)
                break
            assert time.monotonic() < deadline

    @pytest.mark.parametrize("speaks", [False, True])
    def test_idle_connections_give_way_to_a_client_that_asks(
        self, path, server, monkeypatch, speaks
    ):
        monkeypatch.setattr(control_server, "_SHORT_IDLE_SECONDS", 0.05)
        with contextlib.ExitStack() as stack:
            idle = [
                stack.enter_context(peer(path))
                for _ in range(control_server.MAX_CONNECTIONS)
            ]
            for connection in idle:
                if speaks:
                    assert exchange(connection, request())["ok"] is True
                else:
                    connection.sendall(b"{")  # a line that never ends
            begun = time.monotonic()
            for _ in range(5):
                assert ask(path, "status", 5)["symbols"] is None
            assert time.monotonic() - begun < 2
            assert receive(idle[0]) == b""  # the longest idle one
            if speaks:  # the newest is still served
                assert exchange(idle[-1], request())["ok"] is True

    def test_a_burst_of_new_connections_gives_way_too(self, path, server):
        with contextlib.ExitStack() as stack:
            for _ in range(control_server.MAX_CONNECTIONS):
                stack.enter_context(peer(path))
            begun = time.monotonic()
            assert ask(path, "status", 5)["symbols"] is None
            assert time.monotonic() - begun < 3

    def test_a_closed_connection_is_awaited_before_a_client_is_refused(
        self, path, server, handler, monkeypatch
    ):
        monkeypatch.setattr(control_server, "_FREE_WAIT_SECONDS", 20)
        handler.gate.clear()
        with contextlib.ExitStack() as stack:
            with peer(path) as gone:
                gone.sendall(request(op="subscribe") + b"\n")
                assert handler.entered.acquire(timeout=10)
            for _ in range(control_server.MAX_CONNECTIONS - 1):
                connection = stack.enter_context(peer(path))
                assert exchange(connection, request())["ok"] is True
            noticed = threading.Timer(0.1, handler.gate.set)
            noticed.start()
            assert ask(path, "status", 10)["symbols"] is None
            noticed.join()


class TestClient:
    def test_a_missing_socket_is_feed_not_found(self, path):
        with pytest.raises(FeedNotFoundError, match=str(path)):
            ask(path, "status", 1)

    def test_a_socket_file_without_a_listener_is_a_control_error(self, path):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with pytest.raises(ControlError, match="refused"):
            ask(path, "status", 1)

    def test_another_file_in_the_place_of_the_socket_is_named(self, path):
        path.write_text("not ours")
        with pytest.raises(ControlError, match="is not a socket; remove it, and"):
            ask(path, "status", 1)
        assert path.read_text() == "not ours"

    def test_a_late_answer_is_a_control_error(self, path, server, handler):
        handler.gate.clear()
        start = time.monotonic()
        with pytest.raises(ControlError, match=r"within 0\.2 s"):
            ask(path, "subscribe", 0.2)
        assert time.monotonic() - start < 2
        with pytest.raises(ControlError, match="within 0 s"):
            ask(path, "status", 0)

    def test_a_listener_that_never_accepts_is_a_control_error(self, path):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(0)
            with peer(path), pytest.raises(ControlError, match="within"):
                ask(path, "status", 0.2)

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"", "without an answer"),
            (b"half", "without an answer"),
            (b"\xff\n", "does not follow the control protocol"),
            (b"[1]\n", "does not follow the control protocol"),
            (b"[" * 50_000 + b"\n", "does not follow the control protocol"),
            (b"{}\n", "does not follow the control protocol"),
            (b'{"v":2}\n', "protocol version 2"),
            (b'{"v":1,"id":-5,"ok":true}\n', "not to this request"),
            (b'{"v":1,"id":-5,"ok":false}\n', "not to this request"),
            (b'{"v":1,"id":[],"ok":false}\n', "not to this request"),
            (b'{"v":1,"id":null,"ok":"yes"}\n', "not to this request"),
            (b'{"v":1,"id":null,"ok":false,"error":[1]}\n', "[1]"),
            (b"x" * 3000 + b"\n", "does not follow the control protocol"),
            (b"x" * 70_000, "longer"),
        ],
    )
    def test_an_invalid_answer_is_a_control_error(
        self, path, monkeypatch, answer, words
    ):
        monkeypatch.setattr(control_client, "ANSWER_LIMIT", 65_000)
        thread = serve_once(path, lambda c: (receive(c), c.sendall(answer)))
        with pytest.raises(ControlError) as caught:
            ask(path, "status", 5)
        assert words in str(caught.value)
        assert len(str(caught.value)) < 400
        thread.join()

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_arbitrary_bytes_as_an_answer_are_a_control_error(self, data):
        with pytest.raises(ControlError):
            messages.decode_answer(data, 1 << 40)

    @pytest.mark.parametrize("name", ["x" * 108, "a\0b", ""])
    def test_an_invalid_socket_path_is_refused(self, name, handler):
        with pytest.raises(BadArgumentError, match="107"):
            ask(name, "status", 1)
        with pytest.raises(BadArgumentError, match="107"):
            ControlServer(name, handler)


class TestOtherUsers:
    def test_the_server_refuses_another_user(
        self, path, server, handler, monkeypatch, caplog
    ):
        monkeypatch.setattr(control_server, "peer_uid", lambda _: os.geteuid() + 1)
        with peer(path) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(request() + b"\n")
            assert connection.recv(1) == b""
        assert not handler.requests
        assert "refused a process of user" in caplog.text
        monkeypatch.undo()
        assert ask(path, "status", 5)

    def test_the_client_refuses_another_user(self, path, server, handler, monkeypatch):
        monkeypatch.setattr(control_client, "peer_uid", lambda _: os.geteuid() + 1)
        with pytest.raises(ControlError, match="another user"):
            ask(path, "status", 5)
        assert not handler.requests

    def test_the_socket_file_has_mode_0600(self, path, handler):
        before = os.umask(0)
        try:
            with ControlServer(path, handler):
                assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        finally:
            os.umask(before)


class TestLife:
    def test_the_socket_file_of_a_dead_feeder_is_replaced(self, path, handler):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with ControlServer(path, handler):
            assert ask(path, "status", 5)

    @pytest.mark.parametrize("make", [Path.touch, Path.mkdir, None])
    def test_a_file_other_than_a_socket_stays(self, path, handler, make):
        if make:
            make(path)
        else:
            path.symlink_to("/dev/null")
        with pytest.raises(ControlError, match="not a socket of this user"):
            ControlServer(path, handler)
        assert path.is_symlink() or path.exists()

    def test_a_missing_directory_is_a_control_error(self, path, handler):
        with pytest.raises(ControlError, match="cannot listen"):
            ControlServer(path / "x", handler)

    def test_close_leaves_a_successor_s_file(self, path, handler):
        first = ControlServer(path, handler)
        with ControlServer(path, lambda _: {"who": "second"}):
            first.close()
            assert ask(path, "status", 5) == {"who": "second"}
        assert not path.exists()

    def test_close_after_the_file_was_removed_does_nothing(self, path, handler):
        server = ControlServer(path, handler)
        path.unlink()
        server.close()
        server.close()

    def test_close_ends_idle_connections(self, path, server):
        with peer(path) as connection:
            assert exchange(connection, request())["ok"] is True
            start = time.monotonic()
            server.close()
            assert time.monotonic() - start < 2
            assert connection.recv(1) == b""

    def test_close_waits_for_a_request_being_handled(self, path, server, handler):
        handler.gate.clear()
        with peer(path) as connection:
            connection.sendall(request(op="subscribe") + b"\n")
            assert handler.entered.acquire(timeout=5)
            closing = threading.Thread(target=server.close)
            closing.start()
            self.await_end_of_reading(connection)
            handler.gate.set()
            assert json.loads(receive(connection))["ok"] is True
            closing.join()

    @staticmethod
    def await_end_of_reading(connection):
        with contextlib.suppress(BrokenPipeError):
            for _ in range(200):
                connection.send(b" ")
                time.sleep(0.005)
            pytest.fail("the server still takes requests")

    def test_close_does_not_wait_for_a_stuck_handler(self, path, handler):
        handler.gate.clear()
        server = ControlServer(path, handler)
        with peer(path) as connection:
            connection.sendall(request(op="subscribe") + b"\n")
            assert handler.entered.acquire(timeout=5)
            start = time.monotonic()
            server.close(timeout=0.1)
            assert time.monotonic() - start < 2
            handler.gate.set()
            assert connection.recv(1) == b""

    def test_a_handler_may_close_the_server(self, path):
        done = threading.Event()

        def handle(_):
            server.close()
            done.set()
            return {"closed": True}

        server = ControlServer(path, handle)
        with peer(path) as connection:
            connection.sendall(request(op="stop") + b"\n")
            assert done.wait(5)
            assert json.loads(receive(connection))["closed"] is True
            assert connection.recv(1) == b""

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it is the test
    def test_a_forked_child_closes_nothing(self, path, server):
        with peer(path) as connection:
            assert exchange(connection, request())["ok"] is True
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    server.close()
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
            assert exchange(connection, request(id=8))["id"] == 8
        assert ask(path, "status", 5)
