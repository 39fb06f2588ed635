"""The dials that all feeders of a user may begin, by host and port.

The feeders share one small file beside their locks. It holds, for each host and port,
the dials of the last minute, and a venue's ban:

    {"boot": ID, "venues": {"HOST:PORT": {"dials": [[TIME, COUNT], ..], "ban": [..]}}}

Times are tenths of a second of CLOCK_BOOTTIME, which all processes of a host share, and
which counts a suspend. A file of an earlier boot, a damaged one, and times from the
future count for nothing. A feeder locks, reads, writes and releases the file in one go.
A feeder that cannot have the lock is told to ask again, so that none waits for another.
"""

import errno
import logging
import math
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

with suppress(ImportError):  # check_platform refuses such a system
    import fcntl

FILE_NAME = "_dials"  # no feed's name begins so
# Seconds over which dials are counted: a minute, and a second by which a dial may reach
# the venue later than it was recorded, as on a busy host.
WINDOW = 60.0 + 1.0
RETRY = 0.05  # s until a feeder that could not have the lock asks again
STUCK = 2.0  # s; a process that holds the lock for so long was stopped
MAX_BAN = 7 * 86_400.0  # s, more than any venue's
MAX_BYTES = 1 << 20
MAX_VENUES = 256

_UNITS = 10  # of time, a second; dials of one unit share an entry
_WINDOW = int(WINDOW * _UNITS)
_MOST = 100_000  # dials of one unit of time
_LOCK_PAUSE = 0.001  # s
_RESERVE_TRIES, _BAN_TRIES = 3, 20
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class _Venue(msgspec.Struct):
    """The dials to one host and port as [time, count], and a ban as [begin, end]."""

    dials: list[tuple[int, int]] = msgspec.field(default_factory=list)
    ban: tuple[int, int] = (0, 0)

    def forget(self, now: int) -> None:
        """Drop entries that are past, and those of a clock that was ahead."""
        newest = now + 1  # a dial's time is rounded up
        self.dials = [
            (at, count)
            for at, count in self.dials
            if now - _WINDOW < at <= newest and 0 < count <= _MOST
        ]
        begin, end = self.ban
        if not (begin <= newest and now < end <= begin + MAX_BAN * _UNITS):
            self.ban = (0, 0)

    def wait(self, now: int, most: int) -> int:
        """Return the time until a dial is permitted; for `most` 0 any is."""
        ban = max(0, self.ban[1] - now)
        over = sum(count for _, count in self.dials) - most
        if not most or over < 0:
            return ban
        for at, count in sorted(self.dials):
            over -= count
            if over < 0:
                return max(ban, at + _WINDOW - now)
        return max(ban, _WINDOW)

    def record(self, time: int) -> None:
        if self.dials and self.dials[-1][0] == time:
            self.dials[-1] = (time, self.dials[-1][1] + 1)
        else:
            self.dials.append((time, 1))


class _Book(msgspec.Struct):
    """The content of the file."""

    boot: str = ""
    venues: dict[str, _Venue] = msgspec.field(default_factory=dict)

    def venue(self, name: str, now: int) -> _Venue:
        """Return the venue of this name, without its past entries."""
        for venue in self.venues.values():
            venue.forget(now)
        self.venues = {n: v for n, v in self.venues.items() if v.dials or v.ban[1]}
        if name not in self.venues and len(self.venues) >= MAX_VENUES:
            del self.venues[next(iter(self.venues))]  # used first
        return self.venues.setdefault(name, _Venue())


class _LockedError(Exception):
    """Another process holds the lock of the file."""


