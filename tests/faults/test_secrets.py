"""No token, header or key of a query is visible on the host that runs a feeder."""

import contextlib
import json
import logging
import os
import resource
import signal
import struct
from pathlib import Path

import pytest
from support.feeding import managing, tell
from support.loopback import CLOSE, bar, frame, raw, read_frame, read_head, upgrade
from support.waiting import until

import shmfeed
from shmfeed.errors import WebSocketSubscriptionError

TOKEN, KEY = "canary-of-the-token-5c0e", "canary-of-the-key-b21d"
HEADER = "canary-of-the-header-77aa"
SECRETS = (TOKEN, KEY, HEADER)
ECHO = f"token {TOKEN}, key {KEY}, header {HEADER}"


def text(**fields):
    return frame(json.dumps(fields).encode())


class Indiscreet:
    """A venue that repeats all secrets that it was sent, in every kind of message."""

    def __init__(self):
        self.connections = 0

    def __call__(self, connection):
        self.connections += 1
        if self.connections == 1:
            assert HEADER.encode() in read_head(connection)
            answer = f"HTTP/1.1 403 No {HEADER}\r\nX: y\r\n\r\nnot with {ECHO}"
            connection.sendall(answer.encode())
            return
        upgrade(connection)
        said = json.loads(read_frame(connection)[1])
        assert said["csrf_token"] == TOKEN
        getattr(self, f"turn_{min(self.connections - 1, 3)}")(connection, said)

    def turn_1(self, connection, said):
        connection.sendall(text(type="ERROR", message=ECHO))
        connection.recv(4096)

    def turn_2(self, connection, said):
        connection.sendall(text(type="CONNECTED") + frame(bar(0).encode()))
        connection.sendall(frame(struct.pack("!H", 1008) + ECHO.encode(), CLOSE))

    def turn_3(self, connection, said):
        stranger = json.loads(bar(0)) | {"symbol": TOKEN}
        connection.sendall(
            text(type="CONNECTED")
            + text(type="ERROR", message=ECHO)  # of nothing that was asked
            + text(**stranger)
            + text(type="BAR", symbol=ECHO, open_time=ECHO)
            + text(type=ECHO)
            + frame(ECHO.encode())
            + frame(bar(1).encode())
        )
        _, change = read_frame(connection)
        number = json.loads(change)["request_id"]
        connection.sendall(text(type="ERROR", request_id=number, message=ECHO))
        connection.recv(4096)


@contextlib.contextmanager
def no_core_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.fixture
def seen(feed_name, caplog, tmp_path, monkeypatch):
    """Return all that is visible of such a feeder and its manager, by place."""
    monkeypatch.setenv("WEBSOCKET_CSRF_TOKEN", TOKEN)
    caplog.set_level(logging.DEBUG)
    found = {}
    options = {
        "csrf_token": TOKEN,
        "headers": {"Authorization": f"Bearer {HEADER}"},
        "log_level": "DEBUG",
        "max_reconnect_attempts": None,
        "reconnect_delay_max": 0.05,
    }
    with (
        raw(Indiscreet()) as url,
        managing(feed_name, f"{url}?key={KEY}", **options) as m,
    ):
        m.start(wait=False)
        until(lambda: m.get_status()["state"] == "connected")
        until(lambda: m.get_status()["malformed"] >= 2)
        pid = m.get_status()["pid"]
        with pytest.raises(WebSocketSubscriptionError) as caught:
            m.update_subscription(symbols=["BTCUSDT", "ETHUSDT"])
        found["a refused change"] = str(caught.value)
        found["status"] = json.dumps(m.get_status())
        found["answer of the control socket"] = json.dumps(tell(feed_name, "status"))
        found["arguments"] = Path(f"/proc/{pid}/cmdline").read_bytes()
        found["environment"] = Path(f"/proc/{pid}/environ").read_bytes()
        [segment] = Path("/dev/shm").glob(f"shmfeed.*.{feed_name}")
        found["segment"] = segment.read_bytes()
        found["the repr of a manager"] = repr(m) + repr(vars(m))
        os.kill(pid, signal.SIGABRT)  # faulthandler tells what it was at
        until(lambda: "Fatal Python error: Aborted" in caplog.text)
        until(lambda: "most recent call first" in caplog.text)
        with shmfeed.attach(feed_name, timeout=5) as feed:
            found["status from outside"] = json.dumps(feed.status())
    found["log"] = caplog.text + repr(caplog.records)
    return found


# A word in each place: it shows that the right thing was read, and that a secret in
# its place would have been found.
KNOWN = {
    "a refused change": "***",
    "status": "connected",
    "answer of the control socket": "wanted",
    "arguments": "shmfeed.feeder.main",
    "environment": "PATH=",
    "segment": "BTCUSDT",
    "the repr of a manager": "WebSocketManager",
    "status from outside": "endpoint",
    "log": "answered 403",
}


def test_no_secret_is_visible_on_the_host(seen):
    assert set(seen) == set(KNOWN)
    for place, content in seen.items():
        data = content if isinstance(content, bytes) else content.encode()
        assert KNOWN[place].encode() in data, place
        for secret in SECRETS:
            assert secret.encode() not in data, place
