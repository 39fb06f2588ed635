"""The process at the other end of a control socket: its user, and whether it lives.

Linux reuses pids. A pid and the time at which its process began name one process.
"""

import socket
import struct
import time
from pathlib import Path
from typing import NamedTuple, Self

_POLL_SECONDS = 0.02
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def peer_uid(connection: socket.socket) -> int:
    """Return the user id of the peer, as the kernel recorded it at the connect."""
    return _credentials(connection)[1]


def peer_pid(connection: socket.socket) -> int:
    """Return the pid of the peer in this process's PID namespace.

    Return 0 if the peer is not visible here: it runs in another container.
    """
    return _credentials(connection)[0]


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    data = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    pid, uid, gid = _CREDENTIALS.unpack(data)
    return pid, uid, gid


def process_start(pid: int) -> int | None:
    """Return when a process began, in kernel ticks since boot.

    Return None if there is no such process, or if it has ended and waits to be reaped.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    # The name, in parentheses, may hold anything; the state is the field after it.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


class Peer(NamedTuple):
    """A process, told from a later one that has the same pid."""

    pid: int  # 0: the process is not visible here, as in another container
    started: int  # by the kernel's count; 0: it had ended already

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return the process that has this pid now."""
        return cls(pid, process_start(pid) or 0 if pid else 0)

    @property
    def may_run(self) -> bool:
        """True if it runs, or if it is not visible here."""
        if not self.pid:
            return True
        return bool(self.started) and process_start(self.pid) == self.started


def wait_for_exit(pid: int, started: int, timeout: float) -> bool:
    """Wait until the process that began at `started` has ended.

    Return False if it still runs after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while process_start(pid) == started:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
