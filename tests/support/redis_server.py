"""A Redis server of a test's own: on a free port of loopback, in its own folder."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.authority import Authority

from shmfeed.relay.redis_connection import RedisTarget

PATIENCE_SECONDS = 20.0
HOST = "127.0.0.1"


def missing() -> str | None:
    """Return why no server can run here, or None."""
    if shutil.which("redis-server") is None:
        return "redis-server is not installed"
    if find_spec("redis") is None:
        return "the package redis is not installed"
    return None


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


class RedisServer:
    """A server that is started at once, and may be stopped and started again.

    It keeps its port for life, and its data only through `restart(keeps=True)`.

    Attributes:
        port: Of plain TCP.
        tls_port: Of TLS, 0 without an authority.
    """

    def __init__(
        self, folder: Path, *options: object, authority: Authority | None = None
    ) -> None:
        self.port = free_port()
        self.tls_port = 0
        self._folder = folder
        self._options = ["--save", "", "--appendonly", "no", *map(str, options)]
        if authority is not None:
            self.tls_port = free_port()
            self._options += ["--tls-port", str(self.tls_port)]
            self._options += ["--tls-cert-file", str(authority.server)]
            self._options += ["--tls-key-file", str(authority.server)]
            self._options += ["--tls-ca-cert-file", str(authority.file)]
            self._options += ["--tls-auth-clients", "no"]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def target(self) -> RedisTarget:
        return RedisTarget(HOST, self.port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", HOST]
        command += ["--dir", str(self._folder), *self._options]
        log = self._folder / "redis.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"{command}:\n{log.read_text()[-2000:]}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        # A server that answers with an error, as for want of a password, serves too.
        try:
            with socket.create_connection((HOST, self.port), 1.0) as peer:
                peer.sendall(b"PING\r\n")
                answer = peer.recv(100)
        except OSError:
            return False
        return bool(answer) and not answer.startswith(b"-LOADING")

    def stop(self) -> None:
        """Kill the server, stopped ones too. Its data are gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self, *, keeps: bool = False) -> None:
        """Start the server again: empty, or with the data that it had."""
        if keeps:
            self.do("SAVE")
        else:
            (self._folder / "dump.rdb").unlink(missing_ok=True)
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop the process as SIGSTOP does: its connections stay, and it is silent."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def do(self, *command: object, user: str = "", password: str = "") -> Any:
        """Return the answer to a command, sent by a client of its own.

        It is bytes, an int or a list of them, as Redis tells it.
        """
        import redis

        login = {"username": user or None, "password": password or None}
        with redis.Redis(HOST, self.port, protocol=2, **login) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def all_keys(self) -> list[str]:
        return sorted(key.decode() for key in self.do("KEYS", "*"))


@contextmanager
def running(
    folder: Path, *options: object, authority: Authority | None = None
) -> Iterator[RedisServer]:
    """Run a server; skip the test where none is installed."""
    if reason := missing():
        pytest.skip(reason)
    server = RedisServer(folder, *options, authority=authority)
    try:
        yield server
    finally:
        server.stop()
