"""Removal of files that no feeder owns: segments, unfinished ones, control sockets.

This module takes locks, whose code a reading process must not load. Therefore it is
separate from `inventory`.
"""

import errno
import math
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from shmfeed.errors import (
    FeedBusyError,
    FeedNotFoundError,
    SegmentError,
    SegmentFormatError,
)
from shmfeed.layout import AHEAD_NS, H_ALIVE, H_READY, H_STATE_SINCE, H_TICK, READY
from shmfeed.memory.words import boot_ns
from shmfeed.segment.inventory import (
    has_files,
    lock_files,
    take_inventory,
    takeover_sockets,
)
from shmfeed.segment.locking import (
    acquire_lock_file,
    lock_segment,
    make_directory,
    may_be_locked_by_reader,
    retire,
)
from shmfeed.segment.mapping import (
    TAKEOVER_SUFFIX,
    Place,
    identity_of,
    open_checked,
    place,
    read_ready_word,
    read_word,
)

_SECOND = 1_000_000_000
_PRIVATE_LOCK = re.compile(r"((?:replay|bench)-(\d{1,10})(?:-[0-9a-z-]+)?)\.lock")

UNHELD, HELD, FOREIGN, FAILED = "unheld", "held", "foreign", "failed"
RECENT = "recent"


class Leftover(NamedTuple):
    """A file that belongs to a feed's name, and its owner if it has one.

    `size` is in bytes. `state` is UNHELD if no feeder owns it, HELD if one does, RECENT
    if one did so a short time ago, FOREIGN if no feeder of this user can have created
    it, FAILED if the host refused. `reason` says why it stays, and is empty for UNHELD.
    `pid` is the owner's, None if no feeder owns it or the owner is unknown.
    """

    path: Path
    size: int
    state: str = UNHELD
    reason: str = ""
    pid: int | None = None


def remove_unheld(where: Place) -> bool:
    """Remove the segment if no feeder owns it. Return True if it was removed.

    An unfinished segment and the socket of a killed feeder are removed with it. The
    lock file stays. Readers keep their bars and look for another segment. Raises
    SegmentFormatError, and removes nothing, if the file is not a segment of this user,
    SegmentError if the host refuses.
    """
    by_path = {item.path: item for item in leftovers(where, remove=True)}
    found = by_path.get(where.segment)
    if found is None or found.state == HELD:
        return False
    if found.state == FOREIGN:
        raise SegmentFormatError(f"{found.path} {found.reason}")
    if found.state == FAILED:
        raise SegmentError(
            f"feed {where.name!r} cannot be removed: it {found.reason}; it was not"
            " changed"
        )
    return True


def leftovers(
    where: Place, remove: bool = False, spared_seconds: float = 0.0
) -> list[Leftover]:
    """List a feed's segment, unfinished segment, and sockets: control and takeover.

    With `remove`, remove those that no feeder owns. If a feeder owns any of them, all
    stay, and so do those of a feed whose feeder ended less than `spared_seconds` ago. A
    file that no feeder of this user can have created stays.
    """
    existing = [path for path in _paths(where) if _size(path) is not None]
    if not existing:
        return []
    with ExitStack() as locks:
        try:
            if remove:
                make_directory(where.directory)
            if remove or _size(where.lock) is not None:
                with nullcontext() if remove else suppress(FileNotFoundError):
                    locks.callback(acquire_lock_file(where, create=remove).release)
            found = _examine(where, existing, locks)
            if spared_seconds:
                found = _spare(found, spared_seconds - _seconds_since_end(where))
            return [_unlink(one) if remove else one for one in found]
        except FeedBusyError as error:
            owner = "another process" if error.pid is None else f"process {error.pid}"
            return _all_stay(existing, HELD, f"is held by {owner}", error.pid)
        except SegmentFormatError as error:
            return _all_stay(existing, FOREIGN, f"cannot be locked: {error}")
        except (SegmentError, OSError) as error:
            return _all_stay(existing, FAILED, f"cannot be locked: {error}")


def _paths(where: Place) -> tuple[Path, ...]:
    sockets = takeover_sockets(where)
    return where.segment, where.successor, where.socket, *sockets


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:  # also if the directory is a file
        return None


def _all_stay(
    existing: list[Path], state: str, reason: str, pid: int | None = None
) -> list[Leftover]:
    sizes = ((path, _size(path)) for path in existing)
    return [
        Leftover(path, size, state, reason, pid)
        for path, size in sizes
        if size is not None
    ]


def _examine(where: Place, existing: list[Path], locks: ExitStack) -> list[Leftover]:
    # All files are examined before the first is removed: FeedBusyError leaves all.
    found = []
    for path in existing:
        size = _size(path)
        if size is None:  # removed meanwhile; a new file may get its name
            continue
        found.append(Leftover(path, size, *_why_it_stays(where, path, locks)))
    return found


def _spare(found: list[Leftover], seconds: float) -> list[Leftover]:
    """Let the files that no feeder owns stay if there are seconds left."""
    if seconds <= 0:
        return found
    reason = (
        f"was in use a short time ago and stays for {math.ceil(seconds)} s more, unless"
        " --force is given"
    )
    return [
        one._replace(state=RECENT, reason=reason) if one.state == UNHELD else one
        for one in found
    ]


