"""Removal of files that no feeder owns: segments, unfinished ones, control sockets.

This module takes locks, whose code a reading process must not load. Therefore it is
separate from `inventory`.
"""

import errno
import os
import stat
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from shmfeed.errors import (
    FeedBusyError,
    FeedNotFoundError,
    SegmentError,
    SegmentFormatError,
)
from shmfeed.segment.inventory import has_files, take_inventory
from shmfeed.segment.locking import (
    acquire_lock_file,
    lock_segment,
    make_directory,
    retire,
)
from shmfeed.segment.mapping import (
    Place,
    identity_of,
    open_checked,
    place,
    read_ready_word,
)

UNHELD, HELD, FOREIGN, FAILED = "unheld", "held", "foreign", "failed"


class Leftover(NamedTuple):
    """A file that belongs to a feed's name, and its owner if it has one.

    `size` is in bytes. `state` is UNHELD if no feeder owns it, HELD if one does,
    FOREIGN if no feeder of this user can have created it, FAILED if the host refused.
    `reason` says why it stays, and is empty for UNHELD. `pid` is the owner's, None if
    no feeder owns it or the owner is unknown.
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


def leftovers(where: Place, remove: bool = False) -> list[Leftover]:
    """List a feed's segment, unfinished segment and control socket.

    With `remove`, remove those that no feeder owns. If a feeder owns any of them, all
    stay. A file that no feeder of this user can have created stays.
    """
    names = where.segment, where.successor, where.socket
    existing = [path for path in names if _size(path) is not None]
    if not existing:
        return []
    with ExitStack() as locks:
        try:
            if remove:
                make_directory(where.directory)
            if remove or _size(where.lock) is not None:
                with nullcontext() if remove else suppress(FileNotFoundError):
                    locks.callback(acquire_lock_file(where, create=remove).release)
            return _examine(where, existing, remove, locks)
        except FeedBusyError as error:
            owner = "another process" if error.pid is None else f"process {error.pid}"
            return _all_stay(existing, HELD, f"is held by {owner}", error.pid)
        except SegmentFormatError as error:
            return _all_stay(existing, FOREIGN, f"cannot be locked: {error}")
        except (SegmentError, OSError) as error:
            return _all_stay(existing, FAILED, f"cannot be locked: {error}")


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


def _examine(
    where: Place, existing: list[Path], remove: bool, locks: ExitStack
) -> list[Leftover]:
    # All files are examined before the first is removed: FeedBusyError leaves all.
    found = []
    for path in existing:
        size = _size(path)
        if size is None:  # removed meanwhile; a new file may get its name
            continue
        found.append(Leftover(path, size, *_why_it_stays(where, path, locks)))
    if remove:
        found = [_unlink(item) if item.state == UNHELD else item for item in found]
    return found


def _why_it_stays(where: Place, path: Path, locks: ExitStack) -> tuple[str, str]:
    """Return state and reason. An UNHELD segment is locked until `locks` ends."""
    try:
        if path == where.socket:
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
    locked = lock_segment(where, where.segment)
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
    try:
        with suppress(FileNotFoundError):
            item.path.unlink()
    except OSError as error:
        reason = f"cannot be removed: {error.strerror}"
        return item._replace(state=FAILED, reason=reason)
    return item


_NO_FEED_NAME = "is not named like a feed; no feeder created it, so it stays"


def clean_feed(name: str, remove: bool) -> list[Leftover]:
    """List a feed's leftovers. With `remove`, remove those that no feeder owns.

    Raises FeedNotFoundError if the feed has none, BadArgumentError for a bad name,
    UnsupportedPlatformError.
    """
    where = place(name)
    if not has_files(where):
        raise FeedNotFoundError(
            errno.ENOENT,
            f"there is no feed {name!r} on this host, so there is nothing to remove",
            str(where.segment),
        )
    return leftovers(where, remove)


def clean_all(remove: bool) -> list[Leftover]:
    """List the leftovers of all feeds of this user, and other files with our prefix.

    With `remove`, remove those that no feeder owns. The other files stay.
    """
    feeds, foreign = take_inventory()
    found = [item for name in feeds for item in leftovers(place(name), remove)]
    return found + [Leftover(path, 0, FOREIGN, _NO_FEED_NAME) for path in foreign]
