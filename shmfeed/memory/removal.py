"""Removing a segment that no feeder holds any more."""

import os
import struct
from contextlib import suppress

from shmfeed.errors import FeedBusyError, FeedNotFoundError, SegmentError
from shmfeed.layout import H_RETIRED, WORD
from shmfeed.memory.locking import check_directory, lock_file, lock_object
from shmfeed.memory.segment import Place, check_ours, open_checked


def remove_unheld(where: Place) -> bool:
    """Whether the segment was there, and nobody's, and is gone now.

    With it goes what a killed feeder left beside it; its lock file stays. Its readers
    keep what they have and look for a successor. Raises SegmentFormatError for a file
    that is not ours, which stays, and SegmentError for what the host refuses.
    """
    try:
        return _remove_locked(where)
    except FeedBusyError:
        return False
    except SegmentError:
        raise
    except OSError as error:
        raise SegmentError(
            f"feed {where.name!r} cannot be removed: {error}; it is as it was"
        ) from error


def _remove_locked(where: Place) -> bool:
    if not os.path.lexists(where.directory):
        return False
    check_directory(where.directory)
    lock = lock_file(where)
    try:
        with suppress(FileNotFoundError, IsADirectoryError):  # a directory is not ours
            where.socket.unlink()
        return _remove(where)
    finally:
        lock.release()


def _remove(where: Place) -> bool:
    try:
        fd = open_checked(where, os.O_RDWR)
    except FeedNotFoundError:
        return False
    held = -1
    try:
        # The holder has this lock too, which holds without the lock file.
        held = lock_object(where, where.segment)
        check_ours(where, fd)
        if os.fstat(fd).st_size > H_RETIRED * WORD:
            os.pwrite(fd, struct.pack("=q", 1), H_RETIRED * WORD)
        with suppress(FileNotFoundError):
            where.segment.unlink()
    finally:
        os.close(fd)
        if held >= 0:
            os.close(held)
    return True
