"""A new segment: its file, which is locked at once, its header, and its pages."""

import mmap
import os
from pathlib import Path

from shmfeed.errors import SegmentFormatError
from shmfeed.layout import (
    H_GUARD,
    H_HISTORY,
    H_MAX_STREAMS,
    H_SIZE,
    H_SLOTS,
    WORD,
    Geometry,
)
from shmfeed.memory.words import Words
from shmfeed.segment.allocation import (
    allocation_errors,
    check_size,
    create_object,
    reserve,
)
from shmfeed.segment.locking import FileLock, lock_segment, show_to
from shmfeed.segment.mapping import Mapping, Place, identity_of, offset_words


def set_readers(fd: int, group: int | None) -> None:
    """Let the group read an open segment, or this user alone."""
    if group is None:
        os.fchmod(fd, 0o600)  # the umask may have cleared bits
    else:
        show_to(fd, group, 0o640)


def create_segment(
    where: Place, path: Path, geometry: Geometry, group: int | None
) -> tuple[Mapping, FileLock]:
    """Create a segment at `path`, which is not ready yet, and lock it."""
    check_size(path.parent, geometry.needed_bytes)
    try:
        create_object(path.name, geometry.size)
    except FileExistsError as error:
        raise SegmentFormatError(
            f"{path} was created by another program just now; try again"
        ) from error
    lock = None
    try:
        path.chmod(0o600)  # the umask may have cleared bits
        lock = lock_segment(where, path)
        set_readers(lock.fileno(), group)
        # The first stream at least will have room.
        reserve(lock.fileno(), 0, geometry.slot_word(1) * WORD)
        return _write_header(where, path, geometry), lock
    except OSError:
        path.unlink(missing_ok=True)
        if lock is not None:
            lock.release()
        raise


def _write_header(where: Place, path: Path, geometry: Geometry) -> Mapping:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        pages = mmap.mmap(fd, geometry.size, access=mmap.ACCESS_WRITE)
        words = Words(pages, str(where.segment))
        identity = identity_of(os.fstat(fd))
    finally:
        os.close(fd)
    ints = words.ints
    ints[H_SIZE] = geometry.size
    ints[H_MAX_STREAMS] = geometry.max_streams
    ints[H_HISTORY] = geometry.history
    ints[H_GUARD] = geometry.guard
    ints[H_SLOTS] = geometry.slots
    for word, value in offset_words(geometry).items():
        ints[word] = value
    return Mapping(words, geometry, identity)


def reserve_slots(
    where: Place, mapping: Mapping, lock: FileLock, first: int, count: int
) -> None:
    """Reserve the pages of `count` slots from `first` on, or none of them.

    Raises:
        SegmentFullError: /dev/shm has no room for all of them.
    """
    words, geometry, _ = mapping
    start, size = (
        geometry.slot_word(first) * WORD,
        count * geometry.slot_words * WORD,
    )
    with allocation_errors(where, geometry, more_streams=count):
        try:
            reserve(lock.fileno(), start, size)
        except OSError:
            pages = words.raw.obj
            if isinstance(pages, mmap.mmap):
                pages.madvise(mmap.MADV_REMOVE, start, size)  # a part may be there
            raise
