"""A census of what a process owns on its host: it finds what a test leaves behind.

Other programs may share the host, other runs of these tests among them. The census
counts only what this run can have made:

- a process that is a child of this one, or that carries `MARK` in its environment,
  which every descendant inherits, orphaned or not;
- an entry of /dev/shm whose name carries the pid of this run or of a benchmark of ours;
- a feed of another name whose writer is one of our processes;
- an object of the standard library, whose name is random, that one of our processes has
  mapped.

Every other new entry of /dev/shm is noted in `seen_of_others`, and the run's summary
prints it.
"""

import gc
import os
import re
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NamedTuple

MARK = "TEST_RUN_OF_PID"
PATIENCE_SECONDS = 3.0

_SHARED_MEMORY = Path("/dev/shm")
_PROC = Path("/proc")
# The standard library's own objects, by the beginning of their random names.
_NAMELESS = ("psm_", "sem.mp-")
_YOUNG_AND_OLD = (1, 2)  # generations: what a test has made is young as a rule
_RUN_IN_NAME = re.compile(r"(?:^|\.)(?:t(\d+)x|bench-(\d+)-)")

seen_of_others: set[str] = set()  # new entries of /dev/shm that were not counted


class Census(NamedTuple):
    """The things that a process could have left, as they are at one moment."""

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
    """Return a line for each thing that is there now and was not `before`.

    Things that are just ending have `patience` seconds to end.
    """
    found = _compare(before)
    for generation in _YOUNG_AND_OLD:
        if not found:
            return []
        gc.collect(generation)  # a mapping goes with its last array
        found = _compare(before)
    deadline, pause = time.monotonic() + patience, 0.005
    while found and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
        gc.collect()  # a thread that has ended may have held a cycle
        found = _compare(before)
    return found


def is_ours(pid: int) -> bool:
    """Return True for this process, its children and their descendants."""
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
    for path in sorted(now.shared - before.shared):
        if _is_of_this_run(path):
            lines.append(f"shared memory {path}")
        else:
            seen_of_others.add(path)
    return lines


def _shared_entries() -> list[str]:
    """Return all entries, with those of the feeds' directory.

    Lock files, and the file of dials, may stay.
    """
    paths = []
    folders = [str(_SHARED_MEMORY)]
    while folders:
        folder = folders.pop()
        if folder.rpartition("/")[2].startswith("shmfeed-"):
            paths += [f"{folder}/{name}" for name in _private_entries(folder)]
            continue
        for entry in _scan(folder):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
                if entry.name.startswith("shmfeed-"):
                    continue
            paths.append(entry.path)
    return paths


def _private_entries(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 # it holds thousands of lock files
    except OSError:  # it has just been removed, or is another user's
        return []
    stay = {"_dials", "_rest"}
    return [name for name in names if not (name.endswith(".lock") or name in stay)]


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            return list(listing)
    except OSError:
        return []


def _own_fds() -> list[tuple[int, str]]:
    found = []
    for number in _numbers_in(_PROC / "self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115 # often
        except OSError:  # the descriptor of this listing, closed by now
            continue
        found.append((number, target))
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


def _is_of_this_run(path: str) -> bool:
    name = Path(path).name
    if name.startswith(_NAMELESS):
        return any(is_ours(pid) for pid in _mapped_by(path))
    top = Path(path).relative_to(_SHARED_MEMORY).parts[0]
    run = _RUN_IN_NAME.search(name) or _RUN_IN_NAME.search(top)
    if run:
        pid = int(run[1] or run[2])
        return is_ours(pid) or not _is_alive(pid)
    writer = _writer_pid(Path(path))
    return writer is not None and is_ours(writer)


def _is_alive(pid: int) -> bool:
    return (_PROC / str(pid)).exists()


def _mapped_by(path: str) -> Iterator[int]:
    for pid in _numbers_in(_PROC):
        try:
            mapped = path in (_PROC / str(pid) / "maps").read_text()
        except OSError:  # it has just ended, or belongs to another user
            continue
        if mapped:
            yield pid


def _writer_pid(path: Path) -> int | None:
    """Return the pid in the lock file of a segment or a control socket."""
    feed = path.name.split(".", 2)[-1].removesuffix(".sock")
    if path.parent != _SHARED_MEMORY:
        feed = path.name.removesuffix(".sock")
    lock = _SHARED_MEMORY / f"shmfeed-{os.geteuid()}" / f"{feed}.lock"
    try:
        return int(lock.read_text("ascii"))
    except (OSError, ValueError):
        return None