class DialBudget:
    """The budget of this process's dials, shared with all feeders of its user.

    Where the file cannot be used, this process counts its own dials alone; that is
    logged once.

    Thread safety: one thread at a time.

    Attributes:
        is_banned: True if a venue's ban made the last `reserve` wait.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        per_minute: int,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Take the limits; the first dial opens the file.

        Args:
            directory: The directory of the feeds' locks; it is not created here. None:
                this process counts alone.
            per_minute: The most dials to a host and port in any 60 s; 0: no limit.
            clock: Seconds since the boot of this host.
        """
        self.per_minute = per_minute
        self.is_banned = False
        self._directory = directory
        self._clock = clock or _since_boot
        self._own = _Book(_boot_id())
        self._locked_since: float | None = None
        self._said: set[str] = set()

    def reserve(self, host: str, port: int) -> float:
        """Return 0.0 if a dial may begin now, and record it.

        Otherwise return the seconds after which to ask again.
        """
        name, clock = _name(host, port), self._clock()
        now = int(clock * _UNITS)

        def take(book: _Book) -> int:
            venue = book.venue(name, now)
            wait = venue.wait(now, self.per_minute)
            self.is_banned = wait > 0 and wait == venue.ban[1] - now
            if not wait:
                venue.record(math.ceil(clock * _UNITS))
            return wait

        own = self._own.venue(name, now)
        if wait := own.wait(now, self.per_minute):
            self.is_banned = wait == own.ban[1] - now
            return wait / _UNITS
        try:
            wait = self._update(take, _RESERVE_TRIES) or 0
        except _LockedError:
            if not self._is_stuck(clock):
                return RETRY
        return (wait or take(self._own)) / _UNITS

    def block(self, host: str, port: int, seconds: float) -> None:
        """Let no feeder of this user dial for `seconds`, as a venue's ban demands.

        A ban that lasts longer stays. At most a week counts.
        """
        if not seconds > 0:
            return
        name, clock = _name(host, port), self._clock()
        # Rounded up: a venue may ban a client again that comes a moment too early.
        begin = math.ceil(clock * _UNITS)
        end = begin + math.ceil(min(seconds, MAX_BAN) * _UNITS)

        def ban(book: _Book) -> None:
            venue = book.venue(name, int(clock * _UNITS))
            if end > venue.ban[1]:
                venue.ban = (begin, end)

        ban(self._own)
        try:
            self._update(ban, _BAN_TRIES)
        except _LockedError:
            self._fall_back("another process holds its lock")

    def _update(self, change: Callable[[_Book], _T], tries: int) -> _T | None:
        """Apply `change` to the file's content, write that, and return the result.

        Return None if the file cannot be used. Raise _LockedError if it stays locked.
        """
        if self._directory is None:
            return None
        try:
            fd = _open(self._directory)
            try:
                _lock(fd, tries)
                book = _read(fd, self._own.boot)
                result = change(book)
                _write(fd, book)
            finally:
                os.close(fd)
        except OSError as error:
            self._fall_back(error.strerror or str(error))
            return None
        self._locked_since = None
        return result

    def _is_stuck(self, clock: float) -> bool:
        """Return True if the lock has been held by others for too long."""
        if self._locked_since is None:
            self._locked_since = clock
        if clock - self._locked_since < STUCK:
            return False
        self._fall_back("another process holds its lock")
        return True

    def _fall_back(self, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            path = Path(self._directory or "", FILE_NAME)
            log.warning(
                "the file of dials %s cannot be used: %s; this feeder counts its own"
                " dials alone",
                path,
                reason,
            )


def _open(directory: str | os.PathLike[str]) -> int:
    folder = os.open(directory, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(FILE_NAME, flags, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _check_file(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_file(fd: int) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    if stat.S_IMODE(status.st_mode) != 0o600:
        os.fchmod(fd, 0o600)


def _lock(fd: int, tries: int) -> None:
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
    raise _LockedError


def _read(fd: int, boot: str) -> _Book:
    # A file that was being written when its feeder was killed may be longer than its
    # first line.
    line = os.pread(fd, MAX_BYTES + 1, 0).partition(b"\n")[0]
    try:
        book = _decode(line) if len(line) <= MAX_BYTES else _Book()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        book = _Book()
    return book if book.boot == boot else _Book(boot)


def _write(fd: int, book: _Book) -> None:
    data = _encode(book) + b"\n"
    if os.pwrite(fd, data, 0) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, len(data))


def _name(host: str, port: int) -> str:
    return f"{host.lower().rstrip('.')}:{port}"


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


_decode = msgspec.json.Decoder(_Book).decode
_encode = msgspec.json.Encoder().encode
