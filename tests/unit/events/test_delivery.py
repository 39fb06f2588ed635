"""Delivery to real receivers: they hang, fail, redirect, are away, and come back."""

import json
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.authority import Authority
from support.loopback import proxy, raw
from support.proxies import SocksProxy
from support.waiting import until

from shmfeed.control.peer import process_start
from shmfeed.events import delivery
from shmfeed.events.delivery import MOST_WAITING, Delivery, receiver_of
from shmfeed.events.event import make_event
from shmfeed.wire.connect import ConnectPolicy

pytest_plugins = ["support.webhook"]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(delivery, "ATTEMPT_SECONDS", 0.5)


class Sending:
    """A delivery, and the lines that it says."""

    def __init__(self, target: str | list[str], **policy) -> None:
        self.lines: list[str] = []
        self._is_closed = False
        receiver = receiver_of(target, ConnectPolicy(**policy))
        self._delivery = Delivery("spot", receiver, self.lines.append)

    def tell(self, event: str = "error") -> None:
        self._delivery.add(make_event(event, "in words"))

    def close(self, seconds: float = 5.0) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._delivery.close(seconds)


@pytest.fixture
def sending(webhook) -> Iterator[Sending]:
    started = Sending(webhook.url)
    yield started
    started.close()


def test_an_event_is_posted(webhook, sending) -> None:
    sending.tell()
    event = webhook.next()
    assert event.pop("time").endswith("Z")
    assert event == {"feed": "spot", "event": "error", "message": "in words"}
    assert sending.lines == []


@pytest.mark.parametrize("status", [500, 503, 429, 0, -1])
def test_a_receiver_that_fails_is_asked_again(webhook, sending, status) -> None:
    """Also one that closes the connection, or hangs: its connection is cut."""
    webhook.answers = [status, status]
    sending.tell()
    sending.tell("recovered")
    assert [webhook.next()["event"] for _ in range(2)] == ["error", "recovered"]
    assert webhook.attempts == 4
    sending.close()
    first, last = sending.lines
    assert first.startswith(f"http://127.0.0.1:{webhook.port} cannot be told error")
    assert last == f"http://127.0.0.1:{webhook.port} takes events again"
    assert "T0K3N" not in str(sending.lines)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404])
def test_a_refusal_is_final_and_no_redirect_is_followed(
    webhook, sending, status
) -> None:
    webhook.answers = [status]
    sending.tell()
    sending.tell("recovered")
    assert webhook.next()["event"] == "recovered"
    assert webhook.attempts == 2
    sending.close()
    (line,) = sending.lines
    assert line.endswith(f"refuses error: it answered with status {status}")


def test_a_receiver_that_sends_for_ever_is_cut() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                while not ended.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                ended.set()

    thread = threading.Thread(target=drip)
    thread.start()
    sending = Sending(f"http://127.0.0.1:{listener.getsockname()[1]}/")
    sending.tell()
    until(lambda: sending.lines, what="a line about the attempt")
    assert ended.wait(10)  # its connection was closed from here
    sending.close(0.1)
    thread.join()
    listener.close()