def _seconds_since_end(where: Place) -> float:
    """Return for how long no feeder has given a sign of life, infinite if not known.

    It is the last heartbeat; of a feeder that ended in good order, which clears it, the
    time of its end; of an unfinished segment, or a socket alone, that of the file.
    """
    try:
        fd = open_checked(where, os.O_RDONLY)
    except (FeedNotFoundError, SegmentError):
        return _file_age(where)
    try:
        beats = [read_word(fd, H_ALIVE), read_word(fd, H_TICK)]
        if any(beats):
            return min(_age((boot_ns() - beat) / _SECOND) for beat in beats if beat)
        is_stated = read_word(fd, H_READY) >= READY  # layout 1 has no such word
        since = read_word(fd, H_STATE_SINCE) if is_stated else 0
        return _age(time.time() - since / 1000) if since else _file_age(where)
    finally:
        os.close(fd)


def _file_age(where: Place) -> float:
    ages = []
    for path in _paths(where):
        with suppress(OSError):
            ages.append(_age(time.time() - path.lstat().st_mtime))
    return min(ages, default=math.inf)


def _age(seconds: float) -> float:
    # A time that lies far in the future is damage, and would spare a file for ever.
    return max(0.0, seconds) if seconds > -AHEAD_NS / _SECOND else math.inf


def _why_it_stays(where: Place, path: Path, locks: ExitStack) -> tuple[str, str]:
    """Return state and reason. An UNHELD segment is locked until `locks` ends."""
    try:
        if path.suffix in (where.socket.suffix, TAKEOVER_SUFFIX):
            _check_socket(path)
        else:
            _lock(where._replace(segment=path), locks)
    except SegmentFormatError as error:
        return FOREIGN, str(error).removeprefix(f"{path} ")
    except SegmentError as error:
        return FAILED, str(error).removeprefix(f"{path} ")
    except OSError as error:
        return FAILED, f"cannot be examined: {error.strerror}"
    return UNHELD, ""


def _check_socket(path: Path) -> None:
    # Only the owner of the lock file creates a socket, and this process owns it.
    status = path.lstat()
    if not (stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid()):
        raise SegmentFormatError(f"{path} is not a socket of this user; move it away")


def _lock(where: Place, locks: ExitStack) -> None:
    fd = open_checked(where, os.O_RDWR)
    locks.callback(os.close, fd)
    ready = read_ready_word(where, fd)
    # A feeder holds this lock too, even if its lock file was removed.
    try:
        locked = lock_segment(where, where.segment)
    except FeedBusyError:
        if not may_be_locked_by_reader(where, fd):
            raise
    else:
        locks.callback(locked.release)
        if identity_of(os.fstat(fd)) != locked.identity:
            raise FeedBusyError(f"{where.segment} was replaced just now")
    # A segment that was never ready has no readers, and may have no page to write.
    if ready:
        locks.callback(_retire_if_gone, fd)


def _retire_if_gone(fd: int) -> None:
    if not os.fstat(fd).st_nlink:
        retire(fd)


def _unlink(item: Leftover) -> Leftover:
    if item.state != UNHELD:
        return item
    try:
        with suppress(FileNotFoundError):
            item.path.unlink()
    except OSError as error:
        reason = f"cannot be removed: {error.strerror}"
        return item._replace(state=FAILED, reason=reason)
    return item


_NO_FEED_NAME = "is not named like a feed; no feeder created it, so it stays"


def clean_feed(name: str, remove: bool, spared_seconds: float = 0.0) -> list[Leftover]:
    """List a feed's leftovers. With `remove`, remove those that no feeder owns.

    `spared_seconds` is that of `leftovers`. Raises FeedNotFoundError if the feed has
    none, BadArgumentError for a bad name, UnsupportedPlatformError.
    """
    where = place(name)
    if not has_files(where):
        raise FeedNotFoundError(
            errno.ENOENT,
            f"there is no feed {name!r} on this host, so there is nothing to remove",
            str(where.segment),
        )
    return leftovers(where, remove, spared_seconds)


def clean_all(remove: bool, spared_seconds: float = 0.0) -> list[Leftover]:
    """List the leftovers of all feeds of this user, and other files with our prefix.

    With `remove`, remove those that no feeder owns. The other files stay.
    `spared_seconds` is that of `leftovers`.
    """
    feeds, foreign = take_inventory()
    found = [
        item
        for name in feeds
        for item in leftovers(place(name), remove, spared_seconds)
    ]
    return found + [Leftover(path, 0, FOREIGN, _NO_FEED_NAME) for path in foreign]


def clean_locks(remove: bool) -> list[Leftover]:
    """List the lock files of replays and benchmarks that have ended.

    Their feeds' names have the pid of their process, so that no other feeder ever
    takes one. With `remove`, remove them; a process that was about to take such a lock
    notices, and makes another file.
    """
    found = []
    for where in _ended_places():
        try:
            lock = acquire_lock_file(where, create=False)
        except (FeedBusyError, SegmentError, OSError):  # in another PID namespace
            continue
        item = Leftover(where.lock, 0)
        found.append(_unlink(item) if remove else item)
        lock.release()
    return found


def _ended_places() -> Iterator[Place]:
    """Yield the places of private feeds whose process has ended and left no file."""
    for path in lock_files():
        found = _PRIVATE_LOCK.fullmatch(path.name)
        if found is None or _exists(int(found[2])):
            continue
        where = place(found[1])
        if not has_files(where):
            yield where


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another user
        return True
    return True
