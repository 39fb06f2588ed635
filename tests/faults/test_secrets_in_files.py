"""No secret of a file is visible: tokens, the password for a proxy, a client's key."""

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.authority import Authority
from support.loopback import bar, frame, raw, read_frame, read_head, upgrade
from support.waiting import until

import shmfeed
from shmfeed.errors import FeedNotFoundError

OLD, NEW = "canary-of-the-first-token-4d1f", "canary-of-the-second-token-9e02"
KEY, HEADER = "canary-of-the-key-b21d", "canary-of-the-header-77aa"
PASSWORD = "canary-of-the-password-31bc"
BASIC = base64.b64encode(f"someone:{PASSWORD}".encode()).decode()
SECRETS = (OLD, NEW, KEY, HEADER, PASSWORD, BASIC)


def text(**fields):
    return frame(json.dumps(fields).encode())


class Indiscreet:
    """A venue that repeats all secrets that it was sent; `tokens` are the tokens."""

    def __init__(self, authority):
        self.context = authority.server_context(asks_client=True)
        self.connections = 0
        self.tokens = []

    def __call__(self, plain):
        with self.context.wrap_socket(plain, server_side=True) as connection:
            self.connections += 1
            if self.connections == 1:
                assert HEADER.encode() in read_head(connection)
                known = f"{KEY} {HEADER}"
                answer = f"HTTP/1.1 403 No {HEADER}\r\nX: y\r\n\r\nnot with {known}"
                connection.sendall(answer.encode())
                return
            upgrade(connection)
            token = json.loads(read_frame(connection)[1])["csrf_token"]
            self.tokens.append(token)
            echo = ", ".join([*self.tokens, KEY, HEADER])
            connection.sendall(
                text(type="CONNECTED")
                + text(type="ERROR", message=echo)  # of nothing that was asked
                + text(type="BAR", symbol=echo, open_time=echo)
                + text(type=echo)
                + frame(bar(len(self.tokens)).encode())
            )
            connection.recv(4096)


class Proxy:
    """A proxy that first repeats what it was told, and then serves."""

    def __init__(self):
        self.connections = 0

    def __call__(self, connection):
        self.connections += 1
        head = read_head(connection).decode()
        assert BASIC in head
        if self.connections == 1:
            words = f"no: {PASSWORD}, {BASIC}"
            connection.sendall(f"HTTP/1.1 503 {PASSWORD}\r\n\r\n{words}".encode())
            return
        port = int(head.split()[1].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as venue:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=pour, args=(venue, connection))
            back.start()
            pour(connection, venue)
            back.join()


def pour(source, sink):
    source.settimeout(None)
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def secret_file(path, content):
    path.write_text(content)
    path.chmod(0o600)
    return str(path)


def command(*words):
    """Return all that a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "shmfeed", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr


def status(name):
    try:
        with shmfeed.attach(name) as feed:
            return feed.status()
    except FeedNotFoundError:
        return {"state": "", "last_error": None, "malformed": 0}


@contextlib.contextmanager
def running(feed_name, config, output):
    """Run a feeder until it ends by itself or with the test."""
    words = ["run", "--feed", feed_name, "--config", str(config), "--unlink"]
    with (
        output.open("wb") as file,
        subprocess.Popen(
            [sys.executable, "-m", "shmfeed", *words], stdout=file, stderr=file
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def small_files():
    """Yield what the feeders of this user share beside the segments."""
    for path in Path(f"/dev/shm/shmfeed-{os.getuid()}").iterdir():
        with contextlib.suppress(OSError):
            yield path.read_bytes()


@pytest.fixture
def seen(feed_name, tmp_path):
    """Return all that is visible of such a feeder, by place; and its client's key."""
    authority, proxy = Authority(tmp_path), Proxy()
    venue = Indiscreet(authority)
    token, config = tmp_path / "token", tmp_path / "settings.json"
    output, log_file = tmp_path / "output", tmp_path / "log"
    found = {}
    with raw(venue) as url, raw(proxy) as proxy_url:
        proxy_port = proxy_url.split(":")[2].partition("/")[0]
        given = {
            "endpoint": url.replace("ws://127.0.0.1", "wss://localhost")
            + f"?key={KEY}",
            "symbols": ["BTCUSDT"],
            "resolutions": ["1m"],
            "csrf_token_file": secret_file(token, OLD),
            "headers": {"Authorization": f"Bearer {HEADER}"},
            "ca_file": str(authority.file),
            "client_cert": str(authority.client),
            "proxy": f"http://someone@127.0.0.1:{proxy_port}",
            "proxy_password_file": secret_file(tmp_path / "password", PASSWORD),
            "log_level": "debug",
            "log_format": "json",
            "log_file": str(log_file),
            "max_reconnect_attempts": None,
            "reconnect_delay_max": 1.0,
            "reconnect_delay_base": 0.05,
        }
        secret_file(config, json.dumps(given))
        with running(feed_name, config, output) as process:
            until(lambda: status(feed_name)["malformed"])
            found["status"] = json.dumps(status(feed_name))
            secret_file(token, NEW)
            found["reload"] = command("reload", "--feed", feed_name)
            until(lambda: len(venue.tokens) == 2)
            until(lambda: status(feed_name)["malformed"] >= 2)
            wrong = {"headers": {"Authorization": f"{HEADER}\r\n"}}
            secret_file(config, json.dumps(given | wrong))
            found["a refused reload"] = command("reload", "--feed", feed_name)
            found["the command status"] = command("status", "--feed", feed_name)
            found["ls"] = command("ls", "--json")
            found["doctor"] = command("doctor")
            folder = Path(f"/proc/{process.pid}")
            found["arguments"] = (folder / "cmdline").read_bytes()
            found["environment"] = (folder / "environ").read_bytes()
            [segment] = Path("/dev/shm").glob(f"shmfeed.*.{feed_name}")
            found["segment"] = segment.read_bytes()
            found["files beside it"] = b"\n".join(small_files())
            process.terminate()
            process.wait(timeout=10)
        assert venue.tokens == [OLD, NEW]
    found["output"] = output.read_bytes()
    found["log"] = log_file.read_bytes()
    return found, authority.client.read_text().splitlines()[1]


# A word in each place: it shows that the right thing was read, and that a secret in
# its place would have been found.
KNOWN = {
    "status": "***",
    "reload": "csrf_token_file",
    "a refused reload": "headers",
    "the command status": "connected",
    "ls": "localhost",
    "doctor": "shm",
    "arguments": "--config",
    "environment": "PATH=",
    "segment": "***",
    "files beside it": "localhost",
    "output": "were not reloaded",
    "log": "the server answered 403 No ***",
}


def test_no_secret_of_a_file_is_visible_on_the_host(seen):
    found, key = seen
    assert set(found) == set(KNOWN)
    for place, content in found.items():
        data = content if isinstance(content, bytes) else content.encode()
        assert KNOWN[place].encode() in data, (place, data[-2000:])
        for secret in (*SECRETS, key):
            assert secret.encode() not in data, (place, secret)
