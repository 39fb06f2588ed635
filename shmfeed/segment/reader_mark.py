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
import time
from collections.abc import Iterable
from typing import NamedTuple

from shmfeed._version import __version__
from shmfeed.memory.pages import page_calls
from shmfeed.segment.mapping import Identity
from shmfeed.segment.processes import DELETED, MappedFile

_PAGE = mmap.PAGESIZE  # bytes of address space; no memory is used for them
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
    calls = page_calls()
    if calls is None:
        return None
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
    except (OSError, AttributeError):
        return None
    try:
        return calls.map_file(fd, _PAGE)
    finally:
        os.close(fd)


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
