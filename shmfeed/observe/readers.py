"""The processes that read a feed, found in /proc.

A process that has a feed's segment mapped read-only reads it. Its mark tells since when
and with which version of the package; a version without marks tells neither. A process
that has it mapped for writing is its feeder, and a reader only if it has a mark.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shmfeed.accounts import user_name
from shmfeed.errors import FeedNotFoundError, SegmentError
from shmfeed.layout import H_WRITER_PID
from shmfeed.segment.mapping import (
    Place,
    feed_not_found,
    identity_at,
    open_checked,
    read_word,
)
from shmfeed.segment.processes import (
    DELETED,
    PROC,
    MappedFile,
    command_of,
    mapped_files,
    other_processes,
    owner_of_process,
)
from shmfeed.segment.reader_mark import find_reader_marks


class FeedReader(NamedTuple):
    """A process that reads a feed.

    Attributes:
        pid: Its pid in this PID namespace.
        user: The name of its user, or the number if it has no name here.
        command: Its command line, shortened.
        version: The version of its shmfeed, None if it does not tell.
        since: Ms UTC of its attachment to the segment, None if it does not tell. A
            forked child has that of its parent.
        is_current: False if it has only an earlier segment of the feed, and has not
            read since the feed was recreated.
    """

    pid: int
    user: str
    command: str
    version: str | None
    since: int | None
    is_current: bool


class FeedReaders(NamedTuple):
    """The readers of a feed that could be seen, and how many processes could not.

    Attributes:
        readers: The readers, by pid.
        unreadable: Processes of this user that could not be looked into.
        of_others: Processes of other users that may read the feed and could not be
            looked into; the feeder is not among them.
    """

    readers: list[FeedReader]
    unreadable: int
    of_others: int


def find_readers(where: Place, proc: Path = PROC) -> FeedReaders:
    """Return the other processes that read a feed, by pid.

    Those of other users are seen where the host permits it, as it permits root.
    Processes in other PID namespaces (containers) are not seen.

    Raises FeedNotFoundError if the feed has no segment.
    """
    if identity_at(where.segment) is None:
        raise feed_not_found(where)
    readers, unreadable, of_others = [], 0, 0
    feeder = _feeder_of(where)
    for pid, user in _possible_readers(where, proc):
        is_own = user == os.geteuid()
        try:
            reader = _read_process(where, proc / str(pid), pid, user)
        except PermissionError:
            unreadable += is_own
            of_others += not is_own and pid != feeder
        except OSError:  # it has ended
            continue
        else:
            readers += [reader] if reader is not None else []
    return FeedReaders(readers, unreadable, of_others)


def _possible_readers(where: Place, proc: Path) -> Iterator[tuple[int, int]]:
    """Yield pid and user of the processes that may read a feed, and of this user's."""
    me, segment = os.geteuid(), where.segment.lstat()
    for pid in other_processes(proc):
        try:
            owner = owner_of_process(proc / str(pid))
        except OSError:  # it has ended
            continue
        if owner.user == me or owner.may_read(segment):
            yield pid, owner.user


def _feeder_of(where: Place) -> int:
    try:
        fd = open_checked(where, os.O_RDONLY)
    except (FeedNotFoundError, SegmentError):
        return 0
    try:
        return read_word(fd, H_WRITER_PID)
    finally:
        os.close(fd)


def _read_process(
    where: Place, directory: Path, pid: int, user: int
) -> FeedReader | None:
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
        user_name(user),
        command_of(directory),
        mark and mark.version,
        mark and mark.since,
        newest == current,
    )


def _is_segment(where: Place, file: MappedFile) -> bool:
    return file.path.removesuffix(DELETED) == str(where.segment)
