"""The dials, and REST requests, of earlier tests, which count for a while.

Many tests dial a port on which no server listens. All of them together, and other runs
of the tests on this host, would use up the minute of that port, and wait.
"""

import contextlib
import json
import os
from pathlib import Path

import msgspec

_LISTEN = "0A"  # a state in /proc/net/tcp
_RESERVED_PORTS = 1024  # no venue of a test listens below


def forget_dials(folder: Path | None = None) -> None:
    """Remove the dials to reserved ports of this host from this user's file."""
    folder = folder or Path(f"/dev/shm/shmfeed-{os.geteuid()}")
    if not (folder / "_dials").exists():
        return
    from shmfeed.wire import host_file
    from shmfeed.wire.dial_budget import _Book

    with contextlib.suppress(OSError, host_file.LockedError):
        fd = host_file.open_file(folder, "_dials")
        try:
            host_file.lock(fd, 20)
            book = json.loads(os.pread(fd, 1 << 20, 0).partition(b"\n")[0])
            kept = {n: v for n, v in book["venues"].items() if not _is_reserved(n)}
            if len(kept) < len(book["venues"]):
                book["venues"] = kept
                host_file.write(fd, msgspec.convert(book, _Book))
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # a test has damaged it
        finally:
            os.close(fd)


def forget_rest(folder: Path | None = None) -> None:
    """Remove waits that REST services of earlier tests have asked for.

    A service of a later test may get the port of one that has gone. Those that listen
    now belong to tests of other workers, and stay.
    """
    folder = folder or Path(f"/dev/shm/shmfeed-{os.geteuid()}")
    if not (folder / "_rest").exists():
        return
    from shmfeed.history.rest_budget import _Book
    from shmfeed.wire import host_file

    with contextlib.suppress(OSError, host_file.LockedError):
        fd = host_file.open_file(folder, "_rest")
        try:
            host_file.lock(fd, 20)
            book = json.loads(os.pread(fd, 1 << 20, 0).partition(b"\n")[0])
            asked = {
                name
                for name, venue in book["venues"].items()
                if name.startswith("127.0.0.1:") and venue["wait"][1]
            }
            listening = _listening() if asked else set()
            if gone := {name for name in asked if _port(name) not in listening}:
                for name in gone:
                    del book["venues"][name]
                host_file.write(fd, msgspec.convert(book, _Book))
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # a test has damaged it
        finally:
            os.close(fd)


def _listening() -> set[int]:
    """Return the ports of this host's listening TCP sockets, IPv4."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return {int(one[1].split(":")[1], 16) for one in fields if one[3] == _LISTEN}


def _port(name: str) -> int:
    return int(name.rpartition(":")[2])


def _is_reserved(name: str) -> bool:
    host, _, port = name.rpartition(":")
    return host in ("127.0.0.1", "localhost", "::1") and int(port) < _RESERVED_PORTS
