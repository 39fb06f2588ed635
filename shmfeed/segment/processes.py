"""The processes on this host, and the files that each has mapped.

Processes in other PID namespaces (containers) are not seen.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shmfeed.segment.mapping import Identity
from shmfeed.text import shorten

PROC = Path("/proc")
DELETED = " (deleted)"  # behind the path of a file without a name
_MAX_COMMAND = 80
_IDS = ("Uid:", "Gid:", "Groups:")  # lines of /proc/PID/status
# A line of /proc/PID/maps: addresses, mode, offset, device, inode, path.
_MAP = re.compile(
    r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+)"
    r" ([0-9a-f]+):([0-9a-f]+) ([0-9]+) +(/.*)",
    re.ASCII,
)


class MappedFile(NamedTuple):
    """A mapping of a file in a process: `end` is the offset of its last byte plus 1."""

    path: str
    identity: Identity
    end: int
    is_writable: bool


class Owner(NamedTuple):
    """The effective user of a process, and its groups."""

    user: int
    groups: frozenset[int]

    def may_read(self, file: os.stat_result) -> bool:
        """Return True if a file's mode lets such a process read it."""
        if self.user == file.st_uid:
            return bool(file.st_mode & stat.S_IRUSR)
        return file.st_gid in self.groups and bool(file.st_mode & stat.S_IRGRP)


def own_processes(proc: Path = PROC) -> Iterator[int]:
    """Yield the pids of this user's other processes, in ascending order."""
    user = os.geteuid()
    for pid in other_processes(proc):
        try:
            if (proc / str(pid)).stat().st_uid == user:
                yield pid
        except OSError:  # it has ended
            continue


def other_processes(proc: Path = PROC) -> Iterator[int]:
    """Yield the pid of each process but this one, in ascending order."""
    pids = sorted(int(path.name) for path in proc.iterdir() if path.name.isdigit())
    return (pid for pid in pids if pid != os.getpid())


def owner_of_process(directory: Path) -> Owner:
    """Return the owner of the process with this directory of /proc; any user may ask.

    Raises OSError if the process has ended.
    """
    lines = (directory / "status").read_text("ascii", "replace").splitlines()
    fields = {line.split()[0]: line.split()[1:] for line in lines if line[:1].isupper()}
    user, group, groups = (list(map(int, fields.get(name, ()))) for name in _IDS)
    return Owner(user[1], frozenset([group[1], *groups]))


def mapped_files(directory: Path) -> Iterator[MappedFile]:
    """Yield the files that the process with this directory of /proc has mapped.

    Raises OSError if the process has ended, PermissionError if it may not be read.
    """
    text = (directory / "maps").read_text("utf-8", "replace")
    for start, end, mode, offset, major, minor, inode, path in _MAP.findall(text):
        size = int(end, 16) - int(start, 16) + int(offset, 16)
        identity = os.makedev(int(major, 16), int(minor, 16)), int(inode)
        yield MappedFile(path, identity, size, "w" in mode)


def command_of(directory: Path) -> str:
    """Return the command line of a process, shortened."""
    content = (directory / "cmdline").read_bytes()
    words = content.rstrip(b"\0").split(b"\0")
    return shorten(b" ".join(words).decode("utf-8", "replace"), _MAX_COMMAND)