def test_a_receiver_that_is_away_is_told_once_it_is_there(
    make_webhook,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    sending = Sending(f"http://127.0.0.1:{port}/x")
    sending.tell()
    until(lambda: sending.lines, what="a failed attempt")
    with make_webhook(port) as back:
        assert back.next()["event"] == "error"
        sending.close()


def test_the_oldest_events_give_way(webhook, sending) -> None:
    webhook.answers = [-1]
    sending.tell("first")
    until(lambda: webhook.attempts == 1, what="an attempt that hangs")
    for number in range(MOST_WAITING + 20):
        sending.tell(str(number))
    assert webhook.next()["event"] == "first"
    assert webhook.next()["event"] == "20"
    until(lambda: "20 older events were dropped" in sending.lines, what="the line")


def test_the_end_does_not_wait_for_a_receiver_that_hangs(webhook, sending) -> None:
    webhook.answers = [-1] * 9
    sending.tell()
    until(lambda: webhook.attempts == 1, what="an attempt that hangs")
    begun = time.process_time()
    sending.close(0.2)
    assert time.process_time() - begun < 1.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class TestTheWay:
    """It is the venue's: proxy, authorities, certificate, and nothing else."""

    @pytest.fixture(autouse=True)
    def patient(self, fast, monkeypatch) -> None:  # after `fast`
        monkeypatch.setattr(delivery, "ATTEMPT_SECONDS", 10.0)

    @staticmethod
    def refusal(url: str, **policy) -> str:
        """Return the reason why an event cannot be told."""
        sending = Sending(url, **policy)
        sending.tell()
        until(lambda: sending.lines, what="a line about the attempt")
        sending.close(0.1)
        return sending.lines[0].partition("tried again: ")[2]

    def test_authorities_of_the_settings(self, make_webhook, authority) -> None:
        with make_webhook(tls=authority.server_context()) as hook:
            sending = Sending(hook.url, ca_file=str(authority.file))
            sending.tell()
            assert hook.next()["event"] == "error"
            sending.close()
            assert sending.lines == []
            # The control: the system's authorities do not know it.
            assert "certificate is refused" in self.refusal(hook.url)

    def test_a_client_certificate(self, make_webhook, authority) -> None:
        known = {"ca_file": str(authority.file)}
        with make_webhook(tls=authority.server_context(asks_client=True)) as hook:
            cert = (str(authority.client),)
            sending = Sending(hook.url, client_cert=cert, **known)
            sending.tell()
            assert hook.next()["event"] == "error"
            sending.close()
            assert self.refusal(hook.url, **known)

    def test_a_proxy_with_a_password(self, make_webhook, authority, tmp_path) -> None:
        password = tmp_path / "password"
        password.write_text("canary-secret")
        password.chmod(stat.S_IRUSR | stat.S_IWUSR)
        context = authority.server_context()
        context.load_cert_chain(authority.issue("hooks.example"))
        tunnels = SocksProxy(("me", "canary-secret"), {"hooks.example": "127.0.0.1"})
        with make_webhook(tls=context) as hook, raw(tunnels) as url:
            policy = {
                "ca_file": str(authority.file),
                "proxy": "socks5h://me@" + url.split("/")[2],
                "proxy_password_file": str(password),
            }
            target = f"https://hooks.example:{hook.port}/x"
            sending = Sending(target, **policy)
            sending.tell()
            assert hook.next()["event"] == "error"
            sending.close()
            assert tunnels.asked == [("hooks.example", hook.port)]
            password.write_text("canary-wrong")
            reason = self.refusal(target, **policy)
        assert reason.endswith("the proxy refuses the user or the password")
        assert "canary" not in reason

    def test_a_webhook_on_this_host_is_reached_directly(self, webhook) -> None:
        with proxy() as (asked, way):
            sending = Sending(webhook.url, proxy=way)
            sending.tell()
            assert webhook.next()["event"] == "error"
            sending.close()
            assert asked.asked == []

    def test_no_variable_of_the_environment_matters(
        self, make_webhook, authority, monkeypatch, tmp_path
    ) -> None:
        keys = tmp_path / "keys"
        monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
        for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        with make_webhook(tls=authority.server_context()) as hook:
            sending = Sending(hook.url, ca_file=str(authority.file))
            sending.tell()
            assert hook.next()["event"] == "error"
            sending.close()
        assert not keys.exists()


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(stat.S_IRWXU)
    return str(path)


def test_a_command_gets_the_event_on_its_standard_input(tmp_path) -> None:
    told = tmp_path / "told"
    command = [program(tmp_path / "tell", 'cat > "$1.new" && mv "$1.new" "$1"')]
    sending = Sending([*command, str(told)])
    sending.tell()
    until(told.exists, what="the command's file")
    assert json.loads(told.read_text())["event"] == "error"
    sending.close()
    assert sending.lines == []


def test_a_command_that_fails_or_hangs_is_run_again(tmp_path) -> None:
    """One that hangs is killed with its children."""
    text = 'echo x >> "$1"; test $(wc -l < "$1") -gt 2 || { test $(wc -l < "$1") = 1'
    text += " && exit 3; sleep 3600; }"
    count = tmp_path / "count"
    sending = Sending([program(tmp_path / "tell", text), str(count)])
    sending.tell()
    until(
        lambda: any("takes events again" in line for line in sending.lines),
        what="a success",
    )
    assert count.read_text() == "x\nx\nx\n"
    assert "it ended with exit code 3" in sending.lines[0]
    sending.close()


def test_the_end_leaves_no_command_that_hangs(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(delivery, "ATTEMPT_SECONDS", 60.0)
    pid = tmp_path / "pid"
    text = 'sleep 3600 & echo $$ $! > "$1.new"; mv "$1.new" "$1"; wait'
    sending = Sending([program(tmp_path / "tell", text), str(pid)])
    sending.tell()
    sending.tell("stale")  # which is not begun after the end
    until(pid.exists, what="the command, and its child")
    processes = [int(word) for word in pid.read_text().split()]
    assert all(process_start(one) for one in processes)
    pid.unlink()
    sending.close(0.05)
    until(lambda: not any(map(process_start, processes)), what="their end")
    ended = "the feeder has ended"
    until(lambda: any(ended in line for line in sending.lines), what="a refusal")
    assert not pid.exists()


def test_a_command_that_is_not_there_is_said(tmp_path) -> None:
    sending = Sending([str(tmp_path / "none")])
    sending.tell()
    until(lambda: sending.lines, what="a line")
    assert "No such file or directory" in sending.lines[0]
    sending.close(0.1)
