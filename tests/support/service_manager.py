"""A service manager's socket, and the units of deploy/ as it reads them."""

import shlex
import socket
import time
from pathlib import Path

SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
FEEDER = SYSTEMD / "shmfeed@.service"
_PROGRAM = "/opt/shmfeed/bin/shmfeed "
_SECONDS = 20.0


class Listener:
    """A service manager's socket, and the messages that came."""

    def __init__(self, address: str) -> None:
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)

    def await_message(self, start: str, seconds: float = _SECONDS) -> str:
        """Return the next message that starts so."""
        deadline = time.monotonic() + seconds
        while True:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            message = self._socket.recv(4096).decode()
            self.messages.append(message)
            if message.startswith(start):
                return message

    def close(self) -> None:
        self._socket.close()


class Unit:
    """A unit's file: the values of each key, in the order of its lines."""

    def __init__(self, path: Path) -> None:
        self._values: dict[str, list[str]] = {}
        for line in path.read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                self._values.setdefault(key, []).append(value)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> str:
        """Return the value of a key that has exactly one."""
        (value,) = self._values[key]
        return value

    def command(self, key: str, instance: str) -> list[str]:
        """Return the arguments of the `shmfeed` command of a key."""
        assert self[key].startswith(_PROGRAM), self[key]
        return shlex.split(self[key].removeprefix(_PROGRAM).replace("%i", instance))

    def starts_again(self, code: int) -> bool:
        """Return True if a process that ended with this exit code is started again."""
        assert self["Restart"] == "on-failure"
        assert not {"SuccessExitStatus", "RestartForceExitStatus"} & self._values.keys()
        prevented = self["RestartPreventExitStatus"].split()
        return code != 0 and str(code) not in prevented
