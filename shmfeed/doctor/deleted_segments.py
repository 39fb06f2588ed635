"""Deleted segments whose memory a process still holds.

A segment that was removed or replaced has no name. Its memory is returned when the last
process unmaps it and closes its descriptors, and until then no file shows who that is.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shmfeed.doctor.finding import Finding, note, ok
from shmfeed.segment.mapping import place
from shmfeed.segment.processes import (
    DELETED,
    PROC,
    command_of,
    mapped_files,
    own_processes,
)
from shmfeed.text import counted, mebibytes

_CHECK = "deleted segments"


class _Process(NamedTuple):
    """A process and the bytes of each deleted segment it holds, by feed and inode."""

    pid: int
    command: str
    held: dict[str, dict[int, int]]


def check_deleted_segments(proc: Path = PROC) -> Iterator[Finding]:
    """Yield a note for each process of this user that holds deleted segments.

    Processes in other PID namespaces (containers) are not seen.

    Raises:
        UnsupportedPlatformError: This platform has no live feeds.
    """
    prefix = str(place("any").segment).removesuffix("any")
    found, unreadable = 0, 0
    for pid in own_processes(proc):
        try:
            process = _read_process(proc / str(pid), pid, prefix)
        except PermissionError:
            unreadable += 1
        except OSError:  # it has ended
            continue
        else:
            if process.held:
                found += 1
                yield note(_CHECK, _describe(process), _remedy(process))
    held = f"{counted(found, 'process', 'processes')} named above" if found else "none"
    skipped = f"; {counted(unreadable, 'process', 'processes')} could not be read"
    yield ok(_CHECK, f"held by: {held}{skipped if unreadable else ''}")


def _read_process(directory: Path, pid: int, prefix: str) -> _Process:
    held: dict[str, dict[int, int]] = defaultdict(dict)
    mapped = [(m.path, m.identity[1], m.end) for m in mapped_files(directory)]
    for path, inode, size in (*mapped, *_open(directory)):
        if path.startswith(prefix) and path.endswith(DELETED):
            feed = path[len(prefix) : -len(DELETED)].removesuffix("~")
            held[feed][inode] = max(size, held[feed].get(inode, 0))
    return _Process(pid, command_of(directory) if held else "", held)


def _open(directory: Path) -> Iterator[tuple[str, int, int]]:
    """Yield path, inode and size of each open file."""
    for link in (directory / "fd").iterdir():
        try:
            path = str(link.readlink())
            if path.endswith(DELETED):
                status = link.stat()
                yield path, status.st_ino, status.st_size
        except OSError:  # closed meanwhile
            continue


def _describe(process: _Process) -> str:
    segments = [size for sizes in process.held.values() for size in sizes.values()]
    feeds = ", ".join(sorted(process.held))
    return (
        f"process {process.pid} ({process.command}) holds"
        f" {counted(len(segments), 'deleted segment')} of feed {feeds},"
        f" {mebibytes(sum(segments))} MiB"
    )


def _remedy(process: _Process) -> str:
    return (
        f"restart process {process.pid}, or let it read the feed or wait on it, which"
        " moves it to the current segment; an older shmfeed keeps a segment as long as"
        " any frame of it: upgrade it"
    )
