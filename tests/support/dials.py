"""The dials of earlier tests, which count for a whole minute.

Many tests dial a port on which no server listens. All of them together, and other runs
of the tests on this host, would use up the minute of that port, and wait.
"""

import contextlib
import json
import os
from pathlib import Path

import msgspec

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


def _is_reserved(name: str) -> bool:
    host, _, port = name.rpartition(":")
    return host in ("127.0.0.1", "localhost", "::1") and int(port) < _RESERVED_PORTS
