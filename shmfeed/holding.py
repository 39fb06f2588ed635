"""The writer's hold on a segment: two locks, adoption, creation, removal.

One writer a feed: a lock file in the feed's directory, and a lock on the segment
itself, which holds also when somebody removes the lock file. The holder compares both
with their names at each beat and stops when they are no longer its own. A segment is
unlinked only while both are held.
"""

import mmap
import os
import stat
import struct
import sys
import weakref
from contextlib import suppress
from pathlib import Path

from filelock import Timeout, UnixFileLock

from shmfeed.errors import (
    FeedBusyError,
    FeedLostError,
    FeedNotFoundError,
    SegmentFormatError,
    SegmentFullError,
)
from shmfeed.layout import (
    H_GUARD,
    H_HISTORY,
    H_MAX_STREAMS,
    H_READY,
    H_RETIRED,
    H_SIZE,
    H_SLOTS,
    H_WRITER_PID,
    MAGIC,
    MAGIC_SHIFT,
    READY,
    WORD,
    Geometry,
)
from shmfeed.segment import (
    Mapping,
    Place,
    check_platform,
    identity_by_name,
    map_segment,
    open_checked,
)
from shmfeed.shmobject import make_object
from shmfeed.words import Words

with suppress(ImportError):  # where there is none, no feed has a place
    import fcntl

Identity = tuple[int, int]


class Holding:
    """The right to write one feed, until `release`.

    `mapping` is the segment, seen by readers once it is published; `adopted` says
    whether it was there before, `previous` is the one that it replaces, retired and
    no longer named, if there was one.

    A forked child owns nothing: its copy is disowned, and its descriptors of the
    locks are closed, so that they end with the parent.
    """

    def __init__(self, where: Place, geometry: Geometry) -> None:
        """Raises FeedBusyError naming the holder's pid, SegmentFullError,
        SegmentFormatError; nothing is held then."""
        check_platform()
        self.where = where
        self.previous: Mapping | None = None
        self._owner = os.getpid()
        self._segment_lock = -1
        _make_directory(where.directory)
        self._lock = UnixFileLock(
            where.lock, 0, 0o600, thread_local=False, fallback_to_soft=False
        )
        try:
            self._lock.acquire()
        except Timeout:
            raise _busy(where, _signed(where.lock)) from None
        try:
            self._lock_identity = _sign(where.lock)
            mapping = self._adopt(geometry)
            self.adopted = mapping is not None
            self.mapping = mapping or self._create(geometry)
        except BaseException:
            self._unlock()
            raise
        _holdings.add(self)

    def _adopt(self, geometry: Geometry) -> Mapping | None:
        try:
            fd = open_checked(self.where, os.O_RDWR)
        except FeedNotFoundError:
            return None
        try:
            self._lock_segment()
            ready = _word(fd, H_READY)
            if ready >> MAGIC_SHIFT not in (0, MAGIC):
                raise SegmentFormatError(
                    f"{self.where.segment} is not a shmfeed segment; it stays as it"
                    " is: move it away, or use another feed name"
                )
            with suppress(FeedNotFoundError, SegmentFormatError):
                mapping = map_segment(self.where, fd, mmap.ACCESS_WRITE)
                if not mapping.words.ints[H_RETIRED]:
                    if mapping.geometry == geometry:
                        return mapping
                    self.previous = mapping
            if ready:
                # This word has its place in every layout version.
                os.pwrite(fd, struct.pack("=q", 1), H_RETIRED * WORD)
            self._remove()
        finally:
            os.close(fd)
        return None

    def _create(self, geometry: Geometry) -> Mapping:
        try:
            make_object(self.where.object_name, geometry.size)
        except FileExistsError as error:
            raise SegmentFormatError(
                f"{self.where.segment} appeared while it was being made; try again"
            ) from error
        except OSError as error:
            raise _no_room(self.where, geometry, error) from error
        try:
            self.where.segment.chmod(0o600)  # the umask may have left less
            self._lock_segment()
            os.posix_fallocate(self._segment_lock, 0, geometry.size)
            return self._write_header(geometry)
        except OSError as error:
            self._remove()
            raise _no_room(self.where, geometry, error) from error

    def _write_header(self, geometry: Geometry) -> Mapping:
        fd = os.open(self.where.segment, os.O_RDWR | os.O_NOFOLLOW)
        try:
            words = Words(mmap.mmap(fd, geometry.size, access=mmap.ACCESS_WRITE))
            status = os.fstat(fd)
        finally:
            os.close(fd)
        ints = words.ints
        ints[H_SIZE] = geometry.size
        ints[H_MAX_STREAMS] = geometry.max_streams
        ints[H_HISTORY] = geometry.history
        ints[H_GUARD] = geometry.guard
        ints[H_SLOTS] = geometry.slots
        return Mapping(words, geometry, (status.st_dev, status.st_ino))

    def publish(self) -> None:
        """Let readers in: a new segment is whole, with the bars that it takes over."""
        self.mapping.words.ints[H_READY] = READY  # release: pairs with a reader's load

    def _lock_segment(self) -> None:
        # A descriptor of its own: a mapping keeps one too, and a forked child that
        # inherits the mapping would keep a lock on that alive.
        fd = os.open(self.where.segment, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _word(fd, H_WRITER_PID)
            os.close(fd)
            raise _busy(self.where, pid or None) from None
        self._segment_lock = fd

    def check(self) -> None:
        """FeedLostError if segment or lock no longer bear their names."""
        held = (
            (self.where.segment, self.mapping.identity),
            (self.where.lock, self._lock_identity),
        )
        for path, identity in held:
            if _identity(path) != identity:
                raise FeedLostError(
                    f"{path} is no longer the one that this feeder (pid {os.getpid()})"
                    " holds: it was removed or replaced; start the feeder again"
                )

    def release(self, unlink: bool) -> None:
        """Let go; with `unlink` the segment goes too, retired first. Idempotent."""
        if self._owner != os.getpid() or not self._lock.is_locked:
            return
        if unlink and identity_by_name(self.where) == self.mapping.identity:
            self.mapping.words.ints[H_RETIRED] = 1
            self._remove()
        self._unlock()

    def disown(self) -> None:
        """In a forked child: it owns nothing."""
        self._owner = -1
        self._unlock_segment()

    def _remove(self) -> None:
        with suppress(FileNotFoundError):
            self.where.segment.unlink()
        self._unlock_segment()

    def _unlock(self) -> None:
        self._unlock_segment()
        self._lock.release()

    def _unlock_segment(self) -> None:
        fd, self._segment_lock = self._segment_lock, -1
        if fd >= 0:
            os.close(fd)


_holdings: weakref.WeakSet[Holding] = weakref.WeakSet()


def _disown_all() -> None:
    for holding in list(_holdings):
        holding.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)


