"""Locks of a feed: its private directory, its lock file, the lock on its segment."""

import os
import stat
import struct
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shmfeed.errors import FeedBusyError, FeedNotFoundError, SegmentFormatError
from shmfeed.forks import ForkRegistry
from shmfeed.layout import H_RETIRED, H_WRITER_EPOCH, H_WRITER_PID, WORD
from shmfeed.memory.liveness import is_alive
from shmfeed.memory.right import next_epoch
from shmfeed.memory.words import boot_ns
from shmfeed.segment.mapping import (
    Identity,
    Place,
    identity_of,
    open_segment,
    read_word,
)

with suppress(ImportError):  # check_platform refuses such a system
    import fcntl


# `clean` holds a lock for a moment. A feeder that starts then waits for it.
_LOCK_TIMEOUT_SECONDS = 0.1
_POLL_SECONDS = 0.005


def make_directory(directory: Path) -> None:
    """Create the feeds' directory, private to this user, if it does not exist.

    Raises SegmentFormatError if others may use it.
    """
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        directory.chmod(0o700)  # the umask may have cleared bits
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """Raise FileNotFoundError, or SegmentFormatError if others may use it.

    A group may look into it, as it may with the setting `group`.
    """
    status = directory.lstat()
    private = not status.st_mode & 0o027
    if not (stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and private):
        raise SegmentFormatError(
            f"{directory} is refused: it must be a directory of user {os.geteuid()}"
            " with mode 0700, or 0750 for a group; move it away"
        )


def show_directory_to(directory: Path, group: int) -> None:
    """Let a group look into the feeds' directory; its files stay this user's."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        show_to(fd, group, 0o750)
    finally:
        os.close(fd)


def show_to(fd: int, group: int, mode: int) -> None:
    """Give an open file to a group, with a mode that lets it read."""
    status = os.fstat(fd)
    if status.st_gid != group:
        os.fchmod(fd, mode & ~0o077)  # never readable by the group before this one
        os.fchown(fd, -1, group)
    os.fchmod(fd, mode)


class FileLock:
    """An exclusive flock on one file, from construction to `release`.

    The lock has a descriptor of its own: a lock on a mapping's descriptor would survive
    in a forked child. A lock that is dropped is released.

    The descriptor may be closed by other code of this process, and its number given to
    another file. Both are noticed, and a number that is another file's by now is not
    closed.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.identity = identity_of(os.fstat(fd))
        self._close = weakref.finalize(self, _close_own, fd, self.identity)
        self._close.atexit = False
        _file_locks.add(self)

    def fileno(self) -> int:
        return self._fd

    @property
    def is_held(self) -> bool:
        """True if the descriptor is still this lock's, and no other one has the lock.

        A lock that a forked child released is taken again. The writer epoch tells then
        whether another writer had it meanwhile.
        """
        own = self._close.alive and _is_open(self._fd, self.identity)
        return own and _try_lock(self._fd)

    def release(self) -> None:
        """Unlock the file by closing the descriptor. Idempotent.

        In a forked child this leaves the parent's lock alone.
        """
        self._close()

    def disown(self) -> None:
        self.release()


_file_locks: ForkRegistry[FileLock] = ForkRegistry()


class FeedLocks(NamedTuple):
    """The two locks of a feed, as one process hands them to the next.

    Both processes hold them: each has a descriptor of the same open file. They end when
    the last of these descriptors is closed, so that no third process comes in between.
    """

    feed: FileLock
    segment: FileLock

    def share(self) -> "FeedLocks":
        """Return the same locks by descriptors of their own."""
        return FeedLocks(*(FileLock(os.dup(lock.fileno())) for lock in self))

    def release(self) -> None:
        """Close the descriptors. Idempotent."""
        for lock in self:
            lock.release()


def _is_open(fd: int, identity: Identity) -> bool:
    try:
        return identity_of(os.fstat(fd)) == identity
    except OSError:
        return False


def _close_own(fd: int, identity: Identity) -> None:
    if _is_open(fd, identity):
        os.close(fd)


def acquire_lock_file(where: Place, create: bool = True) -> FileLock:
    """Lock the feed's lock file. Without `create`, raise FileNotFoundError if absent.

    Raises FeedBusyError, or SegmentFormatError if the file cannot be this user's lock.
    """
    check_lock_file(where.lock)
    lock = _acquire(where.lock, os.O_CREAT if create else 0)
    if lock is None:
        raise feed_busy(where, _read_pid(where.lock))
    return lock


def is_free(where: Place) -> bool:
    """Return True if no process has the feed's lock file locked now.

    The lock is held for a moment to find out; a feeder that starts then waits for it.
    """
    try:
        lock = FileLock(os.open(where.lock, os.O_RDWR | os.O_NOFOLLOW))
    except OSError:  # absent, or refused, as the next writer will say
        return True
    try:
        return lock.is_held
    finally:
        lock.release()


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


def write_pid(lock: FileLock) -> None:
    """Write this process's pid into the lock file, for messages of other feeders."""
    os.ftruncate(lock.fileno(), 0)
    with suppress(OSError):  # /dev/shm is full: messages lack the pid
        os.pwrite(lock.fileno(), b"%d\n" % os.getpid(), 0)


def lock_segment(where: Place, path: Path) -> FileLock:
    """Lock the segment at `path`. Raises FeedBusyError."""
    lock = _acquire(path)
    if lock is None:
        raise feed_busy(where, _if_alive(_writer_pid(path)))
    return lock


def may_be_locked_by_reader(where: Place, fd: int) -> bool:
    """Return True if the lock of an open segment is not a writer's.

    Call it with the feed's lock file held. A group that reads the segment can lock it:
    flock needs no right to write. A writer without its lock file has its heartbeat.
    """
    if not os.fstat(fd).st_mode & stat.S_IRGRP:
        return False
    try:
        return not is_alive(open_segment(where).words.ints, boot_ns())
    except (FeedNotFoundError, SegmentFormatError):  # not ready, or damaged
        return True


def expel_writer(fd: int) -> None:
    """End the right of a writer that lost its locks, in an open segment that is ready.

    Call it with both locks held, before the segment is replaced or removed: otherwise
    such a writer would store more bars that no reader finds.
    """
    if os.fstat(fd).st_size >= (H_WRITER_EPOCH + 1) * WORD:
        _store_word(fd, H_WRITER_EPOCH, next_epoch(read_word(fd, H_WRITER_EPOCH)))


def retire(fd: int) -> None:
    """Mark an open segment that is ready as retired: its readers look for another one.

    Calls `expel_writer` first: both locks must be held. The writer epoch and the mark
    are at the same places in every layout version.
    """
    expel_writer(fd)
    if os.fstat(fd).st_size >= (H_RETIRED + 1) * WORD:
        _store_word(fd, H_RETIRED, 1)


def _store_word(fd: int, number: int, value: int) -> None:
    os.pwrite(fd, struct.pack("=q", value), number * WORD)


def _writer_pid(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # it was removed just now
        return 0
    try:
        return read_word(fd, H_WRITER_PID)
    finally:
        os.close(fd)


def _acquire(path: Path, flags: int = 0) -> FileLock | None:
    # None if the file stays locked, or was removed again and again.
    deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
    while True:
        lock = FileLock(os.open(path, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600))
        status = os.fstat(lock.fileno())
        if flags & os.O_CREAT and status.st_mode & 0o600 != 0o600:
            os.fchmod(lock.fileno(), 0o600)  # the umask cleared bits
        # The file may have been removed just before it was locked.
        if lock.is_held and os.fstat(lock.fileno()).st_nlink:
            return lock
        lock.release()
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL_SECONDS)


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
