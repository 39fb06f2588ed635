"""Hosts: mount namespaces with their own /dev/shm, or feeds of other names."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from support import own_shm

_SIZE = "64m"
_PROGRAM = str(Path(__file__).with_name("host_process.py"))


class Host:
    """A host, from entering to the end of the `with` block.

    Args:
        name: Its name, which tells its feed where hosts share one /dev/shm.
        feed: The feed's name.
        folder: Where the logs of its commands go.
        **given: See `host_process.HostProcess`.
        apart: True: give it its own /dev/shm, else it shares this process's.

    Attributes:
        feed: The name of its feed.
    """

    def __init__(
        self, name: str, feed: str, folder: Path, *, apart: bool, **given: Any
    ) -> None:
        self.name = name
        self.feed = feed if apart else f"{feed}-{name}"
        self._is_apart = apart
        self._folder = folder / name
        self._given = {"feed": self.feed, **given}
        self._given["folder"] = str(self._folder)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir()
        command = _apart(_SIZE) if self._is_apart else [sys.executable]
        self._process = subprocess.Popen(
            [*command, _PROGRAM, json.dumps(self._given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=60)
        self._process.kill()

    def ask(self, method: str, **given: Any) -> Any:
        """Call a method of the host's process; return its answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        request = {"do": method, "given": given}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._read()

    def start(self, name: str, *arguments: object) -> None:
        """Run `shmfeed *arguments` there, again whenever it ends."""
        self.ask("start", name=name, arguments=[str(one) for one in arguments])

    def signal(self, name: str, number: signal.Signals) -> int | None:
        """Send a signal to one of its commands; return the pid, None without one."""
        pid: int | None = self.ask("pids").get(name)
        if pid is not None:
            send(pid, number)
        return pid

    def logs(self) -> str:
        """Return the last lines of the logs of its commands."""
        parts = []
        for path in sorted(self._folder.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-15:]
            parts += [f"-- {self.name}/{path.name}", *lines]
        return "\n".join(parts)

    def _read(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"host {self.name} ended: {self._process.wait(10)}")
        return json.loads(line)["result"]


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that has ended gets none."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def can_be_apart() -> bool:
    """Return True if this machine permits a process its own /dev/shm."""
    command = [*_apart(_SIZE), "-c", ""]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _apart(size: str) -> list[str]:
    return [sys.executable, own_shm.__file__, size]