def _make_directory(directory: Path) -> None:
    """The feeds' directory, 0700 and ours; SegmentFormatError if it is another's."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        directory.chmod(0o700)  # the umask may have left less
    status = directory.lstat()
    private = not stat.S_IMODE(status.st_mode) & 0o077
    if not (stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and private):
        raise SegmentFormatError(
            f"{directory} is refused: it must be a directory of user {os.geteuid()}"
            " with mode 0700; move it away"
        )


def _sign(lock: Path) -> Identity:
    """Write our pid into the lock file, for those who find it held."""
    fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        status = os.fstat(fd)
    finally:
        os.close(fd)
    return status.st_dev, status.st_ino


def _signed(lock: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(lock.read_text("ascii"))
    return None


def _busy(where: Place, pid: int | None) -> FeedBusyError:
    holder = "another process" if pid is None else f"process {pid}"
    return FeedBusyError(
        f"feed {where.name!r} is written by {holder}; stop that feeder, or use another"
        " feed name",
        pid,
    )


def _word(fd: int, number: int) -> int:
    content = os.pread(fd, WORD, number * WORD)
    return int.from_bytes(content, sys.byteorder) if len(content) == WORD else 0


def _identity(path: Path) -> Identity | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _no_room(where: Place, geometry: Geometry, error: OSError) -> SegmentFullError:
    shared = where.segment.parent
    room = os.statvfs(shared)
    free = room.f_bavail * room.f_frsize
    return SegmentFullError(
        error.errno,
        f"{shared} has {free / 2**20:.1f} MiB free, feed {where.name!r} needs"
        f" {geometry.size / 2**20:.1f} MiB for {geometry.max_streams} streams of"
        f" {geometry.history} bars; ask for fewer, or enlarge it (docker: --shm-size)",
    )
