"""Who may write a feed: its private directory, its lock file, the lock on an object."""

import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from filelock import Timeout, UnixFileLock

from shmfeed.errors import FeedBusyError, SegmentFormatError
from shmfeed.layout import H_WRITER_PID
from shmfeed.segment.mapping import Place, read_word

with suppress(ImportError):  # where there is none, no feed has a place
    import fcntl

Identity = tuple[int, int]  # device and inode

# Who cleans up holds a lock for a moment: a feeder that starts then is not refused.
_PATIENCE_SECONDS = 0.1
_POLL_SECONDS = 0.005


def make_directory(directory: Path) -> None:
    """The feeds' directory, 0700 and ours; SegmentFormatError if it is another's."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        directory.chmod(0o700)  # the umask may have left less
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """FileNotFoundError, or SegmentFormatError if it is not private, and ours."""
    status = directory.lstat()
    private = not stat.S_IMODE(status.st_mode) & 0o077
    if not (stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and private):
        raise SegmentFormatError(
            f"{directory} is refused: it must be a directory of user {os.geteuid()}"
            " with mode 0700; move it away"
        )


def lock_file(where: Place) -> UnixFileLock:
    """The feed's lock file, locked; FeedBusyError, SegmentFormatError for what is no
    lock file of ours, which stays as it is."""
    check_lock(where.lock)
    lock = UnixFileLock(
        where.lock, 0, 0o600, thread_local=False, fallback_to_soft=False
    )
    try:
        lock.acquire(_PATIENCE_SECONDS, poll_interval=_POLL_SECONDS)
    except Timeout:
        raise busy(where, _signed(where.lock)) from None
    return lock


def check_lock(lock: Path) -> None:
    """SegmentFormatError for what cannot be a lock file of ours; none there is fine."""
    # Before it is opened: a fifo would block, and signing would cut another's file.
    try:
        status = lock.lstat()
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()):
        problem = f"it must be a regular file of user {os.geteuid()}"
    elif status.st_nlink > 1:
        problem = f"it has {status.st_nlink} names (hard links), one may be another's"
    elif status.st_mode & 0o600 != 0o600:
        problem = f"its mode is {stat.S_IMODE(status.st_mode):04o}, it must be 0600"
    else:
        return
    raise SegmentFormatError(
        f"{lock} is refused as the feed's lock: {problem}; remove it"
    )


def sign(lock: Path) -> Identity:
    """Write our pid into the lock file, for those who find it held."""
    fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        os.ftruncate(fd, 0)
        with suppress(OSError):  # no room: then it is not told who holds the feed
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        return identity_of(fd)
    finally:
        os.close(fd)


def lock_object(where: Place, path: Path) -> int:
    """A descriptor that keeps the object at `path` locked; FeedBusyError.

    One of its own: a mapping keeps one too, and a forked child that inherits the
    mapping would keep a lock on that alive.
    """
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not _try_lock(fd):
        if time.monotonic() > deadline:
            pid = read_word(fd, H_WRITER_PID)
            os.close(fd)
            raise busy(where, _living(pid))
        time.sleep(_POLL_SECONDS)
    return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def identity_of(fd: int) -> Identity:
    """Which object a descriptor is of."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def busy(where: Place, pid: int | None) -> FeedBusyError:
    """The error that names who holds the feed."""
    holder = "another process" if pid is None else f"process {pid}"
    return FeedBusyError(
        f"feed {where.name!r} is written by {holder}; stop that feeder, or use another"
        " feed name",
        pid,
    )


def _signed(lock: Path) -> int | None:
    with suppress(OSError, ValueError):
        return _living(int(lock.read_text("ascii")))
    return None


def _living(pid: int) -> int | None:
    """Who cleans up holds the locks too, and what a dead feeder signed is there yet."""
    with suppress(OSError, OverflowError):
        if pid > 0:
            os.kill(pid, 0)
            return pid
    return None
