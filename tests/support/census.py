"""A census of what a process owns on its host, to find what a test leaves behind.

Other test runs may share the host: what is theirs is not counted. A process is ours
if it is a child of this one or carries `MARK` in its environment, which every
descendant inherits, orphaned or not. A segment is another's if a process that is alive
and not ours has written it, or if a test run or a benchmark that is alive and not ours
has named it. Of the standard library's nameless objects who has it mapped tells.
"""

import gc
import os
import re
import threading
import time
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NamedTuple

MARK = "TEST_RUN_OF_PID"
PATIENCE_SECONDS = 3.0

_SHARED_MEMORY = Path("/dev/shm")
_PROC = Path("/proc")
# The standard library's own objects: their names do not tell whose they are.
_NAMELESS = ("psm_", "sem.mp-")
_RUN_IN_NAME = re.compile(r"(?:^|\.)(?:t(\d+)x|bench-(\d+)-)")


class Census(NamedTuple):
    """What there is now."""

    shared: frozenset[str]  # paths below /dev/shm
    fds: frozenset[tuple[int, str]]
    threads: frozenset[threading.Thread]
    pids: frozenset[int]  # of the whole host


def take() -> Census:
    return Census(
        frozenset(_shared_entries()),
        frozenset(_own_fds()),
        frozenset(threading.enumerate()),
        frozenset(_numbers_in(_PROC)),
    )


def leftovers(before: Census, patience: float = PATIENCE_SECONDS) -> list[str]:
    """A line for each thing that is there now and was not `before`.

    What is just ending is given `patience` seconds to end.
    """
    found = _compare(before)
    if found:
        gc.collect()  # a mapping goes with its last array
    deadline = time.monotonic() + patience
    while (found := _compare(before)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def is_ours(pid: int) -> bool:
    """Whether this process is us, our child, or descends from us."""
    if pid == os.getpid():
        return True
    try:
        status = (_PROC / str(pid) / "stat").read_text()
        parent = int(status.rpartition(")")[2].split()[1])
        if parent == os.getpid():
            return True
        environ = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return f"{MARK}={os.getpid()}".encode() in environ.split(b"\0")


def _compare(before: Census) -> list[str]:
    now = take()
    tracker = resource_tracker._resource_tracker  # started once, it stays
    lines = [
        f"process {pid}: {_command(pid)}"
        for pid in sorted(now.pids - before.pids)
        if pid != tracker._pid and is_ours(pid)
    ]
    lines += [f"thread {thread!r}" for thread in now.threads - before.threads]
    lines += [
        f"descriptor {fd}: {target}"
        for fd, target in sorted(now.fds - before.fds)
        if fd != tracker._fd
    ]
    new = sorted(now.shared - before.shared)
    return lines + [f"shared memory {path}" for path in new if not _is_others(path)]


def _shared_entries() -> list[str]:
    """All entries, those of the feeds' directory too; lock files may stay."""
    paths = []
    for folder, folders, files in os.walk(_SHARED_MEMORY):
        private = Path(folder).name.startswith("shmfeed-")
        paths += [
            str(Path(folder, name))
            for name in files
            if not (private and name.endswith(".lock"))
        ]
        paths += [
            str(Path(folder, name))
            for name in folders
            if not name.startswith("shmfeed-")
        ]
    return paths


def _own_fds() -> list[tuple[int, str]]:
    found = []
    for number in _numbers_in(_PROC / "self/fd"):
        try:
            target = (_PROC / "self/fd" / str(number)).readlink()
        except OSError:  # the listing's own, closed by now
            continue
        found.append((number, str(target)))
    return found


def _numbers_in(folder: Path) -> list[int]:
    try:
        with os.scandir(folder) as listing:
            return [int(entry.name) for entry in listing if entry.name.isdigit()]
    except FileNotFoundError:
        return []


def _command(pid: int) -> str:
    try:
        command = (_PROC / str(pid) / "cmdline").read_bytes()
        return command.replace(b"\0", b" ").decode("utf-8", "replace") or "not reaped"
    except OSError:
        return "ended just now"


def _is_others(path: str) -> bool:
    name = Path(path).name
    if name.startswith(_NAMELESS):
        return _is_mapped_by_others(path)
    top = Path(path).relative_to(_SHARED_MEMORY).parts[0]
    run = _RUN_IN_NAME.search(name) or _RUN_IN_NAME.search(top)
    pid = int(run[1] or run[2]) if run else _writer_pid(Path(path))
    return pid is not None and (_PROC / str(pid)).exists() and not is_ours(pid)


def _is_mapped_by_others(path: str) -> bool:
    for pid in _numbers_in(_PROC):
        try:
            mapped = path in (_PROC / str(pid) / "maps").read_text()
        except OSError:  # it ended just now, or is not for us to look at
            continue
        if mapped and not is_ours(pid):
            return True
    return False


def _writer_pid(path: Path) -> int | None:
    """Whoever signed the lock file of a segment or of a control socket."""
    feed = path.name.split(".", 2)[-1].removesuffix(".sock")
    if path.parent != _SHARED_MEMORY:
        feed = path.name.removesuffix(".sock")
    lock = _SHARED_MEMORY / f"shmfeed-{os.geteuid()}" / f"{feed}.lock"
    try:
        return int(lock.read_text("ascii"))
    except (OSError, ValueError):
        return None
