"""The processes that read a feed, found in /proc.

A process that has a feed's segment mapped read-only reads it. Its mark tells since when
and with which version of the package; a version without marks tells neither. A process
that has it mapped for writing is its feeder, and a reader only if it has a mark.
"""

from pathlib import Path
from typing import NamedTuple

from shmfeed.segment.mapping import Place, feed_not_found, identity_at
from shmfeed.segment.processes import (
    DELETED,
    PROC,
    MappedFile,
    command_of,
    mapped_files,
    own_processes,
)
from shmfeed.segment.reader_mark import find_reader_marks


class FeedReader(NamedTuple):
    """A process that reads a feed.

    Attributes:
        pid: Its pid in this PID namespace.
        command: Its command line, shortened.
        version: The version of its shmfeed, None if it does not tell.
        since: Ms UTC of its attachment to the segment, None if it does not tell. A
            forked child has that of its parent.
        is_current: False if it has only an earlier segment of the feed, and has not
            read since the feed was recreated.
    """

    pid: int
    command: str
    version: str | None
    since: int | None
    is_current: bool


class FeedReaders(NamedTuple):
    """The readers of a feed, and the number of processes that could not be read."""

    readers: list[FeedReader]
    unreadable: int


def find_readers(where: Place, proc: Path = PROC) -> FeedReaders:
    """Return this user's other processes that read a feed, by pid.

    Processes in other PID namespaces (containers) are not seen.

    Raises FeedNotFoundError if the feed has no segment.
    """
    if identity_at(where.segment) is None:
        raise feed_not_found(where)
    readers, unreadable = [], 0
    for pid in own_processes(proc):
        try:
            reader = _read_process(where, proc / str(pid), pid)
        except PermissionError:
            unreadable += 1
        except OSError:  # it has ended
            continue
        else:
            readers += [reader] if reader is not None else []
    return FeedReaders(readers, unreadable)


def _read_process(where: Place, directory: Path, pid: int) -> FeedReader | None:
    files = list(mapped_files(directory))
    marks = find_reader_marks(files)
    found = [file for file in files if _is_segment(where, file)]
    written = {file.identity for file in found if file.is_writable}
    mapped = [
        file.identity
        for file in found
        if file.identity in marks or file.identity not in written
    ]
    if not mapped:
        return None
    current = identity_at(where.segment)
    newest = current if current in mapped else mapped[-1]
    mark = marks.get(newest)
    return FeedReader(
        pid,
        command_of(directory),
        mark and mark.version,
        mark and mark.since,
        newest == current,
    )


def _is_segment(where: Place, file: MappedFile) -> bool:
    return file.path.removesuffix(DELETED) == str(where.segment)
