"""A small file in which all feeders of a user share a count on this host.

It lies beside their locks, and holds one line of JSON, an object with the `boot` that
its times belong to. A file of an earlier boot, and a damaged one, count as empty. A
feeder locks, reads, writes and releases the file in one go. A feeder that cannot have
the lock is told so, and waits for no other.

Times in it are tenths of a second of CLOCK_BOOTTIME, which all processes of a host
share, and which counts a suspend.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import msgspec

with suppress(ImportError):  # check_platform refuses such a system
    import fcntl

RETRY = 0.05  # s until a feeder that could not have the lock asks again
STUCK = 2.0  # s; a process that holds the lock for so long was stopped
MAX_BYTES = 1 << 20
UNITS = 10  # of time, a second
# Seconds over which a minute's dials or weights are counted: a minute, and a second by
# which they may reach the venue later than they were recorded, as on a busy host.
WINDOW = 60.0 + 1.0
WINDOW_UNITS = int(WINDOW * UNITS)

_LOCK_PAUSE = 0.001  # s
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Book(msgspec.Struct):
    """The content of a file; a kind of its own adds what it counts."""

    boot: str = ""

    @classmethod
    def of_boot(cls, boot: str) -> Self:
        """Return an empty one."""
        return cls(boot=boot)


class LockedError(Exception):
    """Another process holds the lock of the file."""


class Complaint(Protocol):
    """A logger of a file that cannot be used; `path` is the file."""

    def __call__(self, path: Path, reason: str) -> None: ...


B = TypeVar("B", bound=Book)
T = TypeVar("T")


class HostFile(Generic[B]):
    """A file of the kind `kind`, and this process's own part of it.

    Attributes:
        directory: The directory of the file, None to count alone.
        own: The count of this process alone, which serves where the file cannot be
            used, which is said once for each reason.

    Thread safety: one thread at a time.
    """

    def __init__(
        self,
        kind: type[B],
        directory: str | os.PathLike[str] | None,
        name: str,
        complain: Complaint,
    ) -> None:
        """Take the place; the first use opens the file.

        `directory` is that of the feeds' locks, and is not created here; None: this
        process counts alone.
        """
        self.own = kind.of_boot(_boot_id())
        self._kind = kind
        self._decode = msgspec.json.Decoder(kind).decode
        self.directory = directory
        self._name = name
        self._complain = complain
        self._locked_since: float | None = None
        self._said: set[str] = set()

    def update(self, change: Callable[[B], T], tries: int) -> T | None:
        """Apply `change` to the file's content, write that, and return the result.

        Return None if the file cannot be used. Raise LockedError if it stays locked.
        """
        if self.directory is None:
            return None
        try:
            fd = open_file(self.directory, self._name)
            try:
                lock(fd, tries)
                book = self.read(fd)
                result = change(book)
                write(fd, book)
            finally:
                os.close(fd)
        except OSError as error:
            self.fall_back(error.strerror or str(error))
            return None
        self._locked_since = None
        return result

    def is_stuck(self, clock: float) -> bool:
        """Return True if the lock has been held by others for too long."""
        if self._locked_since is None:
            self._locked_since = clock
        if clock - self._locked_since < STUCK:
            return False
        self.fall_back("another process holds its lock")
        return True

    def fall_back(self, reason: str) -> None:
        """Say once that this process counts alone."""
        if reason not in self._said:
            self._said.add(reason)
            self._complain(Path(self.directory or "", self._name), reason)

    def read(self, fd: int) -> B:
        """Return the content of the open file."""
        # A file that was being written when its feeder was killed may be longer than
        # its first line.
        line = os.pread(fd, MAX_BYTES + 1, 0).partition(b"\n")[0]
        boot = self.own.boot
        if len(line) > MAX_BYTES:
            return self._kind.of_boot(boot)
        try:
            book = self._decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._kind.of_boot(boot)
        return book if book.boot == boot else self._kind.of_boot(boot)


def open_file(directory: str | os.PathLike[str], name: str) -> int:
    """Return a descriptor of the file, which is created if need be."""
    folder = os.open(directory, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _check_file(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def lock(fd: int, tries: int) -> None:
    """Take the lock of an open file, or raise LockedError."""
    for left in reversed(range(tries)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if left:
                time.sleep(_LOCK_PAUSE)
        else:
            if os.fstat(fd).st_nlink:
                return
            break  # the file was removed just now
    raise LockedError


def write(fd: int, book: Book) -> None:
    """Replace the content of an open file."""
    data = _encode(book) + b"\n"
    if os.pwrite(fd, data, 0) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, len(data))


def venue_name(host: str, port: int) -> str:
    """Return the key of a host and port in a file."""
    return f"{host.lower().rstrip('.')}:{port}"


def _check_file(fd: int) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    if stat.S_IMODE(status.st_mode) != 0o600:
        os.fchmod(fd, 0o600)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


_encode = msgspec.json.Encoder().encode
