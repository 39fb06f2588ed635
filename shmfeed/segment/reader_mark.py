"""The mark by which a process tells that it reads a segment, and since when.

A reader writes nothing into a segment, and asks no feeder. Its mark is an anonymous
file (memfd) whose name holds the version of the package, the time and the identity of
the segment. The reader maps it, and never touches the mapping, so that it has no page.
Other processes of the user see the name in /proc/PID/maps, and it is gone with the
mapping, however the process ends. Where the host refuses such a file, there is no mark,
and the reader reads all the same.
"""

import mmap
import os
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from shmfeed._version import __version__
from shmfeed.segment.mapping import Identity
from shmfeed.segment.processes import DELETED, MappedFile

_PAGE = 4096  # bytes of address space; no memory is used for them
# Python keeps a copy of the descriptor; from 3.13 on it need not.
_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_NAME = re.compile(
    r"/memfd:shmfeed-reader ([0-9A-Za-z.+-]+) ([0-9]+) ([0-9]+):([0-9]+)"
    + re.escape(DELETED)
)


class ReaderMark(NamedTuple):
    """A mark: the version of the package, ms UTC of the attachment, the segment."""

    version: str
    since: int
    segment: Identity


def make_reader_mark(segment: Identity) -> mmap.mmap | None:
    """Return the mark of this process for a segment; it lasts as long as the object.

    Return None where the host refuses it.
    """
    now = time.time_ns() // 1_000_000
    device, inode = segment
    name = f"shmfeed-reader {__version__} {now} {device}:{inode}"
    with suppress(OSError, ValueError, AttributeError):  # of no descriptor, no memory
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, _PAGE)
            return mmap.mmap(fd, _PAGE, access=mmap.ACCESS_READ, **_UNTRACKED)
        finally:
            os.close(fd)
    return None


def find_reader_marks(files: Iterable[MappedFile]) -> dict[Identity, ReaderMark]:
    """Return the marks among a process's mapped files, by segment, the oldest ones."""
    marks: dict[Identity, ReaderMark] = {}
    for file in files:
        found = _NAME.fullmatch(file.path)
        if found is None:
            continue
        version, since, device, inode = found.groups()
        mark = ReaderMark(version, int(since), (int(device), int(inode)))
        known = marks.setdefault(mark.segment, mark)
        if mark.since < known.since:
            marks[mark.segment] = mark
    return marks
