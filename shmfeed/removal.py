"""Removing a segment that no feeder holds any more."""

import fcntl
import os
import struct
from contextlib import suppress

from filelock import Timeout, UnixFileLock

from shmfeed.errors import FeedNotFoundError
from shmfeed.layout import H_RETIRED, WORD
from shmfeed.segment import Place, open_checked


def remove_unheld(where: Place) -> bool:
    """Whether the segment was there, and nobody's, and is gone now.

    Its readers keep what they have and look for a successor. Raises
    SegmentFormatError for a file that is not ours, which stays.
    """
    if not where.lock.exists():
        return False
    lock = UnixFileLock(
        where.lock, 0, 0o600, thread_local=False, fallback_to_soft=False
    )
    try:
        with lock:
            return _remove(where)
    except Timeout:
        return False


def _remove(where: Place) -> bool:
    try:
        fd = open_checked(where, os.O_RDWR)
    except FeedNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_size > H_RETIRED * WORD:
            os.pwrite(fd, struct.pack("=q", 1), H_RETIRED * WORD)
        with suppress(FileNotFoundError):
            where.segment.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
