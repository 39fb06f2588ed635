"""A publisher tells its feeder how the relay does, on one connection that it holds."""

import socket
from concurrent.futures import Future
from contextlib import suppress
from types import SimpleNamespace

import pytest
from support.waiting import until

from shmfeed.control import relay_client
from shmfeed.control.client import open_claim
from shmfeed.control.messages import RelayReport
from shmfeed.control.relay_client import RelayReporter
from shmfeed.control.server import ControlServer
from shmfeed.errors import BadArgumentError

LEADER = {"role": "leader", "leader": "a:1", "epoch": 7, "since": 5}


class Feeder:
    """The main loop's side: reports that came, and connections that have ended."""

    def __init__(self) -> None:
        self.told: list[RelayReport] = []
        self.connections: set[int] = set()
        self.ended: list[int] = []
        self.refusal: BadArgumentError | None = None

    def held(self, request, connection):
        answer = Future()
        if request is None:
            self.ended.append(connection)
        elif self.refusal is not None:
            answer.set_exception(self.refusal)
        else:
            self.told.append(request.relay)
            self.connections.add(connection)
            answer.set_result({})
        return answer


@pytest.fixture
def feeder() -> Feeder:
    return Feeder()


@pytest.fixture
def path(tmp_path, feeder):
    path = tmp_path / "f.sock"
    with ControlServer(path, lambda _: {}, held=feeder.held):
        yield path


@pytest.fixture
def reporter(path, monkeypatch):
    monkeypatch.setattr(relay_client, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(relay_client, "RETRY_SECONDS", 0.0)
    reporter = RelayReporter(path)
    yield reporter
    reporter.close()


def test_each_change_is_told_on_one_connection(reporter, feeder) -> None:
    for lag in (0.1, 0.1, 0.2, 0.2, None):
        reporter.tell({**LEADER, "lag": lag})
    until(lambda: len(feeder.told) == 3)
    assert [one.lag for one in feeder.told] == [0.1, 0.2, None]
    assert feeder.told[0] == RelayReport(**LEADER, lag=0.1)
    assert len(feeder.connections) == 1
    reporter.close()
    until(lambda: feeder.ended == list(feeder.connections))


def test_reports_that_come_too_soon_are_left_out(path, feeder, monkeypatch) -> None:
    now = 100.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(relay_client, "time", clock)
    reporter = RelayReporter(path)
    for step in range(40):
        now = 100.0 + step / 20
        reporter.tell({**LEADER, "behind": step})
    reporter.close()
    until(lambda: feeder.ended)
    assert 8 <= len(feeder.told) <= 11  # one in LEAST_SECONDS
    assert feeder.told[-1].behind >= 35


def test_without_a_feeder_it_waits_for_one(tmp_path, feeder, monkeypatch) -> None:
    monkeypatch.setattr(relay_client, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(relay_client, "RETRY_SECONDS", 0.0)
    path = tmp_path / "f.sock"
    reporter = RelayReporter(path)
    reporter.tell(LEADER)
    for _ in range(2):  # a feeder, and the next one
        with ControlServer(path, lambda _: {}, held=feeder.held):
            reporter.tell(LEADER)
            assert feeder.told.pop() == RelayReport(**LEADER)
    reporter.close()


def test_a_refusal_is_kept_in_words(reporter, feeder) -> None:
    feeder.refusal = BadArgumentError("feed 'x' follows Redis")
    reporter.tell(LEADER)
    assert reporter.refusal == "feed 'x' follows Redis"
    feeder.refusal = None
    reporter.tell(LEADER)
    assert reporter.refusal == ""


@pytest.mark.parametrize(
    "sent",
    [
        b"x\n",
        b"x" * 70_000,
        b'{"v":1,"id":1,"op":"status"}\n',
        b'{"v":1,"id":1,"op":"relay","relay":{"role":"king"}}\n',
        b'{"v":1,"id":1,"op":"relay","relay":{"role":"leader","epoch":-1}}\n',
    ],
)
def test_a_publisher_that_sends_garbage_is_cut_off(path, feeder, sent) -> None:
    with open_claim(path, "relay", 20, relay=LEADER) as connection:
        connection.sendall(sent)
        connection.settimeout(20)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    until(lambda: len(feeder.ended) == 1)
    assert len(feeder.told) == 1


def test_a_line_may_come_in_pieces(path, feeder) -> None:
    line = b'{"v":1,"id":1,"op":"relay","relay":{"role":"standby"}}\n'
    with open_claim(path, "relay", 20, relay=LEADER) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        for byte in line * 2:
            connection.sendall(bytes([byte]))
        until(lambda: len(feeder.told) == 3)
    assert feeder.told[1:] == [RelayReport(role="standby")] * 2
