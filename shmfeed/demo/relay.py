"""The relay of a demo: Redis, a leader, and a standby that takes its place.

Each is a process of its own, and ends with the demo's process, a killed one too.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from typing import IO, Any

from shmfeed.child_modules import module_command, module_environment
from shmfeed.demo.options import RESOLUTIONS, DemoOptions
from shmfeed.errors import ShmfeedError
from shmfeed.feed import attach
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import remove_unheld

LEADER, STANDBY = "leader", "standby"
_START_SECONDS, _STOP_SECONDS = 30.0, 10.0
_POLL_SECONDS = 0.05
# The shell ends the command once its input ends: with the process that started it.
_UNTIL_INPUT_ENDS = (
    '"$@" </dev/null & child=$!; read -r _; kill "$child"; wait "$child"'
)


class MissingProgramError(ShmfeedError):
    """The demo of the relay needs a program or a package that is not installed."""


def check_relay() -> None:
    """Raise MissingProgramError if a demo of the relay cannot run here."""
    if shutil.which("redis-server") is None:
        raise MissingProgramError(
            "the demo of the relay needs redis-server: apt-get install redis-server"
        )
    if find_spec("redis") is None:
        raise MissingProgramError(
            "the demo of the relay needs the package redis: pip install 'redis>=5'"
        )


class RelayedVenue:
    """Redis and the two hosts of a venue, from `start` to `stop`.

    The hosts are feeds of other names on this one.
    """

    def __init__(self, options: DemoOptions) -> None:
        self._options = options
        self._end = ExitStack()
        self._commands: dict[str, list[_Command]] = {}
        self._log: IO[bytes]
        self._url = ""

    def start(self, venue_url: str) -> dict[str, Any]:
        """Start all, and return the settings of a feeder that follows the leader."""
        log = tempfile.TemporaryFile()  # noqa: SIM115 # the stack closes it
        self._log = self._end.enter_context(log)
        self._end.callback(self._remove_feeds)
        self._start_redis()
        for name in (LEADER, STANDBY):
            self._start_host(name, venue_url)
            self._wait_for_role(name)
        return {
            "protocol": "redis",
            "endpoint": self._url,
            "source_feed": self._options.feed,
        }

    def kill_leader(self) -> None:
        """Kill the leader's feeder and publisher."""
        for command in self._commands[LEADER]:
            command.kill()

    def stop(self) -> None:
        """End all processes and remove their feeds."""
        self._end.close()

    def _start_redis(self) -> None:
        folder = self._end.enter_context(tempfile.TemporaryDirectory(prefix="demo-"))
        port = _free_port()
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port)]
        command += ["--dir", folder, "--save", "", "--appendonly", "no"]
        self._run("redis", command)
        self._url = f"redis://127.0.0.1:{port}/0"
        self._wait(lambda: _answers(port), "redis-server did not answer")

    def _start_host(self, name: str, venue_url: str) -> None:
        feed = self._feed(name)
        shmfeed = module_command("shmfeed")
        run = [*shmfeed, "run", "--feed", feed, "--endpoint", venue_url]
        run += ["--symbols", ",".join(self._options.symbols)]
        run += ["--resolutions", ",".join(RESOLUTIONS)]
        self._run(name, run)
        publish = [*shmfeed, "publish", "--feed", feed, "--to", self._url]
        self._run(name, [*publish, "--as", self._options.feed])

    def _run(self, name: str, command: Sequence[str]) -> None:
        started = _Command(command, self._log)
        self._commands.setdefault(name, []).append(started)
        self._end.callback(started.stop)

    def _wait_for_role(self, name: str) -> None:
        told = f"the {name} of the demo's relay did not start"
        self._wait(lambda: self._role(name) == name, told)

    def _role(self, name: str) -> str:
        with suppress(ShmfeedError), attach(self._feed(name)) as feed:
            relay = feed.status()["relay"]
            return relay["role"] if relay else ""
        return ""

    def _wait(self, true: Any, told: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not true():
            if time.monotonic() > deadline:
                self._log.seek(0)
                lines = self._log.read().decode(errors="replace").splitlines()
                last = lines[-1] if lines else "it printed nothing"
                raise ShmfeedError(f"{told} within {_START_SECONDS:g} s: {last}")
            time.sleep(_POLL_SECONDS)

    def _feed(self, name: str) -> str:
        return f"{self._options.feed}-{name}"

    def _remove_feeds(self) -> None:
        for name in (LEADER, STANDBY):
            where = place(self._feed(name))
            remove_unheld(where)
            where.lock.unlink(missing_ok=True)


class _Command:
    """A command in a session of its own, with the shell that ends it."""

    def __init__(self, command: Sequence[str], log: IO[bytes]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 # our own commands
            ["sh", "-c", _UNTIL_INPUT_ENDS, "sh", *command],  # noqa: S607 # POSIX has it
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=module_environment(),
            start_new_session=True,
        )

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        with self._process as process:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as sock:
        sock.sendall(b"PING\r\n")
        return sock.recv(16).startswith(b"+PONG")
    return False
