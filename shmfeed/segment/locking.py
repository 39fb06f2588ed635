"""Locks of a feed: its private directory, its lock file, the lock on its segment."""

import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from filelock import Timeout, UnixFileLock

from shmfeed.errors import FeedBusyError, SegmentFormatError
from shmfeed.layout import H_WRITER_PID
from shmfeed.segment.mapping import Identity, Place, identity_of, read_word

with suppress(ImportError):  # check_platform refuses such a system
    import fcntl


# `clean` holds a lock for a moment. A feeder that starts then waits for it.
_LOCK_TIMEOUT_SECONDS = 0.1
_POLL_SECONDS = 0.005


def make_directory(directory: Path) -> None:
    """Create the feeds' directory, private to this user, if it does not exist.

    Raises SegmentFormatError if it is not private.
    """
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        directory.chmod(0o700)  # the umask may have cleared bits
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """Raise FileNotFoundError, or SegmentFormatError if it is not this user's alone."""
    status = directory.lstat()
    private = not stat.S_IMODE(status.st_mode) & 0o077
    if not (stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and private):
        raise SegmentFormatError(
            f"{directory} is refused: it must be a directory of user {os.geteuid()}"
            " with mode 0700; move it away"
        )


def acquire_lock_file(where: Place) -> UnixFileLock:
    """Lock the feed's lock file.

    Raises FeedBusyError, or SegmentFormatError if the file cannot be this user's lock.
    """
    check_lock_file(where.lock)
    lock = UnixFileLock(
        where.lock, 0, 0o600, thread_local=False, fallback_to_soft=False
    )
    try:
        lock.acquire(_LOCK_TIMEOUT_SECONDS, poll_interval=_POLL_SECONDS)
    except Timeout:
        raise feed_busy(where, _read_pid(where.lock)) from None
    return lock


def check_lock_file(lock: Path) -> None:
    """Raise SegmentFormatError if a file cannot be this user's lock.

    A missing file is accepted. Call this before opening the file: opening a fifo would
    block, and writing the pid would truncate a file of another program.
    """
    try:
        status = lock.lstat()
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()):
        problem = f"it must be a regular file of user {os.geteuid()}"
    elif status.st_nlink > 1:
        problem = f"it has {status.st_nlink} names (hard links)"
    elif status.st_mode & 0o600 != 0o600:
        problem = f"its mode is {stat.S_IMODE(status.st_mode):04o}, it must be 0600"
    else:
        return
    raise SegmentFormatError(
        f"{lock} is refused as the feed's lock: {problem}; remove it"
    )


def write_pid(lock: Path) -> Identity:
    """Write this process's pid into the lock file, for messages of other feeders."""
    fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        os.ftruncate(fd, 0)
        with suppress(OSError):  # /dev/shm is full: messages lack the pid
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        return identity_of(os.fstat(fd))
    finally:
        os.close(fd)


def lock_segment(where: Place, path: Path) -> int:
    """Return a descriptor that keeps the segment at `path` locked.

    The lock uses a separate descriptor. A lock on the mapping's descriptor would
    survive in a forked child. Raises FeedBusyError.
    """
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
    while not _try_lock(fd):
        if time.monotonic() > deadline:
            pid = read_word(fd, H_WRITER_PID)
            os.close(fd)
            raise feed_busy(where, _if_alive(pid))
        time.sleep(_POLL_SECONDS)
    return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def feed_busy(where: Place, pid: int | None) -> FeedBusyError:
    """Return the error that names the owner of the feed."""
    owner = "another process" if pid is None else f"process {pid}"
    return FeedBusyError(
        f"feed {where.name!r} is written by {owner}; stop that feeder, or use another"
        " feed name",
        pid,
    )


def _read_pid(lock: Path) -> int | None:
    with suppress(OSError, ValueError):
        return _if_alive(int(lock.read_text("ascii")))
    return None


def _if_alive(pid: int) -> int | None:
    # `clean` takes the lock of a dead feeder, whose pid is still in the file.
    with suppress(OSError, OverflowError):
        if pid > 0:
            os.kill(pid, 0)
            return pid
    return None
